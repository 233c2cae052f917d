"""The daemon is killed while it answers; whoever asked asks again, and what is then there is what was asked for, once."""
import json
import os
import time

import node
from node import GIB, capability, inline, named, publish, stage, staging, target, unpublish, unstage, volume
from suite import check, kill

# When it dies, in parts of the time that the request takes when nothing happens.
PARTS = (0.2, 0.5, 0.8)
# Where several requests are killed one after the other.
FEWER = (0.3, 0.7)


def took(ask, rpc, **fields):
    begin = time.monotonic()
    ask.ask(rpc, **fields)
    return time.monotonic() - begin


def listed(name):
    """How many volumes of the whole machine were asked for under a name."""
    found = json.loads(node.volctl("volume", "list", "-l", f"csi.volume={name}", "-o", "json"))
    return len(found["volumes"])


@check("killed while it makes a volume", "killed")
def _(ask):
    name = named("time")
    time_ = took(ask, "CreateVolume", **volume(name))
    ask.ask("DeleteVolume", volume_id=ask.ask("CreateVolume", **volume(name)).volume.volume_id)
    for part in PARTS:
        name = named("killed")
        one = ask.killed(time_ * part, "CreateVolume", **volume(name)).volume
        ask.same(one.capacity_bytes, GIB, "size")
        ask.same(listed(name), 1, "volumes of that name")
        ask.ask("NodeStageVolume", **stage(one.volume_id))
        node.write(staging(one.volume_id), "file", name)
        ask.ask("NodeUnstageVolume", **unstage(one.volume_id))
        ask.ask("DeleteVolume", volume_id=one.volume_id)


@check("killed while it makes a volume from a snapshot and from a volume", "killed")
def _(ask):
    cap = capability(fs="xfs")
    of = ask.ask("CreateVolume", **volume(named("of"), 512 << 20, caps=[cap])).volume.volume_id
    ask.ask("NodeStageVolume", **stage(of, cap))
    node.write(staging(of), "file", "kept")
    snapshot = ask.ask("CreateSnapshot", name=named("of"), source_volume_id=of).snapshot.snapshot_id
    for source in ({"snapshot": {"snapshot_id": snapshot}}, {"volume": {"volume_id": of}}):
        wanted = {"size": GIB, "caps": [cap], "volume_content_source": source}
        name = named("time")
        time_ = took(ask, "CreateVolume", **volume(name, **wanted))
        made = [ask.ask("CreateVolume", **volume(name, **wanted)).volume.volume_id]
        for part in FEWER:
            name = named("killed")
            one = ask.killed(time_ * part, "CreateVolume", **volume(name, **wanted)).volume
            made.append(one.volume_id)
            ask.same((one.capacity_bytes, listed(name)), (GIB, 1), "size, and volumes of that name")
            ask.ask("NodeStageVolume", **stage(one.volume_id, cap))
            ask.same(node.read(staging(one.volume_id), "file"), "kept", "what it holds")
            ask.so(node.size_of(staging(one.volume_id)) > 700 << 20, "its file system is smaller")
            ask.ask("NodeUnstageVolume", **unstage(one.volume_id))
        for one in made:
            ask.ask("DeleteVolume", volume_id=one)
    ask.ask("NodeUnstageVolume", **unstage(of))
    ask.ask("DeleteSnapshot", snapshot_id=snapshot)
    ask.ask("DeleteVolume", volume_id=of)


@check("killed while it takes snapshots", "killed")
def _(ask):
    ids = [ask.ask("CreateVolume", **volume(named("of"))).volume.volume_id for _ in range(2)]
    for id_ in ids:
        ask.ask("NodeStageVolume", **stage(id_))
    alone = {"name": named("time"), "source_volume_id": ids[0]}
    time_ = took(ask, "CreateSnapshot", **alone)
    ask.ask("DeleteSnapshot", snapshot_id=ask.ask("CreateSnapshot", **alone).snapshot.snapshot_id)
    for part in FEWER:
        one = ask.killed(time_ * part, "CreateSnapshot", name=named("killed"), source_volume_id=ids[0]).snapshot
        node.write(staging(ids[0]), "file", "writes go on")
        ask.same(len(ask.ask("ListSnapshots", source_volume_id=ids[0]).entries), 1, "snapshots")
        ask.killed(time_ * part, "DeleteSnapshot", snapshot_id=one.snapshot_id)
        ask.same(len(ask.ask("ListSnapshots").entries), 0, "snapshots")
        group = ask.killed(time_ * part, "CreateVolumeGroupSnapshot", name=named("killed"), source_volume_ids=ids)
        group = group.group_snapshot
        ask.same(len(group.snapshots), 2, "snapshots of a group")
        ask.same(len(ask.ask("ListSnapshots").entries), 2, "snapshots")
        whole = {"group_snapshot_id": group.group_snapshot_id, "snapshot_ids": [one.snapshot_id for one in group.snapshots]}
        ask.killed(time_ * part, "DeleteVolumeGroupSnapshot", **whole)
        ask.same(len(ask.ask("ListSnapshots").entries), 0, "snapshots")
    for id_ in ids:
        ask.ask("NodeUnstageVolume", **unstage(id_))
        ask.ask("DeleteVolume", volume_id=id_)


