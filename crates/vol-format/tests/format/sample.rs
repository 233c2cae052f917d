//! Values for tests: one fixed set, of which the golden files are made, and strategies for arbitrary ones.

use proptest::collection::vec;
use proptest::prelude::*;
use vol_format::feature::Features;
use vol_format::label::Label;
use vol_format::layout::{self, PvKind};
use vol_format::record::Copy;
use vol_types::*;

pub const VG: VgId = VgId::from_bytes([0x11; 16]);
pub const PV: PvId = PvId::from_bytes([0x22; 16]);
pub const OTHER_PV: PvId = PvId::from_bytes([0x23; 16]);
pub const COPY: Copy = Copy { vg: VG, pv: PV };
const POOL: PoolId = PoolId::from_bytes([0x33; 16]);
const CREATED: u64 = 1_760_000_000;

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The label of a disk of 64 MiB.
pub fn label() -> Label {
    let (device_size, extent_size) = (Bytes::mib(64), Bytes::mib(4));
    Label {
        vg: VG,
        pv: PV,
        vg_name: name("data"),
        device_size,
        sector_size: 512,
        extent_size,
        geometry: layout::geometry(device_size, PvKind::WholeDisk, extent_size).unwrap(),
        features: Features::default(),
    }
}

fn volume_id(number: u8) -> VolumeId {
    VolumeId::from_bytes([number; 16])
}

fn volume(number: u8, name_text: &str, content: Content, snapshot: Option<Snapshot>) -> Object {
    Object::Volume(Volume {
        id: volume_id(number),
        name: name(name_text),
        backing: Backing::Thin { pool: POOL, thin_id: u32::from(number) },
        size: Bytes::gib(1),
        state: VolumeState::Ready,
        content,
        snapshot,
        created_at: CREATED,
        labels: Labels::default(),
        protected: false,
        clone_of: None,
        reserve: Bytes::ZERO,
        check_fs: false,
        deleted_at: None,
        subdir: None,
    })
}

/// One of everything, in key order: every kind, state and content, optional fields there and absent.
pub fn objects() -> Vec<Object> {
    let pv = |id, metadata, backing_file: Option<&str>, hardware_id: &str| {
        Object::Pv(Pv {
            id,
            path_hint: "/dev/sdb".to_owned(),
            device_size: Bytes::mib(64),
            data_offset: Bytes::mib(6),
            extents: Extents(14),
            metadata,
            backing_file: backing_file.map(str::to_owned),
            hardware_id: hardware_id.to_owned(),
            left: Vec::new(),
            labels: Labels::default(),
        })
    };
    let segment = |start, count| Segment { pv: PV, start: Extents(start), count: Extents(count) };
    let uuid = [0x77; 16];
    vec![
        Object::Vg(Vg {
            id: VG,
            name: name("data"),
            state: VgState::Ready,
            extent_size: Bytes::mib(4),
            sector_size: 512,
            metadata_copies: 4,
            created_at: CREATED,
        }),
        pv(PV, true, None, "wwn-0x5000c500a1b2c3d4"),
        pv(OTHER_PV, false, Some("/var/lib/volumed/data-ü.img"), ""),
        Object::Pool(Pool {
            id: POOL,
            name: name("thin"),
            state: PoolState::Ready,
            chunk_size: Bytes(64 * Bytes::KIB),
            transaction_id: 7,
            next_thin_id: 9,
            snapshots_made: 1,
            overcommit_percent: 1000,
            data: vec![segment(2, 4), segment(8, 6)],
            metadata: vec![segment(0, 2)],
            created_at: CREATED,
            growth: Growth::default(),
            when_full: WhenFull::default(),
            reserve_percent: limit::POOL_RESERVE_PERCENT_DEFAULT,
            repair: None,
            original: Vec::new(),
            placement: Box::default(),
        }),
        volume(0x41, "blank", Content::Blank, None),
        volume(0x42, "formatting", Content::Formatting { fs: FsKind::Btrfs, uuid }, None),
        volume(0x43, "pg", Content::Formatted { fs: FsKind::Xfs, uuid }, None),
        volume(0x44, "raw", Content::Raw, None),
        volume(
            0x45,
            "before",
            Content::Formatted { fs: FsKind::Ext4, uuid },
            Some(Snapshot { of: volume_id(0x43), of_name: name("pg") }),
        ),
        Object::Intent(Intent {
            id: IntentId::from_bytes([0x55; 16]),
            pool: POOL,
            from: 7,
            ops: vec![
                ThinOp::Create { volume: volume_id(0x41), thin_id: 0x41 },
                ThinOp::Snapshot { volume: volume_id(0x45), thin_id: 0x45, origin_thin_id: 0x43 },
                ThinOp::Delete { volume: volume_id(0x46), thin_id: 0x46 },
            ],
        }),
    ]
}

