//! A typed client: one connection and one request at a time, every wait bounded.
//!
//! Errors tell apart what a caller must tell apart: nobody listens, the socket may not be opened, the daemon said no,
//! or what listens there does not speak this protocol.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use vol_types::{Name, PoolPath, SnapshotPath, VolumePath};

use crate::backup::Backup;
use crate::doctor::Doctor;
use crate::error::{ApiError, ErrorBody};
use crate::info::*;
use crate::outcome::{Changed, Outcome, Plan};
use crate::refs::{RefList, ReleaseRefs, ReleasedRefs, RuntimeDf};
use crate::request::*;
use crate::usage::{PoolUsage, VgMap, VolumeUsage};

mod events;
mod life;

/// A read is answered from memory; a minute is for a host that swaps.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A change may format a large file system or wait for others on the same object.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);
/// 100,000 volumes are about 60 MB of JSON; beyond this something else answers.
const RESPONSE_MAX_BYTES: usize = 256 << 20;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the socket, or it does not exist.
    #[error("volumed is not running: nothing answers at {}", .socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    /// The socket's mode does not let this user in.
    #[error("you may not open {}", .socket.display())]
    Denied { socket: PathBuf },
    /// The daemon answered with an error.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The daemon did not answer in time; a change may still be under way.
    #[error("volumed did not answer within {} s", .after.as_secs())]
    Timeout { after: Duration },
    /// What came back is not the control API, or the connection broke half way.
    #[error("unexpected answer at {}: {what}", .socket.display())]
    Protocol { socket: PathBuf, what: String },
}

/// What keeps a connection open.
struct Connection {
    _sender: http1::SendRequest<Full<Bytes>>,
    _driver: AbortOnDrop,
}

struct AbortOnDrop(tokio::task::JoinHandle<Result<(), hyper::Error>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Talks to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    read_timeout: Duration,
    change_timeout: Duration,
}

impl Client {
    /// A client for the daemon at `socket`; connects with each request.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), read_timeout: READ_TIMEOUT, change_timeout: CHANGE_TIMEOUT }
    }

    /// Other time limits than one minute for reads and ten for changes.
    #[must_use]
    pub fn with_timeouts(mut self, read: Duration, change: Duration) -> Self {
        (self.read_timeout, self.change_timeout) = (read, change);
        self
    }

    /// The socket this client talks to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let body = self.send(Method::GET, path, Bytes::new(), self.read_timeout).await?;
        self.decode(&body)
    }

    async fn list<T: DeserializeOwned>(&self, path: &str, vg: Option<&Name>) -> Result<T, ClientError> {
        match vg {
            Some(vg) => self.get(&format!("{path}?vg={vg}")).await,
            None => self.get(path).await,
        }
    }

    /// A change: `body` is sent as JSON, or nothing for `None`.
    async fn change<T, B>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        dry: bool,
    ) -> Result<Changed<T>, ClientError>
    where
        T: DeserializeOwned,
        B: Serialize + Sync,
    {
        let json = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| self.protocol(error.to_string()))?,
            None => Vec::new(),
        };
        let query = match (dry, path.contains('?')) {
            (false, _) => "",
            (true, false) => "?dry_run=true",
            (true, true) => "&dry_run=true",
        };
        let answer = self.send(method, &format!("{path}{query}"), json.into(), self.change_timeout).await?;
        if dry {
            self.decode::<Plan>(&answer).map(Changed::Planned)
        } else {
            self.decode::<Outcome<T>>(&answer).map(Changed::Done)
        }
    }

    async fn delete<T: DeserializeOwned>(&self, path: &str, dry: bool) -> Result<Changed<T>, ClientError> {
        self.change(Method::DELETE, path, None::<&()>, dry).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes, limit: Duration) -> Result<Bytes, ClientError> {
        match tokio::time::timeout(limit, self.exchange(method, path, body)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout { after: limit }),
        }
    }

    /// One request on a connection of its own, which lives as long as the second of the two.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied { socket: self.socket.clone() },
            _ => ClientError::Unreachable { socket: self.socket.clone(), source },
        })?;
        let broken = |error: hyper::Error| self.protocol(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // The driver ends when the sender is dropped or the daemon hangs up; what fails there fails the request too.
        let driver = AbortOnDrop(tokio::spawn(connection));
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/{path}"))
            .header("host", "volumed")
            .header("content-type", "application/json")
            .header("user-agent", concat!("vol-api/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| self.protocol(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok((response, Connection { _sender: sender, _driver: driver }))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let (response, connection) = self.ask(method, path, body).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), RESPONSE_MAX_BYTES)
            .collect()
            .await
            .map_err(|error| self.protocol(error.to_string()))?
            .to_bytes();
        drop(connection);
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(answer) => Err(answer.error.into()),
            Err(_) => Err(self.protocol(format!("HTTP status {status} without an error body"))),
        }
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.protocol(error.to_string()))
    }

    fn protocol(&self, what: String) -> ClientError {
        ClientError::Protocol { socket: self.socket.clone(), what }
    }
}

