//! What is refused, and with which code.

use vol_core::observed::DevNumber;
use vol_engine::host::HostRead as _;

use super::*;

#[tokio::test]
async fn what_is_missing_or_makes_no_sense_is_an_invalid_argument() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    for (request, why) in [
        (CreateVolumeRequest { name: String::new(), ..asked("x", GIB) }, "no name"),
        (asked(&"x".repeat(129), GIB), "a long name"),
        (asked("a\nb", GIB), "control characters"),
        (CreateVolumeRequest { volume_capabilities: vec![], ..asked("x", GIB) }, "no capabilities"),
        (CreateVolumeRequest { parameters: [("pol".into(), "x".into())].into(), ..asked("x", GIB) }, "unknown"),
        (CreateVolumeRequest { parameters: [("pool".into(), "a/b/c".into())].into(), ..asked("x", GIB) }, "pool"),
        (CreateVolumeRequest { mutable_parameters: [("a".into(), "b".into())].into(), ..asked("x", GIB) }, "mutable"),
        (CreateVolumeRequest { parameters: [("pool".into(), "x".repeat(5000))].into(), ..asked("x", GIB) }, "large"),
        (asked("x", -1), "negative"),
        (
            CreateVolumeRequest {
                volume_capabilities: vec![mount("zfs", &[], Mode::SingleNodeWriter)],
                ..asked("x", GIB)
            },
            "zfs",
        ),
        (
            CreateVolumeRequest {
                volume_capabilities: vec![mount("", &["loop"], Mode::SingleNodeWriter)],
                ..asked("x", GIB)
            },
            "flag",
        ),
        (CreateVolumeRequest { volume_capabilities: vec![mount("", &[], Mode::Unknown)], ..asked("x", GIB) }, "mode"),
        (
            CreateVolumeRequest {
                parameters: [("mount-options".into(), "noatime,ro".into())].into(),
                ..asked("x", GIB)
            },
            "not of a class to say",
        ),
        (
            CreateVolumeRequest {
                volume_capabilities: vec![mount("xfs", &["autodefrag"], Mode::SingleNodeWriter)],
                ..asked("x", GIB)
            },
            "a flag of btrfs",
        ),
        (
            CreateVolumeRequest {
                volume_capabilities: vec![mount("", &["compress=zstd"], Mode::SingleNodeWriter)],
                ..asked("x", GIB)
            },
            "of btrfs too",
        ),
    ] {
        assert_eq!(code(driver.create(request).await), Code::InvalidArgument, "{why}");
    }
    assert_eq!(code(driver.delete("").await), Code::InvalidArgument);
    assert_eq!(code(driver.unpublish("", &target("a")).await), Code::InvalidArgument);
    assert_eq!(code(driver.unpublish(&id, "").await), Code::InvalidArgument);
    assert_eq!(code(driver.unstage("", &staging(&id)).await), Code::InvalidArgument);
    assert_eq!(code(driver.unstage(&id, "").await), Code::InvalidArgument);
    for request in [
        NodeStageVolumeRequest { volume_id: String::new(), ..to_stage(&id, usual()) },
        NodeStageVolumeRequest { staging_target_path: String::new(), ..to_stage(&id, usual()) },
        NodeStageVolumeRequest { volume_capability: None, ..to_stage(&id, usual()) },
        to_stage(&id, mount("xfs", &[], Mode::SingleNodeWriter)),
        to_stage(&id, mount("", &["autodefrag"], Mode::SingleNodeWriter)),
    ] {
        assert_eq!(code(driver.stage(request).await), Code::InvalidArgument);
    }
    for request in [
        NodePublishVolumeRequest { volume_id: String::new(), ..to_publish(&id, "a", usual()) },
        NodePublishVolumeRequest { target_path: String::new(), ..to_publish(&id, "a", usual()) },
        NodePublishVolumeRequest { volume_capability: None, ..to_publish(&id, "a", usual()) },
    ] {
        assert_eq!(code(driver.publish(request).await), Code::InvalidArgument);
    }
    let validate = ValidateVolumeCapabilitiesRequest { volume_id: id.clone(), ..Default::default() };
    let answer = driver.wire().await.controller().validate_volume_capabilities(validate).await;
    assert_eq!(code(answer), Code::InvalidArgument);
    assert_eq!(driver.listed().await, [id], "nothing was made");
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_unknown_is_not_found_or_gone_already() {
    let driver = Driver::start();
    for id in ["6c7e5d3a-0000-4000-8000-000000000000", "no such id", "data/none", "../../etc", "a@b", &"x".repeat(4000)]
    {
        driver.delete(id).await.unwrap();
        assert_eq!(code(driver.stage(to_stage("x", usual())).await), Code::NotFound);
        let stage = NodeStageVolumeRequest { volume_id: id.into(), ..to_stage("x", usual()) };
        assert_eq!(code(driver.stage(stage).await), Code::NotFound, "{id}");
        let publish = NodePublishVolumeRequest { volume_id: id.into(), ..to_publish("x", "a", usual()) };
        assert_eq!(code(driver.publish(publish).await), Code::NotFound, "{id}");
        // Nothing is where it is to go from.
        driver.unpublish(id, &target("a")).await.unwrap();
        driver.unstage(id, &staging("x")).await.unwrap();
        let capabilities = vec![usual()];
        let validate = ValidateVolumeCapabilitiesRequest {
            volume_id: id.into(),
            volume_capabilities: capabilities,
            ..Default::default()
        };
        let answer = driver.wire().await.controller().validate_volume_capabilities(validate).await;
        assert_eq!(code(answer), Code::NotFound, "{id}");
    }
}

