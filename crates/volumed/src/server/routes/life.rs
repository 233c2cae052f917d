//! Endpoints for what becomes of volumes and snapshots after they were made. Provision may all of it: it may delete them too.

use vol_api::{CloneVolume, Relabel, Rename, SetVolume, SnapshotGroup};
use vol_types::{PvId, SnapshotPath, VolumePath};

use super::super::endpoint::{Api, post};
use crate::access::Role::{Admin, Provision};

pub fn life(api: &mut impl Api) {
    api.change_with(
        post("volume.clone", Provision, "/v1/clones", "Makes a volume of what another, or a snapshot, holds")
            .example(r#"{"vg":"data","volume":"pg","snapshot":"before","name":"copy"}"#),
        |b, (), r: CloneVolume, dry| b.clone_volume(r, dry),
    );
    api.change_with(
        post("snapshot.create_group", Provision, "/v1/snapshot-groups", "Makes snapshots of one instant; all or none")
            .example(r#"{"vg":"data","snapshots":[{"volume":"pg","name":"t1"},{"volume":"raw","name":"t1"}]}"#),
        |b, (), r: SnapshotGroup, dry| b.create_snapshots(r, dry),
    );
    api.delete(
        post(
            "snapshot.rollback",
            Provision,
            "/v1/snapshots/{vg}/{volume}/{snapshot}/rollback",
            "Gives a volume what its snapshot holds",
        )
        .details("What the volume held is kept as a deleted snapshot until `kept_until`, unless `now` is asked for."),
        |b, path: SnapshotPath, now, dry| b.rollback(&path, now, dry),
    );
    api.change_with(
        post("volume.rename", Provision, "/v1/volumes/{vg}/{volume}/rename", "Renames a volume; its snapshots follow")
            .example(r#"{"name":"db"}"#),
        |b, path: VolumePath, r: Rename, dry| b.rename_volume(&path, r, dry),
    );
    api.change_with(
        post("snapshot.rename", Provision, "/v1/snapshots/{vg}/{volume}/{snapshot}/rename", "Renames a snapshot")
            .example(r#"{"name":"then"}"#),
        |b, path: SnapshotPath, r: Rename, dry| b.rename_snapshot(&path, r, dry),
    );
    api.change_with(
        post("volume.label", Provision, "/v1/volumes/{vg}/{volume}/labels", "Sets and takes away labels of a volume")
            .example(r#"{"set":{"tier":"fast"},"remove":["old"]}"#),
        |b, path: VolumePath, r: Relabel, dry| b.label_volume(&path, r, dry),
    );
    api.change_with(
        post(
            "snapshot.label",
            Provision,
            "/v1/snapshots/{vg}/{volume}/{snapshot}/labels",
            "Sets and takes away labels of a snapshot",
        )
        .example(r#"{"set":{"tier":"fast"},"remove":["old"]}"#),
        |b, path: SnapshotPath, r: Relabel, dry| b.label_snapshot(&path, r, dry),
    );
    api.change_with(
        post("pv.label", Admin, "/v1/pvs/{id}/labels", "Sets and takes away labels of a physical volume")
            .example(r#"{"set":{"tier":"fast"},"remove":["old"]}"#),
        |b, id: PvId, r: Relabel, dry| b.label_pv(id, r, dry),
    );
    api.change_with(
        post(
            "volume.set",
            Provision,
            "/v1/volumes/{vg}/{volume}/set",
            "Sets what is set aside for a volume in its pool",
        )
        .example(r#"{"reserve":"full"}"#),
        |b, path: VolumePath, r: SetVolume, dry| b.set_volume(&path, r, dry),
    );
    api.change(
        post(
            "volume.protect",
            Provision,
            "/v1/volumes/{vg}/{volume}/protect",
            "Protects a volume from being deleted and rolled back",
        ),
        |b, path: VolumePath, dry| b.protect_volume(&path, true, dry),
    );
    api.change(
        post("volume.unprotect", Provision, "/v1/volumes/{vg}/{volume}/unprotect", "Takes away a volume's protection"),
        |b, path: VolumePath, dry| b.protect_volume(&path, false, dry),
    );
    api.change(
        post(
            "snapshot.protect",
            Provision,
            "/v1/snapshots/{vg}/{volume}/{snapshot}/protect",
            "Protects a snapshot from being deleted",
        ),
        |b, path: SnapshotPath, dry| b.protect_snapshot(&path, true, dry),
    );
    api.change(
        post(
            "snapshot.unprotect",
            Provision,
            "/v1/snapshots/{vg}/{volume}/{snapshot}/unprotect",
            "Takes away a snapshot's protection",
        ),
        |b, path: SnapshotPath, dry| b.protect_snapshot(&path, false, dry),
    );
}
