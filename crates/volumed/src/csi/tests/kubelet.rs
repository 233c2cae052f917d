//! What the kubelet asks besides: to be told of the driver, volumes that live and die with their pods, contexts of SELinux.

use vol_csi::registration::registration_client::RegistrationClient;
use vol_csi::registration::{InfoRequest, RegistrationStatus};

use vol_engine::host::HostRead as _;

use super::*;
use crate::access::PeerLookup;
use crate::csi::registration;
use crate::socket::RunLock;

pub(super) fn inline(id: &str, pod: &str, attributes: &[(&str, &str)]) -> NodePublishVolumeRequest {
    let mut volume_context: BTreeMap<String, String> =
        attributes.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    volume_context.insert("csi.storage.k8s.io/ephemeral".into(), "true".into());
    volume_context.insert("csi.storage.k8s.io/pod.name".into(), pod.into());
    volume_context.insert("csi.storage.k8s.io/pod.namespace".into(), "prod".into());
    NodePublishVolumeRequest {
        staging_target_path: String::new(),
        volume_context,
        ..to_publish(id, pod, mount("", &[], Mode::SingleNodeWriter))
    }
}

#[tokio::test]
async fn a_volume_lives_and_dies_with_its_pod_also_over_a_crash() {
    let driver = Driver::start();
    let id = format!("csi-{}", "5f".repeat(32));
    for _ in 0..5 {
        driver.publish(inline(&id, "web-0", &[("size", "256M"), ("fs", "ext4")])).await.unwrap();
    }
    let [info] = driver.backend.volumes(None).unwrap().try_into().unwrap();
    assert_eq!((info.size_bytes, info.mounts.len()), (256 << 20, 1));
    assert_eq!(
        (info.labels["kubernetes.io/pod"].as_str(), info.labels["kubernetes.io/namespace"].as_str()),
        ("web-0", "prod")
    );
    assert!(driver.listed().await.is_empty(), "it is nobody's that was asked for by name");
    assert_eq!(code(driver.publish(inline(&id, "web-1", &[])).await), Code::FailedPrecondition, "another pod's");
    let driver = driver.again();
    driver.publish(inline(&id, "web-0", &[("size", "256M")])).await.unwrap();
    // The machine was cut off: nothing is mounted, and the kubelet cleans up.
    driver.host.foreign_unmount(target("web-0"));
    for _ in 0..5 {
        driver.unpublish(&id, &target("web-0")).await.unwrap();
    }
    assert!(driver.backend.volumes(None).unwrap().is_empty() && driver.backend.deleted(None).unwrap().is_empty());
    for (attributes, capability) in [
        (&[("pool", "data/tank")][..], usual()),
        (&[("size", "lots")], usual()),
        (&[("fs", "zfs")], usual()),
        (&[("fs", "xfs")], mount("ext4", &[], Mode::SingleNodeWriter)),
    ] {
        let request =
            NodePublishVolumeRequest { volume_capability: Some(capability), ..inline(&id, "web-2", attributes) };
        assert_eq!(code(driver.publish(request).await), Code::InvalidArgument, "{attributes:?}");
    }
    let named = driver.made("pvc-1").await;
    for id in [named.as_str(), "data/pvc-1"] {
        assert_eq!(code(driver.publish(inline(id, "web-3", &[])).await), Code::InvalidArgument, "{id}");
    }
    assert_eq!(driver.listed().await, [named]);
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_container_is_shown_of_a_pods_volume_is_no_other_pods() {
    let driver = Driver::start();
    let id = format!("csi-{}", "6a".repeat(32));
    driver.publish(inline(&id, "web-0", &[("size", "256M")])).await.unwrap();
    // As the kubelet does for `subPath`; it comes before the pod's own place in an alphabet.
    let dev =
        driver.host.mounts().unwrap().into_iter().find(|one| one.target == Path::new(&target("web-0"))).unwrap().dev;
    let sub = format!("{KUBELET}/pods/web-0/volume-subpaths/scratch/shell/0");
    driver.host.add_path(&sub);
    driver.host.foreign_mount(dev, &sub, "ext4");
    assert_eq!(driver.host.mounts().unwrap().iter().filter(|one| one.dev == dev).count(), 2);
    for _ in 0..2 {
        driver.publish(inline(&id, "web-0", &[("size", "256M")])).await.unwrap();
    }
    assert_eq!(code(driver.publish(inline(&id, "web-1", &[])).await), Code::FailedPrecondition, "another pod's");
    let flags = mount("", &["autodefrag"], Mode::SingleNodeWriter);
    let wrong = NodePublishVolumeRequest { volume_capability: Some(flags), ..inline("csi-1", "web-2", &[]) };
    assert_eq!(code(driver.publish(wrong).await), Code::InvalidArgument, "a flag of btrfs");
    let small = inline("csi-1", "web-2", &[("size", "1M")]);
    assert_eq!(code(driver.publish(small).await), Code::OutOfRange);
    assert_eq!(driver.backend.volumes(None).unwrap().len(), 1, "nothing was made");
}

#[tokio::test]
async fn a_volume_is_not_taken_from_under_its_pods_by_hand() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    driver.stage(to_stage(&id, usual())).await.unwrap();
    driver.publish(to_publish(&id, "a", usual())).await.unwrap();
    let refused = driver.backend.unmount_volume(&volume("data/pvc-1"), false).unwrap_err();
    assert_eq!(refused.code, vol_api::ErrorCode::Busy);
    assert!(refused.message.contains("in use by Kubernetes"), "{refused}");
    // Nor is it proposed for what it stands in the way of.
    let refused = driver.backend.delete_volume(&volume("data/pvc-1"), false, false).unwrap_err();
    let hint = refused.hint.unwrap_or_default();
    assert!(
        refused.code == vol_api::ErrorCode::Busy && hint.contains("delete the pods") && !hint.contains("volctl"),
        "{hint}"
    );
    assert_eq!(driver.mounts(&id).len(), 2);
}

