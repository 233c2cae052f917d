//! Whole lives of volumes.

use vol_engine::host::HostRead as _;

use super::*;

#[tokio::test]
async fn a_volume_lives_from_its_creation_to_its_deletion_however_often_each_is_asked() {
    let driver = Driver::start();
    for (name, fs) in [("pvc-1", ""), ("pvc-2", "xfs")] {
        let capability = mount(fs, &["noatime"], Mode::SingleNodeMultiWriter);
        let request = CreateVolumeRequest { volume_capabilities: vec![capability.clone()], ..asked(name, GIB) };
        let made = driver.create(request.clone()).await.unwrap();
        assert_eq!(made.capacity_bytes, GIB, "exactly what was asked for");
        let here = BTreeMap::from([("topology.csi.volumed.io/node".to_owned(), "n1".to_owned())]);
        assert_eq!(made.accessible_topology, [Topology { segments: here }]);
        let id = made.volume_id.clone();
        for _ in 0..5 {
            assert_eq!(driver.create(request.clone()).await.unwrap(), made);
        }
        assert_eq!(driver.listed().await, std::slice::from_ref(&id));
        for _ in 0..5 {
            driver.stage(to_stage(&id, capability.clone())).await.unwrap();
        }
        for _ in 0..5 {
            driver.publish(to_publish(&id, "a", capability.clone())).await.unwrap();
        }
        assert_eq!(driver.mounts(&id), [(staging(&id), false), (target("a"), false)]);
        driver.host.put_file(target("a"), "kept", b"yes").unwrap();
        assert_eq!(driver.host.read_file(staging(&id), "kept").unwrap().as_deref(), Some(&b"yes"[..]));
        assert_eq!(code(driver.delete(&id).await), Code::FailedPrecondition, "it is in use");
        assert_eq!(code(driver.unstage(&id, &staging(&id)).await), Code::FailedPrecondition, "it is published");
        for _ in 0..5 {
            driver.unpublish(&id, &target("a")).await.unwrap();
        }
        assert!(!driver.host.path_exists(Path::new(&target("a"))).unwrap(), "the target is removed");
        for _ in 0..5 {
            driver.unstage(&id, &staging(&id)).await.unwrap();
        }
        assert_eq!(driver.mounts(&id), []);
        for _ in 0..5 {
            driver.delete(&id).await.unwrap();
        }
        assert!(driver.listed().await.is_empty());
    }
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_daemon_that_begins_anew_goes_on_where_the_one_before_was() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    let capability = mount("ext4", &["noatime"], Mode::SingleNodeSingleWriter);
    driver.stage(to_stage(&id, capability.clone())).await.unwrap();
    driver.publish(to_publish(&id, "a", capability.clone())).await.unwrap();
    let driver = driver.again();
    driver.stage(to_stage(&id, capability.clone())).await.unwrap();
    driver.publish(to_publish(&id, "a", capability.clone())).await.unwrap();
    assert_eq!(driver.mounts(&id).len(), 2, "nothing is mounted twice");
    assert_eq!(code(driver.stage(to_stage(&id, usual())).await), Code::AlreadyExists, "other flags");
    let other = NodePublishVolumeRequest { readonly: true, ..to_publish(&id, "a", capability.clone()) };
    assert_eq!(code(driver.publish(other).await), Code::AlreadyExists);
    assert_eq!(code(driver.publish(to_publish(&id, "b", capability)).await), Code::FailedPrecondition);
    // Without what it had noted it takes what is there for what is asked.
    std::fs::remove_file(driver.dir.path().join("csi-places.json")).unwrap();
    let driver = driver.again();
    driver.stage(to_stage(&id, usual())).await.unwrap();
    driver.unpublish(&id, &target("a")).await.unwrap();
    driver.unstage(&id, &staging(&id)).await.unwrap();
    driver.delete(&id).await.unwrap();
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn the_same_request_at_once_from_many_is_one_effect() {
    let driver = Arc::new(Driver::start());
    async fn at_once<F: Future<Output = Result<(), Status>> + Send + 'static>(each: impl Fn() -> F) {
        let all: Vec<_> = (0..8).map(|_| tokio::spawn(each())).collect();
        for one in all {
            one.await.unwrap().unwrap();
        }
    }
    let of = |driver: &Arc<Driver>| Arc::clone(driver);
    at_once(|| {
        let driver = of(&driver);
        async move { driver.create(asked("pvc-1", GIB)).await.map(drop) }
    })
    .await;
    let [id] = driver.listed().await.try_into().unwrap();
    at_once(|| {
        let (driver, id) = (of(&driver), id.clone());
        async move { driver.stage(to_stage(&id, usual())).await }
    })
    .await;
    at_once(|| {
        let (driver, id) = (of(&driver), id.clone());
        async move { driver.publish(to_publish(&id, "a", usual())).await }
    })
    .await;
    assert_eq!(driver.mounts(&id).len(), 2);
    at_once(|| {
        let (driver, id) = (of(&driver), id.clone());
        async move { driver.unpublish(&id, &target("a")).await }
    })
    .await;
    at_once(|| {
        let (driver, id) = (of(&driver), id.clone());
        async move { driver.unstage(&id, &staging(&id)).await }
    })
    .await;
    at_once(|| {
        let (driver, id) = (of(&driver), id.clone());
        async move { driver.delete(&id).await }
    })
    .await;
    assert!(driver.listed().await.is_empty());
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn who_asks_during_recovery_waits_and_is_told_that_it_goes_on() {
    let driver = Driver::start();
    drop(driver.made("pvc-1").await);
    let Driver { dir, host, .. } = driver;
    std::fs::remove_file(dir.path().join("csi.sock")).unwrap();
    let driver = Arc::new(Driver::recovering(dir, host));
    let probed = || async { driver.wire().await.identity().probe(ProbeRequest {}).await.unwrap().into_inner().ready };
    assert_eq!(probed().await, Some(false));
    let waiting = {
        let driver = Arc::clone(&driver);
        tokio::spawn(async move { driver.listed().await })
    };
    tokio::task::yield_now().await;
    driver.ready();
    assert_eq!(waiting.await.unwrap().len(), 1);
    assert_eq!(probed().await, Some(true));
}

#[tokio::test]
async fn the_driver_says_what_it_is_and_what_it_can() {
    let driver = Driver::start();
    let wire = driver.wire().await;
    let info = wire.identity().get_plugin_info(GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.name.as_str(), info.vendor_version.as_str()), ("csi.volumed.io", env!("CARGO_PKG_VERSION")));
    let plugin = wire.identity().get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap().into_inner();
    assert_eq!(plugin.capabilities.len(), 5);
    let request = ControllerGetCapabilitiesRequest {};
    let controller = wire.controller().controller_get_capabilities(request).await.unwrap().into_inner();
    assert_eq!(controller.capabilities.len(), 11);
    let node = wire.node().node_get_capabilities(NodeGetCapabilitiesRequest {}).await.unwrap().into_inner();
    assert_eq!(node.capabilities.len(), 4);
    let info = wire.node().node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.node_id.as_str(), info.max_volumes_per_node), ("n1", 0));
    // Each request was an operation under a name of its own.
    let names: std::collections::BTreeSet<_> = Rpc::ALL.iter().map(|rpc| rpc.operation()).collect();
    assert_eq!(names.len(), Rpc::ALL.len());
}
