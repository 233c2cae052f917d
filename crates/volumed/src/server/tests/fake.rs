//! A backend with prepared answers, a server over a real Unix socket, and a peer that can be anyone.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vol_api::*;
use vol_docker::Runtime;
use vol_types::{MountOptions, Name, PoolPath, PvId, SnapshotPath, VolumeId, VolumePath};

use crate::access::{Access, Credentials};
use crate::api::{Backend, Change, Life, Listener, OfVolume, Read, Refs, Targets};
use crate::backend::Unneeded;
use crate::config::Config;
use crate::runtimes::references::References;
use crate::server::{Front, Limits, run};

pub const PROVISION_GID: u32 = 20;
pub const OBSERVE_GID: u32 = 30;

/// How long what is to come by itself may take: more than any machine needs, for a test that would fail.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
pub async fn until(is: impl Fn() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it does not come");
}

/// Lets everybody else have so many turns, with five milliseconds between them: unlike one long sleep it does not end at once where the
/// machine slept through that.
pub async fn turns(count: u32) {
    for _ in 0..count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Records what it is asked to change. The volume `slow` takes half a second, `gate` until [`Fake::open`], `panic` panics.
#[derive(Default)]
pub struct Fake {
    pub changes: Mutex<Vec<String>>,
    pub begun: AtomicUsize,
    pub ended: AtomicUsize,
    gate: (Mutex<bool>, Condvar),
    pub looks: AtomicUsize,
    pub listener: Mutex<Option<Arc<dyn Listener>>>,
}

impl Fake {
    /// Lets the changes of `gate` end.
    pub fn open(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }

    fn wait_for_the_gate(&self) {
        let (open, changed) = &self.gate;
        let waited = changed.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open).unwrap();
        assert!(!waited.1.timed_out(), "nobody opens the gate");
    }

    fn change<T: Default>(&self, what: String, dry_run: bool) -> Change<T> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        if what.contains("slow") {
            std::thread::sleep(Duration::from_millis(500));
        }
        if what.contains("gate") {
            self.wait_for_the_gate();
        }
        assert!(!what.contains("panic"), "asked to panic");
        if dry_run {
            return Ok(Changed::Planned(Plan { title: what, changes: true, steps: vec![] }));
        }
        self.changes.lock().unwrap().push(what);
        self.ended.fetch_add(1, Ordering::SeqCst);
        Ok(Changed::Done(Outcome::changed(T::default())))
    }
}

fn missing<T>() -> Read<T> {
    Err(ApiError::not_found("it does not exist").with_hint("make it"))
}

impl Life for Fake {
    fn clone_volume(&self, request: CloneVolume, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("clone_volume {}", request.name), dry_run)
    }
    fn create_snapshots(&self, request: SnapshotGroup, dry_run: bool) -> Change<SnapshotList> {
        self.change(format!("create_snapshots {}", request.snapshots.len()), dry_run)
    }
    fn rollback(&self, snapshot: &SnapshotPath, now: bool, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("rollback {snapshot} {now}"), dry_run)
    }
    fn rename_volume(&self, volume: &VolumePath, request: Rename, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("rename_volume {volume} {}", request.name), dry_run)
    }
    fn rename_snapshot(&self, snapshot: &SnapshotPath, request: Rename, dry_run: bool) -> Change<SnapshotInfo> {
        self.change(format!("rename_snapshot {snapshot} {}", request.name), dry_run)
    }
    fn label_volume(&self, volume: &VolumePath, request: Relabel, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("label_volume {volume} {:?} {:?}", request.set, request.remove), dry_run)
    }
    fn label_snapshot(&self, snapshot: &SnapshotPath, request: Relabel, dry_run: bool) -> Change<SnapshotInfo> {
        self.change(format!("label_snapshot {snapshot} {:?} {:?}", request.set, request.remove), dry_run)
    }
    fn label_pv(&self, id: PvId, request: Relabel, dry_run: bool) -> Change<PvInfo> {
        self.change(format!("label_pv {id} {:?} {:?}", request.set, request.remove), dry_run)
    }
    fn set_volume(&self, volume: &VolumePath, request: SetVolume, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("set_volume {volume} {:?}", request.reserve), dry_run)
    }
    fn protect_volume(&self, volume: &VolumePath, protect: bool, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("protect_volume {volume} {protect}"), dry_run)
    }
    fn protect_snapshot(&self, snapshot: &SnapshotPath, protect: bool, dry_run: bool) -> Change<SnapshotInfo> {
        self.change(format!("protect_snapshot {snapshot} {protect}"), dry_run)
    }
}

