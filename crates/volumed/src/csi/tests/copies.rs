//! Snapshots, what is made from them, and what becomes of a volume while it is there.

use volume_content_source::{SnapshotSource, Type, VolumeSource};

use super::*;

impl Driver {
    pub(super) async fn snap(&self, source: &str, name: &str) -> Result<Snapshot, Status> {
        let request =
            CreateSnapshotRequest { source_volume_id: source.into(), name: name.into(), ..Default::default() };
        let answer = self.wire().await.controller().create_snapshot(request).await?;
        Ok(answer.into_inner().snapshot.unwrap())
    }
    pub(super) async fn unsnap(&self, id: &str) -> Result<(), Status> {
        let request = DeleteSnapshotRequest { snapshot_id: id.into() };
        self.wire().await.controller().delete_snapshot(request).await.map(drop)
    }
    pub(super) async fn snapshots(&self, request: ListSnapshotsRequest) -> Result<Vec<Snapshot>, Status> {
        let answer = self.wire().await.controller().list_snapshots(request).await?;
        Ok(answer.into_inner().entries.into_iter().map(|entry| entry.snapshot.unwrap()).collect())
    }
    pub(super) async fn group(&self, name: &str, of: &[&str]) -> Result<VolumeGroupSnapshot, Status> {
        let source_volume_ids = of.iter().map(ToString::to_string).collect();
        let request = CreateVolumeGroupSnapshotRequest { name: name.into(), source_volume_ids, ..Default::default() };
        let answer = self.wire().await.group_controller().create_volume_group_snapshot(request).await?;
        Ok(answer.into_inner().group_snapshot.unwrap())
    }
    pub(super) async fn ungroup(&self, id: &str, snapshot_ids: Vec<String>) -> Result<(), Status> {
        let request = DeleteVolumeGroupSnapshotRequest { group_snapshot_id: id.into(), snapshot_ids };
        self.wire().await.group_controller().delete_volume_group_snapshot(request).await.map(drop)
    }
    pub(super) async fn expand(
        &self,
        id: &str,
        range: Option<(i64, i64)>,
    ) -> Result<ControllerExpandVolumeResponse, Status> {
        let range = range.map(|(required_bytes, limit_bytes)| CapacityRange { required_bytes, limit_bytes });
        let request =
            ControllerExpandVolumeRequest { volume_id: id.into(), capacity_range: range, ..Default::default() };
        Ok(self.wire().await.controller().controller_expand_volume(request).await?.into_inner())
    }
    pub(super) async fn expand_here(&self, id: &str, at: &str, required: i64) -> Result<i64, Status> {
        let request = NodeExpandVolumeRequest {
            volume_id: id.into(),
            volume_path: at.into(),
            capacity_range: Some(CapacityRange { required_bytes: required, limit_bytes: 0 }),
            ..Default::default()
        };
        Ok(self.wire().await.node().node_expand_volume(request).await?.into_inner().capacity_bytes)
    }
    pub(super) async fn usage(&self, id: &str, at: &str) -> Result<Vec<VolumeUsage>, Status> {
        let request = NodeGetVolumeStatsRequest { volume_id: id.into(), volume_path: at.into(), ..Default::default() };
        Ok(self.wire().await.node().node_get_volume_stats(request).await?.into_inner().usage)
    }
}

fn from_snapshot(id: &str) -> Option<VolumeContentSource> {
    Some(VolumeContentSource { r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id: id.into() })) })
}

