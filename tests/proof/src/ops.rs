//! The operations, over a small fixed universe of names. To add one: a variant of [`Op`], its line in `Op::text` and in
//! `ALL`, an arm in [`Op::run`], and an arm in `model`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use vol_core::{RefusalCode, VolumeName};
use vol_engine::host::{HostMut as _, HostRead as _};
use vol_engine::{CreatePool, CreateVg, CreateVolume, Done, Engine, EngineError};
use vol_sim::{SimDisk, SimHost};
use vol_types::{Bytes, FsKind, Labels, MkfsOptions, Name, SizeSpec, SnapshotPath, VolumePath, limit};

/// How many disks a machine has, and how many copies of the metadata are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    pub disks: u8,
    pub copies: u8,
}

pub const DISK_SIZE: Bytes = Bytes::mib(256);
pub const FILE_SIZE: Bytes = Bytes::mib(128);
pub const FILE: &str = "/var/lib/volumed/side.img";

impl Shape {
    pub const fn new(disks: u8, copies: u8) -> Self {
        Self { disks, copies }
    }
    pub fn nodes(self) -> impl Iterator<Item = PathBuf> {
        (0..self.disks).map(|at| PathBuf::from(format!("/dev/sd{}", char::from(b'a' + at))))
    }
    /// Copies that there are: no more than disks.
    pub fn present_copies(self) -> u8 {
        self.copies.min(self.disks)
    }
    /// A machine with so many empty disks.
    pub fn machine(self, seed: u64) -> SimHost {
        let host = SimHost::new(seed);
        host.keep_trace(false);
        for (at, node) in self.nodes().enumerate() {
            host.add_disk(SimDisk::new(node, DISK_SIZE).hardware_id(format!("naa.{at}")));
        }
        host
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.disks, self.copies)
    }
}

impl FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no shape: DISKSxCOPIES, as in 3x3");
        let (disks, copies) = text.split_once('x').ok_or_else(bad)?;
        let shape = Self::new(disks.parse().map_err(|_| bad())?, copies.parse().map_err(|_| bad())?);
        if (1..=8).contains(&shape.disks) && shape.copies >= 1 { Ok(shape) } else { Err(bad()) }
    }
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($variant),+ }
        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),+];
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
            pub fn of(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
            pub fn name(self) -> Name {
                name(self.as_str())
            }
        }
    };
}

names!(
    /// `data` stands on all disks, `side` on a backing file.
    Group { Data = "data", Side = "side" }
);
names!(
    /// Both in `data`.
    Pool { Tank = "tank", Spare = "spare" }
);
names!(
    /// All but `aux` in `tank`. `huge` is beyond every over-commit limit.
    Vol { Pg = "pg", Web = "web", Box = "box", Raw = "raw", Aux = "aux", Huge = "huge" }
);
names!(Snap { One = "one", Two = "two" });

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

impl Pool {
    /// Bytes of data that are asked for.
    pub const fn size(self) -> Bytes {
        match self {
            Self::Tank => Bytes::mib(64),
            // With its metadata, and those that are left free for a repair, it fills the disks of the smallest shape.
            Self::Spare => Bytes::mib(24),
        }
    }
}

impl Vol {
    pub const fn pool(self) -> Pool {
        match self {
            Self::Aux => Pool::Spare,
            _ => Pool::Tank,
        }
    }
    pub const fn fs(self) -> Option<FsKind> {
        match self {
            Self::Pg | Self::Aux => Some(FsKind::Ext4),
            Self::Web => Some(FsKind::Xfs),
            Self::Box => Some(FsKind::Btrfs),
            Self::Raw | Self::Huge => None,
        }
    }
    pub const fn size(self) -> Bytes {
        match self {
            Self::Pg => Bytes::mib(64),
            Self::Web => Bytes::mib(300),
            Self::Box => Bytes::mib(128),
            Self::Raw => Bytes::mib(100),
            Self::Aux => Bytes::mib(40),
            Self::Huge => Bytes::gib(1 << 20),
        }
    }
}

/// A volume, or a snapshot of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub vol: Vol,
    pub snap: Option<Snap>,
}

