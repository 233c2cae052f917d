//! A machine to try things on.

use std::path::{Path, PathBuf};

use vol_core::VolumeName;
use vol_core::dm::Device;
use vol_core::plan::fs::NewSize;
use vol_core::plan::grow::{ExtendPool, SetPool, SpacePolicy};
use vol_core::plan::thick::Layout;
use vol_engine::{
    CloneVolume, CreatePool, CreateThick, CreateVg, CreateVolume, Done, Engine, EngineError, ExtendVg, PlaceOn, PvName,
    ReduceVg,
};
use vol_sim::{Fault, SimDisk, SimHost};
use vol_types::*;

/// How a daemon or a machine can die at an effect.
pub const DEATHS: [Fault; 6] = [
    Fault::KillDaemonBefore,
    Fault::KillDaemonInside(1),
    Fault::KillDaemonAfter,
    Fault::PowerCutBefore,
    Fault::PowerCutInside(1),
    Fault::PowerCutAfter,
];

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Two empty disks of 4 GiB.
pub fn machine() -> SimHost {
    let host = SimHost::new(7);
    host.add_disk(SimDisk::new("/dev/sda", Bytes::gib(4)));
    host.add_disk(SimDisk::new("/dev/sdb", Bytes::gib(4)));
    host
}

/// A daemon that has just started.
pub fn start(host: &SimHost) -> Engine<SimHost> {
    let engine = Engine::new(host.clone());
    engine.scan(&[], false).unwrap();
    engine
}

pub fn vg_request(disks: &[&str]) -> CreateVg {
    CreateVg {
        name: name("data"),
        disks: disks.iter().map(PathBuf::from).collect(),
        files: Vec::new(),
        wipe: false,
        extent_size: limit::EXTENT_SIZE_DEFAULT,
        metadata_copies: 4,
    }
}

pub fn extend_request(disks: &[&str]) -> ExtendVg {
    ExtendVg { vg: name("data"), disks: disks.iter().map(PathBuf::from).collect(), files: Vec::new(), wipe: false }
}

pub fn reduce_request(disks: &[&str]) -> ReduceVg {
    let pvs = disks.iter().map(|disk| PvName::Path(PathBuf::from(disk))).collect();
    ReduceVg { vg: name("data"), pvs, missing: false, force: false }
}

pub fn pool_request() -> CreatePool {
    CreatePool {
        vg: name("data"),
        name: name("tank"),
        size: SizeSpec::PercentFree(80),
        chunk_size: None,
        overcommit_percent: limit::OVERCOMMIT_PERCENT_DEFAULT,
        policy: SpacePolicy::default(),
        place: vol_engine::PlaceOn::default(),
    }
}

pub fn volume_request(volume: &str, fs: Option<FsKind>) -> CreateVolume {
    CreateVolume {
        path: format!("data/{volume}").parse().unwrap(),
        pool: None,
        size: Bytes::gib(10),
        fs,
        labels: Labels::default(),
        reserve: Reserve::None,
        protect: false,
        mkfs: MkfsOptions::default(),
    }
}

/// With the directory `data` handed out.
pub fn subdir_request(volume: &str) -> CreateVolume {
    let mut request = volume_request(volume, Some(FsKind::Ext4));
    request.mkfs.root.subdir = Some(name("data"));
    request
}

pub fn volume(text: &str) -> VolumeName {
    match text.split_once('@') {
        None => VolumeName { volume: name(text), snapshot: None },
        Some((volume, snapshot)) => VolumeName { volume: name(volume), snapshot: Some(name(snapshot)) },
    }
}

/// A raw thick volume of 16 MiB in `data`: slices of 4, 8 and 4 MiB.
pub fn thick_request(volume: &str, stripes: u16) -> CreateThick {
    CreateThick {
        path: format!("data/{volume}").parse().unwrap(),
        size: Bytes::mib(16),
        layout: Layout { stripes, stripe_size: (stripes > 1).then_some(Bytes::mib(1)), contiguous: false },
        place: PlaceOn::default(),
        fs: None,
        labels: Labels::default(),
        protect: false,
        mkfs: MkfsOptions::default(),
    }
}

