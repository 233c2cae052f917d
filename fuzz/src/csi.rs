//! What an orchestrator asks: every request of the Container Storage Interface, on a machine that is made up.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;

use prost::Message;
use vol_csi::csi::*;
use vol_csi::health::Ill;
use vol_csi::metadata::{Parts, Stream};
use vol_csi::stats::Usage;
use vol_csi::{
    CsiName, Kind, Mutable, Params, Placed, Refused, Room, Rpc, Settings, Snapshot as Known, Source, Volume as Here,
    Volumes, Wanted, controller, expand, group, health, identity, ids, metadata, node, snapshot, stats,
};
use vol_types::label::LABEL_VALUE_MAX;
use vol_types::{Bytes, FsKind, MountOptions};

const KUBELET: &str = "/var/lib/kubelet";
const NODE: &str = "n1";
/// Ids of a volume and a snapshot that are there.
pub const VOLUME: &str = "6c7e5d3a-1b2c-4000-8000-000000000001";
pub const SNAPSHOT: &str = "6c7e5d3a-1b2c-4000-8000-000000000002";
const GIB: u64 = 1 << 30;
const CHUNK: u64 = 64 << 10;
const EXTENT: u64 = 4 << 20;
/// Longest id or name that the interface allows, in bytes.
const TEXT_MAX: usize = 128;
/// More than the longest message: one that has a path in it, with all of its bytes escaped.
const MESSAGE_MAX: usize = 64 << 10;