impl Refs for Fake {
    fn references(&self) -> Arc<References> {
        Arc::new(References::in_memory(""))
    }
    fn refs(&self, _: Option<Runtime>) -> Read<RefList> {
        Ok(RefList::default())
    }
    fn release_refs(&self, request: ReleaseRefs, dry_run: bool) -> Change<ReleasedRefs> {
        self.change(format!("release_refs {} {:?} {:?}", request.volume, request.runtime, request.id), dry_run)
    }
    fn unmount_unneeded(&self, _: VolumeId) -> Unneeded {
        Unneeded::Gone
    }
    fn runtime_df(&self, runtime: Runtime) -> Read<RuntimeDf> {
        Ok(RuntimeDf { runtime: runtime.name().to_owned(), ..RuntimeDf::default() })
    }
}

impl Targets for Fake {
    fn volume_by_id(&self, _: VolumeId) -> Read<Option<VolumeInfo>> {
        Ok(None)
    }
    fn absent_vgs(&self) -> Read<Vec<crate::api::AbsentVg>> {
        Ok(Vec::new())
    }
    fn snapshot_by_id(&self, _: VolumeId) -> Read<Option<OfVolume>> {
        Ok(None)
    }
    fn snapshots_labelled(&self, _: &str, _: Option<&str>) -> Read<Vec<OfVolume>> {
        Ok(Vec::new())
    }
    fn changed(&self, _: Option<VolumeId>, _: VolumeId, _: u64, _: usize) -> Read<vol_engine::ChangedPage> {
        Err(ApiError::not_found("there is no snapshot"))
    }
    fn fs_usage(&self, _: VolumeId, _: &Path) -> Read<Option<vol_engine::host::FsUsage>> {
        Ok(None)
    }
    fn mounts_now(&self, _: VolumeId) -> Read<Vec<MountInfo>> {
        Ok(Vec::new())
    }
    fn attached_now(&self, _: VolumeId) -> Read<Option<bool>> {
        Ok(None)
    }
    fn mount_at(&self, volume: &VolumePath, _: &Path, _: bool, _: &MountOptions) -> Change<VolumeInfo> {
        self.change(format!("mount_at {volume}"), false)
    }
    fn bind_volume(&self, volume: &VolumePath, _: &Path, _: &Path, _: bool) -> Change<VolumeInfo> {
        self.change(format!("bind_volume {volume}"), false)
    }
    fn show_device(&self, volume: &VolumePath, _: &Path) -> Change<VolumeInfo> {
        self.change(format!("show_device {volume}"), false)
    }
    fn unmount_at(&self, volume: &VolumePath, _: &Path) -> Change<VolumeInfo> {
        self.change(format!("unmount_at {volume}"), false)
    }
    fn remove_mount_point(&self, _: &Path) -> Read<bool> {
        Ok(false)
    }
}

impl Backend for Fake {
    fn alive(&self) -> Result<crate::api::Summary, String> {
        Ok(crate::api::Summary::default())
    }

    fn measure(&self, page: &mut crate::metrics::Page) {
        page.count(crate::metrics::Id::VgSize, &["data"], 100);
    }