/// The endpoints. Each fails with the [`ClientError`] that its name says; those with `dry` answer a plan if it is true.
impl Client {
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("status").await
    }
    pub async fn doctor(&self) -> Result<Doctor, ClientError> {
        self.get("doctor").await
    }
    pub async fn df(&self) -> Result<Df, ClientError> {
        self.get("df").await
    }
    /// Of one engine, or of all.
    pub async fn refs(&self, runtime: Option<&str>) -> Result<RefList, ClientError> {
        let query = runtime.map_or(String::new(), |runtime| format!("?runtime={}", percent_encode(runtime)));
        self.get(&format!("refs{query}")).await
    }
    pub async fn release_refs(&self, request: &ReleaseRefs, dry: bool) -> Result<Changed<ReleasedRefs>, ClientError> {
        self.change(Method::POST, "refs/release", Some(request), dry).await
    }
    /// The volumes of a container engine.
    pub async fn runtime_df(&self, runtime: &str) -> Result<RuntimeDf, ClientError> {
        self.get(&format!("runtimes/{}/df", percent_encode(runtime))).await
    }
    pub async fn vgs(&self) -> Result<VgList, ClientError> {
        self.get("vgs").await
    }
    pub async fn vg(&self, vg: &Name) -> Result<VgInfo, ClientError> {
        self.get(&format!("vgs/{vg}")).await
    }
    pub async fn pvs(&self, vg: Option<&Name>) -> Result<PvList, ClientError> {
        self.list("pvs", vg).await
    }
    /// The PV whose device or backing file stands at `path` (as the kernel names it); none or one.
    pub async fn pvs_at(&self, path: &str) -> Result<PvList, ClientError> {
        self.get(&format!("pvs?path={}", percent_encode(path))).await
    }
    pub async fn pv(&self, id: vol_types::PvId) -> Result<PvInfo, ClientError> {
        self.get(&format!("pvs/{id}")).await
    }
    /// Reads what stands on the PV again, and says what is wrong with it.
    pub async fn check_pv(&self, id: vol_types::PvId) -> Result<PvCheck, ClientError> {
        self.get(&format!("pvs/{id}/check")).await
    }
    pub async fn pools(&self, vg: Option<&Name>) -> Result<PoolList, ClientError> {
        self.list("pools", vg).await
    }
    pub async fn pool(&self, pool: &PoolPath) -> Result<PoolInfo, ClientError> {
        self.get(&format!("pools/{pool}")).await
    }
    pub async fn volumes(&self, vg: Option<&Name>) -> Result<VolumeList, ClientError> {
        self.list("volumes", vg).await
    }
    pub async fn volume(&self, volume: &VolumePath) -> Result<VolumeInfo, ClientError> {
        self.get(&format!("volumes/{volume}")).await
    }
    pub async fn deleted(&self, vg: Option<&Name>) -> Result<DeletedList, ClientError> {
        self.list("deleted", vg).await
    }
    pub async fn snapshots(&self, vg: Option<&Name>) -> Result<SnapshotList, ClientError> {
        self.list("snapshots", vg).await
    }
    pub async fn snapshot(&self, snapshot: &SnapshotPath) -> Result<SnapshotInfo, ClientError> {
        self.get(&snapshot_url(snapshot)).await
    }

    pub async fn create_vg(&self, request: &CreateVg, dry: bool) -> Result<Changed<VgInfo>, ClientError> {
        self.change(Method::POST, "vgs", Some(request), dry).await
    }
    pub async fn create_pool(&self, request: &CreatePool, dry: bool) -> Result<Changed<PoolInfo>, ClientError> {
        self.change(Method::POST, "pools", Some(request), dry).await
    }
    pub async fn create_volume(&self, request: &CreateVolume, dry: bool) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, "volumes", Some(request), dry).await
    }
    pub async fn create_snapshot(
        &self,
        body: &CreateSnapshot,
        dry: bool,
    ) -> Result<Changed<SnapshotInfo>, ClientError> {
        self.change(Method::POST, "snapshots", Some(body), dry).await
    }
    pub async fn init(&self, request: &Init, dry: bool) -> Result<Changed<InitInfo>, ClientError> {
        self.change(Method::POST, "init", Some(request), dry).await
    }
    pub async fn scan(&self, request: &ScanRequest, dry: bool) -> Result<Changed<ScanInfo>, ClientError> {
        self.change(Method::POST, "scan", Some(request), dry).await
    }
    pub async fn mount_volume(
        &self,
        volume: &VolumePath,
        request: &Mount,
        dry: bool,
    ) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/mount"), Some(request), dry).await
    }
    pub async fn unmount_volume(&self, volume: &VolumePath, dry: bool) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/unmount"), None::<&()>, dry).await
    }
    pub async fn attach_volume(&self, volume: &VolumePath, dry: bool) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/attach"), None::<&()>, dry).await
    }
    /// So that it cannot be written to; of a volume in a refused pool too.
    pub async fn attach_volume_read_only(
        &self,
        volume: &VolumePath,
        dry: bool,
    ) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/attach-read-only"), None::<&()>, dry).await
    }
    pub async fn detach_volume(&self, volume: &VolumePath, dry: bool) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/detach"), None::<&()>, dry).await
    }
    /// Grows a volume with its file system.
    pub async fn resize_volume(
        &self,
        volume: &VolumePath,
        request: &ResizeVolume,
        dry: bool,
    ) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/resize"), Some(request), dry).await
    }
    /// Looks over, or repairs, the file system of a volume that is not mounted.
    pub async fn check_volume(
        &self,
        volume: &VolumePath,
        request: &CheckVolume,
        dry: bool,
    ) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/check"), Some(request), dry).await
    }
    /// Looks at a pool's own metadata.
    pub async fn check_pool(
        &self,
        pool: &PoolPath,
        request: &CheckPool,
        dry: bool,
    ) -> Result<Changed<PoolCheckInfo>, ClientError> {
        self.change(Method::POST, &format!("pools/{pool}/check"), Some(request), dry).await
    }
    /// Repairs a pool's own metadata, or gives up what an earlier repair replaced.
    pub async fn repair_pool(
        &self,
        pool: &PoolPath,
        request: &RepairPool,
        dry: bool,
    ) -> Result<Changed<PoolRepairInfo>, ClientError> {
        self.change(Method::POST, &format!("pools/{pool}/repair"), Some(request), dry).await
    }
    /// Gives back to the pool what a mounted file system does not use.
    pub async fn trim_volume(&self, volume: &VolumePath, dry: bool) -> Result<Changed<TrimInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/trim"), None::<&()>, dry).await
    }
    pub async fn mount_snapshot(
        &self,
        snapshot: &SnapshotPath,
        request: &Mount,
        dry: bool,
    ) -> Result<Changed<SnapshotInfo>, ClientError> {
        self.change(Method::POST, &format!("{}/mount", snapshot_url(snapshot)), Some(request), dry).await
    }
    pub async fn unmount_snapshot(
        &self,
        snapshot: &SnapshotPath,
        dry: bool,
    ) -> Result<Changed<SnapshotInfo>, ClientError> {
        self.change(Method::POST, &format!("{}/unmount", snapshot_url(snapshot)), None::<&()>, dry).await
    }
    pub async fn delete_vg(&self, vg: &Name, dry: bool) -> Result<Changed<VgInfo>, ClientError> {
        self.delete(&format!("vgs/{vg}"), dry).await
    }
    pub async fn extend_vg(&self, vg: &Name, body: &ExtendVg, dry: bool) -> Result<Changed<VgInfo>, ClientError> {
        self.change(Method::POST, &format!("vgs/{vg}/extend"), Some(body), dry).await
    }
    pub async fn reduce_vg(&self, vg: &Name, body: &ReduceVg, dry: bool) -> Result<Changed<VgInfo>, ClientError> {
        self.change(Method::POST, &format!("vgs/{vg}/reduce"), Some(body), dry).await
    }
    pub async fn rename_vg(&self, vg: &Name, body: &RenameVg, dry: bool) -> Result<Changed<VgInfo>, ClientError> {
        self.change(Method::POST, &format!("vgs/{vg}/rename"), Some(body), dry).await
    }
    pub async fn export_vg(&self, vg: &Name, dry: bool) -> Result<Changed<VgInfo>, ClientError> {
        self.change(Method::POST, &format!("vgs/{vg}/export"), None::<&()>, dry).await
    }
    pub async fn import_vg(&self, vg: &Name, dry: bool) -> Result<Changed<VgInfo>, ClientError> {
        self.change(Method::POST, &format!("vgs/{vg}/import"), None::<&()>, dry).await
    }
    pub async fn wipe_pv(&self, body: &WipePv, dry: bool) -> Result<Changed<PvInfo>, ClientError> {
        self.change(Method::POST, "wipe", Some(body), dry).await
    }
    /// The metadata of a VG as a document that `restore_vg` takes.
    pub async fn backup_vg(&self, vg: &Name) -> Result<Backup, ClientError> {
        self.get(&format!("vgs/{vg}/backup")).await
    }
    pub async fn restore_vg(&self, body: &RestoreVg, dry: bool) -> Result<Changed<VgInfo>, ClientError> {
        self.change(Method::POST, "restore", Some(body), dry).await
    }
    pub async fn import_clone(&self, body: &ImportClone, dry: bool) -> Result<Changed<VgInfo>, ClientError> {
        self.change(Method::POST, "import-clone", Some(body), dry).await
    }
    /// Gives up a pool of which a disk is gone, with everything in it.
    pub async fn give_up_pool(
        &self,
        pool: &PoolPath,
        body: &GiveUpPool,
        dry: bool,
    ) -> Result<Changed<PoolInfo>, ClientError> {
        self.change(Method::POST, &format!("pools/{pool}/give-up"), Some(body), dry).await
    }
    pub async fn extend_pool(
        &self,
        pool: &PoolPath,
        body: &ExtendPool,
        dry: bool,
    ) -> Result<Changed<PoolInfo>, ClientError> {
        self.change(Method::POST, &format!("pools/{pool}/extend"), Some(body), dry).await
    }
    /// Changes what is to happen as a pool fills.
    pub async fn set_pool(&self, pool: &PoolPath, body: &SetPool, dry: bool) -> Result<Changed<PoolInfo>, ClientError> {
        self.change(Method::POST, &format!("pools/{pool}/set"), Some(body), dry).await
    }
    pub async fn delete_pool(&self, pool: &PoolPath, dry: bool) -> Result<Changed<PoolInfo>, ClientError> {
        self.delete(&format!("pools/{pool}"), dry).await
    }
    /// `now`: for good, without a time in which it can be taken back.
    pub async fn delete_volume(
        &self,
        volume: &VolumePath,
        now: bool,
        dry: bool,
    ) -> Result<Changed<VolumeInfo>, ClientError> {
        self.delete(&format!("volumes/{volume}{}", now_query(now)), dry).await
    }
    /// As [`Client::delete_volume`].
    pub async fn delete_snapshot(
        &self,
        snapshot: &SnapshotPath,
        now: bool,
        dry: bool,
    ) -> Result<Changed<SnapshotInfo>, ClientError> {
        self.delete(&format!("{}{}", snapshot_url(snapshot), now_query(now)), dry).await
    }
    pub async fn undelete_volume(&self, volume: &VolumePath, dry: bool) -> Result<Changed<VolumeInfo>, ClientError> {
        self.change(Method::POST, &format!("volumes/{volume}/undelete"), None::<&()>, dry).await
    }
    pub async fn undelete_snapshot(
        &self,
        snapshot: &SnapshotPath,
        dry: bool,
    ) -> Result<Changed<SnapshotInfo>, ClientError> {
        self.change(Method::POST, &format!("{}/undelete", snapshot_url(snapshot)), None::<&()>, dry).await
    }
    /// Deletes for good what is kept in a pool.
    pub async fn purge_pool(&self, pool: &PoolPath, dry: bool) -> Result<Changed<Purged>, ClientError> {
        self.change(Method::POST, &format!("pools/{pool}/purge"), None::<&()>, dry).await
    }
}

