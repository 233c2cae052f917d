"""What csi-sanity 5.5.0 asks, spec by spec and under its names, with what it expects. Its sizes are 10 and 11 GiB."""
import os
import re
import shutil
import uuid

import node
from node import CAP, GIB, named, volume
from suite import AGAIN, check

SIZE, LARGER = 10 * GIB, 11 * GIB
KNOWN = {
    "ControllerGetCapabilities": range(1, 16),
    "NodeGetCapabilities": range(0, 7),
    "GroupControllerGetCapabilities": (1,),
}


class Sanity:
    """A spec: what it makes is unpublished, unstaged and deleted at its end, last things first, and all of that succeeds."""

    def __init__(self, ask):
        self.ask, self.made = ask, []
        self.staging, self.target = f"{node.KUBELET}/sanity-staging", f"{node.KUBELET}/sanity-target"
        # Each spec makes them anew, and takes them away at its end.
        for place in (self.staging, self.target):
            os.mkdir(place)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            for what, one in reversed(self.made):
                if what == "snapshot":
                    self.ask.ask("DeleteSnapshot", snapshot_id=one)
                    continue
                self.ask.ask("NodeUnpublishVolume", volume_id=one, target_path=f"{self.target}/target")
                self.ask.ask("NodeUnstageVolume", volume_id=one, staging_target_path=self.staging)
                self.ask.ask("DeleteVolume", volume_id=one)
        finally:
            left = [f"{place}/{one}" for place in (self.staging, self.target) for one in os.listdir(place)]
            for place in (self.staging, self.target):
                shutil.rmtree(place, ignore_errors=True)
        self.ask.same(left, [], "what is left in the places")

    def volume(self, name="sanity", size=SIZE, **more):
        made = self.ask.ask("CreateVolume", **volume(named(name), size, **more)).volume
        self.made.append(("volume", made.volume_id))
        self.ask.so(made.volume_id and made.capacity_bytes >= size, f"id and size of a volume: {made}")
        return made

    def snapshot(self, of, name=None):
        made = self.ask.ask("CreateSnapshot", name=name or named("snapshot"), source_volume_id=of).snapshot
        self.made.append(("snapshot", made.snapshot_id))
        whole = made.snapshot_id and made.source_volume_id and made.creation_time.seconds and made.ready_to_use
        self.ask.so(whole, f"what has to be said of a snapshot: {made}")
        return made

    def stage(self, one, cap=CAP, times=1):
        for _ in range(times):
            self.ask.ask("NodeStageVolume", volume_id=one.volume_id, staging_target_path=self.staging,
                         volume_capability=cap, volume_context=dict(one.volume_context))

    def publish(self, one, cap=CAP, times=1, **more):
        fields = {"volume_id": one.volume_id, "staging_target_path": self.staging, "target_path": f"{self.target}/target",
                  "volume_capability": cap, "volume_context": dict(one.volume_context), **more}
        for _ in range(times):
            self.ask.ask("NodePublishVolume", **fields)
        return fields

    def snapshots(self, **fields):
        return self.ask.ask("ListSnapshots", **fields)

    def volumes(self):
        return len(self.ask.ask("ListVolumes").entries)


def spec(name):
    def take(function):
        def run(ask):
            with Sanity(ask) as sanity:
                function(ask, sanity)
        return check(name, "sanity")(run)
    return take


def refuses(name, code, rpc, /, **fields):
    check(name, "sanity")(lambda ask: ask.refused(code, rpc, **fields))


def succeeds(name, rpc, /, **fields):
    check(name, "sanity")(lambda ask: ask.five(rpc, **fields))


UNKNOWN = str(uuid.uuid4())
PLACE = {"staging_target_path": f"{node.KUBELET}/sanity-staging", "target_path": f"{node.KUBELET}/sanity-target/target"}
INVALID = "INVALID_ARGUMENT"


@check("GetPluginCapabilities has no capability that csi-sanity does not know", "sanity")
def _(ask):
    for one in ask.five("GetPluginCapabilities").capabilities:
        known = one.service.type in (1, 2, 3, 4) if one.HasField("service") else one.volume_expansion.type in (1, 2)
        ask.so(known, f"unknown: {one}")


