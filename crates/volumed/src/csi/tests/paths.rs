//! Volumes that are named by their path, as a PersistentVolume that was written by hand may do: several machines may have one of it.

use vol_api::CreateSnapshot;
use volume_content_source::{SnapshotSource, Type, VolumeSource};

use super::*;
use crate::backend::tests::volume_request;

const PATH: &str = "data/pg";

/// With a volume of 1 GiB that was made without an orchestrator.
fn with_a_volume() -> Driver {
    let driver = Driver::start();
    done(driver.backend.create_volume(volume_request("pg", "1G", "ext4"), false));
    driver
}

fn by_path(request: NodeStageVolumeRequest) -> NodeStageVolumeRequest {
    NodeStageVolumeRequest { volume_id: PATH.into(), ..request }
}

#[tokio::test]
async fn what_is_asked_of_one_machine_for_all_is_done_to_no_path() {
    let driver = with_a_volume();
    let size = || driver.backend.volume(&volume(PATH)).unwrap().size_bytes;
    for _ in 0..5 {
        let told = driver.expand(PATH, Some((2 * GIB, 0))).await.unwrap();
        assert_eq!((told.capacity_bytes, told.node_expansion_required), (2 * GIB, true), "its machine is to be asked");
    }
    assert_eq!(
        driver.expand("data/none", Some((2 * GIB, 0))).await.unwrap().capacity_bytes,
        2 * GIB,
        "of whatever machine"
    );
    assert_eq!(code(driver.expand(PATH, None).await), Code::InvalidArgument);
    assert_eq!(size(), GIB as u64, "nothing has grown");
    let mutable_parameters = BTreeMap::from([("reserve".to_owned(), "64M".to_owned())]);
    let modify = ControllerModifyVolumeRequest { volume_id: PATH.into(), mutable_parameters };
    let refused = driver.wire().await.controller().controller_modify_volume(modify).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("handle"), "{}", refused.message());
    assert_eq!(driver.backend.volume(&volume(PATH)).unwrap().reserve_bytes, 0);
    let source = |r#type| CreateVolumeRequest {
        volume_content_source: Some(VolumeContentSource { r#type: Some(r#type) }),
        ..asked("clone", GIB)
    };
    let of_volume = source(Type::Volume(VolumeSource { volume_id: PATH.into() }));
    assert_eq!(code(driver.create(of_volume).await), Code::InvalidArgument);
    let of_snapshot = source(Type::Snapshot(SnapshotSource { snapshot_id: PATH.into() }));
    assert_eq!(code(driver.create(of_snapshot).await), Code::InvalidArgument);
    assert!(driver.listed().await.is_empty());
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn what_its_own_machine_is_asked_is_done_to_a_path_as_to_an_id() {
    let driver = with_a_volume();
    let at = staging("pg");
    for _ in 0..2 {
        driver.stage(by_path(to_stage("pg", usual()))).await.unwrap();
        driver
            .publish(NodePublishVolumeRequest { volume_id: PATH.into(), ..to_publish("pg", "a", usual()) })
            .await
            .unwrap();
    }
    for _ in 0..2 {
        assert_eq!(driver.expand_here(PATH, &target("a"), 2 * GIB).await.unwrap(), 2 * GIB);
    }
    assert_eq!(driver.usage(PATH, &at).await.unwrap()[0].total, 2 * GIB);
    let info = driver.backend.volume(&volume(PATH)).unwrap();
    let whole = vol_csi::ids::told(&info.id, "n1");
    let get = ControllerGetVolumeRequest { volume_id: PATH.into() };
    let got = driver.wire().await.controller().controller_get_volume(get).await.unwrap().into_inner();
    assert_eq!(got.volume.unwrap().volume_id, whole);
    let validate = ValidateVolumeCapabilitiesRequest {
        volume_id: PATH.into(),
        volume_capabilities: vec![usual()],
        ..Default::default()
    };
    let valid = driver.wire().await.controller().validate_volume_capabilities(validate).await.unwrap().into_inner();
    assert!(valid.confirmed.is_some(), "{}", valid.message);
    let snapshot = driver.snap(PATH, "s").await.unwrap();
    assert_eq!(driver.snap(PATH, "s").await.unwrap(), snapshot);
    assert_eq!(driver.snap(&whole, "s").await.unwrap(), snapshot, "it is the same volume");
    let of = ListSnapshotsRequest { source_volume_id: PATH.into(), ..Default::default() };
    assert_eq!(driver.snapshots(of).await.unwrap(), std::slice::from_ref(&snapshot));
    let of = ListSnapshotsRequest { source_volume_id: "data/none".into(), ..Default::default() };
    assert_eq!(driver.snapshots(of).await.unwrap(), []);
    driver.unsnap(&snapshot.snapshot_id).await.unwrap();
    driver.unpublish(PATH, &target("a")).await.unwrap();
    driver.unstage(PATH, &at).await.unwrap();
    for _ in 0..2 {
        driver.delete(PATH).await.unwrap();
    }
    assert!(driver.backend.volume(&volume(PATH)).is_err());
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_volume_that_a_group_names_twice_has_one_snapshot_in_it() {
    let driver = with_a_volume();
    let info = driver.backend.volume(&volume(PATH)).unwrap();
    let whole = vol_csi::ids::told(&info.id, "n1");
    let group = driver.group("g", &[&whole, &info.id, PATH]).await.unwrap();
    assert_eq!(group.snapshots.len(), 1, "{group:?}");
    assert_eq!(driver.group("g", &[PATH]).await.unwrap(), group);
    assert_eq!(driver.group("g", &[&info.id, &whole]).await.unwrap(), group);
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_group_of_another_machine_is_not_said_to_be_deleted() {
    let driver = with_a_volume();
    let elsewhere = vol_csi::ids::of_group("g", "n2");
    assert_eq!(code(driver.ungroup(&elsewhere, vec![]).await), Code::FailedPrecondition);
    // Of this machine it is gone already.
    driver.ungroup(&vol_csi::ids::of_group("g", "n1"), vec![]).await.unwrap();
}

#[tokio::test]
async fn the_handle_that_the_machine_tells_is_the_one_that_is_known_here() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    let told = driver.backend.volume(&volume("data/pvc-1")).unwrap().csi_handle;
    assert_eq!(told.as_deref(), Some(id.as_str()));
    done(driver.backend.create_volume(volume_request("pg", "1G", "ext4"), false));
    let handle = driver.backend.volume(&volume(PATH)).unwrap().csi_handle.unwrap();
    driver.stage(to_stage(&handle, usual())).await.unwrap();
    assert_eq!(driver.mounts(&handle).len(), 1);
    let snapshot =
        CreateSnapshot { vg: "data".into(), volume: "pg".into(), name: "s".into(), ..CreateSnapshot::default() };
    done(driver.backend.create_snapshot(snapshot, false));
}