/// Puts of all of [`objects`], and a deletion of each.
pub fn changes() -> Vec<Change> {
    let puts = objects().into_iter().map(Change::Put);
    let deletions = objects().into_iter().map(|object| Change::Delete(object.key()));
    puts.chain(deletions).collect()
}

pub fn any_name() -> impl Strategy<Value = Name> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,127}".prop_map(|text| Name::new(&text).unwrap())
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "\\PC{0,40}", ".{0,40}", Just("x".repeat(4096))]
}

fn any_segments() -> impl Strategy<Value = Vec<Segment>> {
    let one = any::<([u8; 16], u64, u64)>().prop_map(|(pv, start, count)| Segment {
        pv: PvId::from_bytes(pv),
        start: Extents(start),
        count: Extents(count),
    });
    vec(one, 0..6)
}

fn any_vg() -> impl Strategy<Value = Object> {
    let state = prop_oneof![
        Just(VgState::Creating),
        Just(VgState::Ready),
        Just(VgState::Deleting),
        Just(VgState::Erasing),
        Just(VgState::Exported)
    ];
    (any::<([u8; 16], u64, u32, u16, u64)>(), any_name(), state).prop_map(|(numbers, name, state)| {
        let (id, extent_size, sector_size, metadata_copies, created_at) = numbers;
        let (id, extent_size) = (VgId::from_bytes(id), Bytes(extent_size));
        Object::Vg(Vg { id, name, state, extent_size, sector_size, metadata_copies, created_at })
    })
}

fn any_pv() -> impl Strategy<Value = Object> {
    let texts = (any_text(), proptest::option::of(any_text()), any_text());
    let left = vec(any::<(u64, [u8; 32])>(), 0..=vol_types::limit::LEFT_POINTS_MAX);
    (any::<([u8; 16], u64, u64, u64, bool)>(), texts, left, any_labels()).prop_map(|(numbers, texts, left, labels)| {
        let (path_hint, backing_file, hardware_id) = texts;
        let (id, device_size, data_offset, extents, metadata) = numbers;
        Object::Pv(Pv {
            id: PvId::from_bytes(id),
            path_hint,
            device_size: Bytes(device_size),
            data_offset: Bytes(data_offset),
            extents: Extents(extents),
            metadata,
            backing_file,
            hardware_id,
            left: left.into_iter().map(|(sequence, hash)| CommitPoint { sequence, hash }).collect(),
            labels,
        })
    })
}

fn any_pool() -> impl Strategy<Value = Object> {
    let state = prop_oneof![Just(PoolState::Creating), Just(PoolState::Ready), Just(PoolState::Deleting)];
    let numbers = any::<([u8; 16], u64, u64, u32, u32, u32, u64)>();
    let growth = prop_oneof![
        Just(Growth::VgSpace),
        (1..=u64::MAX).prop_map(|size| Growth::UpTo(Bytes(size))),
        Just(Growth::Off),
    ];
    let policy = (growth, prop_oneof![Just(WhenFull::Queue), Just(WhenFull::Error)], any::<u32>());
    let pvs = || vec(any::<[u8; 16]>().prop_map(PvId::from_bytes), 0..=limit::PLACEMENT_PVS_MAX);
    let placement = (pvs(), pvs(), any_labels()).prop_map(|(on, not_on, labels)| Placement { on, not_on, labels });
    let care = (proptest::option::of(any_segments()), any_segments());
    let shape = (any_segments(), any_segments(), policy, (care, placement));
    (numbers, any_name(), state, shape).prop_map(
        |(numbers, name, state, (data, metadata, policy, (care, placement)))| {
            let (repair, original) = care;
            let (growth, when_full, reserve_percent) = policy;
            let (id, chunk_size, transaction_id, next_thin_id, snapshots_made, overcommit_percent, created_at) =
                numbers;
            Object::Pool(Pool {
                id: PoolId::from_bytes(id),
                name,
                state,
                chunk_size: Bytes(chunk_size),
                transaction_id,
                next_thin_id,
                snapshots_made,
                overcommit_percent,
                data,
                metadata,
                created_at,
                growth,
                when_full,
                reserve_percent,
                repair,
                original,
                placement: Box::new(placement),
            })
        },
    )
}

fn any_labels() -> impl Strategy<Value = Labels> {
    let label = ("[A-Za-z0-9][A-Za-z0-9./_-]{0,62}", "[^\\p{Cc}]{0,60}")
        .prop_map(|(key, value)| vol_types::Label::new(&key, &value).unwrap());
    vec(label, 0..6).prop_map(|all| {
        let mut labels = Labels::default();
        all.into_iter().for_each(|label| labels.set(label).unwrap());
        labels
    })
}

fn any_thick() -> impl Strategy<Value = Backing> {
    let wanted = proptest::option::of(prop_oneof![Just(FsKind::Ext4), Just(FsKind::Xfs), Just(FsKind::Btrfs)]);
    (any_segments(), any::<u16>(), any::<u64>(), any::<u64>(), wanted).prop_map(
        |(segments, stripes, stripe_size, filled, wanted)| {
            let (stripe_size, filled) = (Bytes(stripe_size), Bytes(filled));
            Backing::Thick(Box::new(Thick { segments, stripes, stripe_size, filled, wanted }))
        },
    )
}