@check("Probe is answered", "sanity")
def _(ask):
    ask.so(ask.five("Probe").ready.value, "it is not ready")


@check("GetPluginInfo has a name of at most 63 characters between two letters", "sanity")
def _(ask):
    info = ask.five("GetPluginInfo")
    ask.so(re.fullmatch(r"[a-zA-Z][A-Za-z0-9-\\._]{0,61}[a-zA-Z]", info.name), info.name)
    ask.so(info.vendor_version, "it has a version")


for _rpc, _numbers in KNOWN.items():
    def _known(ask, rpc=_rpc, numbers=_numbers):
        all_ = [one.rpc.type for one in ask.five(rpc).capabilities]
        ask.so(all_ and all(one in numbers for one in all_), f"unknown: {all_}")
        ask.same(len(set(all_)), len(all_), "each is told once")
    check(f"{_rpc} has no capability that csi-sanity does not know", "sanity")(_known)

succeeds("GetCapacity without anything", "GetCapacity")


@spec("ListVolumes has ids")
def _(ask, sanity):
    sanity.volume()
    ask.so(all(one.volume.volume_id for one in ask.five("ListVolumes").entries), "an entry without an id")


refuses("ListVolumes with an invalid token", "ABORTED", "ListVolumes", starting_token="invalid-token")


@spec("ListVolumes has one more after a creation and one less after a deletion")
def _(ask, sanity):
    before = sanity.volumes()
    made = sanity.volume()
    ask.same(sanity.volumes(), before + 1, "volumes")
    ask.ask("DeleteVolume", volume_id=made.volume_id)
    ask.same(sanity.volumes(), before, "volumes")


@spec("ListVolumes goes on where it was when volumes came and went between two pages")
def _(ask, sanity):
    there = {sanity.volume(f"page-{at}").volume_id for at in range(3)}
    page = ask.ask("ListVolumes", max_entries=2)
    ask.same(len(page.entries), 2, "entries of a page")
    for one in page.entries:
        there.discard(one.volume.volume_id)
        ask.ask("DeleteVolume", volume_id=one.volume.volume_id)
    there.add(sanity.volume("late").volume_id)
    rest = [one.volume.volume_id for one in ask.ask("ListVolumes", starting_token=page.next_token).entries]
    ask.so(set(rest) <= there and len(rest) == len(set(rest)), f"{rest} of {there}")


refuses("CreateVolume without a name", INVALID, "CreateVolume")
refuses("CreateVolume without capabilities", INVALID, "CreateVolume", name="sanity-no-capabilities")


@spec("CreateVolume without a capacity")
def _(ask, sanity):
    sanity.volume("no-capacity", size=0)


@spec("CreateVolume with a capacity")
def _(ask, sanity):
    ask.same(sanity.volume("capacity").capacity_bytes, SIZE, "size")


@spec("CreateVolume twice with one name and size is one volume")
def _(ask, sanity):
    fields = volume(named("twice"), SIZE)
    one = ask.five("CreateVolume", **fields).volume
    sanity.made.append(("volume", one.volume_id))


@spec("CreateVolume of one name with another size")
def _(ask, sanity):
    name = named("different")
    one = ask.ask("CreateVolume", **volume(name, SIZE, SIZE)).volume
    sanity.made.append(("volume", one.volume_id))
    ask.same(one.capacity_bytes, SIZE, "exactly what required and limit say")
    ask.refused("ALREADY_EXISTS", "CreateVolume", **volume(name, 2 * SIZE, 2 * SIZE))


@spec("CreateVolume with a name of 128 bytes")
def _(ask, sanity):
    one = ask.five("CreateVolume", **volume(named("sanity-controller-create-maxlen").ljust(128, "x"), SIZE)).volume
    sanity.made.append(("volume", one.volume_id))


@spec("CreateVolume from a snapshot")
def _(ask, sanity):
    snapshot = sanity.snapshot(sanity.volume().volume_id)
    made = sanity.volume(volume_content_source={"snapshot": {"snapshot_id": snapshot.snapshot_id}})
    ask.same(made.content_source.snapshot.snapshot_id, snapshot.snapshot_id, "what it says that it was made from")


@spec("CreateVolume from a volume")
def _(ask, sanity):
    sanity.volume(volume_content_source={"volume": {"volume_id": sanity.volume().volume_id}})