/// The first byte chooses the request, what follows is the message.
///
/// Claims: no panic; an error has a code, a message of bounded length, and no details; the same request again has the same
/// answer; a volume is as large as is asked for, in whole units, and its id short enough; nothing is put outside the kubelet's directory;
/// ranges are told in order, as many as are wanted; what is recorded of a request fits a label.
pub fn csi_request(data: &[u8]) -> bool {
    let Some((choice, body)) = data.split_first() else { return false };
    let fake = Fake::new();
    match Rpc::ALL[usize::from(*choice) % Rpc::ALL.len()] {
        Rpc::GetPluginInfo => twice(&fake, body, |v, _: &GetPluginInfoRequest| Ok(identity::info(&v.settings()))),
        Rpc::GetPluginCapabilities => {
            twice(&fake, body, |v, _: &GetPluginCapabilitiesRequest| Ok(identity::capabilities(&v.settings())))
        }
        Rpc::Probe => twice(&fake, body, |_, _: &ProbeRequest| identity::probe(true)),
        Rpc::CreateVolume => twice(&fake, body, |v, q: &CreateVolumeRequest| {
            let answer = controller::create_volume(v, q)?.0;
            let volume = answer.volume.as_ref().expect("a volume was made");
            let (required, limit) = q.capacity_range.map_or((0, 0), |range| (range.required_bytes, range.limit_bytes));
            assert!(volume.capacity_bytes >= required.max(1) && (limit == 0 || volume.capacity_bytes <= limit));
            assert!(!volume.volume_id.is_empty() && volume.volume_id.len() <= TEXT_MAX);
            Ok(answer)
        }),
        Rpc::DeleteVolume => twice(&fake, body, |v, q: &DeleteVolumeRequest| {
            let deleted = controller::delete_volume(v, q);
            Ok(answer_of(deleted, &q.volume_id)?.0)
        }),
        Rpc::ValidateVolumeCapabilities => twice(&fake, body, |v, q| {
            let answer = controller::validate(v, q)?;
            assert!(answer.confirmed.is_some() == answer.message.is_empty(), "{answer:?}");
            Ok(answer)
        }),
        Rpc::ListVolumes => twice(&fake, body, |v, q: &ListVolumesRequest| {
            let answer = controller::list_volumes(v, q)?;
            assert!(q.max_entries == 0 || answer.entries.len() as i64 <= i64::from(q.max_entries));
            Ok(answer)
        }),
        Rpc::GetCapacity => twice(&fake, body, |v, q| controller::get_capacity(v, q)),
        Rpc::ControllerGetCapabilities => {
            twice(&fake, body, |v, _: &ControllerGetCapabilitiesRequest| Ok(controller::capabilities(&v.settings())))
        }
        Rpc::CreateSnapshot => twice(&fake, body, |v, q| Ok(snapshot::create_snapshot(v, q)?.0)),
        Rpc::DeleteSnapshot => twice(&fake, body, |v, q: &DeleteSnapshotRequest| {
            let deleted = snapshot::delete_snapshot(v, q);
            Ok(answer_of(deleted, &q.snapshot_id)?.0)
        }),
        Rpc::ListSnapshots => twice(&fake, body, |v, q: &ListSnapshotsRequest| {
            let answer = snapshot::list_snapshots(v, q)?;
            assert!(q.max_entries == 0 || answer.entries.len() as i64 <= i64::from(q.max_entries));
            Ok(answer)
        }),
        Rpc::GetSnapshot => twice(&fake, body, |v, q| snapshot::get_snapshot(v, q)),
        Rpc::ControllerExpandVolume => twice(&fake, body, |v, q: &ControllerExpandVolumeRequest| {
            let answer = expand::controller_expand(v, q)?.0;
            assert!(answer.capacity_bytes >= q.capacity_range.map_or(0, |range| range.required_bytes));
            Ok(answer)
        }),
        Rpc::ControllerGetVolume => twice(&fake, body, |v, q| controller::get_volume(v, q)),
        Rpc::ControllerModifyVolume => twice(&fake, body, |v, q| Ok(expand::modify(v, q)?.0)),
        Rpc::GroupControllerGetCapabilities => {
            twice(&fake, body, |_, _: &GroupControllerGetCapabilitiesRequest| Ok(group::capabilities()))
        }
        Rpc::CreateVolumeGroupSnapshot => twice(&fake, body, |v, q| Ok(group::create(v, q)?.0)),
        Rpc::DeleteVolumeGroupSnapshot => twice(&fake, body, |v, q: &DeleteVolumeGroupSnapshotRequest| {
            let deleted = group::delete(v, q);
            Ok(answer_of(deleted, &q.group_snapshot_id)?.0)
        }),
        Rpc::GetVolumeGroupSnapshot => twice(&fake, body, |v, q| group::get(v, q)),
        Rpc::GetMetadataAllocated => twice(&fake, body, |v, q: &GetMetadataAllocatedRequest| {
            let answer: Vec<GetMetadataAllocatedResponse> = told(v, metadata::allocated(v, q)?)?;
            in_order(answer.iter().map(|one| one.block_metadata.as_slice()), q.starting_offset, q.max_results);
            Ok(answer)
        }),
        Rpc::GetMetadataDelta => twice(&fake, body, |v, q: &GetMetadataDeltaRequest| {
            let answer: Vec<GetMetadataDeltaResponse> = told(v, metadata::delta(v, q)?)?;
            in_order(answer.iter().map(|one| one.block_metadata.as_slice()), q.starting_offset, q.max_results);
            Ok(answer)
        }),
        Rpc::NodeGetVolumeStats => twice(&fake, body, |v, q| stats::stats(v, q)),
        Rpc::NodeExpandVolume => twice(&fake, body, |v, q| Ok(expand::node_expand(v, q)?.0)),
        Rpc::NodeStageVolume => twice(&fake, body, |v, q| Ok(node::stage(v, q)?.0)),
        Rpc::NodeUnstageVolume => twice(&fake, body, |v, q| Ok(node::unstage(v, q)?.0)),
        Rpc::NodePublishVolume => twice(&fake, body, |v, q| Ok(node::publish(v, q)?.0)),
        Rpc::NodeUnpublishVolume => twice(&fake, body, |v, q| Ok(node::unpublish(v, q)?.0)),
        Rpc::NodeGetCapabilities => {
            twice(&fake, body, |v, _: &NodeGetCapabilitiesRequest| Ok(node::capabilities(&v.settings())))
        }
        Rpc::NodeGetInfo => twice(&fake, body, |v, _: &NodeGetInfoRequest| node::info(&v.settings())),
        Rpc::ControllerListVolumeHealth => twice(&fake, body, |v, q: &ControllerListVolumeHealthRequest| {
            let answer = health::list(v, q)?;
            assert!(q.max_entries == 0 || answer.entries.len() as i64 <= i64::from(q.max_entries));
            Ok(answer)
        }),
        Rpc::ControllerGetVolumeHealth => twice(&fake, body, |v, q| health::get(v, q)),
        Rpc::NodeGetVolumeHealth => twice(&fake, body, |v, q| health::node_get(v, q)),
        Rpc::NodeGetStorageHealth => twice(&fake, body, |v, q| health::storage(v, q)),
    }
}