impl Key {
    pub const fn volume(vol: Vol) -> Self {
        Self { vol, snap: None }
    }
    pub const fn snapshot(vol: Vol, snap: Snap) -> Self {
        Self { vol, snap: Some(snap) }
    }
    pub fn of(name: &VolumeName) -> Option<Self> {
        let snap = match &name.snapshot {
            None => None,
            Some(snap) => Some(Snap::of(snap.as_str())?),
        };
        Some(Self { vol: Vol::of(name.volume.as_str())?, snap })
    }
    pub fn name(self) -> VolumeName {
        VolumeName { volume: self.vol.name(), snapshot: self.snap.map(Snap::name) }
    }
    /// Where it is mounted.
    pub fn target(self) -> PathBuf {
        match self.snap {
            None => PathBuf::from(format!("/srv/{}", self.vol.as_str())),
            Some(snap) => PathBuf::from(format!("/srv/{}-{}", self.vol.as_str(), snap.as_str())),
        }
    }
    fn text(self) -> String {
        self.snap
            .map_or_else(|| self.vol.as_str().to_owned(), |snap| format!("{}@{}", self.vol.as_str(), snap.as_str()))
    }
    fn parse(text: &str) -> Option<Self> {
        match text.split_once('@') {
            None => Vol::of(text).map(Self::volume),
            Some((vol, snap)) => Some(Self::snapshot(Vol::of(vol)?, Snap::of(snap)?)),
        }
    }
}

/// One thing that is asked of the daemon, or done by a user of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `data` on all disks, or `side` on a file.
    CreateVg(Group),
    /// `data` with `tank` over nearly all of it.
    Init,
    DeleteVg(Group),
    CreatePool(Pool),
    DeletePool(Pool),
    CreateVolume(Vol),
    /// Of the volume.
    CreateSnapshot(Key),
    /// Volumes and snapshots.
    Delete(Key),
    Mount(Key),
    Unmount(Key),
    Attach(Vol),
    Detach(Vol),
    /// A user writes a file, or to the raw device, and syncs.
    Write(Vol),
    /// The daemon's slow timer.
    Refresh,
    /// `pv scan`.
    Scan,
}

/// What it came to, as far as a program can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    Changed,
    Unchanged,
    Refused(RefusalCodeKey),
    /// A step or an observation failed.
    Failed,
}

/// [`RefusalCode`] with an order and a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCodeKey {
    Invalid,
    NotFound,
    Exists,
    Busy,
    NoSpace,
    Refused,
    Degraded,
}

impl From<RefusalCode> for RefusalCodeKey {
    fn from(code: RefusalCode) -> Self {
        match code {
            RefusalCode::Invalid => Self::Invalid,
            RefusalCode::NotFound => Self::NotFound,
            RefusalCode::Exists => Self::Exists,
            RefusalCode::Busy => Self::Busy,
            RefusalCode::NoSpace => Self::NoSpace,
            RefusalCode::Refused => Self::Refused,
            RefusalCode::Degraded => Self::Degraded,
        }
    }
}

fn answer<T>(result: Result<Done<T>, EngineError>) -> Result<Answer, EngineError> {
    match result {
        Ok(Done::Unchanged(_)) => Ok(Answer::Unchanged),
        Ok(Done::Changed(_) | Done::Planned(_)) => Ok(Answer::Changed),
        Err(error) => Err(error),
    }
}

/// The class of an error.
pub fn class(error: &EngineError) -> Answer {
    match error {
        EngineError::Refused(refusal) => Answer::Refused(refusal.code.into()),
        EngineError::Step(_) | EngineError::Host(_) => Answer::Failed,
    }
}

pub const fn all_ops() -> &'static [Op] {
    ALL
}