refuses("CreateVolume from a snapshot that is not there", "NOT_FOUND", "CreateVolume", **volume(
    "sanity-no-snapshot", SIZE, volume_content_source={"snapshot": {"snapshot_id": "non-existing-snapshot-id"}}))
refuses("CreateVolume from a volume that is not there", "NOT_FOUND", "CreateVolume", **volume(
    "sanity-no-volume", SIZE, volume_content_source={"volume": {"volume_id": UNKNOWN}}))


@spec("CreateVolume with mutable parameters")
def _(ask, sanity):
    sanity.volume(mutable_parameters={})
    sanity.volume(size=GIB, mutable_parameters={"reserve": "none"})


refuses("CreateVolume with unknown mutable parameters", INVALID, "CreateVolume", **volume(
    "sanity-no-class", SIZE, mutable_parameters={"XXX_FakeKey": "XXX_FakeValue"}))

refuses("DeleteVolume without an id", INVALID, "DeleteVolume")
succeeds("DeleteVolume with an invalid id", "DeleteVolume", volume_id="reallyfakevolumeid")


@spec("DeleteVolume of a volume")
def _(ask, sanity):
    ask.five("DeleteVolume", volume_id=sanity.volume().volume_id)


refuses("ValidateVolumeCapabilities without an id", INVALID, "ValidateVolumeCapabilities")
refuses("ValidateVolumeCapabilities of a volume that is not there", "NOT_FOUND", "ValidateVolumeCapabilities",
        volume_id=UNKNOWN, volume_capabilities=[CAP])


@spec("ValidateVolumeCapabilities without capabilities")
def _(ask, sanity):
    ask.refused(INVALID, "ValidateVolumeCapabilities", volume_id=sanity.volume().volume_id)


@spec("ValidateVolumeCapabilities confirms them")
def _(ask, sanity):
    asked = {"volume_id": sanity.volume().volume_id, "volume_capabilities": [CAP]}
    ask.so(ask.five("ValidateVolumeCapabilities", **asked).confirmed.volume_capabilities, "they are not confirmed")


@spec("CreateSnapshot twice with one name and volume is one snapshot")
def _(ask, sanity):
    fields = {"name": named("snapshot"), "source_volume_id": sanity.volume().volume_id}
    sanity.made.append(("snapshot", ask.five("CreateSnapshot", **fields).snapshot.snapshot_id))


@spec("CreateSnapshot of one name and another volume")
def _(ask, sanity):
    name = named("snapshot")
    sanity.snapshot(sanity.volume().volume_id, name)
    ask.refused("ALREADY_EXISTS", "CreateSnapshot", name=name, source_volume_id=sanity.volume().volume_id)


@spec("CreateSnapshot with a name of 128 bytes")
def _(ask, sanity):
    fields = {"name": named("snapshot-maxlen").ljust(128, "x"), "source_volume_id": sanity.volume().volume_id}
    sanity.made.append(("snapshot", ask.five("CreateSnapshot", **fields).snapshot.snapshot_id))


refuses("CreateSnapshot without a name", INVALID, "CreateSnapshot", source_volume_id="testId")
refuses("CreateSnapshot without a volume", INVALID, "CreateSnapshot", name="name")
refuses("DeleteSnapshot without an id", INVALID, "DeleteSnapshot")
succeeds("DeleteSnapshot with an invalid id", "DeleteSnapshot", snapshot_id="reallyfakesnapshotid")


@spec("DeleteSnapshot of a snapshot")
def _(ask, sanity):
    ask.five("DeleteSnapshot", snapshot_id=sanity.snapshot(sanity.volume().volume_id).snapshot_id)


@spec("ListSnapshots and GetSnapshot by the id of one")
def _(ask, sanity):
    made = [sanity.snapshot(sanity.volume().volume_id) for _ in range(3)]
    for one in made:
        entries = sanity.snapshots(snapshot_id=one.snapshot_id).entries
        ask.same([entry.snapshot for entry in entries], [one], "the list of one")
        entries = sanity.snapshots(source_volume_id=one.source_volume_id).entries
        ask.same([entry.snapshot for entry in entries], [one], "the list of one volume's")
        ask.same(ask.five("GetSnapshot", snapshot_id=one.snapshot_id).snapshot, one, "the snapshot")
    ask.so(len(sanity.snapshots().entries) >= 3, "all of them")


