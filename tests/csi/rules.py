"""The rules of the interface's text, and Kubernetes' own, that drivers break most."""
import json
import os

import node
from client import Client, Refused
from node import CAP, GIB, capability, named, publish, stage, staging, target, unpublish, unstage, volume
from suite import Failed, check

INVALID = "INVALID_ARGUMENT"
CHUNK = 64 << 10


class Volumes:
    """Volumes of a check, which are taken away at its end."""

    def __init__(self, ask):
        self.ask, self.ids, self.pods, self.snapshots = ask, [], [], []

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for one, pod in self.pods:
            self.ask.ask("NodeUnpublishVolume", **unpublish(one, pod))
        for one in self.ids:
            self.ask.ask("NodeUnstageVolume", **unstage(one))
        for one in self.snapshots:
            self.ask.ask("DeleteSnapshot", snapshot_id=one)
        for one in self.ids:
            self.ask.ask("DeleteVolume", volume_id=one)

    def made(self, name=None, **more):
        one = self.ask.ask("CreateVolume", **volume(name or named("rule"), **more)).volume
        self.ids.append(one.volume_id)
        return one

    def snapshot(self, of):
        one = self.ask.ask("CreateSnapshot", name=named("rule"), source_volume_id=of).snapshot
        self.snapshots.append(one.snapshot_id)
        return one

    def stage(self, one, cap=CAP):
        self.ask.five("NodeStageVolume", **stage(one, cap))
        return staging(one)

    def publish(self, one, pod, cap=CAP, **more):
        self.pods.append((one, pod))
        self.ask.five("NodePublishVolume", **publish(one, pod, cap, **more))
        return target(pod)


def rule(name, source="1.4"):
    def take(function):
        def run(ask):
            with Volumes(ask) as volumes:
                function(ask, volumes)
        return check(name, source)(run)
    return take


@rule("names are any Unicode of at most 128 bytes without control characters", "size limits")
def _(ask, volumes):
    for text in ("größe/…@x", "日本", "-", "..", "a b\\\"'$(x)", "ä" * 64, "x" * 128):
        one = volumes.made(text)
        ask.same(ask.five("CreateVolume", **volume(text)).volume.volume_id, one.volume_id, "id of the same name")
        snapshot = ask.five("CreateSnapshot", name=text, source_volume_id=one.volume_id).snapshot
        volumes.snapshots.append(snapshot.snapshot_id)
        for id_ in (one.volume_id, snapshot.snapshot_id):
            ask.so(0 < len(id_.encode()) <= 128, f"an id of {len(id_)} bytes")
    for text in ("x" * 129, "日" * 43, "a\nb", "\0", "\x7f"):
        ask.refused(INVALID, "CreateVolume", **volume(text))
        ask.refused(INVALID, "CreateSnapshot", name=text, source_volume_id=volumes.ids[0])
        ask.refused(INVALID, "CreateVolumeGroupSnapshot", name=text, source_volume_ids=volumes.ids[:1])


@rule("maps and mount flags have at most 4 KiB", "size limits")
def _(ask, volumes):
    large = {"pool": "x" * 4100}
    ask.refused(INVALID, "CreateVolume", **volume(named("map"), parameters=large))
    ask.refused(INVALID, "CreateVolume", **volume(named("map"), mutable_parameters=large))
    ask.refused(INVALID, "GetCapacity", parameters=large)
    ask.refused(INVALID, "CreateVolume", **volume(named("map"), caps=[capability(flags=["noatime," * 600])]))
    info = ask.five("NodeGetInfo")
    ask.so(len(info.node_id.encode()) <= 256, "a node's id")
    ask.same(dict(info.accessible_topology.segments).keys(), {node.TOPOLOGY}, "one key of a topology")