/// The daemon is killed while it makes the thick volume of a request; the next one finds it unfinished.
pub fn cut_short(host: &SimHost, engine: Engine<SimHost>, request: &CreateThick) -> Engine<SimHost> {
    host.fail_effect(host.effects() + 3, Fault::KillDaemonBefore);
    assert!(engine.create_thick(request, false).is_err());
    drop(engine);
    host.restart();
    host.clear_faults();
    start(host)
}

/// A clone in `data`, of `VOLUME` or `VOLUME@SNAPSHOT`.
pub fn clone_request(of: &str, new: &str) -> CloneVolume {
    CloneVolume {
        vg: name("data"),
        of: volume(of),
        name: name(new),
        labels: Labels::default(),
        size: None,
        reserve: Reserve::None,
        protect: false,
        place: PlaceOn::default(),
    }
}

/// A clone `copy` in `data` of so many MiB, protected.
pub fn larger_clone(of: &str, mib: u64) -> CloneVolume {
    CloneVolume { size: Some(Bytes::mib(mib)), protect: true, ..clone_request(of, "copy") }
}

/// Snapshots in `data`.
pub fn group(snapshots: &[&str]) -> Vec<SnapshotPath> {
    snapshots.iter().map(|snapshot| format!("data/{snapshot}").parse().unwrap()).collect()
}

/// A request, so that tests can list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    CreateVg,
    CreateFileVg,
    CreatePool,
    CreateFormatted,
    CreateRaw,
    Mount,
    SnapshotMounted,
    SnapshotIdle,
    Unmount,
    /// Online, with its file system.
    Resize,
    ResizeIdle,
    Check,
    Trim,
    DeleteVolume,
    DeleteSnapshot,
    KeepVolume,
    UndeleteVolume,
    PurgePool,
    DeletePool,
    DeleteVg,
    ExtendVg,
    ReduceVg,
    RenameVg,
    ExportVg,
    ImportVg,
    /// A disk that was taken out of the VG and came back.
    WipePv,
    AttachRaw,
    CloneSnapshot,
    CloneMounted,
    /// Of a mounted volume that has a reserve too.
    CloneReserved,
    /// Of a mounted volume and one that is attached.
    SnapshotGroup,
    Rollback,
    /// Of a volume that is mounted and has a snapshot.
    RenameVolume,
    RenameSnapshot,
    Label,
    /// Of a PV with a pool on it.
    LabelPv,
    Protect,
    /// More data, and the metadata that they need.
    ExtendPool,
    ExtendMetadata,
    /// Of a volume that is mounted.
    Reserve,
    /// Writes fail at once when it is full: the one policy that the kernel is told.
    SetPool,
    /// It grows on PVs with a label from then on.
    PlacePool,
    /// Of a pool that nobody uses: it is down for a moment.
    CheckPool,
    /// Of a pool with damaged metadata.
    RepairPool,
    DiscardOriginal,
    CreateThick,
    CreateStriped,
    /// One that is attached, by extents that are not behind its last.
    GrowThick,
    /// On a PV that it is not on yet.
    GrowThickElsewhere,
    CloneThick,
    /// On PVs with a label.
    CloneThickPlaced,
    KeepThick,
    DeleteThick,
    AttachThick,
    /// With a file system.
    FormatThick,
    /// With a directory of it handed out.
    CreateSubdir,
    MountSubdir,
    /// Protected from the start.
    CreateProtected,
    /// Larger than its origin, and protected.
    CloneLarger,
    CloneThickLarger,
}