    fn status(&self) -> Read<Status> {
        Ok(Status::default())
    }
    fn df(&self) -> Read<Df> {
        Ok(Df { vgs: vec![DfVg { vg: "data".into(), ..DfVg::default() }], pools: vec![] })
    }
    fn vgs(&self) -> Read<Vec<VgInfo>> {
        Ok(vec![VgInfo { name: "data".into(), ..VgInfo::default() }])
    }
    fn vg(&self, vg: &Name) -> Read<VgInfo> {
        match vg.as_str() {
            "panic" => panic!("asked to panic"),
            "gate" => self.wait_for_the_gate(),
            "data" => {}
            _ => return missing(),
        }
        Ok(VgInfo { name: vg.to_string(), ..VgInfo::default() })
    }
    fn pvs(&self, _: Option<&Name>) -> Read<Vec<PvInfo>> {
        let pv = |path: &str, file: Option<&str>| PvInfo {
            path: Some(path.into()),
            backing_file: file.map(str::to_owned),
            ..PvInfo::default()
        };
        Ok(vec![pv("/dev/sdb", None), pv("/dev/loop0", Some("/srv/a b.img"))])
    }
    fn pv(&self, id: PvId) -> Read<PvInfo> {
        Ok(PvInfo { id: id.to_string(), ..PvInfo::default() })
    }
    fn check_pv(&self, id: PvId) -> Read<PvCheck> {
        Ok(PvCheck { id: Some(id.to_string()), severity: "ok".into(), ..PvCheck::default() })
    }
    fn pools(&self, vg: Option<&Name>) -> Read<Vec<PoolInfo>> {
        if vg.is_some_and(|vg| vg.as_str() != "data") { missing() } else { Ok(vec![]) }
    }
    fn pool(&self, pool: &PoolPath) -> Read<PoolInfo> {
        Ok(PoolInfo { vg: pool.vg.to_string(), name: pool.pool.to_string(), ..PoolInfo::default() })
    }
    fn volumes(&self, _: Option<&Name>) -> Read<Vec<VolumeInfo>> {
        Ok(vec![])
    }
    fn volume_rows(&self, _: Option<&Name>, _: vol_types::Selector) -> Read<crate::api::VolumeRows> {
        Ok(crate::api::VolumeRows::new(|_| ()))
    }
    fn volume(&self, volume: &VolumePath) -> Read<VolumeInfo> {
        Ok(VolumeInfo { name: volume.volume.to_string(), ..VolumeInfo::default() })
    }
    fn snapshots(&self, _: Option<&Name>) -> Read<Vec<SnapshotInfo>> {
        Ok(vec![])
    }
    fn deleted(&self, _: Option<&Name>) -> Read<Vec<DeletedInfo>> {
        Ok(vec![])
    }
    fn snapshot(&self, snapshot: &SnapshotPath) -> Read<SnapshotInfo> {
        Ok(SnapshotInfo { full_name: snapshot.to_string(), ..SnapshotInfo::default() })
    }
    fn pool_usage(&self, pool: &PoolPath) -> Read<PoolUsage> {
        Ok(PoolUsage { pool: pool.pool.to_string(), ..PoolUsage::default() })
    }
    fn volume_usage(&self, volume: &VolumePath) -> Read<VolumeUsage> {
        Ok(VolumeUsage { volume: volume.volume.to_string(), ..VolumeUsage::default() })
    }
    fn vg_map(&self, vg: &Name) -> Read<VgMap> {
        Ok(VgMap { vg: vg.to_string(), ..VgMap::default() })
    }
    fn create_vg(&self, request: CreateVg, dry_run: bool) -> Change<VgInfo> {
        self.change(format!("create_vg {}", request.name), dry_run)
    }
    fn delete_vg(&self, vg: &Name, dry_run: bool) -> Change<VgInfo> {
        self.change(format!("delete_vg {vg}"), dry_run)
    }
    fn extend_vg(&self, vg: &Name, request: ExtendVg, dry_run: bool) -> Change<VgInfo> {
        self.change(format!("extend_vg {vg} {}", request.devices.join(" ")), dry_run)
    }
    fn reduce_vg(&self, vg: &Name, request: ReduceVg, dry_run: bool) -> Change<VgInfo> {
        self.change(format!("reduce_vg {vg} {}", request.pvs.join(" ")), dry_run)
    }
    fn rename_vg(&self, vg: &Name, request: RenameVg, dry_run: bool) -> Change<VgInfo> {
        self.change(format!("rename_vg {vg} {}", request.name), dry_run)
    }
    fn export_vg(&self, vg: &Name, dry_run: bool) -> Change<VgInfo> {
        self.change(format!("export_vg {vg}"), dry_run)
    }
    fn import_vg(&self, vg: &Name, dry_run: bool) -> Change<VgInfo> {
        self.change(format!("import_vg {vg}"), dry_run)
    }
    fn backup_vg(&self, vg: &Name) -> Read<vol_api::backup::Backup> {
        let group = vol_types::Vg {
            id: vol_types::VgId::from_bytes([1; 16]),
            name: vg.clone(),
            state: vol_types::VgState::Ready,
            extent_size: vol_types::Bytes::mib(4),
            sector_size: 512,
            metadata_copies: 4,
            created_at: 0,
        };
        let objects = [vol_types::Object::Vg(group)];
        Ok(vol_api::backup::Backup::new(1, String::new(), String::new(), &objects, |_| None).unwrap())
    }
    fn restore_vg(&self, request: RestoreVg, dry_run: bool) -> Change<VgInfo> {
        self.change(format!("restore_vg {} bytes", request.backup.len()), dry_run)
    }
    fn import_clone(&self, request: ImportClone, dry_run: bool) -> Change<VgInfo> {
        self.change(format!("import_clone {} {}", request.name, request.devices.join(" ")), dry_run)
    }
    fn wipe_pv(&self, request: WipePv, dry_run: bool) -> Change<PvInfo> {
        self.change(format!("wipe_pv {}", request.device), dry_run)
    }
    fn give_up_pool(&self, pool: &PoolPath, request: GiveUpPool, dry_run: bool) -> Change<PoolInfo> {
        self.change(format!("give_up_pool {pool} {}", request.force), dry_run)
    }
    fn create_pool(&self, request: CreatePool, dry_run: bool) -> Change<PoolInfo> {
        self.change(format!("create_pool {}", request.name), dry_run)
    }
    fn extend_pool(&self, pool: &PoolPath, request: ExtendPool, dry_run: bool) -> Change<PoolInfo> {
        self.change(format!("extend_pool {pool} {:?} {:?}", request.size, request.metadata), dry_run)
    }
    fn set_pool(&self, pool: &PoolPath, request: SetPool, dry_run: bool) -> Change<PoolInfo> {
        self.change(format!("set_pool {pool} {:?}", request.grow_to), dry_run)
    }
    fn delete_pool(&self, pool: &PoolPath, dry_run: bool) -> Change<PoolInfo> {
        self.change(format!("delete_pool {pool}"), dry_run)
    }
    fn create_volume(&self, request: CreateVolume, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("create_volume {}", request.name), dry_run)
    }
    fn mount_volume(&self, volume: &VolumePath, request: Mount, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("mount_volume {volume} {}", request.path), dry_run)
    }
    fn unmount_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("unmount_volume {volume}"), dry_run)
    }
    fn attach_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("attach_volume {volume}"), dry_run)
    }
    fn attach_volume_read_only(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("attach_volume_read_only {volume}"), dry_run)
    }
    fn detach_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("detach_volume {volume}"), dry_run)
    }
    fn delete_volume(&self, volume: &VolumePath, now: bool, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("delete_volume {volume}{}", if now { " now" } else { "" }), dry_run)
    }
    fn undelete_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("undelete_volume {volume}"), dry_run)
    }
    fn check_pool(
        &self,
        pool: &PoolPath,
        request: vol_api::CheckPool,
        dry_run: bool,
    ) -> Change<vol_api::PoolCheckInfo> {
        self.change(format!("check_pool {pool} online={}", request.online), dry_run)
    }
    fn repair_pool(
        &self,
        pool: &PoolPath,
        request: vol_api::RepairPool,
        dry_run: bool,
    ) -> Change<vol_api::PoolRepairInfo> {
        self.change(format!("repair_pool {pool} accept_loss={}", request.accept_loss), dry_run)
    }
    fn purge_pool(&self, pool: &PoolPath, dry_run: bool) -> Change<Purged> {
        self.change(format!("purge_pool {pool}"), dry_run)
    }
    fn resize_volume(&self, volume: &VolumePath, request: ResizeVolume, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("resize_volume {volume} {}", request.size), dry_run)
    }
    fn check_volume(&self, volume: &VolumePath, request: CheckVolume, dry_run: bool) -> Change<VolumeInfo> {
        self.change(format!("check_volume {volume} {}", request.repair), dry_run)
    }
    fn trim_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<TrimInfo> {
        self.change(format!("trim_volume {volume}"), dry_run)
    }
    fn create_snapshot(&self, request: CreateSnapshot, dry_run: bool) -> Change<SnapshotInfo> {
        self.change(format!("create_snapshot {}", request.name), dry_run)
    }
    fn mount_snapshot(&self, snapshot: &SnapshotPath, request: Mount, dry_run: bool) -> Change<SnapshotInfo> {
        self.change(format!("mount_snapshot {snapshot} {}", request.path), dry_run)
    }
    fn unmount_snapshot(&self, snapshot: &SnapshotPath, dry_run: bool) -> Change<SnapshotInfo> {
        self.change(format!("unmount_snapshot {snapshot}"), dry_run)
    }
    fn delete_snapshot(&self, snapshot: &SnapshotPath, now: bool, dry_run: bool) -> Change<SnapshotInfo> {
        self.change(format!("delete_snapshot {snapshot}{}", if now { " now" } else { "" }), dry_run)
    }
    fn undelete_snapshot(&self, snapshot: &SnapshotPath, dry_run: bool) -> Change<SnapshotInfo> {
        self.change(format!("undelete_snapshot {snapshot}"), dry_run)
    }
    fn init(&self, _: Init, dry_run: bool) -> Change<InitInfo> {
        self.change("init".into(), dry_run)
    }
    fn jobs(&self) -> Read<Vec<JobInfo>> {
        Ok(vec![])
    }
    /// `wipe-N` is done when it has been looked at N times.
    fn job(&self, id: &str) -> Read<JobInfo> {
        let Some(total) = id.strip_prefix("wipe-").and_then(|count| count.parse().ok()) else { return missing() };
        let looks = self.looks.fetch_add(1, Ordering::SeqCst) as u64;
        let state = if looks >= total { JobPhase::Done } else { JobPhase::Running };
        Ok(JobInfo { id: id.into(), state, done_bytes: looks, total_bytes: total, ..JobInfo::default() })
    }
    fn cancel_job(&self, id: &str, dry_run: bool) -> Change<JobInfo> {
        self.change(format!("cancel_job {id}"), dry_run)
    }
    fn listen(&self, listener: Arc<dyn Listener>) {
        *self.listener.lock().unwrap() = Some(listener);
    }
    fn scan(&self, _: ScanRequest, dry_run: bool) -> Change<ScanInfo> {
        self.change("scan".into(), dry_run)
    }
}