@check("killed while it puts a volume in its places, grows it and takes it back", "killed")
def _(ask):
    one = ask.ask("CreateVolume", **volume(named("node"), 512 << 20)).volume.volume_id
    times = {}
    for part in (0, *FEWER):
        size = (512 << 20) + int((part + 0.1) * GIB) // (1 << 20) * (1 << 20)
        steps = (("NodeStageVolume", stage(one)), ("NodePublishVolume", publish(one, "killed")),
                 ("ControllerExpandVolume", {"volume_id": one, "capacity_range": {"required_bytes": size}}),
                 ("NodeExpandVolume", {"volume_id": one, "volume_path": target("killed"),
                                       "capacity_range": {"required_bytes": size + (64 << 20)}}),
                 ("NodeUnpublishVolume", unpublish(one, "killed")), ("NodeUnstageVolume", unstage(one)))
        for rpc, fields in steps:
            if part == 0:
                times[rpc] = took(ask, rpc, **fields)
                continue
            ask.killed(times[rpc] * part, rpc, **fields)
            if rpc == "NodePublishVolume":
                ask.same(sorted(node.mounted()), sorted([staging(one), target("killed")]), "mounts")
                node.write(target("killed"), "file", str(part))
            if rpc == "NodeExpandVolume":
                ask.so(node.size_of(target("killed")) > size * 3 // 4, "its file system has not grown")
                ask.same(node.read(target("killed"), "file"), str(part), "what it holds")
        ask.same(node.mounted(), [], "mounts")
        ask.so(not os.path.lexists(target("killed")), "its place is removed")
    ask.ask("DeleteVolume", volume_id=one)


@check("killed while it makes and deletes what lives with a pod, and what is deleted", "killed")
def _(ask):
    id_ = named("csi")
    made = took(ask, "NodePublishVolume", **inline(id_, "inline", size="64M"))
    gone = took(ask, "NodeUnpublishVolume", **unpublish(id_, "inline"))
    for part in FEWER:
        id_ = named("csi")
        ask.killed(made * part, "NodePublishVolume", **inline(id_, "inline", size="64M"))
        node.write(target("inline"), "file", id_)
        ask.same(node.mounted(), [target("inline")], "mounts")
        ask.killed(gone * part, "NodeUnpublishVolume", **unpublish(id_, "inline"))
        ask.same(node.mounted(), [], "mounts")
        ask.so(id_ not in node.volctl("volume", "list", "-o", "json"), "it is left")
        one = ask.ask("CreateVolume", **volume(named("gone"))).volume.volume_id
        ask.killed(gone * part, "DeleteVolume", volume_id=one)
        ask.refused("NOT_FOUND", "ControllerGetVolume", volume_id=one)


@check("a pod goes on while the daemon is dead, and Probe never fails", "killed")
def _(ask):
    one = ask.ask("CreateVolume", **volume(named("probe"))).volume.volume_id
    ask.ask("NodeStageVolume", **stage(one))
    ask.ask("NodePublishVolume", **publish(one, "probe"))
    kill()
    node.write(target("probe"), "file", "goes on")
    ask.fresh()
    ask.so(ask.ask("Probe").HasField("ready"), "whether it is ready")
    ask.five("NodeStageVolume", **stage(one))
    ask.five("NodePublishVolume", **publish(one, "probe"))
    other = capability(flags=["noatime"])
    ask.refused("ALREADY_EXISTS", "NodePublishVolume", **publish(one, "probe", other))
    ask.refused("FAILED_PRECONDITION", "NodePublishVolume", **publish(one, "second"))
    ask.ask("NodeUnpublishVolume", **unpublish(one, "probe"))
    ask.ask("NodeUnstageVolume", **unstage(one))
    ask.ask("DeleteVolume", volume_id=one)
