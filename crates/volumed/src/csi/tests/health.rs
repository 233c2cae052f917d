//! What version 1.13 of the interface adds, and that nothing of it is there unless it is asked for.

use vol_sim::SimPoolMode;

use super::*;
use crate::backend::tests::refresh;

impl Driver {
    async fn healths(&self, most: i32, token: &str) -> Result<(Vec<VolumeHealth>, String), Status> {
        let request = ControllerListVolumeHealthRequest { max_entries: most, starting_token: token.into() };
        let answer = self.wire().await.controller().controller_list_volume_health(request).await?.into_inner();
        Ok((answer.entries, answer.next_token))
    }

    /// As the controller and the node tell it, which is the same.
    async fn health(&self, id: &str) -> Result<Vec<(i32, String)>, Status> {
        let request = ControllerGetVolumeHealthRequest { volume_id: id.into() };
        let all = self.wire().await.controller().controller_get_volume_health(request).await?.into_inner();
        let request = NodeGetVolumeHealthRequest { volume_id: id.into(), ..Default::default() };
        let here = self.wire().await.node().node_get_volume_health(request).await?.into_inner();
        assert_eq!(all.volume_health, here.volume_health);
        let health = all.volume_health.unwrap();
        assert_eq!(health.volume_id, id);
        Ok(health.health_statuses.into_iter().map(|one| (one.status, one.reason)).collect())
    }

    async fn storage(&self) -> Result<Vec<(i32, String)>, Status> {
        let answer = self.wire().await.node().node_get_storage_health(NodeGetStorageHealthRequest {}).await?;
        Ok(answer.into_inner().backend_health.into_iter().map(|one| (one.status, one.reason)).collect())
    }

    async fn snapshot(&self, id: &str, name: &str, at: Option<&str>) -> Result<Snapshot, Status> {
        let segments = |node: &str| [("topology.csi.volumed.io/node".to_owned(), node.to_owned())].into();
        let accessibility_requirements = at.map(|node| TopologyRequirement {
            requisite: vec![Topology { segments: segments(node) }],
            preferred: vec![],
        });
        let request = CreateSnapshotRequest {
            source_volume_id: id.into(),
            name: name.into(),
            accessibility_requirements,
            ..Default::default()
        };
        Ok(self.wire().await.controller().create_snapshot(request).await?.into_inner().snapshot.unwrap())
    }

    async fn capabilities(&self) -> [usize; 3] {
        let wire = self.wire().await;
        let plugin = wire.identity().get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap();
        let controller =
            wire.controller().controller_get_capabilities(ControllerGetCapabilitiesRequest {}).await.unwrap();
        let node = wire.node().node_get_capabilities(NodeGetCapabilitiesRequest {}).await.unwrap();
        [
            plugin.into_inner().capabilities.len(),
            controller.into_inner().capabilities.len(),
            node.into_inner().capabilities.len(),
        ]
    }
}

#[tokio::test]
async fn what_is_of_version_1_13_is_neither_offered_nor_done_unless_it_is_configured() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    let before = driver.capabilities().await;
    assert_eq!(code(driver.healths(0, "").await), Code::Unimplemented);
    assert_eq!(code(driver.health(&id).await), Code::Unimplemented);
    let request = NodeGetVolumeHealthRequest { volume_id: id.clone(), ..Default::default() };
    assert_eq!(code(driver.wire().await.node().node_get_volume_health(request).await), Code::Unimplemented);
    assert_eq!(code(driver.storage().await), Code::Unimplemented);
    assert_eq!(driver.snapshot(&id, "s", Some("n2")).await.unwrap().accessible_topology, []);
    let driver = Driver::start_with("csi.version = \"1.13\"");
    let [plugin, controller, node] = before;
    assert_eq!(driver.capabilities().await, [plugin + 1, controller + 2, node + 2]);
}