/// A running server. Times are short; who connects is set with [`Server::become_user`].
pub struct Server {
    _dir: TempDir,
    pub socket: PathBuf,
    pub front: Arc<Front>,
    pub backend: Arc<Fake>,
    pub stop: watch::Sender<bool>,
    pub task: JoinHandle<()>,
    user: Arc<Mutex<Credentials>>,
}

impl Server {
    pub fn start() -> Self {
        let server = Self::start_with(Self::limits());
        server.front.set_backend(server.backend.clone());
        server
    }

    /// One that cuts slow clients soon. Others have the usual time: they may be slow because the machine is.
    pub fn hasty() -> Self {
        let short = Duration::from_millis(800);
        let server = Self::start_with(Limits { head: short, body: short, stall: short, ..Self::limits() });
        server.front.set_backend(server.backend.clone());
        server
    }

    pub fn limits() -> Limits {
        Limits { followers: 2, changes: 2, connections: 8, strangers: 1, ..Limits::default() }
    }

    /// Still in recovery.
    pub fn start_with(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let config = Config { observe_group: Some("watchers".into()), ..Config::default() };
        let access = Access::new(&config, |name| match name {
            "volumed" => Some(PROVISION_GID),
            "watchers" => Some(OBSERVE_GID),
            _ => None,
        });
        let front = Arc::new(Front::new(access, limits));
        let (stop, stopped) = watch::channel(false);
        let user = Arc::new(Mutex::new(Credentials { uid: 0, gid: 0, pid: None, groups: vec![] }));
        let lookup = {
            let user = Arc::clone(&user);
            Arc::new(move |_: &tokio::net::UnixStream| Ok(user.lock().unwrap().clone()))
        };
        let task = tokio::spawn(run(listener, Arc::clone(&front), lookup, stopped));
        Self { _dir: dir, socket, front, backend: Arc::default(), stop, task, user }
    }

    pub fn become_user(&self, uid: u32, gid: u32) {
        *self.user.lock().unwrap() = Credentials { uid, gid, pid: None, groups: vec![] };
    }

    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// One request written by hand; the HTTP status and the body of the answer.
    pub async fn raw(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        split(&self.bytes(request.into_bytes()).await)
    }

    /// Sends `bytes`, reads until the server hangs up.
    pub async fn bytes(&self, bytes: Vec<u8>) -> String {
        let socket = self.socket.clone();
        let exchange = move || {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // The server may hang up before it has read everything.
            let _ = stream.write_all(&bytes);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8(answer).unwrap()
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }
}

fn split(answer: &str) -> (u16, String) {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return (status, String::new()) };
    let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
    (status, if chunked { unchunked(body) } else { body.to_owned() })
}

/// The text of an answer whose length was not known when it began, which has to have its proper end.
fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    loop {
        let (len, rest) = body.split_once("\r\n").expect("the answer was cut off");
        let len = usize::from_str_radix(len, 16).unwrap();
        if len == 0 {
            return text;
        }
        text.push_str(&rest[..len]);
        body = rest[len..].strip_prefix("\r\n").unwrap();
    }
}