@spec("ListSnapshots of what is not there is empty")
def _(ask, sanity):
    for fields in ({"snapshot_id": "none-exist-id"}, {"source_volume_id": UNKNOWN}, {"source_volume_id": "x"}):
        ask.same(len(ask.five("ListSnapshots", **fields).entries), 0, f"entries of {fields}")


@spec("ListSnapshots has one more after a creation and one less after a deletion")
def _(ask, sanity):
    before = len(sanity.snapshots().entries)
    one = sanity.snapshot(sanity.volume().volume_id)
    ask.same(len(sanity.snapshots().entries), before + 1, "snapshots")
    ask.ask("DeleteSnapshot", snapshot_id=one.snapshot_id)
    ask.same(len(sanity.snapshots().entries), before, "snapshots")


@spec("ListSnapshots in two pages")
def _(ask, sanity):
    for _ in range(5):
        sanity.snapshot(sanity.volume().volume_id)
    all_ = len(sanity.snapshots().entries)
    page = sanity.snapshots(max_entries=2)
    ask.same(len(page.entries), 2, "entries of a page")
    ask.same(len(sanity.snapshots(starting_token=page.next_token).entries), all_ - 2, "entries of the rest")


refuses("GetSnapshot without an id", INVALID, "GetSnapshot")
refuses("GetSnapshot of one that is not there", "NOT_FOUND", "GetSnapshot", snapshot_id="none-exist-id")

refuses("ControllerExpandVolume without an id", INVALID, "ControllerExpandVolume", volume_capability=CAP,
        capacity_range={"required_bytes": LARGER})
refuses("ControllerExpandVolume without a range", INVALID, "ControllerExpandVolume")


@spec("ControllerExpandVolume answers the size that was asked for")
def _(ask, sanity):
    one = sanity.volume().volume_id
    asked = {"volume_id": one, "capacity_range": {"required_bytes": LARGER}, "volume_capability": CAP}
    ask.same(ask.five("ControllerExpandVolume", **asked).capacity_bytes, LARGER, "size")


refuses("ControllerModifyVolume without an id", INVALID, "ControllerModifyVolume")
refuses("ControllerModifyVolume of a volume that is not there", "NOT_FOUND", "ControllerModifyVolume",
        volume_id="non-existing-volume-id")


@spec("ControllerModifyVolume with unknown parameters")
def _(ask, sanity):
    for class_ in ({}, {"reserve": "16M"}):
        one = sanity.volume(mutable_parameters=class_).volume_id
        fake = {"XXX_FakeKey": "XXX_FakeValue"}
        ask.refused(INVALID, "ControllerModifyVolume", volume_id=one, mutable_parameters=fake)


@spec("ControllerModifyVolume of a volume with and without a class")
def _(ask, sanity):
    for class_ in ({}, {"reserve": "16M"}):
        one = sanity.volume(mutable_parameters=class_).volume_id
        ask.five("ControllerModifyVolume", volume_id=one, mutable_parameters={})
        ask.five("ControllerModifyVolume", volume_id=one, mutable_parameters={"reserve": "32M"})


@check("NodeGetInfo has an id, no negative number and a topology", "sanity")
def _(ask):
    info = ask.five("NodeGetInfo")
    ask.so(info.node_id and info.max_volumes_per_node >= 0 and info.HasField("accessible_topology"), f"{info}")


refuses("NodePublishVolume without an id", INVALID, "NodePublishVolume")
refuses("NodePublishVolume without a target", INVALID, "NodePublishVolume", volume_id=UNKNOWN)
refuses("NodePublishVolume without a capability", INVALID, "NodePublishVolume", volume_id=UNKNOWN,
        target_path=PLACE["target_path"])


@spec("NodePublishVolume of a single writer's volume at a second target")
def _(ask, sanity):
    cap = node.capability("SINGLE_NODE_SINGLE_WRITER")
    one = sanity.volume(caps=[cap])
    sanity.stage(one, cap)
    fields = sanity.publish(one, cap)
    other = {**fields, "target_path": f"{sanity.target}/other_target"}
    ask.refused("FAILED_PRECONDITION", "NodePublishVolume", **other)