@check("errors have a message and no details, and secrets are never logged", "error scheme")
def _(ask):
    # Field 5 of CreateVolume is secrets: {"password": "hunter2-secret"}.
    word = b"hunter2-secret"
    entry = b"\x0a\x08password\x12" + bytes([len(word)]) + word
    name = named("secret")
    made = ask.client.call("CreateVolume", volume(name), more=b"\x2a" + bytes([len(entry)]) + entry)
    try:
        ask.client.call("CreateVolume", volume(name, 2 * GIB), more=b"\x2a" + bytes([len(entry)]) + entry)
        raise Failed("it was not refused")
    except Refused as refused:
        ask.same(refused.code, "ALREADY_EXISTS", "code")
        ask.so(word.decode() not in refused.message, "the secret is in the message")
    ask.ask("DeleteVolume", volume_id=made.volume.volume_id)
    log = node.journal()
    ask.so(name in log or made.volume.volume_id in log, "the request is in the log")
    ask.so(word.decode() not in log, "the secret is in the log")


@check("what is no service and no RPC is UNIMPLEMENTED", "protocol")
def _(ask):
    for path in ("/csi.v1.Nothing/Nothing", "/csi.v1.Controller/Nothing", "/csi.v1.Controller/ControllerPublishVolume"):
        ask.same(ask.client.raw(path), "UNIMPLEMENTED", path)


@check("any authority is taken, as the kubelet sends the path of a socket", "protocol")
def _(ask):
    for authority in ("localhost", "/run/volumed/csi.sock", "%2Frun%2Fvolumed%2Fcsi.sock"):
        ask.client.close()
        ask.client = Client(authority)
        ask.five("GetPluginInfo")
        ask.five("Probe")


@rule("who hears no answer in time asks again and finds it done", "timeouts")
def _(ask, volumes):
    name = named("late")
    try:
        ask.client.call("CreateVolume", volume(name), seconds=0.001)
    except Refused as refused:
        ask.same(refused.code, "DEADLINE_EXCEEDED", "code")
    one = ask.race("CreateVolume", **volume(name)).volume
    volumes.ids.append(one.volume_id)
    names = [entry.volume.volume_id for entry in ask.ask("ListVolumes").entries]
    ask.same(names.count(one.volume_id), 1, "volumes of that request")


@rule("sizes are exact, rounded up within the limit, or OUT_OF_RANGE", "capacity")
def _(ask, volumes):
    for required, limit, size in ((10 * GIB, 10 * GIB, 10 * GIB), (GIB + 1, 0, GIB + CHUNK), (0, 2 * GIB, 2 * GIB),
                                  (0, 0, 10 * GIB), (GIB + 1, GIB + CHUNK, GIB + CHUNK)):
        ask.same(volumes.made(size=required, limit=limit).capacity_bytes, size, f"size for {required} to {limit}")
    for required, limit in ((2 * GIB, GIB), (GIB + 1, GIB + 2), (1, 1)):
        ask.refused("OUT_OF_RANGE", "CreateVolume", **volume(named("range"), required, limit))
    for fs, size in (("ext4", 1 << 20), ("xfs", 299 << 20), ("btrfs", 127 << 20), ("ext4", (1 << 60) + GIB)):
        ask.refused("OUT_OF_RANGE", "CreateVolume", **volume(named("range"), size, caps=[capability(fs=fs)]))
    for required, limit in ((-1, 0), (GIB, -1)):
        ask.refused(INVALID, "CreateVolume", **volume(named("range"), required, limit))


@rule("mutable parameters count before parameters, and change all or nothing")
def _(ask, volumes):
    def reserve(one):
        return node.told(one)["reserve_bytes"]

    name = named("class")
    wanted = volume(name, 64 << 20, parameters={"reserve": "none"}, mutable_parameters={"reserve": "16M"})
    one = ask.five("CreateVolume", **wanted).volume.volume_id
    volumes.ids.append(one)
    ask.same(reserve(one), 16 << 20, "what is set aside")
    both = {"reserve": "32M", "nothing": "1"}
    ask.refused(INVALID, "ControllerModifyVolume", volume_id=one, mutable_parameters=both)
    ask.same(reserve(one), 16 << 20, "what is set aside")
    ask.five("ControllerModifyVolume", volume_id=one, mutable_parameters={"reserve": "32M"})
    ask.same(reserve(one), 32 << 20, "what is set aside")
    ask.refused(INVALID, "ControllerModifyVolume", volume_id=one, mutable_parameters={"reserve": "lots"})