/// Every operation of the universe. All of them are walked by the crash enumerator if they change anything.
const ALL: &[Op] = &[
    Op::CreateVg(Group::Data),
    Op::CreateVg(Group::Side),
    Op::Init,
    Op::DeleteVg(Group::Data),
    Op::DeleteVg(Group::Side),
    Op::CreatePool(Pool::Tank),
    Op::CreatePool(Pool::Spare),
    Op::DeletePool(Pool::Tank),
    Op::DeletePool(Pool::Spare),
    Op::CreateVolume(Vol::Pg),
    Op::CreateVolume(Vol::Web),
    Op::CreateVolume(Vol::Box),
    Op::CreateVolume(Vol::Raw),
    Op::CreateVolume(Vol::Aux),
    Op::CreateVolume(Vol::Huge),
    Op::CreateSnapshot(Key::snapshot(Vol::Pg, Snap::One)),
    Op::CreateSnapshot(Key::snapshot(Vol::Pg, Snap::Two)),
    Op::CreateSnapshot(Key::snapshot(Vol::Web, Snap::One)),
    Op::CreateSnapshot(Key::snapshot(Vol::Raw, Snap::One)),
    Op::Delete(Key::volume(Vol::Pg)),
    Op::Delete(Key::volume(Vol::Web)),
    Op::Delete(Key::volume(Vol::Box)),
    Op::Delete(Key::volume(Vol::Raw)),
    Op::Delete(Key::volume(Vol::Aux)),
    Op::Delete(Key::snapshot(Vol::Pg, Snap::One)),
    Op::Delete(Key::snapshot(Vol::Pg, Snap::Two)),
    Op::Delete(Key::snapshot(Vol::Web, Snap::One)),
    Op::Delete(Key::snapshot(Vol::Raw, Snap::One)),
    Op::Mount(Key::volume(Vol::Pg)),
    Op::Mount(Key::volume(Vol::Web)),
    Op::Mount(Key::volume(Vol::Raw)),
    Op::Mount(Key::snapshot(Vol::Pg, Snap::One)),
    Op::Mount(Key::snapshot(Vol::Web, Snap::One)),
    Op::Unmount(Key::volume(Vol::Pg)),
    Op::Unmount(Key::volume(Vol::Web)),
    Op::Unmount(Key::snapshot(Vol::Pg, Snap::One)),
    Op::Unmount(Key::snapshot(Vol::Web, Snap::One)),
    Op::Attach(Vol::Raw),
    Op::Attach(Vol::Pg),
    Op::Detach(Vol::Raw),
    Op::Write(Vol::Pg),
    Op::Write(Vol::Raw),
    Op::Refresh,
    Op::Scan,
];