#[tokio::test]
async fn a_volume_is_as_well_as_what_it_lies_on() {
    let driver = Driver::start_with("csi.version = \"1.13\"");
    let id = driver.made("pvc-1").await;
    driver.made("pvc-2").await;
    assert_eq!(driver.health(&id).await.unwrap(), []);
    assert_eq!(driver.healths(0, "").await.unwrap(), (vec![], String::new()));
    assert_eq!(driver.storage().await.unwrap(), []);
    driver.stage(to_stage(&id, usual())).await.unwrap();

    let pool = driver.backend.pools(None).unwrap().remove(0);
    let device = vol_core::dm::Device::Pool(vol_types::PoolId::from_uuid(pool.id.parse().unwrap())).uuid();
    driver.host.set_pool_mode(&device, SimPoolMode::OutOfDataSpace);
    refresh(&driver.backend);
    let degraded = vec![(VolumeHealthErrorType::Degraded as i32, "PoolFull".to_owned())];
    assert_eq!(driver.health(&id).await.unwrap(), degraded);
    assert_eq!(driver.storage().await.unwrap(), [(StorageHealthErrorType::StorageDegraded as i32, "PoolFull".into())]);
    // All of them, page by page.
    let (first, token) = driver.healths(1, "").await.unwrap();
    let (second, end) = driver.healths(1, &token).await.unwrap();
    assert!(first.len() == 1 && second.len() == 1 && first != second && end.is_empty());
    assert_eq!(code(driver.healths(1, "invalid-token").await), Code::Aborted);
    assert_eq!(code(driver.healths(-1, "").await), Code::InvalidArgument);

    driver.host.set_pool_mode(&device, SimPoolMode::Fail);
    refresh(&driver.backend);
    let all = driver.health(&id).await.unwrap();
    assert!(all.contains(&(VolumeHealthErrorType::Degraded as i32, "PoolRefused".to_owned())), "{all:?}");
    let other = second.iter().chain(&first).find(|one| one.volume_id != id).unwrap().volume_id.clone();
    let all = driver.health(&other).await.unwrap();
    assert!(all.contains(&(VolumeHealthErrorType::Inaccessible as i32, "PoolRefused".to_owned())), "{all:?}");
    let all = driver.storage().await.unwrap();
    assert!(all.contains(&(StorageHealthErrorType::StorageUnreachable as i32, "PoolRefused".to_owned())), "{all:?}");

    assert_eq!(code(driver.health("").await), Code::InvalidArgument);
    assert_eq!(code(driver.health("nobody's").await), Code::NotFound);
}

#[tokio::test]
async fn a_snapshot_tells_where_it_can_be_used() {
    let driver = Driver::start_with("csi.version = \"1.13\"");
    let id = driver.made("pvc-1").await;
    assert_eq!(code(driver.snapshot(&id, "s", Some("n2")).await), Code::ResourceExhausted);
    for at in [Some("n1"), None] {
        let made = driver.snapshot(&id, "s", at).await.unwrap();
        let [topology] = made.accessible_topology.as_slice() else { panic!("{made:?}") };
        assert_eq!(topology.segments["topology.csi.volumed.io/node"], "n1");
    }
}

#[tokio::test]
async fn how_many_volumes_a_machine_takes_is_as_it_is_configured() {
    for (more, most) in [("", 0), ("csi.max_volumes = 40", 40)] {
        let driver = Driver::start_with(more);
        let info = driver.wire().await.node().node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner();
        assert_eq!(info.max_volumes_per_node, most);
    }
}

#[tokio::test]
async fn what_another_machine_has_is_neither_changed_here_nor_said_to_be_gone() {
    let driver = Driver::start();
    let elsewhere = vol_csi::ids::told("6c7e5d3a-0000-4000-8000-000000000000", "n2");
    let modify = async |id: &str| {
        let request = ControllerModifyVolumeRequest {
            volume_id: id.into(),
            mutable_parameters: [("reserve".into(), "none".into())].into(),
        };
        code(driver.wire().await.controller().controller_modify_volume(request).await)
    };
    let unsnap = async |id: &str| {
        let request = DeleteSnapshotRequest { snapshot_id: id.into() };
        driver.wire().await.controller().delete_snapshot(request).await
    };
    assert_eq!(modify(&elsewhere).await, Code::FailedPrecondition);
    assert_eq!(code(driver.delete(&elsewhere).await), Code::FailedPrecondition);
    assert_eq!(code(unsnap(&elsewhere).await), Code::FailedPrecondition);
    // What was made here and is gone, and what never was.
    for id in [&vol_csi::ids::told("6c7e5d3a-0000-4000-8000-000000000000", "n1"), "nobody's"] {
        assert_eq!(modify(id).await, Code::NotFound);
        driver.delete(id).await.unwrap();
        unsnap(id).await.unwrap();
    }
}
