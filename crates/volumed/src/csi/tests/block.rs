//! Raw volumes: their devices are handed out, and nothing is mounted.

use vol_core::observed::DevNumber;
use vol_engine::host::HostRead as _;

use super::*;

pub(super) fn block(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(volume_capability::AccessMode { mode: mode.into() }),
        access_type: Some(volume_capability::AccessType::Block(volume_capability::BlockVolume {})),
    }
}

pub(super) fn raw(name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest { volume_capabilities: vec![block(Mode::SingleNodeMultiWriter)], ..asked(name, GIB) }
}

impl Driver {
    async fn raw(&self, name: &str) -> String {
        self.create(raw(name)).await.unwrap().volume_id
    }

    fn is_attached(&self, name: &str) -> bool {
        self.backend.volume(&volume(&format!("data/{name}"))).unwrap().active
    }

    async fn size_at(&self, id: &str, at: &str) -> Result<Vec<(i64, i64, i64)>, Status> {
        Ok(self.usage(id, at).await?.iter().map(|one| (one.total, one.used, one.available)).collect())
    }

    async fn grow_at(&self, id: &str, at: &str, size: i64) -> Result<i64, Status> {
        let capacity_range = Some(CapacityRange { required_bytes: size, limit_bytes: 0 });
        let request = NodeExpandVolumeRequest {
            volume_id: id.into(),
            volume_path: at.into(),
            capacity_range,
            volume_capability: Some(block(Mode::SingleNodeMultiWriter)),
            ..Default::default()
        };
        Ok(self.wire().await.node().node_expand_volume(request).await?.into_inner().capacity_bytes)
    }
}