#[tokio::test]
async fn another_volume_of_the_same_name_is_a_conflict() {
    let driver = Driver::start();
    driver.made("pvc-1").await;
    assert_eq!(code(driver.create(asked("pvc-1", 2 * GIB)).await), Code::AlreadyExists);
    let other = CreateVolumeRequest { parameters: [("reserve".into(), "full".into())].into(), ..asked("pvc-1", GIB) };
    assert_eq!(code(driver.create(other).await), Code::AlreadyExists);
    let same = CreateVolumeRequest { capacity_range: None, ..asked("pvc-1", GIB) };
    driver.create(same).await.unwrap();
    // Names of every kind, also such as are none in a volume group, and one that somebody else has there.
    done(driver.backend.create_volume(crate::backend::tests::volume_request("taken", "1G", "ext4"), false));
    let long = "ä".repeat(64);
    for name in ["taken", "größe/…@x", "-", "a b", long.as_str()] {
        let id = driver.made(name).await;
        assert_eq!(driver.made(name).await, id, "{name}");
    }
}

#[tokio::test]
async fn sizes_are_exact_or_out_of_range() {
    let driver = Driver::start();
    let range = |required_bytes, limit_bytes| Some(CapacityRange { required_bytes, limit_bytes });
    for (at, (capacity_range, size)) in [
        (range(10 * GIB, 10 * GIB), 10 * GIB),
        (range(GIB + 1, 0), GIB + (64 << 10)),
        (range(0, 2 * GIB), 2 * GIB),
        (None, 10 * GIB),
    ]
    .into_iter()
    .enumerate()
    {
        let made = driver.create(CreateVolumeRequest { capacity_range, ..asked(&format!("v{at}"), 0) }).await.unwrap();
        assert_eq!(made.capacity_bytes, size, "{capacity_range:?}");
    }
    for capacity_range in [range(2, 1), range(GIB + 1, GIB + 2)] {
        let refused = driver.create(CreateVolumeRequest { capacity_range, ..asked("x", 0) }).await;
        assert_eq!(code(refused), Code::OutOfRange, "{capacity_range:?}");
    }
    assert_eq!(code(driver.create(asked("x", 1 << 50)).await), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_size_that_no_file_system_has_is_out_of_range() {
    let driver = Driver::start();
    let mib = 1 << 20;
    let with = |fs: &str, size| CreateVolumeRequest {
        volume_capabilities: vec![mount(fs, &[], Mode::SingleNodeMultiWriter)],
        ..asked("x", size)
    };
    for (fs, size) in [("ext4", mib), ("xfs", 299 * mib), ("btrfs", 127 * mib), ("ext4", (1 << 60) + mib)] {
        assert_eq!(code(driver.create(with(fs, size)).await), Code::OutOfRange, "{fs} {size}");
    }
    let id = driver.create(with("xfs", 300 * mib)).await.unwrap().volume_id;
    driver.delete(&id).await.unwrap();
    let id = driver.made("ext4").await;
    assert_eq!(code(driver.expand(&id, Some(((1 << 60) + mib, 0))).await), Code::OutOfRange);
    let capacity = GetCapacityRequest { parameters: [("fs".into(), "xfs".into())].into(), ..Default::default() };
    let capacity = driver.wire().await.controller().get_capacity(capacity).await.unwrap().into_inner();
    assert_eq!(capacity.minimum_volume_size, Some(300 * mib));
}

#[tokio::test]
async fn capacity_is_what_could_be_made_and_what_is_told_can_be() {
    let driver = Driver::start();
    let capacity = async |request: GetCapacityRequest| {
        driver.wire().await.controller().get_capacity(request).await.unwrap().into_inner()
    };
    let before = capacity(GetCapacityRequest::default()).await;
    let largest = before.maximum_volume_size.unwrap();
    assert!(largest > 0 && before.available_capacity == largest, "{before:?}");
    let chunk = 64 << 10;
    assert_eq!(code(driver.create(asked("larger", largest + chunk)).await), Code::ResourceExhausted);
    driver.create(asked("largest", largest)).await.unwrap();
    assert_eq!(capacity(GetCapacityRequest::default()).await.maximum_volume_size, Some(0));
    let segments = BTreeMap::from([("topology.csi.volumed.io/node".to_owned(), "n2".to_owned())]);
    let elsewhere = Topology { segments };
    let request = GetCapacityRequest { accessible_topology: Some(elsewhere.clone()), ..Default::default() };
    assert_eq!(capacity(request).await.available_capacity, 0);
    let (thin, thick) = ("yes", "no");
    for (pool, kind) in [("nix", thin), ("nix/tank", thin), ("data/nix", thin), ("nix", thick), ("nix/tank", thick)] {
        let parameters = [("pool", pool), ("thin", kind)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let parameters = BTreeMap::from(parameters);
        let nowhere = GetCapacityRequest { parameters: parameters.clone(), ..Default::default() };
        assert_eq!(capacity(nowhere).await.available_capacity, 0);
        let there = driver.create(CreateVolumeRequest { parameters, ..asked("there", GIB) }).await;
        assert_eq!(code(there), Code::ResourceExhausted, "another machine may have {pool}");
    }
    let wanted = TopologyRequirement { requisite: vec![elsewhere], preferred: vec![] };
    let request = CreateVolumeRequest { accessibility_requirements: Some(wanted), ..asked("there", GIB) };
    assert_eq!(code(driver.create(request).await), Code::ResourceExhausted, "so that the pod is scheduled anew");
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let driver = Driver::start();
    let mut ids = Vec::new();
    for at in 0..5 {
        ids.push(driver.create(asked(&format!("v{at}"), 64 << 20)).await.unwrap().volume_id);
    }
    ids.sort();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListVolumesRequest { max_entries: 2, starting_token: token };
        let page = driver.wire().await.controller().list_volumes(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= 2);
        seen.extend(page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let list = async |request: ListVolumesRequest| driver.wire().await.controller().list_volumes(request).await;
    let wrong = ListVolumesRequest { starting_token: "invalid-token".into(), ..Default::default() };
    assert_eq!(code(list(wrong).await), Code::Aborted);
    let wrong = ListVolumesRequest { max_entries: -1, ..Default::default() };
    assert_eq!(code(list(wrong).await), Code::InvalidArgument);
}

#[tokio::test]
async fn who_may_have_a_volume_at_several_places_depends_on_its_access_mode() {
    let driver = Driver::start();
    for (mode, several) in [
        (Mode::SingleNodeWriter, false),
        (Mode::SingleNodeSingleWriter, false),
        (Mode::SingleNodeMultiWriter, true),
        (Mode::SingleNodeReaderOnly, true),
        (Mode::MultiNodeReaderOnly, true),
        (Mode::MultiNodeSingleWriter, true),
        (Mode::MultiNodeMultiWriter, true),
    ] {
        let capability = mount("", &[], mode);
        let request = CreateVolumeRequest { volume_capabilities: vec![capability.clone()], ..asked("v", GIB) };
        let id = driver.create(request).await.unwrap().volume_id;
        driver.stage(to_stage(&id, capability.clone())).await.unwrap();
        driver.publish(to_publish(&id, "a", capability.clone())).await.unwrap();
        let second = driver.publish(to_publish(&id, "b", capability.clone())).await;
        assert_eq!(second.is_ok(), several, "{mode:?}");
        if !several {
            assert_eq!(code(second), Code::FailedPrecondition, "{mode:?}");
            let other = driver.publish(to_publish(&id, "b", usual())).await;
            let single = mode == Mode::SingleNodeSingleWriter || mode == Mode::SingleNodeWriter;
            assert_eq!(other.is_err(), single, "it is for one place, whoever asks for another");
        }
        let reads = matches!(mode, Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly);
        let mounts = driver.mounts(&id);
        assert!(
            mounts.iter().filter(|(at, _)| *at != staging(&id)).all(|(_, read_only)| *read_only == reads),
            "{mounts:?}"
        );
        for pod in ["a", "b"] {
            driver.unpublish(&id, &target(pod)).await.unwrap();
        }
        driver.unstage(&id, &staging(&id)).await.unwrap();
        driver.delete(&id).await.unwrap();
    }
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_place_that_is_not_the_orchestrators_is_refused() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    for bad in ["/etc/x", "/var/lib/kubelet", "/var/lib/kubelet/../x", "/var/lib/kubeletx/y", "relative/path", "/"] {
        let stage = NodeStageVolumeRequest { staging_target_path: bad.into(), ..to_stage(&id, usual()) };
        assert_eq!(code(driver.stage(stage).await), Code::InvalidArgument, "{bad}");
        driver.stage(to_stage(&id, usual())).await.unwrap();
        let publish = NodePublishVolumeRequest { target_path: bad.into(), ..to_publish(&id, "a", usual()) };
        assert_eq!(code(driver.publish(publish).await), Code::InvalidArgument, "{bad}");
        assert_eq!(code(driver.unpublish(&id, bad).await), Code::InvalidArgument, "{bad}");
        assert_eq!(code(driver.unstage(&id, bad).await), Code::InvalidArgument, "{bad}");
    }
    driver.host.add_symlink(Path::new(KUBELET).join("pods/evil"));
    let publish = to_publish(&id, "evil", usual());
    assert_eq!(code(driver.publish(publish).await), Code::InvalidArgument, "no link is followed");
    assert_eq!(driver.mounts(&id).len(), 1);
}

#[tokio::test]
async fn f19_nothing_is_shown_from_a_place_where_the_volume_is_not_mounted() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    assert_eq!(code(driver.publish(to_publish(&id, "a", usual())).await), Code::FailedPrecondition, "not staged");
    let unstaged = NodePublishVolumeRequest { staging_target_path: String::new(), ..to_publish(&id, "a", usual()) };
    assert_eq!(code(driver.publish(unstaged).await), Code::FailedPrecondition);
    driver.stage(to_stage(&id, usual())).await.unwrap();
    driver.host.foreign_unmount(staging(&id));
    assert_eq!(code(driver.publish(to_publish(&id, "a", usual())).await), Code::FailedPrecondition, "unmounted since");
    driver.stage(to_stage(&id, usual())).await.unwrap();
    assert_eq!(driver.mounts(&id).len(), 1, "it is mounted again, whatever was seen of it before");
    driver.host.foreign_unmount(staging(&id));
    // Beside a place for reading only it is staged anew.
    driver.stage(to_stage(&id, usual())).await.unwrap();
    driver.publish(to_publish(&id, "w", usual())).await.unwrap();
    driver.publish(NodePublishVolumeRequest { readonly: true, ..to_publish(&id, "r", usual()) }).await.unwrap();
    driver.host.foreign_unmount(staging(&id));
    driver.stage(to_stage(&id, usual())).await.unwrap();
    for pod in ["w", "r"] {
        driver.unpublish(&id, &target(pod)).await.unwrap();
    }
    driver.unstage(&id, &staging(&id)).await.unwrap();
    // Another volume's staging place.
    let other = driver.made("pvc-2").await;
    driver.stage(to_stage(&other, usual())).await.unwrap();
    let crossed = NodePublishVolumeRequest { staging_target_path: staging(&other), ..to_publish(&id, "a", usual()) };
    assert_eq!(code(driver.publish(crossed).await), Code::FailedPrecondition);
    driver.publish(to_publish(&other, "b", usual())).await.unwrap();
    assert_eq!(code(driver.unpublish("no such volume", &target("b")).await), Code::NotFound);
    assert_eq!(driver.mounts(&other).len(), 2, "what is another's stays");
}

#[tokio::test]
async fn volumes_that_were_made_otherwise_are_used_by_their_id_or_path_and_protected_ones_stay() {
    let driver = Driver::start();
    done(driver.backend.create_volume(crate::backend::tests::volume_request("pg", "1G", "ext4"), false));
    let path = "data/pg";
    let stage = NodeStageVolumeRequest { volume_id: path.into(), ..to_stage("pg", usual()) };
    driver.stage(stage).await.unwrap();
    let publish = NodePublishVolumeRequest { volume_id: path.into(), ..to_publish("pg", "a", usual()) };
    driver.publish(publish).await.unwrap();
    driver.unpublish(path, &target("a")).await.unwrap();
    driver.unstage(path, &staging("pg")).await.unwrap();
    assert!(driver.listed().await.is_empty(), "it is nobody's that was asked for here");
    done(driver.backend.protect_volume(&volume(path), true, false));
    assert_eq!(code(driver.delete(path).await), Code::FailedPrecondition);
}

#[tokio::test]
async fn nobody_but_root_is_served_and_what_is_no_service_is_said_to_be_none() {
    let driver = Driver::start();
    *driver.user.lock().unwrap() = 1000;
    assert_eq!(code(driver.create(asked("x", GIB)).await), Code::PermissionDenied);
    let probe = driver.wire().await.identity().probe(ProbeRequest {}).await;
    assert_eq!(code(probe), Code::PermissionDenied);
    *driver.user.lock().unwrap() = 0;
    assert!(driver.listed().await.is_empty());
}

#[tokio::test]
async fn f20_what_is_in_a_place_is_never_removed_with_it() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    driver.stage(to_stage(&id, usual())).await.unwrap();
    driver.publish(to_publish(&id, "a", usual())).await.unwrap();
    driver.host.foreign_unmount(target("a"));
    let left = format!("{}/left", target("a"));
    driver.host.add_path(&left);
    assert_eq!(code(driver.unpublish(&id, &target("a")).await), Code::FailedPrecondition);
    assert!(driver.host.path_exists(Path::new(&left)).unwrap());
    // A mount of somebody else's in the place of the volume's.
    driver.host.add_path(target("b"));
    driver.host.foreign_mount(DevNumber { major: 0, minor: 77 }, target("b"), "tmpfs");
    assert_eq!(code(driver.unpublish(&id, &target("b")).await), Code::NotFound);
    assert_eq!(code(driver.publish(to_publish(&id, "b", usual())).await), Code::Aborted);
}