refuses("NodeUnpublishVolume without an id", INVALID, "NodeUnpublishVolume")
refuses("NodeUnpublishVolume without a target", INVALID, "NodeUnpublishVolume", volume_id=UNKNOWN)


@spec("NodeUnpublishVolume removes the target")
def _(ask, sanity):
    one = sanity.volume()
    sanity.stage(one)
    place = sanity.publish(one)["target_path"]
    ask.so(os.path.isdir(place), "the target is there")
    ask.five("NodeUnpublishVolume", volume_id=one.volume_id, target_path=place)
    ask.so(not os.path.lexists(place), "the target is left")


refuses("NodeStageVolume without an id", INVALID, "NodeStageVolume", volume_capability=CAP,
        publish_context={"device": "/dev/mock"}, staging_target_path=PLACE["staging_target_path"])
refuses("NodeStageVolume without a staging path", INVALID, "NodeStageVolume", volume_id=UNKNOWN, volume_capability=CAP)


@spec("NodeStageVolume without a capability")
def _(ask, sanity):
    one = sanity.volume().volume_id
    ask.refused(INVALID, "NodeStageVolume", volume_id=one, staging_target_path=sanity.staging)


refuses("NodeUnstageVolume without an id", INVALID, "NodeUnstageVolume",
        staging_target_path=PLACE["staging_target_path"])
refuses("NodeUnstageVolume without a staging path", INVALID, "NodeUnstageVolume", volume_id=UNKNOWN)

for _rpc in ("NodeGetVolumeStats", "NodeExpandVolume"):
    refuses(f"{_rpc} without an id", INVALID, _rpc, volume_path="some/path")
    refuses(f"{_rpc} without a path", INVALID, _rpc, volume_id=UNKNOWN)
    refuses(f"{_rpc} of a volume that is not there", "NOT_FOUND", _rpc, volume_id=UNKNOWN, volume_path="some/path")


@spec("NodeGetVolumeStats and NodeExpandVolume at another path")
def _(ask, sanity):
    one = sanity.volume()
    sanity.stage(one)
    sanity.publish(one)
    for rpc in ("NodeGetVolumeStats", "NodeExpandVolume"):
        ask.refused("NOT_FOUND", rpc, volume_id=one.volume_id, volume_path="some/path")
        ask.refused(INVALID, rpc, volume_id=one.volume_id)


@spec("NodeExpandVolume after NodePublishVolume")
def _(ask, sanity):
    one = sanity.volume()
    range_ = {"required_bytes": LARGER}
    larger = ask.ask("ControllerExpandVolume", volume_id=one.volume_id, capacity_range=range_)
    ask.same(larger.capacity_bytes, LARGER, "size")
    sanity.stage(one)
    place = sanity.publish(one)["target_path"]
    ask.five("NodeExpandVolume", volume_id=one.volume_id, volume_path=place, capacity_range=range_)


for _count in (1, AGAIN):
    def _flow(ask, sanity, count=_count):
        here = ask.ask("NodeGetInfo").accessible_topology
        one = sanity.volume(accessibility_requirements={"requisite": [here]})
        sanity.stage(one, times=count)
        place = sanity.publish(one, times=count)["target_path"]
        usage = ask.five("NodeGetVolumeStats", volume_id=one.volume_id, volume_path=place).usage
        ask.so(len(usage) > 0, "how full it is")
    spec(f"A volume is made, staged, published and measured, each {_count} times")(_flow)

refuses("CreateVolumeGroupSnapshot without a name", INVALID, "CreateVolumeGroupSnapshot")
refuses("GetVolumeGroupSnapshot without an id", INVALID, "GetVolumeGroupSnapshot")
refuses("GetVolumeGroupSnapshot of one that is not there", "NOT_FOUND", "GetVolumeGroupSnapshot",
        group_snapshot_id="reallyfakevolumeid")
refuses("DeleteVolumeGroupSnapshot without an id", INVALID, "DeleteVolumeGroupSnapshot")
succeeds("DeleteVolumeGroupSnapshot with an invalid id", "DeleteVolumeGroupSnapshot", group_snapshot_id="fake")