impl Op {
    pub fn run(self, engine: &Engine<SimHost>) -> Result<(), EngineError> {
        let data = name("data");
        match self {
            Self::CreateVg => engine.create_vg(&vg_request(&["/dev/sda", "/dev/sdb"]), false).map(drop),
            Self::CreateFileVg => {
                let mut request = vg_request(&[]);
                request.files = vec![("/var/lib/volumed/demo.img".into(), Bytes::gib(2))];
                engine.create_vg(&request, false).map(drop)
            }
            Self::CreatePool => engine.create_pool(&pool_request(), false).map(drop),
            Self::CreateFormatted => engine.create_volume(&volume_request("pg", Some(FsKind::Ext4)), false).map(drop),
            Self::CreateRaw => engine.create_volume(&volume_request("raw", None), false).map(drop),
            Self::Mount => engine.mount(&data, &volume("pg"), Path::new("/srv/pg"), false, false).map(drop),
            Self::SnapshotMounted | Self::SnapshotIdle => {
                engine.create_snapshot(&"data/pg@before".parse().unwrap(), false).map(drop)
            }
            Self::Unmount => engine.unmount(&data, &volume("pg"), None, false).map(drop),
            Self::Resize | Self::ResizeIdle => {
                engine.resize_volume(&data, &volume("pg"), NewSize::To(Bytes::gib(20)), false).map(drop)
            }
            Self::Check => engine.check_volume(&data, &volume("pg"), false, false).map(drop),
            Self::Trim => engine.trim_volume(&data, &volume("pg"), false).map(drop),
            Self::DeleteVolume => engine.delete_volume(&data, &volume("pg"), false).map(drop),
            Self::DeleteSnapshot => engine.delete_volume(&data, &volume("pg@before"), false).map(drop),
            Self::KeepVolume => engine.keep_volume(&data, &volume("pg"), false).map(drop),
            Self::UndeleteVolume => engine.undelete_volume(&data, &volume("pg"), false).map(drop),
            Self::PurgePool => engine.purge_pool(&data, &name("tank"), false).map(drop),
            Self::DeletePool => engine.delete_pool(&data, &name("tank"), false).map(drop),
            Self::DeleteVg => engine.delete_vg(&data, false).map(drop),
            Self::ExtendVg => engine.extend_vg(&extend_request(&["/dev/sdc"]), false).map(drop),
            Self::ReduceVg => engine.reduce_vg(&reduce_request(&["/dev/sdc"]), false).map(drop),
            Self::RenameVg => engine.rename_vg(&data, &name("big"), false).map(drop),
            Self::ExportVg => engine.export_vg(&data, false).map(drop),
            Self::ImportVg => engine.import_vg(&data, false).map(drop),
            Self::WipePv => engine.wipe_pv(Path::new("/dev/sdc"), false, false).map(drop),
            Self::AttachRaw => engine.attach(&data, &volume("raw"), false).map(drop),
            Self::CloneSnapshot => engine.clone_volume(&clone_request("pg@before", "copy"), false).map(drop),
            Self::CloneReserved => {
                let request = CloneVolume { reserve: Reserve::Bytes(Bytes::gib(1)), ..clone_request("pg", "copy") };
                engine.clone_volume(&request, false).map(drop)
            }
            Self::CloneMounted => engine.clone_volume(&clone_request("pg", "copy"), false).map(drop),
            Self::SnapshotGroup => {
                engine.create_snapshots(&group(&["pg@t1", "raw@t1"]), &Labels::default(), false).map(drop)
            }
            Self::Rollback => engine.rollback(&"data/pg@before".parse().unwrap(), false, false).map(drop),
            Self::RenameVolume => engine.rename_volume(&data, &volume("pg"), &name("db"), false).map(drop),
            Self::RenameSnapshot => engine.rename_volume(&data, &volume("pg@before"), &name("then"), false).map(drop),
            Self::Label => {
                let set = ["tier=fast", "owner=pg"].map(|text| text.parse().unwrap());
                engine.relabel(&data, &volume("pg"), (&set, &[]), false).map(drop)
            }
            Self::LabelPv => {
                let set = ["tier=fast", "rack=7"].map(|text| text.parse().unwrap());
                let pv =
                    engine.vg(&data)?.read(|catalog| catalog.pvs().find(|pv| pv.path_hint == "/dev/sdb").unwrap().id);
                engine.relabel_pv(&data, pv, (&set, &[]), false).map(drop)
            }
            Self::Protect => engine.protect(&data, &volume("pg"), true, false).map(drop),
            Self::Reserve => engine.reserve(&data, &volume("pg"), Reserve::Bytes(Bytes::gib(1)), false).map(drop),
            Self::ExtendPool => engine.extend_pool(&data, &extend_pool(Some("7G"), None), false).map(drop),
            Self::ExtendMetadata => engine.extend_pool(&data, &extend_pool(None, Some("64M")), false).map(drop),
            Self::SetPool => engine.set_pool(&data, &set_pool(), false).map(drop),
            Self::PlacePool => engine.set_pool_on(&data, &same_pool(), Some(&fast()), false).map(drop),
            Self::CheckPool => engine.check_pool(&data, &name("tank"), false).map(drop),
            Self::RepairPool => engine.repair_pool(&data, &name("tank"), false, false).map(drop),
            Self::DiscardOriginal => engine.discard_original(&data, &name("tank"), false).map(drop),
            Self::CreateThick => engine.create_thick(&thick_request("log", 1), false).map(drop),
            Self::FormatThick => {
                let request = CreateThick { fs: Some(FsKind::Ext4), ..thick_request("made", 1) };
                engine.create_thick(&request, false).map(drop)
            }
            Self::CreateStriped => engine.create_thick(&thick_request("wide", 2), false).map(drop),
            Self::GrowThick => {
                engine.resize_volume(&data, &volume("log"), NewSize::To(Bytes::mib(28)), false).map(drop)
            }
            Self::GrowThickElsewhere => {
                let place = PlaceOn { on: vec![PvName::Path(PathBuf::from("/dev/sdb"))], ..PlaceOn::default() };
                let size = NewSize::To(Bytes::mib(28));
                engine.resize_volume_on(&data, &volume("log"), size, &place, false).map(drop)
            }
            Self::CloneThickPlaced => {
                let request = CloneVolume { place: fast(), ..clone_request("log", "copy") };
                engine.clone_volume(&request, false).map(drop)
            }
            Self::CloneThick => engine.clone_volume(&clone_request("log", "copy"), false).map(drop),
            Self::CreateProtected => {
                let request = CreateVolume { protect: true, ..volume_request("kept", Some(FsKind::Ext4)) };
                engine.create_volume(&request, false).map(drop)
            }
            Self::CloneLarger => engine.clone_volume(&larger_clone("pg", 20 << 10), false).map(drop),
            Self::CloneThickLarger => engine.clone_volume(&larger_clone("log", 28), false).map(drop),
            Self::KeepThick => engine.keep_volume(&data, &volume("log"), false).map(drop),
            Self::DeleteThick => engine.delete_volume(&data, &volume("log"), false).map(drop),
            Self::AttachThick => engine.attach(&data, &volume("log"), false).map(drop),
            Self::CreateSubdir => engine.create_volume(&subdir_request("sub"), false).map(drop),
            Self::MountSubdir => engine.mount(&data, &volume("sub"), Path::new("/srv/sub"), false, false).map(drop),
        }
    }