const fn now_query(now: bool) -> &'static str {
    if now { "?now=true" } else { "" }
}

/// Who takes how much, and what lies where.
impl Client {
    pub async fn pool_usage(&self, pool: &PoolPath) -> Result<PoolUsage, ClientError> {
        self.get(&format!("pools/{pool}/usage")).await
    }
    pub async fn volume_usage(&self, volume: &VolumePath) -> Result<VolumeUsage, ClientError> {
        self.get(&format!("volumes/{volume}/usage")).await
    }
    pub async fn vg_map(&self, vg: &Name) -> Result<VgMap, ClientError> {
        self.get(&format!("vgs/{vg}/map")).await
    }
}

/// Names hold only characters that need no encoding in a URL.
fn snapshot_url(path: &SnapshotPath) -> String {
    format!("snapshots/{}/{}", path.volume, path.snapshot)
}

/// Encodes what is not unreserved in RFC 3986, except `/`, which a query may hold.
fn percent_encode(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_value_is_encoded() {
        assert_eq!(percent_encode("/dev/a b&c=%ä"), "/dev/a%20b%26c%3D%25%C3%A4");
    }

    #[tokio::test]
    async fn a_missing_socket_is_unreachable() {
        let client = Client::new("/nonexistent/control.sock");
        assert!(matches!(client.status().await, Err(ClientError::Unreachable { .. })));
    }
}