fn any_clone_of() -> impl Strategy<Value = Box<CloneOf>> {
    (any::<[u8; 16]>(), any_name(), proptest::option::of(any_name()))
        .prop_map(|(id, volume, snapshot)| Box::new(CloneOf { id: VolumeId::from_bytes(id), volume, snapshot }))
}

fn any_content() -> impl Strategy<Value = Content> {
    let fs = prop_oneof![Just(FsKind::Ext4), Just(FsKind::Xfs), Just(FsKind::Btrfs)];
    (0..4u8, fs, any::<[u8; 16]>()).prop_map(|(which, fs, uuid)| match which {
        0 => Content::Blank,
        1 => Content::Formatting { fs, uuid },
        2 => Content::Formatted { fs, uuid },
        _ => Content::Raw,
    })
}

fn any_volume() -> impl Strategy<Value = Object> {
    let state = prop_oneof![
        Just(VolumeState::Creating),
        Just(VolumeState::Ready),
        Just(VolumeState::Deleting),
        Just(VolumeState::Deleted)
    ];
    let snapshot =
        (any::<[u8; 16]>(), any_name()).prop_map(|(of, of_name)| Snapshot { of: VolumeId::from_bytes(of), of_name });
    let numbers = any::<([u8; 16], [u8; 16], u32, u64, u64)>();
    let subdir = proptest::option::of(any_name().prop_map(Box::new));
    let rest = (any::<bool>(), any::<Option<u64>>(), proptest::option::of(any_thick()), subdir);
    let more = (any_labels(), any::<bool>(), proptest::option::of(any_clone_of()), any::<u64>(), rest);
    (numbers, any_name(), state, any_content(), proptest::option::of(snapshot), more).prop_map(
        |(numbers, name, state, content, snapshot, more)| {
            let (labels, protected, clone_of, reserve, (check_fs, deleted_at, thick, subdir)) = more;
            let (id, pool, thin_id, size, created_at) = numbers;
            let (id, pool, size) = (VolumeId::from_bytes(id), PoolId::from_bytes(pool), Bytes(size));
            let backing = thick.unwrap_or(Backing::Thin { pool, thin_id });
            Object::Volume(Volume {
                id,
                name,
                backing,
                size,
                state,
                content,
                snapshot,
                created_at,
                labels,
                protected,
                clone_of,
                reserve: Bytes(reserve),
                check_fs,
                deleted_at,
                subdir,
            })
        },
    )
}

fn any_intent() -> impl Strategy<Value = Object> {
    let op = (0..4u8, any::<([u8; 16], u32, u32)>()).prop_map(|(which, (volume, thin_id, origin_thin_id))| {
        let volume = VolumeId::from_bytes(volume);
        match which {
            0 => ThinOp::Create { volume, thin_id },
            1 => ThinOp::Snapshot { volume, thin_id, origin_thin_id },
            2 => ThinOp::Delete { volume, thin_id },
            _ => ThinOp::Rollback { volume, thin_id, origin_thin_id },
        }
    });
    (any::<([u8; 16], [u8; 16], u64)>(), vec(op, 0..6)).prop_map(|((id, pool, from), ops)| {
        Object::Intent(Intent { id: IntentId::from_bytes(id), pool: PoolId::from_bytes(pool), from, ops })
    })
}

pub fn any_object() -> impl Strategy<Value = Object> {
    prop_oneof![any_vg(), any_pv(), any_pool(), any_volume(), any_intent()]
}

pub fn any_objects() -> impl Strategy<Value = Vec<Object>> {
    vec(any_object(), 0..12)
}

pub fn any_changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (any_object(), any::<bool>())
        .prop_map(|(object, put)| if put { Change::Put(object) } else { Change::Delete(object.key()) });
    vec(change, 0..12)
}

pub fn any_label() -> impl Strategy<Value = Label> {
    let shape = (26u32..50, any::<u32>(), any::<bool>(), any::<bool>(), 20u32..=25);
    (any::<([u8; 16], [u8; 16], u64)>(), any_name(), shape).prop_map(|((vg, pv, compat), vg_name, shape)| {
        let (size_bits, size_more, whole, big_sectors, extent_bits) = shape;
        let (device_size, extent_size) = (Bytes((1 << size_bits) + u64::from(size_more)), Bytes(1 << extent_bits));
        let kind = if whole { PvKind::WholeDisk } else { PvKind::Partition };
        Label {
            vg: VgId::from_bytes(vg),
            pv: PvId::from_bytes(pv),
            vg_name,
            device_size,
            sector_size: if big_sectors { 4096 } else { 512 },
            extent_size,
            geometry: layout::geometry(device_size, kind, extent_size).unwrap(),
            features: Features { compat, ..Features::default() },
        }
    })
}