/// What came with its disk from another machine is deleted here once. Asked again nobody here can tell that it is gone, for what was never
/// here has such an id as well (ADR 0028); so these two answers count as one.
fn answer_of<R: Default>(deleted: Result<(R, bool), Refused>, id: &str) -> Result<(R, bool), Refused> {
    match deleted {
        Err(refused) if refused.code == tonic::Code::FailedPrecondition && ids::is_elsewhere(id, NODE) => {
            Ok((R::default(), false))
        }
        other => other,
    }
}

/// Asks the same twice.
fn twice<Q: Message + Default, R: PartialEq + Debug>(
    fake: &Fake,
    body: &[u8],
    work: impl Fn(&Fake, &Q) -> Result<R, Refused>,
) -> bool {
    let Ok(request) = Q::decode(body) else { return false };
    match work(fake, &request) {
        Ok(answer) => {
            assert_eq!(work(fake, &request), Ok(answer), "the same again has another answer");
            true
        }
        Err(refused) => {
            let status = tonic::Status::from(refused);
            assert!(status.code() != tonic::Code::Ok && status.details().is_empty());
            assert!((1..MESSAGE_MAX).contains(&status.message().len()), "{} bytes", status.message().len());
            false
        }
    }
}

fn told<M: metadata::Message>(fake: &Fake, mut stream: Stream) -> Result<Vec<M>, Refused> {
    let mut all = Vec::new();
    loop {
        while stream.is_hungry() {
            stream.look(fake)?;
        }
        match stream.message() {
            Some(message) => all.push(message),
            None => return Ok(all),
        }
    }
}

fn in_order<'a>(messages: impl Iterator<Item = &'a [BlockMetadata]>, from: i64, most: i32) {
    let mut end = 0;
    for message in messages {
        assert!(most == 0 || message.len() as i64 <= i64::from(most));
        for one in message {
            assert!(one.size_bytes > 0 && one.byte_offset >= end && from < one.byte_offset + one.size_bytes);
            end = one.byte_offset + one.size_bytes;
        }
    }
}

/// A machine with the volume group `data` and its pool `tank`.
struct Fake {
    volumes: RefCell<Vec<Here>>,
    snapshots: RefCell<Vec<Known>>,
    /// What is known by a name of the orchestrator's, by that name.
    taken: RefCell<BTreeMap<String, Vec<String>>>,
    places: RefCell<BTreeMap<String, Placed>>,
}

impl Fake {
    fn new() -> Self {
        let volume = Here {
            id: VOLUME.into(),
            path: "data/pvc-1".into(),
            pool: "data/tank".into(),
            size: GIB,
            fs: Some(FsKind::Ext4),
            ready: true,
            name: Some("pvc-1".into()),
            mounts: vec![(format!("{KUBELET}/plugins/staged"), false)],
            ..Here::default()
        };
        let snapshot = Known {
            id: SNAPSHOT.into(),
            path: "data/pvc-1@snap-1".into(),
            pool: "data/tank".into(),
            source: VOLUME.into(),
            size: GIB,
            fs: Some(FsKind::Ext4),
            created: 1,
            ..Known::default()
        };
        Self {
            volumes: RefCell::new(vec![volume]),
            snapshots: RefCell::new(vec![snapshot]),
            taken: RefCell::new([("snap-1".to_owned(), vec![SNAPSHOT.to_owned()])].into()),
            places: RefCell::default(),
        }
    }

    fn of(&self, id: &str, change: impl FnOnce(&mut Here)) -> Result<Here, Refused> {
        let mut all = self.volumes.borrow_mut();
        let one = all.iter_mut().find(|one| one.id == id).ok_or_else(|| Refused::not_found("it is gone"))?;
        change(one);
        Ok(one.clone())
    }

    fn add(&self, name: &CsiName, params: &Params, volume: Here) -> Here {
        assert!(params.record.len() <= LABEL_VALUE_MAX && !params.record.chars().any(char::is_control));
        assert!(params.stripes.is_none() || !params.thin);
        let known = name.candidates();
        let volume = Here {
            id: ids::group(name.as_str()),
            path: format!("data/{}", known.first().expect("a name")),
            ready: true,
            record: Some(params.record.clone()),
            purge: params.purge,
            ..volume
        };
        self.volumes.borrow_mut().push(volume.clone());
        volume
    }
}

