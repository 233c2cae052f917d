"""The machine: places for volumes, what is mounted there, and the names that checks give things."""
import json
import os
import uuid

from client import enum
from suite import program

GIB = 1 << 30
KUBELET = "/var/lib/kubelet"
TOPOLOGY = "topology.csi.volumed.io/node"
MODES = {name: enum("VolumeCapability.AccessMode.Mode", name) for name in (
    "UNKNOWN", "SINGLE_NODE_WRITER", "SINGLE_NODE_READER_ONLY", "MULTI_NODE_READER_ONLY", "MULTI_NODE_SINGLE_WRITER",
    "MULTI_NODE_MULTI_WRITER", "SINGLE_NODE_SINGLE_WRITER", "SINGLE_NODE_MULTI_WRITER")}


def capability(mode="SINGLE_NODE_WRITER", fs="", flags=(), group="", block=False):
    access = {"access_mode": {"mode": MODES[mode]}}
    if block:
        return {**access, "block": {}}
    return {**access, "mount": {"fs_type": fs, "mount_flags": list(flags), "volume_mount_group": group}}


CAP = capability()


def named(text):
    """A name that nothing has yet."""
    return f"{text}-{uuid.uuid4().hex[:8]}"


def volume(name, size=GIB, limit=0, caps=(CAP,), **more):
    """The fields of CreateVolume."""
    wanted = {"name": name, "volume_capabilities": list(caps), **more}
    if size or limit:
        wanted["capacity_range"] = {"required_bytes": size, "limit_bytes": limit}
    return wanted


def staging(volume_id):
    place = f"{KUBELET}/plugins/kubernetes.io/csi/csi.volumed.io/{uuid.uuid5(uuid.NAMESPACE_URL, volume_id)}/globalmount"
    os.makedirs(place, exist_ok=True)
    return place


def target(pod):
    """Where a pod wants a volume; the kubelet makes the directory above it."""
    place = f"{KUBELET}/pods/{pod}/volumes/kubernetes.io~csi/pv/mount"
    os.makedirs(os.path.dirname(place), exist_ok=True)
    return place


def stage(volume_id, cap=CAP):
    return {"volume_id": volume_id, "staging_target_path": staging(volume_id), "volume_capability": cap}


def unstage(volume_id):
    return {"volume_id": volume_id, "staging_target_path": staging(volume_id)}


def publish(volume_id, pod, cap=CAP, **more):
    return {"volume_id": volume_id, "staging_target_path": staging(volume_id), "target_path": target(pod),
            "volume_capability": cap, **more}


def inline(volume_id, pod, **attributes):
    """Of a volume that lives and dies with its pod."""
    context = {"csi.storage.k8s.io/ephemeral": "true", "csi.storage.k8s.io/pod.name": pod,
               "csi.storage.k8s.io/pod.namespace": "web", "csi.storage.k8s.io/serviceAccount.name": "default", **attributes}
    return {"volume_id": volume_id, "target_path": target(pod), "volume_capability": CAP, "volume_context": context}


def unpublish(volume_id, pod):
    return {"volume_id": volume_id, "target_path": target(pod)}


def options(place):
    """The options of what is mounted there, of the uppermost; None where nothing is."""
    found = None
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            words = line.split()
            if words[4] == place:
                found = set(words[5].split(","))
    return found


def mounted(below=KUBELET):
    with open("/proc/self/mountinfo") as lines:
        return [line.split()[4] for line in lines if line.split()[4].startswith(f"{below}/")]


def size_of(place):
    """Of the file system that is mounted there."""
    said = os.statvfs(place)
    return said.f_blocks * said.f_frsize


def write(place, name, text):
    with open(f"{place}/{name}", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read(place, name):
    with open(f"{place}/{name}") as file:
        return file.read()


def journal():
    return program("journalctl", "-q", "-o", "cat", "--no-pager", "-u", "volumed")


def volctl(*words):
    return program("volctl", *words)


def told(volume_id):
    """What `volctl` tells of a volume."""
    own = volume_id.split(".")[0]
    return next(one for one in json.loads(volctl("volume", "list", "-o", "json"))["volumes"] if one["id"] == own)