@rule("what is made from something has at least its size and is extended to what is asked for", "capacity")
def _(ask, volumes):
    for fs in ("ext4", "xfs", "btrfs"):
        cap = capability(fs=fs)
        one = volumes.made(caps=[cap], size=512 << 20).volume_id
        node.write(volumes.stage(one, cap), "file", fs)
        snapshot = volumes.snapshot(one)
        for source in ({"snapshot": {"snapshot_id": snapshot.snapshot_id}}, {"volume": {"volume_id": one}}):
            name = named("from")
            wanted = volume(name, GIB, GIB, caps=[cap], volume_content_source=source)
            made = ask.five("CreateVolume", **wanted).volume
            volumes.ids.append(made.volume_id)
            ask.same(made.capacity_bytes, GIB, "size of what was made from it")
            ask.so(made.HasField("content_source"), "it says what it was made from")
            place = volumes.stage(made.volume_id, cap)
            ask.same(node.read(place, "file"), fs, "what it holds")
            ask.so(node.size_of(place) > 700 << 20, f"{fs}: its file system is smaller: {node.size_of(place)}")
            ask.refused("OUT_OF_RANGE", "CreateVolume", **volume(
                named("less"), 0, 256 << 20, caps=[cap], volume_content_source=source))
            ask.refused("ALREADY_EXISTS", "CreateVolume", **volume(name, GIB, GIB, caps=[cap]))
            other = capability(fs="ext4" if fs == "xfs" else "xfs")
            ask.refused(INVALID, "CreateVolume", **volume(named("fs"), GIB, caps=[other], volume_content_source=source))


@rule("a snapshot outlives its volume")
def _(ask, volumes):
    one = volumes.made()
    snapshot = volumes.snapshot(one.volume_id)
    volumes.ids.remove(one.volume_id)
    ask.five("DeleteVolume", volume_id=one.volume_id)
    ask.same(ask.five("GetSnapshot", snapshot_id=snapshot.snapshot_id).snapshot, snapshot, "the snapshot")
    entries = ask.five("ListSnapshots", source_volume_id=one.volume_id).entries
    ask.same(len(entries), 1, "snapshots of a volume that is gone")
    volumes.made(volume_content_source={"snapshot": {"snapshot_id": snapshot.snapshot_id}})


@rule("a part of a group is not deleted alone, and the group whole")
def _(ask, volumes):
    ids = [volumes.made().volume_id for _ in range(3)]
    name = named("group")
    group = ask.five("CreateVolumeGroupSnapshot", name=name, source_volume_ids=ids).group_snapshot
    ask.same(sorted(one.source_volume_id for one in group.snapshots), sorted(ids), "the volumes of a group")
    ask.same(len({one.creation_time.seconds for one in group.snapshots}), 1, "instants of a group")
    ask.so(all(one.group_snapshot_id == group.group_snapshot_id for one in group.snapshots), "the id of the group")
    parts = [one.snapshot_id for one in group.snapshots]
    for part in parts:
        ask.refused(INVALID, "DeleteSnapshot", snapshot_id=part)
    ask.refused("ALREADY_EXISTS", "CreateVolumeGroupSnapshot", name=name, source_volume_ids=ids[:2])
    ask.refused("NOT_FOUND", "CreateVolumeGroupSnapshot", name=named("group"), source_volume_ids=[*ids, "none"])
    ask.refused(INVALID, "CreateVolumeGroupSnapshot", name=named("group"))
    fields = {"group_snapshot_id": group.group_snapshot_id, "snapshot_ids": parts}
    ask.same(ask.five("GetVolumeGroupSnapshot", **fields).group_snapshot, group, "the group")
    other = volumes.snapshot(ids[0]).snapshot_id
    ask.refused(INVALID, "GetVolumeGroupSnapshot", **{**fields, "snapshot_ids": [*parts, other]})
    ask.five("DeleteVolumeGroupSnapshot", **fields)
    ask.refused("NOT_FOUND", "GetVolumeGroupSnapshot", **fields)
    for part in parts:
        ask.five("DeleteSnapshot", snapshot_id=part)