#[tokio::test]
async fn a_context_is_part_of_what_a_stage_is_compared_by() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    let with =
        |level: &str| mount("ext4", &[&format!("context=\"system_u:object_r:t:s0:{level}\"")], Mode::SingleNodeWriter);
    for _ in 0..2 {
        driver.stage(to_stage(&id, with("c1,c2"))).await.unwrap();
    }
    assert_eq!(code(driver.stage(to_stage(&id, with("c1,c3"))).await), Code::AlreadyExists);
}

#[tokio::test]
async fn the_kubelet_is_told_of_the_driver_when_it_is_there() {
    let driver = Driver::start();
    let kubelet = tempfile::tempdir().unwrap();
    let config = format!("csi.kubelet_dir = {:?}", kubelet.path());
    let csi = Config::parse(&config).unwrap().csi;
    std::fs::create_dir(kubelet.path().join("plugins_registry")).unwrap();
    let path = registration::socket(&csi);
    let lock = Arc::new(RunLock::take(driver.dir.path()).unwrap());
    let user = Arc::clone(&driver.user);
    let lookup: PeerLookup = Arc::new(move |_: &UnixStream| {
        Ok(Credentials { uid: *user.lock().unwrap(), gid: 0, pid: None, groups: vec![] })
    });
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(registration::run(
        csi,
        "/run/volumed/csi.sock".into(),
        lock,
        (Arc::clone(&driver.front), lookup),
        stopped,
    ));
    crate::server::tests::fake::until(|| path.exists()).await;
    let client = async || {
        let (wire, moving) = connect(TokioIo::new(UnixStream::connect(&path).await.unwrap())).await.unwrap();
        tokio::spawn(moving);
        RegistrationClient::with_origin(wire, hyper::Uri::from_static("http://localhost"))
    };
    let info = client().await.get_info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.r#type.as_str(), info.name.as_str()), ("CSIPlugin", "csi.volumed.io"));
    assert_eq!(
        (info.endpoint.as_str(), info.supported_versions.as_slice()),
        ("/run/volumed/csi.sock", &["1.0.0".to_owned()][..])
    );
    for status in [
        RegistrationStatus { plugin_registered: true, error: String::new() },
        RegistrationStatus { plugin_registered: false, error: "no".into() },
    ] {
        client().await.notify_registration_status(status).await.unwrap();
    }
    for authority in AUTHORITIES {
        assert!(answered(&path, "/pluginregistration.Registration/GetInfo", authority).await, "{authority}");
        assert!(
            answered(&driver.dir.path().join("csi.sock"), "/csi.v1.Identity/Probe", authority).await,
            "{authority}"
        );
    }
    *driver.user.lock().unwrap() = 1000;
    assert_eq!(code(client().await.get_info(InfoRequest {}).await), Code::PermissionDenied);
    stop.send_replace(true);
    serving.await.unwrap();
    assert!(path.exists(), "the kubelet would forget the driver");
}

/// As clients of gRPC send them over a Unix socket: the kubelet the last but one.
const AUTHORITIES: [&str; 4] = [
    "localhost",
    "/var/lib/kubelet/plugins_registry/csi.volumed.io-reg.sock",
    "%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fcsi.volumed.io-reg.sock",
    "unix:/a b\"<>",
];

/// Whether a request with nothing in it is answered, twice over one connection, and not reset.
async fn answered(socket: &Path, path: &str, authority: &str) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[0, len[0], len[1], kind, flags, 0, 0, 0, stream], payload].concat()
    }
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let request = |stream: u8, authority: &[u8]| {
        // POST, http; then path, authority, type of the content, and that trailers are known.
        let fields = [&[0x83, 0x86, 0x04][..], &text(path), authority, &[0x0f, 0x10], &text("application/grpc")];
        let block = [&fields.concat()[..], &[0], &text("te"), &text("trailers")].concat();
        [frame(1, 4, stream, &block), frame(0, 1, stream, &[0; 5])].concat()
    };
    let first = [&[0x41][..], &text(authority)].concat();
    let mut wire = UnixStream::connect(socket).await.unwrap();
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    // The second one refers to what the first one has put into the table.
    wire.write_all(&[preface, request(1, &first), request(3, &[0xbe])].concat()).await.unwrap();
    let mut ended = 0;
    loop {
        let mut header = [0; 9];
        wire.read_exact(&mut header).await.unwrap();
        let mut payload = vec![0; usize::from(header[1]) << 8 | usize::from(header[2])];
        wire.read_exact(&mut payload).await.unwrap();
        match (header[3], header[4]) {
            // RST_STREAM, GOAWAY.
            (3 | 7, _) => return false,
            // Its trailers.
            (1, flags) if flags & 1 != 0 => ended += 1,
            _ => {}
        }
        if ended == 2 {
            return true;
        }
    }
}