    /// The machine as it is before this request: all that it needs is there.
    pub fn before(self) -> SimHost {
        let host = machine();
        if matches!(self, Self::ExtendVg | Self::ReduceVg | Self::WipePv) {
            host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(4)));
        }
        let engine = start(&host);
        let spoilt = |op: Self| {
            if op == Self::RepairPool {
                let pool = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().id);
                host.spoil_metadata(&Device::PoolMetadata(pool).uuid(), vol_sim::ThinFlaw::SpaceMaps).unwrap();
            }
        };
        for op in self.needs() {
            spoilt(*op);
            op.run(&engine).unwrap_or_else(|error| panic!("{op:?}: {error}"));
        }
        spoilt(self);
        if self == Self::WipePv {
            let stale = host.disk_image("/dev/sdc");
            Self::ReduceVg.run(&engine).unwrap();
            host.set_disk_image("/dev/sdc", &stale);
        }
        host
    }

    fn needs(self) -> &'static [Self] {
        use Op::*;
        match self {
            CreateVg | CreateFileVg => &[],
            CreatePool | DeleteVg => &[CreateVg],
            ExtendPool | ExtendMetadata | SetPool => &[CreateVg, CreatePool, CreateFormatted, Mount],
            CreateFormatted | CreateRaw | CreateProtected | DeletePool | LabelPv | CreateSubdir => {
                &[CreateVg, CreatePool]
            }
            MountSubdir => &[CreateVg, CreatePool, CreateSubdir],
            Mount | SnapshotIdle | DeleteVolume | KeepVolume | ResizeIdle | Check => {
                &[CreateVg, CreatePool, CreateFormatted]
            }
            SnapshotMounted | Unmount | Resize | Trim => &[CreateVg, CreatePool, CreateFormatted, Mount],
            UndeleteVolume | PurgePool => &[CreateVg, CreatePool, CreateFormatted, KeepVolume],
            DeleteSnapshot => &[CreateVg, CreatePool, CreateFormatted, SnapshotIdle],
            ExtendVg | ExportVg => &[CreateVg, CreatePool, CreateFormatted],
            RenameVg => &[CreateVg, CreatePool, CreateFormatted, Mount],
            PlacePool => &[CreateVg, CreatePool, LabelPv],
            ReduceVg | WipePv => &[CreateVg, CreatePool, ExtendVg],
            ImportVg => &[CreateVg, CreatePool, CreateFormatted, ExportVg],
            // Without a file system, which would have to be checked afterwards.
            AttachRaw | CheckPool | RepairPool => &[CreateVg, CreatePool, CreateRaw],
            DiscardOriginal => &[CreateVg, CreatePool, CreateRaw, RepairPool],
            CloneSnapshot | Rollback | RenameSnapshot => &[CreateVg, CreatePool, CreateFormatted, SnapshotIdle],
            CloneMounted | CloneLarger | Label | Protect | Reserve => &[CreateVg, CreatePool, CreateFormatted, Mount],
            CloneReserved => &[CreateVg, CreatePool, CreateFormatted, Mount, Reserve],
            SnapshotGroup => &[CreateVg, CreatePool, CreateFormatted, CreateRaw, Mount, AttachRaw],
            CreateThick | CreateStriped | FormatThick => &[CreateVg],
            CloneThick | CloneThickLarger | KeepThick | DeleteThick | AttachThick => &[CreateVg, CreateThick],
            CloneThickPlaced => &[CreateVg, CreateThick, LabelPv],
            GrowThickElsewhere => &[CreateVg, CreateThick, AttachThick],
            GrowThick => &[CreateVg, CreateThick, CreateStriped, AttachThick],
            RenameVolume => &[CreateVg, CreatePool, CreateFormatted, Mount, SnapshotMounted],
        }
    }
}

