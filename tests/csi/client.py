"""A client of the Container Storage Interface: messages and calls from descriptors, without generated code."""
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf import timestamp_pb2, wrappers_pb2  # noqa: F401, what the definition imports

import descriptors

SOCKET = "unix:///run/volumed/csi.sock"
# Seconds that a call may take: nothing is concluded from how long one takes, this only ends what hangs.
LONG = 120

_pool = descriptor_pool.Default()
for _file in descriptor_pb2.FileDescriptorSet.FromString(descriptors.SET).file:
    _pool.AddSerializedFile(_file.SerializeToString())


def _made(descriptor):
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(_pool).GetPrototype(descriptor)


# Name of an RPC: its path, and the classes of request and answer.
RPCS = {}
# Those that answer in parts: `call` gives all of them in a list.
STREAMS = {"GetMetadataAllocated", "GetMetadataDelta"}
for _service in ("Identity", "Controller", "GroupController", "SnapshotMetadata", "Node"):
    for _method in _pool.FindServiceByName(f"csi.v1.{_service}").methods:
        _path = f"/csi.v1.{_service}/{_method.name}"
        RPCS[_method.name] = (_path, _made(_method.input_type), _made(_method.output_type))


def enum(message, name):
    """The number of a constant of an enumeration within a message, by its path: `VolumeCapability.AccessMode.Mode`."""
    return _pool.FindEnumTypeByName(f"csi.v1.{message}").values_by_name[name].number


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, rpc, error):
        self.code, self.message = error.code().name, error.details() or ""
        trailing = {key for key, _ in error.trailing_metadata() or ()}
        self.details = "grpc-status-details-bin" in trailing
        super().__init__(f"{rpc}: {self.code}: {self.message}")


class Client:
    """One connection. `asked` has the names of all RPCs that were asked of any client, and how often."""

    asked = {}

    def __init__(self, authority="localhost"):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100),
                   ("grpc.max_reconnect_backoff_ms", 500), ("grpc.min_reconnect_backoff_ms", 100),
                   ("grpc.default_authority", authority)]
        self.channel = grpc.insecure_channel(SOCKET, options=options)

    def close(self):
        self.channel.close()

    def call(self, rpc, fields, seconds=LONG, more=b""):
        """One call; `more` are bytes behind the request's own. Raises Refused."""
        path, request, answer = RPCS[rpc]
        Client.asked[rpc] = Client.asked.get(rpc, 0) + 1
        kind = self.channel.unary_stream if rpc in STREAMS else self.channel.unary_unary
        call = kind(path, lambda one: one.SerializeToString() + more, answer.FromString)
        try:
            answered = call(request(**fields), timeout=seconds, wait_for_ready=True)
            return list(answered) if rpc in STREAMS else answered
        except grpc.RpcError as error:
            raise Refused(rpc, error) from None

    def raw(self, path):
        """A call of something that is in no definition; the name of its code."""
        try:
            self.channel.unary_unary(path, lambda one: one, lambda one: one)(b"", timeout=LONG)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name
