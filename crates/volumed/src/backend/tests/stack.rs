//! The whole daemon but the kernel: client, socket, server, backend, engine, simulated host.

use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::watch;
use vol_api::{Client, ClientError, ErrorCode};

use super::*;
use crate::access::{Access, Credentials};
use crate::config::Config;
use crate::server::{Front, Limits, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_main_job_through_a_real_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let front = Arc::new(Front::new(Access::new(&Config::default(), |_| None), Limits::default()));
    let (stop, stopped) = watch::channel(false);
    let root = Arc::new(|_: &tokio::net::UnixStream| Ok(Credentials { uid: 0, gid: 0, pid: None, groups: vec![] }));
    let server = tokio::spawn(run(listener, Arc::clone(&front), root, stopped));
    let client = Client::new(&socket);
    let early = client.status().await.unwrap_err();
    assert!(matches!(early, ClientError::Api(error) if error.code == ErrorCode::NotReady));

    let host = machine();
    let backend = Arc::new(start(&host));
    backend.start_refreshing().unwrap();
    front.set_backend(backend.clone());

    let plan = client.create_vg(&vg_request(), true).await.unwrap();
    assert!(matches!(plan, Changed::Planned(plan) if plan.changes));
    assert!(client.vgs().await.unwrap().vgs.is_empty());
    client.create_vg(&vg_request(), false).await.unwrap();
    client.create_pool(&pool_request(), false).await.unwrap();
    client.create_volume(&volume_request("pg", "10G", "ext4"), false).await.unwrap();
    client.create_volume(&volume_request("raw", "1G", "none"), false).await.unwrap();
    let (pg, raw) = (volume("data/pg"), volume("data/raw"));
    client.mount_volume(&pg, &mount_at("/srv/pg"), false).await.unwrap();
    host.put_file("/srv/pg", "kept", b"yes").unwrap();
    client.create_snapshot(&snapshot_request("before"), false).await.unwrap();
    let error = client.delete_volume(&pg, false, false).await.unwrap_err();
    assert!(matches!(error, ClientError::Api(error) if error.code == ErrorCode::Busy && error.hint.is_some()));

    let attached = client.attach_volume(&raw, false).await.unwrap();
    let Changed::Done(outcome) = attached else { panic!("a plan") };
    assert!(outcome.changed && outcome.object.unwrap().device.is_some());
    let status = client.status().await.unwrap();
    assert_eq!((status.counts.volumes, status.counts.mounted, status.problems), (2, 1, vec![]));
    assert_eq!(client.df().await.unwrap().pools[0].virtual_bytes, 11 << 30);
    client.detach_volume(&raw, false).await.unwrap();

    client.unmount_volume(&pg, false).await.unwrap();
    client.delete_volume(&pg, false, false).await.unwrap();
    let before = client.snapshots(None).await.unwrap().snapshots;
    assert_eq!((before[0].full_name.as_str(), before[0].volume_exists), ("data/pg@before", false));
    client.delete_volume(&raw, false, false).await.unwrap();
    client.delete_snapshot(&snapshot("data/pg@before"), false, false).await.unwrap();
    client.delete_pool(&pool("data/tank"), false).await.unwrap();
    client.delete_vg(&name("data"), false).await.unwrap();
    assert_eq!(client.status().await.unwrap().counts, vol_api::Counts::default());
    assert_eq!(host.violations(), Vec::<String>::new());

    backend.stop();
    stop.send_replace(true);
    server.await.unwrap();
}