/// All there is, as text: what a user can see. Ids and sequence numbers are left out.
pub fn inventory(engine: &Engine<SimHost>) -> Vec<String> {
    let mut all = Vec::new();
    for vg in engine.vgs() {
        vg.read(|catalog| {
            all.push(format!("vg {} {:?}", catalog.vg().name, catalog.vg().state));
            all.extend(catalog.pools().map(|pool| format!("pool {} {:?}", pool.name, pool.state)));
            all.extend(catalog.volumes().map(|volume| {
                let content = match volume.content {
                    Content::Formatted { fs, .. } => format!("formatted {}", fs.as_str()),
                    ref other => format!("{other:?}"),
                };
                format!("volume {} {:?} {content}", VolumeName::of(volume), volume.state)
            }));
            all.extend(catalog.intents().map(|intent| format!("intent {}", intent.from)));
        });
    }
    all.sort();
    all
}

/// `pool extend data/tank` to these sizes.
pub fn extend_pool(data: Option<&str>, metadata: Option<&str>) -> ExtendPool {
    let size = |text: &str| text.parse().unwrap();
    ExtendPool {
        name: name("tank"),
        data: data.map(size),
        metadata: metadata.map(size),
        placement: None,
        contiguous: false,
    }
}

/// `pool set data/tank` with nothing changed.
pub fn same_pool() -> SetPool {
    SetPool::of(name("tank"))
}

