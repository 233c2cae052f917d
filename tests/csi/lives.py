"""Whole lives of volumes, as a provisioner and a kubelet ask for them: each request five times, and at once from several."""
import os
import threading

import node
from client import Client
from node import CAP, GIB, capability, inline, named, publish, stage, staging, target, unpublish, unstage, volume
from suite import check, until_done


@check("a claim's life", "life")
def _(ask):
    for fs in ("ext4", "xfs", "btrfs"):
        cap = capability("SINGLE_NODE_MULTI_WRITER", fs, ["noatime"])
        here = ask.ask("NodeGetInfo").accessible_topology
        wanted = volume(named("pvc"), GIB, caps=[cap], accessibility_requirements={"requisite": [here], "preferred": [here]},
                        parameters={"csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/pvc/namespace": "web"})
        one = ask.race("CreateVolume", **wanted).volume
        ask.same(ask.five("CreateVolume", **wanted).volume, one, "the volume")
        id_ = one.volume_id
        got = ask.five("ControllerGetVolume", volume_id=id_)
        ask.same((got.volume.volume_id, got.volume.capacity_bytes), (id_, GIB), "the volume")
        context = dict(one.volume_context)
        ask.race("NodeStageVolume", **stage(id_, cap), volume_context=context)
        ask.five("NodeStageVolume", **stage(id_, cap), volume_context=context)
        for pod in ("writer", "reader"):
            fields = publish(id_, pod, cap, readonly=pod == "reader", volume_context=context)
            ask.race("NodePublishVolume", **fields)
            ask.five("NodePublishVolume", **fields)
        at, seen = target("writer"), target("reader")
        ask.same(os.listdir(at), [], "what is in a new volume")
        ask.same(sorted(node.mounted()), sorted([staging(id_), at, seen]), "each once, whoever asked how often")
        node.write(at, "file", "then")
        ask.same(node.read(seen, "file"), "then", "what another pod sees")
        ask.so("ro" in node.options(seen) and "noatime" in node.options(at), "how it is mounted")

        taken = ask.race("CreateSnapshot", name=f"snap-{id_}", source_volume_id=id_).snapshot
        ask.same(ask.five("CreateSnapshot", name=f"snap-{id_}", source_volume_id=id_).snapshot, taken, "the snapshot")
        node.write(at, "file", "now")
        restored = lives_again(ask, cap, {"snapshot": {"snapshot_id": taken.snapshot_id}}, "then")
        cloned = lives_again(ask, cap, {"volume": {"volume_id": id_}}, "now")

        larger = {"volume_id": id_, "capacity_range": {"required_bytes": 2 * GIB}}
        ask.same(ask.race("ControllerExpandVolume", **larger).capacity_bytes, 2 * GIB, "size")
        ask.race("NodeExpandVolume", **larger, volume_path=at)
        ask.so(node.size_of(at) > 3 * GIB // 2, f"{fs}: it has not grown in use")
        usage = ask.ask("NodeGetVolumeStats", volume_id=id_, volume_path=at).usage
        units = {part.unit: part for part in usage}
        ask.same(units[1].total, node.size_of(at), "size of the file system")
        ask.so(units[1].used > 0 and units[1].available > 0, f"{usage}")
        ask.so(fs == "btrfs" or units[2].total > 0, "inodes")
        ask.same(node.read(at, "file"), "now", "what it holds")

        for pod in ("writer", "reader"):
            ask.race("NodeUnpublishVolume", **unpublish(id_, pod))
            ask.five("NodeUnpublishVolume", **unpublish(id_, pod))
            ask.so(not os.path.lexists(target(pod)), "the place is removed")
        ask.race("NodeUnstageVolume", **unstage(id_))
        ask.five("NodeUnstageVolume", **unstage(id_))
        ask.same(node.mounted(), [], "mounts")
        for volume_id in (id_, restored, cloned):
            ask.race("DeleteVolume", volume_id=volume_id)
            ask.five("DeleteVolume", volume_id=volume_id)
        ask.race("DeleteSnapshot", snapshot_id=taken.snapshot_id)
        ask.five("DeleteSnapshot", snapshot_id=taken.snapshot_id)
        ask.refused("NOT_FOUND", "ControllerGetVolume", volume_id=id_)


def lives_again(ask, cap, source, holds):
    """A larger volume from something, used and given back; its id."""
    one = ask.race("CreateVolume", **volume(named("again"), 2 * GIB, caps=[cap], volume_content_source=source)).volume
    ask.same(one.capacity_bytes, 2 * GIB, "size of what was made from something")
    ask.five("NodeStageVolume", **stage(one.volume_id, cap))
    ask.five("NodePublishVolume", **publish(one.volume_id, "again", cap))
    ask.same(node.read(target("again"), "file"), holds, "what it holds")
    ask.so(node.size_of(target("again")) > 3 * GIB // 2, "its file system is as small as what it was made from")
    ask.five("NodeUnpublishVolume", **unpublish(one.volume_id, "again"))
    ask.five("NodeUnstageVolume", **unstage(one.volume_id))
    return one.volume_id


@check("a volume that lives and dies with its pod", "life")
def _(ask):
    for at in range(2):
        id_ = named("csi")
        fields = inline(id_, "inline", size="64M")
        ask.race("NodePublishVolume", **fields)
        ask.five("NodePublishVolume", **fields)
        place = target("inline")
        node.write(place, "file", "scratch")
        ask.so(32 << 20 < node.size_of(place) < 65 << 20, f"its size: {node.size_of(place)}")
        ask.so(all(one.volume.volume_id != id_ for one in ask.ask("ListVolumes").entries), "it is no claim's")
        ask.five("NodeGetVolumeStats", volume_id=id_, volume_path=place)
        # It is of this pod alone.
        ask.refused("FAILED_PRECONDITION", "NodePublishVolume", **inline(id_, "other", size="64M"))
        if at == 1:
            ask.race("NodeUnpublishVolume", **unpublish(id_, "inline"))
        ask.five("NodeUnpublishVolume", **unpublish(id_, "inline"))
        ask.so(not os.path.lexists(place), "its place is removed")
        ask.so(id_ not in node.volctl("volume", "list", "-o", "json"), "it is gone for good")
    ask.refused("INVALID_ARGUMENT", "NodePublishVolume", **inline(named("csi"), "inline", pool="data/tank"))


@check("a volume made by hand, by its path and by its id", "life")
def _(ask):
    import json
    node.volctl("volume", "create", "data/pg", "--size", "1G", "--fs", "ext4")
    id_ = json.loads(node.volctl("volume", "show", "data/pg", "-o", "json"))["id"]
    for handle in ("data/pg", id_):
        ask.five("NodeStageVolume", **stage(handle))
        ask.five("NodePublishVolume", **publish(handle, "static"))
        node.write(target("static"), "file", handle)
        ask.five("NodeGetVolumeStats", volume_id=handle, volume_path=target("static"))
        ask.five("NodeUnpublishVolume", **unpublish(handle, "static"))
        ask.five("NodeUnstageVolume", **unstage(handle))
    confirmed = ask.five("ValidateVolumeCapabilities", volume_id="data/pg", volume_capabilities=[CAP])
    ask.so(confirmed.HasField("confirmed"), "it is confirmed")
    node.volctl("volume", "protect", "data/pg")
    ask.refused("FAILED_PRECONDITION", "DeleteVolume", volume_id="data/pg")
    node.volctl("volume", "unprotect", "data/pg")
    ask.five("DeleteVolume", volume_id="data/pg")


@check("a group of one instant is restored whole", "life")
def _(ask):
    ids = [ask.ask("CreateVolume", **volume(named("group"))).volume.volume_id for _ in range(3)]
    for id_ in ids:
        ask.ask("NodeStageVolume", **stage(id_))
        node.write(staging(id_), "file", "then")
    fields = {"name": named("nightly"), "source_volume_ids": ids}
    group = ask.race("CreateVolumeGroupSnapshot", **fields).group_snapshot
    ask.same(ask.five("CreateVolumeGroupSnapshot", **fields).group_snapshot, group, "the group")
    for id_ in ids:
        node.write(staging(id_), "file", "now")
    made = [lives_again(ask, CAP, {"snapshot": {"snapshot_id": one.snapshot_id}}, "then") for one in group.snapshots]
    whole = {"group_snapshot_id": group.group_snapshot_id, "snapshot_ids": [one.snapshot_id for one in group.snapshots]}
    ask.race("DeleteVolumeGroupSnapshot", **whole)
    ask.five("DeleteVolumeGroupSnapshot", **whole)
    ask.same(len(ask.ask("ListSnapshots").entries), 0, "snapshots")
    for id_ in ids:
        ask.ask("NodeUnstageVolume", **unstage(id_))
    for id_ in [*ids, *made]:
        ask.ask("DeleteVolume", volume_id=id_)


@check("a raw block volume's life", "life")
def _(ask):
    cap = capability("SINGLE_NODE_MULTI_WRITER", block=True)
    id_ = ask.five("CreateVolume", **volume(named("raw"), caps=[cap])).volume.volume_id
    try:
        ask.five("NodeStageVolume", **stage(id_, cap))
        ask.race("NodePublishVolume", **publish(id_, "raw", cap))
        ask.five("NodePublishVolume", **publish(id_, "raw", cap))
        with open(target("raw"), "r+b", buffering=0) as device:
            device.write(b"\1" * 4096)
            ask.same(device.seek(0, os.SEEK_END), GIB, "size of the device")
        ask.five("NodeExpandVolume", volume_id=id_, volume_path=target("raw"), capacity_range={"required_bytes": 2 * GIB})
        with open(target("raw"), "rb", buffering=0) as device:
            ask.same((device.read(1), device.seek(0, os.SEEK_END)), (b"\1", 2 * GIB), "what it holds, and its size")
        usage = ask.five("NodeGetVolumeStats", volume_id=id_, volume_path=target("raw")).usage
        ask.same([part.total for part in usage if part.unit == 1], [2 * GIB], "size")
        ask.refused("FAILED_PRECONDITION", "DeleteVolume", volume_id=id_)
        ask.five("NodeUnpublishVolume", **unpublish(id_, "raw"))
        ask.so(not os.path.lexists(target("raw")), "its place is removed")
        ask.five("NodeUnstageVolume", **unstage(id_))
    finally:
        ask.five("DeleteVolume", volume_id=id_)


@check("sixteen claims at once", "life")
def _(ask):
    names, ids, failed = [named("many") for _ in range(16)], [], []

    def one(name):
        client = Client()
        try:
            id_ = until_done(client, "CreateVolume", volume(name, 64 << 20)).volume.volume_id
            until_done(client, "NodeStageVolume", stage(id_))
            until_done(client, "NodePublishVolume", publish(id_, name))
            node.write(target(name), "file", name)
            until_done(client, "NodeUnpublishVolume", unpublish(id_, name))
            until_done(client, "NodeUnstageVolume", unstage(id_))
            ids.append(id_)
        except Exception as why:
            failed.append(str(why))
        finally:
            client.close()

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ask.same(failed, [], "what was refused")
    ask.same(len(set(ids)), 16, "volumes")
    for id_ in ids:
        ask.ask("DeleteVolume", volume_id=id_)