impl Op {
    fn text(self) -> (&'static str, String) {
        let group = |group: Group| group.as_str().to_owned();
        let pool = |pool: Pool| pool.as_str().to_owned();
        let vol = |vol: Vol| vol.as_str().to_owned();
        match self {
            Self::CreateVg(at) => ("vg-create", group(at)),
            Self::Init => ("init", String::new()),
            Self::DeleteVg(at) => ("vg-delete", group(at)),
            Self::CreatePool(at) => ("pool-create", pool(at)),
            Self::DeletePool(at) => ("pool-delete", pool(at)),
            Self::CreateVolume(at) => ("volume-create", vol(at)),
            Self::CreateSnapshot(key) => ("snapshot-create", key.text()),
            Self::Delete(key) => ("delete", key.text()),
            Self::Mount(key) => ("mount", key.text()),
            Self::Unmount(key) => ("unmount", key.text()),
            Self::Attach(at) => ("attach", vol(at)),
            Self::Detach(at) => ("detach", vol(at)),
            Self::Write(at) => ("write", vol(at)),
            Self::Refresh => ("refresh", String::new()),
            Self::Scan => ("scan", String::new()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (verb, object) = text.split_once(':').unwrap_or((text, ""));
        Some(match verb {
            "vg-create" => Self::CreateVg(Group::of(object)?),
            "init" => Self::Init,
            "vg-delete" => Self::DeleteVg(Group::of(object)?),
            "pool-create" => Self::CreatePool(Pool::of(object)?),
            "pool-delete" => Self::DeletePool(Pool::of(object)?),
            "volume-create" => Self::CreateVolume(Vol::of(object)?),
            "snapshot-create" => Self::CreateSnapshot(Key::parse(object)?),
            "delete" => Self::Delete(Key::parse(object)?),
            "mount" => Self::Mount(Key::parse(object)?),
            "unmount" => Self::Unmount(Key::parse(object)?),
            "attach" => Self::Attach(Vol::of(object)?),
            "detach" => Self::Detach(Vol::of(object)?),
            "write" => Self::Write(Vol::of(object)?),
            "refresh" => Self::Refresh,
            "scan" => Self::Scan,
            _ => return None,
        })
    }

    /// Makes the request. A user's write goes past the daemon; what it writes is `version`.
    pub fn run(self, engine: &Engine<SimHost>, shape: Shape, version: u32) -> Result<Answer, EngineError> {
        let data = Group::Data.name();
        let (real, raw) = (false, |key: Key| key.snap.is_some());
        match self {
            Self::CreateVg(group) => {
                if group == Group::Side {
                    clear_stray_file(engine);
                }
                answer(engine.create_vg(&vg_request(group, shape), real))
            }
            Self::Init => answer(engine.init(&vg_request(Group::Data, shape), &Pool::Tank.name(), real)),
            Self::DeleteVg(group) => answer(engine.delete_vg(&group.name(), real)),
            Self::CreatePool(pool) => answer(engine.create_pool(&pool_request(pool), real)),
            Self::DeletePool(pool) => answer(engine.delete_pool(&data, &pool.name(), real)),
            Self::CreateVolume(vol) => answer(engine.create_volume(&volume_request(vol), real)),
            Self::CreateSnapshot(key) => {
                let volume = VolumePath { vg: data, volume: key.vol.name() };
                let snapshot = key.snap.map_or_else(|| name("none"), Snap::name);
                answer(engine.create_snapshot(&SnapshotPath { volume, snapshot }, real))
            }
            Self::Delete(key) => answer(engine.delete_volume(&data, &key.name(), real)),
            Self::Mount(key) => answer(engine.mount(&data, &key.name(), &key.target(), raw(key), real)),
            Self::Unmount(key) => answer(engine.unmount(&data, &key.name(), None, real)),
            Self::Attach(vol) => answer(engine.attach(&data, &Key::volume(vol).name(), real)),
            Self::Detach(vol) => answer(engine.detach(&data, &Key::volume(vol).name(), real)),
            Self::Write(vol) => Ok(user_writes(engine, vol, version)),
            Self::Refresh => {
                engine.refresh();
                Ok(Answer::Unchanged)
            }
            Self::Scan => engine.scan(&[], false).map(|()| Answer::Unchanged),
        }
    }
}

/// A creation that was cut short may leave a file that nobody but its owner may take for rubbish: an operator looks whether
/// there is anything on it, and deletes it.
fn clear_stray_file(engine: &Engine<SimHost>) {
    let path = Path::new(FILE);
    let there = engine.host().path_exists(path).unwrap_or(false);
    let label = |at: u64| engine.host().peek(path, Bytes::MIB + at * 1024, 8) != [0; 8];
    if there && engine.vg(&Group::Side.name()).is_err() && !label(64) && !label(128) {
        // A host that is dead, or a fault: then the request is refused, which is an answer too.
        let _ = engine.host().delete_file(path);
    }
}

fn user_writes(engine: &Engine<SimHost>, vol: Vol, version: u32) -> Answer {
    let host = engine.host();
    let bytes = version.to_le_bytes();
    let written = if vol.fs().is_some() {
        host.put_file(Key::volume(vol).target(), "f", &bytes)
    } else {
        let volume = engine.vg(&Group::Data.name()).ok();
        let id = volume.and_then(|vg| vg.read(|catalog| catalog.volume_named(&Key::volume(vol).name()).map(|v| v.id)));
        match id {
            Some(id) => host.put_raw(&vol_core::dm::Device::Volume(id).uuid(), &bytes),
            None => return Answer::Failed,
        }
    };
    if written.is_ok() { Answer::Changed } else { Answer::Failed }
}

fn vg_request(group: Group, shape: Shape) -> CreateVg {
    let data = group == Group::Data;
    CreateVg {
        name: group.name(),
        disks: if data { shape.nodes().collect() } else { Vec::new() },
        files: if data { Vec::new() } else { vec![(PathBuf::from(FILE), FILE_SIZE)] },
        wipe: false,
        extent_size: limit::EXTENT_SIZE_DEFAULT,
        metadata_copies: u16::from(shape.copies),
    }
}

fn pool_request(pool: Pool) -> CreatePool {
    CreatePool {
        vg: Group::Data.name(),
        name: pool.name(),
        size: SizeSpec::Bytes(pool.size()),
        chunk_size: None,
        overcommit_percent: limit::OVERCOMMIT_PERCENT_DEFAULT,
        policy: vol_engine::SpacePolicy::default(),
        place: vol_engine::PlaceOn::default(),
    }
}

fn volume_request(vol: Vol) -> CreateVolume {
    let path = VolumePath { vg: Group::Data.name(), volume: vol.name() };
    CreateVolume {
        path,
        pool: Some(vol.pool().name()),
        size: vol.size(),
        fs: vol.fs(),
        labels: Labels::default(),
        reserve: vol_types::Reserve::None,
        protect: false,
        mkfs: MkfsOptions::default(),
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, object) = self.text();
        f.write_str(verb)?;
        if object.is_empty() { Ok(()) } else { write!(f, ":{object}") }
    }
}

impl FromStr for Op {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| format!("{text:?} is no operation, as volume-create:pg is one"))
    }
}

/// Operations as `vol-proof replay --ops` takes them.
pub fn parse_ops(text: &str) -> Result<Vec<Op>, String> {
    text.split_whitespace().map(str::parse).collect()
}

pub fn show_ops(ops: &[Op]) -> String {
    ops.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_read_back_from_its_text() {
        for op in all_ops() {
            assert_eq!(op.to_string().parse(), Ok(*op));
        }
        assert_eq!(parse_ops(&show_ops(all_ops())), Ok(all_ops().to_vec()));
    }
}