def places(mode):
    """Whether a volume of this mode may be at two places, and whether those are for reading only."""
    return mode not in ("SINGLE_NODE_WRITER", "SINGLE_NODE_SINGLE_WRITER"), mode.endswith("READER_ONLY")


for _mode in (mode for mode in node.MODES if mode != "UNKNOWN"):
    def _access(ask, volumes, mode=_mode):
        several, reads = places(mode)
        cap = capability(mode)
        one = volumes.made(caps=[cap]).volume_id
        ask.refused("FAILED_PRECONDITION", "NodePublishVolume", **publish(one, "early", cap))
        volumes.stage(one, cap)
        first = volumes.publish(one, f"{mode}-a", cap)
        # The same place: the same arguments are the same request, others are a conflict.
        if not reads:
            ask.refused("ALREADY_EXISTS", "NodePublishVolume", **publish(one, f"{mode}-a", cap, readonly=True))
        flags = capability(mode, flags=["noatime"])
        ask.refused("ALREADY_EXISTS", "NodePublishVolume", **publish(one, f"{mode}-a", flags))
        ask.refused("ALREADY_EXISTS", "NodeStageVolume", **stage(one, flags))
        if several:
            volumes.publish(one, f"{mode}-b", cap)
            volumes.publish(one, f"{mode}-r", cap, readonly=True)
            ask.so("ro" in node.options(target(f"{mode}-r")), "a place for reading only")
        else:
            ask.refused("FAILED_PRECONDITION", "NodePublishVolume", **publish(one, f"{mode}-b", cap))
            ask.so(node.options(target(f"{mode}-b")) is None, "it is at a second place")
        ask.so(("ro" if reads else "rw") in node.options(first), f"{mode}: {node.options(first)}")
        ask.so({"nosuid", "nodev"} <= node.options(first), "no set-user-id programs and no devices")
        ask.refused("FAILED_PRECONDITION", "DeleteVolume", volume_id=one)
        ask.refused("FAILED_PRECONDITION", "NodeUnstageVolume", **unstage(one))
    rule(f"places of {_mode}", "publish table")(_access)


@rule("what is wrong with a capability is said", "capabilities")
def _(ask, volumes):
    one = volumes.made().volume_id
    for wrong in ({}, {"access_mode": {"mode": 1}}, {"mount": {}}, capability("UNKNOWN"), capability(fs="zfs"),
                  {**CAP, "access_mode": {"mode": 99}}, capability(flags=["loop"]), capability(flags=["autodefrag"]), capability(group="1000")):
        ask.refused(INVALID, "CreateVolume", **volume(named("cap"), caps=[wrong]))
        ask.refused(INVALID, "NodeStageVolume", **stage(one, wrong))
        answer = ask.five("ValidateVolumeCapabilities", volume_id=one, volume_capabilities=[wrong])
        ask.so(not answer.HasField("confirmed") and answer.message, "it is not confirmed, and said why")
    block = capability(block=True)
    ask.refused(INVALID, "CreateVolume", **volume(named("both"), caps=[CAP, block]))
    ask.refused(INVALID, "NodeStageVolume", **stage(one, block))
    ask.refused(INVALID, "NodeStageVolume", **stage(one, capability(fs="xfs")))
    ask.refused(INVALID, "ControllerExpandVolume", volume_id=one, capacity_range={"required_bytes": 2 * GIB},
                volume_capability=block)