fn from_volume(id: &str) -> Option<VolumeContentSource> {
    Some(VolumeContentSource { r#type: Some(Type::Volume(VolumeSource { volume_id: id.into() })) })
}

#[tokio::test]
async fn a_snapshot_is_taken_once_outlives_its_volume_and_becomes_larger_volumes() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    driver.stage(to_stage(&id, usual())).await.unwrap();
    driver.host.put_file(staging(&id), "file", b"then").unwrap();
    let snapshot = driver.snap(&id, "snap-1").await.unwrap();
    assert!(snapshot.ready_to_use && snapshot.creation_time.is_some() && snapshot.size_bytes == GIB);
    assert_eq!(snapshot.source_volume_id, id);
    for _ in 0..4 {
        assert_eq!(driver.snap(&id, "snap-1").await.unwrap(), snapshot);
    }
    let get = GetSnapshotRequest { snapshot_id: snapshot.snapshot_id.clone() };
    let got = driver.wire().await.controller().get_snapshot(get).await.unwrap().into_inner();
    assert_eq!(got.snapshot.as_ref(), Some(&snapshot));
    driver.host.put_file(staging(&id), "file", b"now").unwrap();
    let other = driver.made("pvc-2").await;
    assert_eq!(code(driver.snap(&other, "snap-1").await), Code::AlreadyExists);

    let of_volume = CreateVolumeRequest { volume_content_source: from_volume(&id), ..asked("clone", GIB) };
    let clone = driver.create(of_volume).await.unwrap();
    driver.unstage(&id, &staging(&id)).await.unwrap();
    driver.delete(&id).await.unwrap();
    assert_eq!(driver.snap(&id, "snap-1").await.unwrap(), snapshot, "also when its volume is gone");
    let request = CreateVolumeRequest {
        volume_content_source: from_snapshot(&snapshot.snapshot_id),
        ..asked("restored", 3 * GIB)
    };
    let restored = driver.create(request.clone()).await.unwrap();
    assert_eq!((restored.capacity_bytes, &restored.content_source), (3 * GIB, &request.volume_content_source));
    for _ in 0..4 {
        assert_eq!(driver.create(request.clone()).await.unwrap(), restored);
    }
    for (volume, holds) in [(&clone, b"now".as_slice()), (&restored, b"then")] {
        let id = &volume.volume_id;
        driver.stage(to_stage(id, usual())).await.unwrap();
        assert_eq!(driver.host.read_file(staging(id), "file").unwrap().as_deref(), Some(holds));
        let total = driver.usage(id, &staging(id)).await.unwrap()[0].total;
        assert_eq!(total, volume.capacity_bytes, "its file system has grown with it");
        driver.unstage(id, &staging(id)).await.unwrap();
    }
    for _ in 0..5 {
        driver.unsnap(&snapshot.snapshot_id).await.unwrap();
    }
    assert!(driver.snapshots(ListSnapshotsRequest::default()).await.unwrap().is_empty());
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_made_from_something_is_refused_and_what_is_elsewhere_is_scheduled_anew() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    let snapshot = driver.snap(&id, "snap-1").await.unwrap().snapshot_id;
    let from = |source, size| CreateVolumeRequest { volume_content_source: source, ..asked("x", size) };
    let elsewhere = vol_csi::ids::told("6c7e5d3a-0000-4000-8000-000000000000", "n2");
    for (request, expected) in [
        (from(from_snapshot("no such snapshot"), GIB), Code::NotFound),
        (from(from_volume("../../x"), GIB), Code::NotFound),
        (from(from_snapshot(""), GIB), Code::InvalidArgument),
        (from(Some(VolumeContentSource::default()), GIB), Code::InvalidArgument),
        (from(from_snapshot(&elsewhere), GIB), Code::ResourceExhausted),
        (from(from_volume(&elsewhere), GIB), Code::ResourceExhausted),
        (from(from_snapshot(&snapshot), GIB / 2), Code::OutOfRange),
        (
            CreateVolumeRequest {
                volume_capabilities: vec![mount("xfs", &[], Mode::SingleNodeWriter)],
                ..from(from_snapshot(&snapshot), GIB)
            },
            Code::InvalidArgument,
        ),
    ] {
        assert_eq!(code(driver.create(request.clone()).await), expected, "{request:?}");
    }
    driver.create(from(from_snapshot(&snapshot), GIB)).await.unwrap();
    assert_eq!(code(driver.create(from(from_snapshot(&snapshot), 2 * GIB)).await), Code::AlreadyExists);
    assert_eq!(code(driver.create(from(from_volume(&id), GIB)).await), Code::AlreadyExists);
    assert_eq!(code(driver.create(asked("x", GIB)).await), Code::AlreadyExists);
    // Without a size it has that of what it is made from, and not the usual one.
    let plain = CreateVolumeRequest { capacity_range: None, name: "y".into(), ..from(from_snapshot(&snapshot), 0) };
    assert_eq!(driver.create(plain).await.unwrap().capacity_bytes, GIB);
    assert_eq!(code(driver.snap("", "s").await), Code::InvalidArgument);
    assert_eq!(code(driver.snap(&id, "").await), Code::InvalidArgument);
    assert_eq!(code(driver.snap("nobody's", "s").await), Code::NotFound);
    assert_eq!(code(driver.unsnap("").await), Code::InvalidArgument);
    driver.unsnap("nobody's").await.unwrap();
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn snapshots_are_listed_in_pages_and_by_what_they_are_of() {
    let driver = Driver::start();
    let (one, two) = (driver.made("pvc-1").await, driver.made("pvc-2").await);
    let mut ids = Vec::new();
    for name in ["a", "größe", "c d"] {
        ids.push(driver.snap(&one, name).await.unwrap().snapshot_id);
    }
    ids.push(driver.snap(&two, "d").await.unwrap().snapshot_id);
    ids.sort();
    let of = |all: Vec<Snapshot>| all.into_iter().map(|one| one.snapshot_id).collect::<Vec<_>>();
    assert_eq!(of(driver.snapshots(ListSnapshotsRequest::default()).await.unwrap()), ids);
    let by = ListSnapshotsRequest { source_volume_id: one.clone(), ..Default::default() };
    assert_eq!(driver.snapshots(by).await.unwrap().len(), 3);
    let by = ListSnapshotsRequest { snapshot_id: ids[1].clone(), ..Default::default() };
    assert_eq!(of(driver.snapshots(by).await.unwrap()), [ids[1].clone()]);
    for unknown in ["none", "6c7e5d3a-0000-4000-8000-000000000000"] {
        let by = ListSnapshotsRequest { snapshot_id: unknown.into(), ..Default::default() };
        assert!(driver.snapshots(by).await.unwrap().is_empty(), "{unknown}");
        let by = ListSnapshotsRequest { source_volume_id: unknown.into(), ..Default::default() };
        assert!(driver.snapshots(by).await.unwrap().is_empty(), "{unknown}");
    }
    let page = ListSnapshotsRequest { max_entries: 3, ..Default::default() };
    let answer = driver.wire().await.controller().list_snapshots(page).await.unwrap().into_inner();
    let rest = ListSnapshotsRequest { starting_token: answer.next_token.clone(), ..Default::default() };
    assert_eq!((answer.entries.len(), driver.snapshots(rest).await.unwrap().len()), (3, 1));
    let wrong = ListSnapshotsRequest { starting_token: "invalid-token".into(), ..Default::default() };
    assert_eq!(code(driver.snapshots(wrong).await), Code::Aborted);
}

#[tokio::test]
async fn a_group_is_of_one_instant_and_stands_and_falls_together() {
    let driver = Driver::start();
    let (one, two) = (driver.made("pvc-1").await, driver.made("pvc-2").await);
    let group = driver.group("nightly", &[&one, &two]).await.unwrap();
    assert!(group.ready_to_use && group.creation_time.is_some() && group.snapshots.len() == 2);
    for _ in 0..4 {
        assert_eq!(driver.group("nightly", &[&two, &one]).await.unwrap(), group);
    }
    assert_eq!(code(driver.group("nightly", &[&one]).await), Code::AlreadyExists);
    assert_eq!(code(driver.group("", &[&one]).await), Code::InvalidArgument);
    assert_eq!(code(driver.group("empty", &[]).await), Code::InvalidArgument);
    assert_eq!(code(driver.group("more", &[&one, "nobody's"]).await), Code::NotFound);
    let listed = driver.snapshots(ListSnapshotsRequest::default()).await.unwrap();
    assert_eq!(listed, group.snapshots, "nothing was made by what was refused");
    assert!(listed.iter().all(|one| one.group_snapshot_id == group.group_snapshot_id));
    assert_eq!(code(driver.unsnap(&listed[0].snapshot_id).await), Code::InvalidArgument, "a part of it");
    let get = async |id: &str| {
        let request = GetVolumeGroupSnapshotRequest { group_snapshot_id: id.into(), ..Default::default() };
        driver.wire().await.group_controller().get_volume_group_snapshot(request).await
    };
    assert_eq!(get(&group.group_snapshot_id).await.unwrap().into_inner().group_snapshot.as_ref(), Some(&group));
    assert_eq!(code(get("nobody's").await), Code::NotFound);
    assert_eq!(code(get("").await), Code::InvalidArgument);
    let foreign = driver.snap(&one, "foreign").await.unwrap().snapshot_id;
    assert_eq!(code(driver.ungroup(&group.group_snapshot_id, vec![foreign]).await), Code::InvalidArgument);
    assert_eq!(code(driver.ungroup("", vec![]).await), Code::InvalidArgument);
    let members: Vec<_> = group.snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
    let restored = CreateVolumeRequest { volume_content_source: from_snapshot(&members[0]), ..asked("restored", GIB) };
    driver.create(restored).await.unwrap();
    for _ in 0..5 {
        driver.ungroup(&group.group_snapshot_id, members.clone()).await.unwrap();
    }
    driver.ungroup("nobody's", vec![]).await.unwrap();
    assert_eq!(driver.snapshots(ListSnapshotsRequest::default()).await.unwrap().len(), 1);
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_volume_grows_in_use_and_elsewhere_it_is_asked_for_there() {
    let driver = Driver::start();
    let id = driver.create(asked("pvc-1", 10 * GIB)).await.unwrap().volume_id;
    driver.stage(to_stage(&id, usual())).await.unwrap();
    driver.publish(NodePublishVolumeRequest { readonly: true, ..to_publish(&id, "r", usual()) }).await.unwrap();
    driver.publish(to_publish(&id, "a", usual())).await.unwrap();
    for _ in 0..5 {
        let grown = driver.expand(&id, Some((11 * GIB, 0))).await.unwrap();
        assert_eq!((grown.capacity_bytes, grown.node_expansion_required), (11 * GIB, false));
    }
    assert_eq!(driver.expand(&id, Some((GIB, 0))).await.unwrap().capacity_bytes, 11 * GIB, "it is that large");
    for at in [staging(&id), target("a"), target("r")] {
        assert!(driver.usage(&id, &at).await.unwrap()[0].total >= 11 * GIB);
        assert_eq!(driver.expand_here(&id, &at, 12 * GIB).await.unwrap(), 12 * GIB);
        assert_eq!(driver.expand_here(&id, &at, 11 * GIB).await.unwrap(), 12 * GIB);
    }
    let elsewhere = vol_csi::ids::told("6c7e5d3a-0000-4000-8000-000000000000", "n2");
    let there = driver.expand(&elsewhere, Some((5 * GIB, 0))).await.unwrap();
    assert_eq!((there.capacity_bytes, there.node_expansion_required), (5 * GIB, true));
    for (asked, expected) in [
        (driver.expand("", Some((GIB, 0))).await, Code::InvalidArgument),
        (driver.expand(&id, None).await, Code::InvalidArgument),
        (driver.expand("nobody's", Some((GIB, 0))).await, Code::NotFound),
        (driver.expand(&id, Some((1 << 50, 0))).await, Code::OutOfRange),
        (driver.expand(&id, Some((GIB, 2 * GIB))).await, Code::OutOfRange),
    ] {
        assert_eq!(code(asked), expected);
    }
    assert_eq!(code(driver.expand_here("", "/x", GIB).await), Code::InvalidArgument);
    assert_eq!(code(driver.expand_here(&id, "", GIB).await), Code::InvalidArgument);
    assert_eq!(code(driver.expand_here(&id, "some/path", GIB).await), Code::NotFound);
    assert_eq!(code(driver.expand_here("nobody's", "some/path", GIB).await), Code::NotFound);
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn how_full_a_volume_is_its_file_system_says() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    driver.stage(to_stage(&id, usual())).await.unwrap();
    driver.host.put_file(staging(&id), "file", &[7; 8192]).unwrap();
    let usage = driver.usage(&id, &staging(&id)).await.unwrap();
    let [bytes, inodes] = usage.as_slice() else { panic!("{usage:?}") };
    assert_eq!((bytes.unit(), bytes.total, bytes.used), (volume_usage::Unit::Bytes, GIB, 8192));
    assert!(bytes.available == bytes.total - bytes.used && inodes.unit() == volume_usage::Unit::Inodes);
    assert!(inodes.used > 0 && inodes.available == inodes.total - inodes.used);
    for (id, at, expected) in [
        ("", "/x", Code::InvalidArgument),
        (id.as_str(), "", Code::InvalidArgument),
        (&id, "some/path", Code::NotFound),
        (&id, "/var/lib/kubelet", Code::NotFound),
        ("nobody's", "some/path", Code::NotFound),
    ] {
        assert_eq!(code(driver.usage(id, at).await), expected, "{id} {at}");
    }
}

#[tokio::test]
async fn what_can_change_live_is_changed_whole_or_not_at_all() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    let modify = async |id: &str, given: &[(&str, &str)]| {
        let mutable_parameters = given.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let request = ControllerModifyVolumeRequest { volume_id: id.into(), mutable_parameters };
        driver.wire().await.controller().controller_modify_volume(request).await
    };
    let reserve = || driver.backend.volume(&volume("data/pvc-1")).unwrap().reserve_bytes;
    for _ in 0..5 {
        modify(&id, &[("reserve", "512M")]).await.unwrap();
    }
    assert_eq!(reserve(), 512 << 20);
    assert_eq!(code(modify(&id, &[("reserve", "none"), ("qos", "fast")]).await), Code::InvalidArgument);
    assert_eq!(code(modify(&id, &[("reserve", "lots")]).await), Code::InvalidArgument);
    assert_eq!(reserve(), 512 << 20, "nothing of it counts");
    assert_eq!(code(modify("", &[]).await), Code::InvalidArgument);
    assert_eq!(code(modify("nobody's", &[("reserve", "none")]).await), Code::NotFound);
    modify(&id, &[]).await.unwrap();
    // At the creation they count before parameters of the same name.
    let request = CreateVolumeRequest {
        parameters: [("reserve".into(), "256M".into())].into(),
        mutable_parameters: [("reserve".into(), "128M".into())].into(),
        ..asked("pvc-2", GIB)
    };
    for _ in 0..2 {
        driver.create(request.clone()).await.unwrap();
    }
    assert_eq!(driver.backend.volume(&volume("data/pvc-2")).unwrap().reserve_bytes, 128 << 20);
    let get = ControllerGetVolumeRequest { volume_id: id.clone() };
    let got = driver.wire().await.controller().controller_get_volume(get).await.unwrap().into_inner();
    assert_eq!(got.volume.unwrap().volume_id, id);
}