/// Nothing is put anywhere else.
fn below(at: &str) {
    assert!(at.strip_prefix(KUBELET).is_some_and(|rest| rest.starts_with('/')), "{at:?}");
    assert!(at.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0')), "{at:?}");
}

impl Volumes for Fake {
    fn settings(&self) -> Settings {
        let profile = [("fs", "xfs"), ("size", "2G"), ("reserve", "64M"), ("stripes", "2")];
        let profile = profile.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Settings {
            driver: "csi.volumed.io".into(),
            node: NODE.into(),
            node_given: false,
            kubelet_dir: KUBELET.into(),
            size: None,
            max_volumes: 0,
            v1_13: true,
            profiles: [("db".to_owned(), profile)].into(),
            version: "0",
        }
    }
    fn named(&self, name: &CsiName) -> Result<Option<Here>, Refused> {
        Ok(self.volumes.borrow().iter().find(|one| one.name.as_deref() == Some(name.as_str())).cloned())
    }
    fn find(&self, id: &str) -> Result<Option<Here>, Refused> {
        let own = ids::parse(id).map_or(id, |(id, _)| id);
        let is = |one: &&Here| one.id == own || one.path == id || (one.ephemeral && one.name.as_deref() == Some(id));
        Ok(self.volumes.borrow().iter().find(is).cloned())
    }
    fn not_away(&self, _: Kind, _: &str) -> Result<(), Refused> {
        Ok(())
    }
    fn find_now(&self, id: &str) -> Result<Option<Here>, Refused> {
        self.find(id)
    }
    fn list(&self) -> Result<Vec<Here>, Refused> {
        let mut all = self.volumes.borrow().clone();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }
    fn room(&self, params: &Params) -> Result<Room, Refused> {
        let pool = params.thin.then(|| "tank".to_owned());
        let grain = if params.thin { CHUNK } else { EXTENT * u64::from(params.stripes.unwrap_or(1)) };
        Ok(Room { vg: "data".into(), pool, grain, available: 1 << 40 })
    }
    fn create(&self, name: &CsiName, wanted: &Wanted) -> Result<Here, Refused> {
        let Wanted { room, size, params, ephemeral } = wanted;
        assert!(size.get() > 0 && size.get() % room.grain == 0, "{size} in units of {}", room.grain);
        let pool = room.pool.as_ref().map_or(String::new(), |pool| format!("{}/{pool}", room.vg));
        let volume = Here { pool, size: size.get(), fs: params.fs, ephemeral: *ephemeral, ..Here::default() };
        Ok(self.add(name, params, Here { name: Some(name.to_string()), ..volume }))
    }
    fn clone_of(&self, source: &Source, name: &CsiName, params: &Params) -> Result<Here, Refused> {
        let volume = Here { pool: source.pool().into(), size: source.size(), fs: source.fs(), ..Here::default() };
        Ok(self.add(name, params, Here { name: Some(name.to_string()), ..volume }))
    }
    fn delete(&self, volume: &Here) -> Result<(), Refused> {
        self.volumes.borrow_mut().retain(|one| one.id != volume.id);
        Ok(())
    }
    fn grain(&self, volume: &Here) -> Result<u64, Refused> {
        Ok(if volume.pool.is_empty() { EXTENT } else { CHUNK })
    }
    fn grow(&self, volume: &Here, size: Bytes) -> Result<(Here, bool), Refused> {
        assert!(size.get() > 0);
        if size.get() > 1 << 50 {
            return Err(Refused::out_of_range("no volume is that large"));
        }
        Ok((self.of(&volume.id, |one| one.size = one.size.max(size.get()))?, size.get() > volume.size))
    }
    fn modify(&self, _: &Here, mutable: &Mutable) -> Result<bool, Refused> {
        Ok(mutable.reserve.is_some())
    }
    fn snapshot_named(&self, name: &CsiName) -> Result<Option<Known>, Refused> {
        let taken = self.taken.borrow();
        let Some(id) = taken.get(name.as_str()).and_then(|ids| ids.first()) else { return Ok(None) };
        Ok(self.snapshots.borrow().iter().find(|one| one.id == *id && one.group.is_none()).cloned())
    }
    fn find_snapshot(&self, id: &str) -> Result<Option<Known>, Refused> {
        let own = ids::parse(id).map_or(id, |(id, _)| id);
        Ok(self.snapshots.borrow().iter().find(|one| one.id == own).cloned())
    }
    fn snapshots(&self) -> Result<Vec<Known>, Refused> {
        let mut all = self.snapshots.borrow().clone();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }
    fn take(&self, of: &[Here], name: &CsiName, group: bool) -> Result<Vec<Known>, Refused> {
        let one = |volume: &Here| Known {
            id: ids::group(&format!("{} of {name} {group}", volume.id)),
            path: format!("{}@s", volume.path),
            pool: volume.pool.clone(),
            source: volume.id.clone(),
            size: volume.size,
            fs: volume.fs,
            created: 2,
            group: group.then(|| name.to_string()),
            protected: false,
        };
        let made: Vec<_> = of.iter().map(one).collect();
        if !group {
            self.taken.borrow_mut().insert(name.to_string(), made.iter().map(|one| one.id.clone()).collect());
        }
        self.snapshots.borrow_mut().extend(made.clone());
        Ok(made)
    }
    fn changed(&self, _: Option<&Known>, target: &Known, from: u64) -> Result<Parts, Refused> {
        let begin = from / CHUNK * CHUNK;
        let end = target.size.min(begin.saturating_add(3 * CHUNK));
        let next = (end < target.size.min(64 * CHUNK)).then_some(end);
        Ok(Parts { ranges: std::iter::once(begin..(begin + CHUNK).min(end)).collect(), next })
    }
    fn delete_snapshot(&self, snapshot: &Known) -> Result<(), Refused> {
        self.snapshots.borrow_mut().retain(|one| one.id != snapshot.id);
        Ok(())
    }
    fn placed(&self, at: &str) -> Option<Placed> {
        self.places.borrow().get(at).cloned()
    }
    fn places(&self, volume: &str) -> Vec<(String, Placed)> {
        let all = self.places.borrow();
        all.iter().filter(|(_, one)| one.volume == volume).map(|(at, one)| (at.clone(), one.clone())).collect()
    }
    fn note(&self, at: &str, placed: Option<Placed>) {
        match placed {
            Some(placed) => drop(self.places.borrow_mut().insert(at.to_owned(), placed)),
            None => drop(self.places.borrow_mut().remove(at)),
        }
    }
    fn mount(&self, volume: &Here, at: &str, read_only: bool, _: &MountOptions) -> Result<bool, Refused> {
        below(at);
        let was = volume.mounted_at(at).is_some();
        self.of(&volume.id, |one| {
            if !was {
                one.mounts.push((at.to_owned(), read_only));
            }
        })?;
        Ok(!was)
    }
    fn bind(&self, volume: &Here, from: &str, to: &str, read_only: bool) -> Result<bool, Refused> {
        below(from);
        self.mount(volume, to, read_only, &MountOptions::default())
    }
    fn storage_ills(&self) -> Result<Vec<Ill>, Refused> {
        Ok(vec![Ill { code: "pool_full".into(), message: "it is full".into() }])
    }
    fn attach(&self, volume: &Here, read_only: bool) -> Result<bool, Refused> {
        let was = volume.attached.is_some();
        self.of(&volume.id, |one| one.attached = one.attached.or(Some(read_only)))?;
        Ok(!was)
    }
    fn detach(&self, volume: &Here) -> Result<bool, Refused> {
        self.of(&volume.id, |one| one.attached = None)?;
        Ok(volume.attached.is_some())
    }
    fn show(&self, volume: &Here, to: &str) -> Result<bool, Refused> {
        assert!(volume.attached.is_some(), "what is shown has a device");
        self.mount(volume, to, false, &MountOptions::default())
    }
    fn usage(&self, volume: &Here, at: &str) -> Result<Option<Usage>, Refused> {
        let usage = Usage { total: volume.size, used: 0, available: volume.size, inodes: 1, inodes_used: 0 };
        Ok(volume.mounted_at(at).map(|_| usage))
    }
    fn unmount(&self, volume: &Here, at: &str) -> Result<bool, Refused> {
        below(at);
        let was = volume.mounted_at(at).is_some();
        self.of(&volume.id, |one| one.mounts.retain(|(place, _)| place != at))?;
        Ok(was)
    }
    fn remove_mount_point(&self, at: &str) -> Result<bool, Refused> {
        below(at);
        Ok(true)
    }
}