/// On the PVs that [`Op::LabelPv`] labels.
pub fn fast() -> PlaceOn {
    PlaceOn { labels: ["tier=fast".parse().unwrap()].into_iter().collect(), ..PlaceOn::default() }
}

/// `pool set data/tank` with another value for everything.
pub fn set_pool() -> SetPool {
    SetPool {
        name: name("tank"),
        growth: Some(Growth::Off),
        when_full: Some(WhenFull::Error),
        reserve_percent: Some(10),
        overcommit_percent: Some(200),
        placement: None,
    }
}

/// What is recorded of each pool's space, and what its device says of it; these must not differ.
fn pool_space(engine: &Engine<SimHost>) -> Vec<String> {
    use vol_core::observed::PoolStatus;
    let mut all = Vec::new();
    for vg in engine.vgs() {
        let view = vg.view();
        vg.read(|catalog| {
            for pool in catalog.pools() {
                let (data, metadata) = (catalog.pool_data_size(pool), catalog.pool_metadata_size(pool));
                all.push(format!("pool {}: {data} + {metadata}, {:?}, {:?}", pool.name, pool.growth, pool.when_full));
                let place = vol_core::allocate::placement::in_words(catalog, &pool.placement);
                all.push(format!("pool {}: grows on {place:?}", pool.name));
                all.push(format!("pool {}: repair {:?}, original {:?}", pool.name, pool.repair, pool.original.len()));
                if let Some(PoolStatus::Working(usage)) = view.kernel.pools.get(&pool.id) {
                    all.push(format!(
                        "kernel: {} + {}, {}",
                        Bytes(usage.total_data * pool.chunk_size.get()),
                        Bytes(usage.total_metadata * 4096),
                        if usage.error_when_full { "Error" } else { "Queue" }
                    ));
                }
            }
        });
    }
    all
}

/// [`inventory_with_pvs`], and the space of the pools.
pub fn inventory_with_space(engine: &Engine<SimHost>) -> Vec<String> {
    [inventory_with_pvs(engine), pool_space(engine)].concat()
}

/// What else is known of each volume, and the order of the thin ids: a rollback exchanges them.
fn details(catalog: &vol_core::Catalog) -> Vec<String> {
    let mut ids: Vec<u32> = catalog.volumes().filter_map(Volume::thin_id).collect();
    ids.sort_unstable();
    let of = |volume: &Volume| {
        let labels: Vec<_> = volume.labels.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        let clone = volume.clone_of.as_ref().map_or(String::new(), |of| format!(" clone of {}", of.volume));
        let place = volume.thin_id().map(|id| ids.binary_search(&id).unwrap());
        let name = VolumeName::of(volume);
        let size = volume.size;
        let subdir = volume.subdir.as_ref().map_or(String::new(), |subdir| format!(" shows {subdir}"));
        let reserve = volume.reserve;
        format!(
            "{name}: {size}, id {place:?}, reserve {reserve}, protected {}{clone}{subdir}{}",
            volume.protected,
            labels.concat()
        )
    };
    catalog.volumes().map(of).collect()
}

/// [`inventory`], what else is known of the volumes, how many PVs each VG has, and how large its volumes are.
pub fn inventory_with_pvs(engine: &Engine<SimHost>) -> Vec<String> {
    let mut all = inventory(engine);
    let mut volumes: Vec<_> = engine.vgs().iter().flat_map(|vg| vg.read(details)).collect();
    volumes.sort();
    all.extend(volumes);
    let pvs = |vg: &std::sync::Arc<vol_engine::OpenVg>| {
        vg.read(|catalog| {
            let mut labels: Vec<_> = catalog.pvs().flat_map(|pv| pv.labels.iter()).collect();
            labels.sort_unstable();
            let copies = catalog.pvs().filter(|pv| pv.metadata).count();
            let labels = if labels.is_empty() { String::new() } else { format!(", labels {labels:?}") };
            format!("{} PVs, {copies} copies{labels}", catalog.pvs().count())
        })
    };
    all.extend(engine.vgs().iter().map(pvs));
    all
}