#[tokio::test]
async fn a_raw_volume_is_handed_out_as_a_device_and_not_as_files() {
    let mut driver = Driver::start();
    let how = block(Mode::SingleNodeMultiWriter);
    let id = driver.raw("raw").await;
    assert_eq!(driver.backend.volume(&volume("data/raw")).unwrap().fs, None);
    assert_eq!(code(driver.stage(to_stage(&id, usual())).await), Code::InvalidArgument);
    assert_eq!(code(driver.publish(to_publish(&id, "a", how.clone())).await), Code::FailedPrecondition, "not staged");
    for _ in 0..5 {
        driver.stage(to_stage(&id, how.clone())).await.unwrap();
    }
    assert!(driver.is_attached("raw") && driver.mounts(&id).is_empty());
    assert!(!driver.host.path_exists(Path::new(&staging(&id))).unwrap(), "the place for staging is the client's");
    // The second time over a restart, the third with nothing noted any more.
    for lost in [false, false, true] {
        for pod in ["a", "b"] {
            for _ in 0..5 {
                driver.publish(to_publish(&id, pod, how.clone())).await.unwrap();
            }
        }
        assert_eq!(driver.mounts(&id), [(target("a"), false), (target("b"), false)]);
        assert_eq!(code(driver.delete(&id).await), Code::FailedPrecondition);
        assert_eq!(code(driver.unstage(&id, &staging(&id)).await), Code::FailedPrecondition);
        assert!(driver.backend.detach_volume(&volume("data/raw"), false).is_err(), "it is in a pod");
        if lost {
            std::fs::remove_file(driver.dir.path().join("csi-places.json")).unwrap();
        }
        driver = driver.again();
    }
    driver.publish(to_publish(&id, "a", how.clone())).await.unwrap();
    let size = [(GIB, 0, 0)];
    assert_eq!(driver.size_at(&id, &target("b")).await.unwrap(), size);
    assert_eq!(code(driver.size_at(&id, "some/path").await), Code::NotFound);
    assert_eq!(code(driver.grow_at(&id, "some/path", 2 * GIB).await), Code::NotFound);
    for _ in 0..5 {
        assert_eq!(driver.grow_at(&id, &target("a"), 2 * GIB).await.unwrap(), 2 * GIB);
    }
    assert_eq!(driver.size_at(&id, &target("a")).await.unwrap(), [(2 * GIB, 0, 0)]);
    for pod in ["a", "b"] {
        for _ in 0..5 {
            driver.unpublish(&id, &target(pod)).await.unwrap();
        }
        assert!(!driver.host.path_exists(Path::new(&target(pod))).unwrap(), "the file is removed");
    }
    assert!(driver.is_attached("raw"), "it is staged still");
    assert_eq!(code(driver.delete(&id).await), Code::FailedPrecondition);
    for _ in 0..5 {
        driver.unstage(&id, &staging(&id)).await.unwrap();
    }
    assert!(!driver.is_attached("raw"));
    for _ in 0..5 {
        driver.delete(&id).await.unwrap();
    }
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_asked_of_a_raw_volume_is_one_of_both_from_its_making() {
    let driver = Driver::start();
    let files = driver.made("files").await;
    let how = block(Mode::SingleNodeWriter);
    assert_eq!(code(driver.stage(to_stage(&files, how.clone())).await), Code::InvalidArgument);
    let both = CreateVolumeRequest { volume_capabilities: vec![how, usual()], ..asked("both", GIB) };
    assert_eq!(code(driver.create(both).await), Code::InvalidArgument);
}

#[tokio::test]
async fn a_raw_volume_for_one_place_has_no_second_one() {
    let driver = Driver::start();
    for mode in [Mode::SingleNodeWriter, Mode::SingleNodeSingleWriter] {
        let name = format!("raw-{}", mode as i32);
        let id = driver.raw(&name).await;
        driver.stage(to_stage(&id, block(mode))).await.unwrap();
        driver.publish(to_publish(&id, "a", block(mode))).await.unwrap();
        driver.publish(to_publish(&id, "a", block(mode))).await.unwrap();
        for other in [mode, Mode::SingleNodeMultiWriter, Mode::MultiNodeMultiWriter] {
            assert_eq!(code(driver.publish(to_publish(&id, "b", block(other))).await), Code::FailedPrecondition);
        }
        driver.unpublish(&id, &target("a")).await.unwrap();
        driver.publish(to_publish(&id, "b", block(mode))).await.unwrap();
        driver.unpublish(&id, &target("b")).await.unwrap();
    }
    let id = driver.raw("raw-many").await;
    let many = block(Mode::MultiNodeMultiWriter);
    driver.stage(to_stage(&id, many.clone())).await.unwrap();
    for pod in ["a", "b", "c"] {
        driver.publish(to_publish(&id, pod, many.clone())).await.unwrap();
    }
    assert_eq!(driver.mounts(&id).len(), 3);
    let alone = block(Mode::SingleNodeSingleWriter);
    assert_eq!(code(driver.publish(to_publish(&id, "d", alone)).await), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_raw_volume_is_for_reading_only_as_a_whole_or_not_at_all() {
    let driver = Driver::start();
    let (id, writer) = (driver.raw("raw").await, block(Mode::SingleNodeMultiWriter));
    driver.stage(to_stage(&id, writer.clone())).await.unwrap();
    let reader = NodePublishVolumeRequest { readonly: true, ..to_publish(&id, "a", writer.clone()) };
    let refused = driver.publish(reader.clone()).await.unwrap_err();
    assert!(refused.code() == Code::FailedPrecondition && refused.message().contains("ReadOnlyMany"), "{refused}");
    assert!(!driver.host.path_exists(Path::new(&target("a"))).unwrap());
    for mode in [Mode::SingleNodeReaderOnly, Mode::MultiNodeReaderOnly] {
        // Attached for the other access it stays as it is.
        assert_eq!(code(driver.stage(to_stage(&id, block(mode))).await), Code::AlreadyExists);
    }
    driver.unstage(&id, &staging(&id)).await.unwrap();
    for mode in [Mode::SingleNodeReaderOnly, Mode::MultiNodeReaderOnly] {
        for _ in 0..5 {
            driver.stage(to_stage(&id, block(mode))).await.unwrap();
            driver.publish(to_publish(&id, "a", block(mode))).await.unwrap();
            driver.publish(NodePublishVolumeRequest { target_path: target("b"), ..reader.clone() }).await.unwrap();
        }
        let devices = driver.host.dm_devices().unwrap();
        let device = devices.iter().find(|one| one.uuid.contains(id.split('.').next().unwrap())).unwrap();
        assert!(device.read_only, "the device itself cannot be written to");
        assert_eq!(driver.mounts(&id), [(target("a"), true), (target("b"), true)]);
        assert_eq!(code(driver.stage(to_stage(&id, writer.clone())).await), Code::AlreadyExists);
        for pod in ["a", "b"] {
            driver.unpublish(&id, &target(pod)).await.unwrap();
        }
        driver.unstage(&id, &staging(&id)).await.unwrap();
    }
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_device_is_shown_on_no_link_and_on_nothing_that_is_anothers() {
    let driver = Driver::start();
    let (id, how) = (driver.raw("raw").await, block(Mode::SingleNodeMultiWriter));
    driver.stage(to_stage(&id, how.clone())).await.unwrap();
    for outside in ["/etc/passwd", "/var/lib/kubelet", "relative", "/var/lib/kubelet/../x"] {
        let request = NodePublishVolumeRequest { target_path: outside.into(), ..to_publish(&id, "a", how.clone()) };
        assert_eq!(code(driver.publish(request).await), Code::InvalidArgument, "{outside}");
    }
    driver.host.add_symlink(format!("{KUBELET}/pods/evil"));
    assert_eq!(code(driver.publish(to_publish(&id, "evil", how.clone())).await), Code::InvalidArgument);
    driver.host.foreign_mount(DevNumber { major: 0, minor: 77 }, target("b"), "tmpfs");
    assert_eq!(code(driver.publish(to_publish(&id, "b", how.clone())).await), Code::Aborted);
    // Somebody took the device away: what is staged no more is not shown.
    driver.backend.detach_volume(&volume("data/raw"), false).unwrap();
    assert_eq!(code(driver.publish(to_publish(&id, "c", how)).await), Code::FailedPrecondition);
    assert!(driver.mounts(&id).is_empty());
    driver.unstage(&id, &staging(&id)).await.unwrap();
    driver.delete(&id).await.unwrap();
}