@rule("nothing is put outside the kubelet's directory, and no link is followed", "places")
def _(ask, volumes):
    one = volumes.made().volume_id
    volumes.stage(one)
    bad = ["/etc/x", node.KUBELET, f"{node.KUBELET}/../x", f"{node.KUBELET}x/y", "relative/path", "/", f"{node.KUBELET}//a"]
    link = f"{node.KUBELET}/pods/link"
    os.makedirs(os.path.dirname(link), exist_ok=True)
    os.symlink("/etc", link)
    for place in [*bad, f"{link}/x"]:
        ask.refused(INVALID, "NodePublishVolume", **{**publish(one, "place"), "target_path": place})
        ask.refused(INVALID, "NodeStageVolume", **{**stage(one), "staging_target_path": place})
    os.unlink(link)
    ask.so(not os.path.lexists("/etc/x"), "something was made outside")
    ask.refused(INVALID, "NodePublishVolume", **{**publish(one, "place"), "target_path": staging(one)})


@rule("a volume grows in use and after it was staged, and what it cannot is OUT_OF_RANGE", "expansion")
def _(ask, volumes):
    for fs in ("ext4", "xfs", "btrfs"):
        cap = capability(fs=fs)
        one = volumes.made(caps=[cap], size=512 << 20).volume_id
        volumes.stage(one, cap)
        place = volumes.publish(one, f"grows-{fs}", cap)
        for size, rpc, more in ((GIB, "ControllerExpandVolume", {}), (2 * GIB, "NodeExpandVolume", {"volume_path": place})):
            answer = ask.five(rpc, volume_id=one, capacity_range={"required_bytes": size}, **more)
            ask.same(answer.capacity_bytes, size, f"{fs}: size")
            ask.so(node.size_of(place) > size * 3 // 4, f"{fs}: its file system has {node.size_of(place)} of {size}")
        said = node.size_of(place)
        usage = ask.ask("NodeGetVolumeStats", volume_id=one, volume_path=place).usage
        ask.same([part.total for part in usage if part.unit == 1], [said], f"{fs}: what is told of its size")
        # Not less than it has, whatever else.
        ask.same(ask.five("ControllerExpandVolume", volume_id=one, capacity_range={"required_bytes": GIB}).capacity_bytes,
                 2 * GIB, "size")
        for range_ in ({"required_bytes": GIB, "limit_bytes": GIB}, {"required_bytes": 1 << 50}):
            ask.refused("OUT_OF_RANGE", "ControllerExpandVolume", volume_id=one, capacity_range=range_)
            ask.refused("OUT_OF_RANGE", "NodeExpandVolume", volume_id=one, volume_path=place, capacity_range=range_)
    for range_ in ({}, {"required_bytes": -1}):
        ask.refused(INVALID, "ControllerExpandVolume", volume_id=volumes.ids[0], capacity_range=range_)
    ask.refused("NOT_FOUND", "ControllerExpandVolume", volume_id="none", capacity_range={"required_bytes": GIB})


@rule("capacity is what could be made, of this machine and these parameters", "capacity")
def _(ask, volumes):
    told = ask.ask("GetCapacity")
    most = told.maximum_volume_size.value
    ask.so(most > 0 and told.available_capacity == most, f"{told}")
    here = {"segments": dict(ask.ask("NodeGetInfo").accessible_topology.segments)}
    elsewhere = {"segments": {node.TOPOLOGY: "another-machine"}}
    ask.same(ask.ask("GetCapacity", accessible_topology=here).available_capacity, most, "capacity here")
    ask.same(ask.five("GetCapacity", accessible_topology=elsewhere).available_capacity, 0, "capacity elsewhere")
    ask.same(ask.five("GetCapacity", parameters={"pool": "none"}).available_capacity, 0, "capacity of no pool")
    ask.refused("RESOURCE_EXHAUSTED", "CreateVolume", **volume(named("none"), parameters={"pool": "none"}))
    ask.same(ask.five("GetCapacity", parameters={"reserve": "1P"}).maximum_volume_size.value, 0, "capacity with too much set aside")
    ask.so(0 < ask.five("GetCapacity", parameters={"reserve": "full"}).maximum_volume_size.value < most, "capacity with all set aside")
    ask.refused(INVALID, "GetCapacity", parameters={"pol": "x"})
    ask.refused("RESOURCE_EXHAUSTED", "CreateVolume", **volume(named("most"), most + CHUNK))
    one = volumes.made(size=most, caps=[capability(block=True)])
    ask.same(one.capacity_bytes, most, "the largest volume")
    ask.same(ask.five("GetCapacity").maximum_volume_size.value, 0, "capacity after that")
    ask.refused("RESOURCE_EXHAUSTED", "CreateVolume", **volume(named("more")))
    wanted = volume(named("there"), accessibility_requirements={"requisite": [elsewhere]})
    ask.refused("RESOURCE_EXHAUSTED", "CreateVolume", **wanted)


@rule("a volume is wanted here or elsewhere", "topology")
def _(ask, volumes):
    here = {"segments": dict(ask.ask("NodeGetInfo").accessible_topology.segments)}
    elsewhere = {"segments": {node.TOPOLOGY: "another-machine"}}
    for wanted in ({"requisite": [here]}, {"requisite": [elsewhere, here], "preferred": [here]}, {"preferred": [here]}, {}):
        one = volumes.made(accessibility_requirements=wanted)
        ask.same([dict(part.segments) for part in one.accessible_topology], [here["segments"]], "where it can be used")
    for wanted in ({"requisite": [elsewhere]}, {"requisite": [elsewhere], "preferred": [elsewhere]}):
        ask.refused("RESOURCE_EXHAUSTED", "CreateVolume", **volume(named("there"), accessibility_requirements=wanted))


@rule("what is another machine's is scheduled anew, and unknown is unknown", "ids")
def _(ask, volumes):
    other = "6c7e5d3a-1b2c-4000-8000-0123456789ab.00000000"
    for source in ({"snapshot": {"snapshot_id": other}}, {"volume": {"volume_id": other}}):
        ask.refused("RESOURCE_EXHAUSTED", "CreateVolume", **volume(named("from"), volume_content_source=source))
    ask.refused(INVALID, "CreateVolume", **volume(named("from"), volume_content_source={}))
    free = ("none", "data/none", "../../etc", "a@b", "x" * 128, "ä", other)
    for id_ in free:
        ask.refused("NOT_FOUND", "NodeStageVolume", **{**stage("x"), "volume_id": id_})
        ask.refused("NOT_FOUND", "NodePublishVolume", **{**publish("x", "free"), "volume_id": id_})
        ask.refused("NOT_FOUND", "ControllerGetVolume", volume_id=id_)
        ask.refused("NOT_FOUND", "NodeGetVolumeStats", volume_id=id_, volume_path=node.KUBELET)
        ask.refused("NOT_FOUND", "CreateSnapshot", name=named("none"), source_volume_id=id_)
        ask.five("NodeUnpublishVolume", **{**unpublish("x", "free"), "volume_id": id_})
        ask.five("NodeUnstageVolume", **{**unstage("x"), "volume_id": id_})
        if id_ != other:
            ask.five("DeleteVolume", volume_id=id_)
            ask.five("DeleteSnapshot", snapshot_id=id_)
    # It may well be there: nobody is told that it is gone.
    ask.refused("FAILED_PRECONDITION", "DeleteVolume", volume_id=other)
    ask.refused("FAILED_PRECONDITION", "DeleteSnapshot", snapshot_id=other)
    ask.refused("FAILED_PRECONDITION", "ControllerModifyVolume", volume_id=other, mutable_parameters={"reserve": "none"})


@rule("a volume that is named by its path is changed by no machine but its own", "ids")
def _(ask, volumes):
    one = volumes.made().volume_id
    told = node.told(one)
    ask.same(told["csi_handle"], one, "the handle that volctl tells")
    path = f"{told['vg']}/{told['name']}"
    answer = ask.five("ControllerExpandVolume", volume_id=path, capacity_range={"required_bytes": 2 * GIB})
    ask.so(answer.node_expansion_required, "its machine is to be asked")
    ask.same(node.told(one)["size_bytes"], GIB, "size")
    ask.refused("INVALID_ARGUMENT", "ControllerModifyVolume", volume_id=path, mutable_parameters={"reserve": "none"})
    source = {"volume": {"volume_id": path}}
    ask.refused(INVALID, "CreateVolume", **volume(named("from"), volume_content_source=source))
    place = volumes.stage(one)
    grown = ask.five("NodeExpandVolume", volume_id=path, volume_path=place, capacity_range={"required_bytes": 2 * GIB})
    ask.same(grown.capacity_bytes, 2 * GIB, "size")


@rule("a backup hears of everything that has changed between two snapshots", "1.10")
def _(ask, volumes):
    one, other = volumes.made().volume_id, volumes.made().volume_id
    place = volumes.stage(one)
    node.write(place, "before", "a" * (4 << 20))
    base = volumes.snapshot(one).snapshot_id
    node.write(place, "after", "b" * (4 << 20))
    target_ = volumes.snapshot(one).snapshot_id

    def ranges(answers):
        found = [(part.byte_offset, part.size_bytes) for answer in answers for part in answer.block_metadata]
        for (at, size), (follows, _) in zip(found, found[1:]):
            ask.so(at + size <= follows, f"ranges ascend: {at} and {size}, then {follows}")
        ask.so(all(at % CHUNK == 0 and size > 0 for at, size in found), "whole chunks")
        ask.so(all(answer.volume_capacity_bytes == GIB for answer in answers), "the size of the volume")
        return sum(size for _, size in found)

    used = ranges(ask.five("GetMetadataAllocated", snapshot_id=target_))
    delta = {"base_snapshot_id": base, "target_snapshot_id": target_}
    changed = ranges(ask.five("GetMetadataDelta", **delta))
    ask.so(4 << 20 <= changed < used, f"{changed} of {used} have changed")
    ask.same(ranges(ask.five("GetMetadataDelta", base_snapshot_id=base, target_snapshot_id=base)), 0, "of one and the same")
    single = ask.ask("GetMetadataAllocated", snapshot_id=target_, max_results=1)
    ask.so(all(len(part.block_metadata) <= 1 for part in single) and ranges(single) == used, "one range for each message")
    ask.so(ranges(ask.ask("GetMetadataAllocated", snapshot_id=target_, starting_offset=GIB // 2)) < used, "from the middle on")
    ask.refused("OUT_OF_RANGE", "GetMetadataAllocated", snapshot_id=target_, starting_offset=GIB + 1)
    ask.refused("NOT_FOUND", "GetMetadataAllocated", snapshot_id="none")
    ask.refused(INVALID, "GetMetadataAllocated", snapshot_id="")
    ask.refused(INVALID, "GetMetadataDelta", **{**delta, "base_snapshot_id": volumes.snapshot(other).snapshot_id})


@check("what version 1.13 adds is UNIMPLEMENTED unless it is configured", "1.3")
def _(ask):
    for rpc in ("ControllerListVolumeHealth", "ControllerGetVolumeHealth", "NodeGetVolumeHealth", "NodeGetStorageHealth"):
        ask.refused("UNIMPLEMENTED", rpc)


@rule("parameters that are not known are named with what was meant", "parameters")
def _(ask, volumes):
    said = ask.refused(INVALID, "CreateVolume", **volume(named("class"), parameters={"topolvm.io/device-class": "ssd"}))
    ask.so("pool" in said.message, said.message)
    for parameters in ({"thin": "maybe"}, {"fs": "zfs"}, {"reserve": "lots"}, {"size": "ten"}, {"mkfs-options": "-d"},
                       {"mount-options": "ro"}):
        said = ask.refused(INVALID, "CreateVolume", **volume(named("class"), parameters=parameters))
        ask.so(next(iter(parameters)) in said.message, said.message)
    volumes.made(parameters={"csi.storage.k8s.io/pvc/name": "db", "csi.storage.k8s.io/pvc/namespace": "prod",
                             "csi.storage.k8s.io/pv/name": "pvc-1", "csi.storage.k8s.io/fstype": "xfs"})
    found = node.volctl("volume", "list", "-l", "kubernetes.io/namespace=prod", "-o", "json")
    ask.same(len(json.loads(found)["volumes"]), 1, "volumes of a namespace")