/// Disks that a cut short extension or reduction left labelled are freed, as the problem that tells of them says.
pub fn wipe_unknown(engine: &Engine<SimHost>) {
    for unknown in engine.unknown_pvs() {
        engine.wipe_pv(&unknown.node, false, false).unwrap();
    }
    assert_eq!(engine.unknown_pvs(), Vec::new());
}

/// Whether [`Op::FormatThick`] was cut short: its volume is there, wiped or not, and waits for who asked for it.
pub fn waits(engine: &Engine<SimHost>) -> bool {
    inventory(engine).iter().any(|line| line == "volume made Creating Blank")
}

/// As [`sound`], of a machine on which a volume may wait for its file system, which is told of.
pub fn sound_or_waiting(host: &SimHost, engine: &Engine<SimHost>, story: &str) {
    if !waits(engine) {
        return sound(host, engine, story);
    }
    assert_eq!(host.violations(), Vec::<String>::new(), "{story}");
    let told = engine.vgs()[0].view().problems.iter().all(|problem| problem.message.contains("waits for the request"));
    assert!(told, "{story}: {:?}", engine.vgs()[0].view().problems);
    assert_eq!(engine.vgs()[0].read(vol_core::check::violations), Vec::<String>::new(), "{story}");
}

/// What must hold of any machine on which a daemon has started and recovered.
pub fn sound(host: &SimHost, engine: &Engine<SimHost>, story: &str) {
    assert_eq!(host.violations(), Vec::<String>::new(), "{story}");
    assert_eq!(host.suspended_devices(), Vec::<String>::new(), "{story}");
    for vg in engine.vgs() {
        for (device, info) in &vg.view().kernel.dm {
            let Device::Volume(id) = device else { continue };
            let size = vg.read(|catalog| catalog.volume(*id).map(|volume| volume.size));
            assert_eq!(info.len.to_bytes(), size, "{story}: a device has not the size of its volume");
            let subdir = vg.read(|catalog| catalog.volume(*id).and_then(|volume| volume.subdir.clone()));
            for mount in vg.view().kernel.mounts_of(*device) {
                let root = Path::new("/").join(subdir.as_deref().map_or("", Name::as_str));
                assert_eq!(mount.root, root, "{story}: another directory than the volume's is mounted");
            }
        }
        let found = vg.read(vol_core::check::violations);
        assert_eq!(found, Vec::<String>::new(), "{story}");
        let problems: Vec<_> = vg.view().problems.iter().map(|problem| problem.message.clone()).collect();
        assert_eq!(problems, Vec::<String>::new(), "{story}");
    }
    // A file that a crash left empty is told of, and is nothing worse; nor is a disk with a label that nobody knows.
    let mut others = engine.scan_problems();
    others.retain(|problem| !matches!(problem.code, "file-without-pv" | "pv-unknown"));
    assert_eq!(others, Vec::new(), "{story}");
}

pub fn changed<T>(done: Done<T>) -> bool {
    matches!(done, Done::Changed(_))
}

/// What may befall a request that runs mkfs, at any of its effects.
pub const ENDS_OF_MKFS: [Fault; 7] = [
    Fault::KillDaemonBefore,
    Fault::KillDaemonInside(1),
    Fault::KillDaemonAfter,
    Fault::PowerCutInside(1),
    Fault::PowerCutAfter,
    // The tool alone: killed, or it took too long.
    Fault::Error(vol_engine::host::HostErrorKind::Tool),
    Fault::ErrorAfter(vol_engine::host::HostErrorKind::TimedOut),
];
