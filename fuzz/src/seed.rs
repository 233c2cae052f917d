//! Where corpora begin: real bytes of every kind, made with the product's own encoders.
//!
//! `cargo run -p vol-fuzz --example seeds` writes them to `corpus/`, as `seed-*`; what libFuzzer found stands beside them.

use vol_format::checkpoint::{self, Ancestor, Header};
use vol_format::feature::Features;
use vol_format::label::{self, Label};
use vol_format::layout::{self, PvKind};
use vol_format::record::{self, GENESIS};
use vol_types::*;

use crate::image::BASE;
use crate::record::COPY;
use crate::repair::{PV, VG};

const POOL: PoolId = PoolId::from_bytes([0x33; 16]);

mod csi;

/// Target, name of the seed, bytes.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add =
        |target: &'static str, name: &str, bytes: Vec<u8>| seeds.push((target, format!("seed-{name}"), bytes));
    labels(&mut add);
    records(&mut add);
    checkpoints(&mut add);
    images(&mut add);
    texts(&mut add);
    backups(&mut add);
    thin_metadata(&mut add);
    uevents(&mut add);
    engine_requests(&mut add);
    csi::requests(&mut add);
    seeds
}

/// As the kernel (`lib/kobject_uevent.c`) and udev (systemd, `device-monitor.c`) send them.
fn uevents(add: Add<'_>) {
    let disk = "ACTION=add\0DEVPATH=/devices/pci0000:00/0000:00:05.0/virtio2/block/vdb\0SUBSYSTEM=block\0MAJOR=254\0MINOR=16\0\
                DEVNAME=vdb\0DEVTYPE=disk\0DISKSEQ=12\0SEQNUM=2044\0";
    let kernel = |head: &str, properties: &str| format!("{head}\0{properties}").into_bytes();
    add("uevent", "kernel-add", kernel("add@/devices/pci0000:00/0000:00:05.0/virtio2/block/vdb", disk));
    let gone = "ACTION=remove\0SUBSYSTEM=block\0DEVNAME=cciss/c0d0p1\0DEVTYPE=partition\0PARTN=1\0SEQNUM=2050\0";
    add("uevent", "kernel-remove", kernel("remove@/devices/x/block/cciss!c0d0/cciss!c0d0p1", gone));
    add("uevent", "kernel-net", kernel("add@/devices/x/net/eth0", "ACTION=add\0SUBSYSTEM=net\0INTERFACE=eth0\0"));
    let said = "ACTION=change\0SUBSYSTEM=block\0DEVNAME=/dev/sdc\0DM_MULTIPATH_DEVICE_PATH=1\0TAGS=:systemd:\0";
    add("uevent", "udev-path", crate::uevent::from_udev(said.as_bytes()));
    let said = "ACTION=add\0SUBSYSTEM=block\0DEVNAME=/dev/dm-3\0DM_UUID=volumed-x\0DEVLINKS=/dev/a /dev/b\0";
    add("uevent", "udev-dm", crate::uevent::from_udev(said.as_bytes()));
    let way_out = "ACTION=add\0SUBSYSTEM=block\0DEVNAME=../etc/passwd\0";
    add("uevent", "udev-way-out", crate::uevent::from_udev(way_out.as_bytes()));
}

/// As dockerd and Podman send them, and what they let through.
fn engine_requests(add: Add<'_>) {
    use vol_docker::Call;
    let mut say = |name: &str, call: Call, body: &str| {
        let place = Call::ALL.iter().position(|one| *one == call).and_then(|place| u8::try_from(place).ok());
        add("engine_request", name, [&[place.expect("few endpoints")], body.as_bytes()].concat());
    };
    say("create-plain", Call::Create, r#"{"Name":"pg","Opts":null}"#);
    say(
        "create-all",
        Call::Create,
        r#"{"Name":"pg","Opts":{"size":"20G","fs":"xfs","mkfs-options":"reflink=1","mount-options":"noatime","uid":"70","gid":"70",
            "mode":"0700","pool":"data/tank","reserve":"1G","protect":"yes","on-remove":"keep"}}"#,
    );
    say("create-clone", Call::Create, r#"{"Name":"copy","Opts":{"from":"pg@before","size":"30G"}}"#);
    say("create-from-path", Call::Create, r#"{"Name":"copy","Opts":{"from":"data/pg@before"}}"#);
    say("create-thick", Call::Create, r#"{"Name":"log","Opts":{"thin":"no","size":"1G","fs":"none","pool":"data"}}"#);
    say("create-podman", Call::Create, r#"{"Name":"p","Opts":{"o":"timeout=30","size":"16M"}}"#);
    say("create-mistyped", Call::Create, r#"{"Name":"p","Opts":{"sise":"16M"}}"#);
    say("create-strange", Call::Create, r#"{"Name":"süß 日本 $(reboot)","Opts":{}}"#);
    say("create-way-out", Call::Create, r#"{"Name":"../etc","Opts":{}}"#);
    say("mount", Call::Mount, r#"{"Name":"pg","ID":"3a5c0f0f8a1e"}"#);
    say("unmount", Call::Unmount, r#"{"Name":"pg","ID":"3a5c0f0f8a1e"}"#);
    say("empty", Call::Remove, "");
    say("list", Call::List, "{}");
}

type Add<'a> = &'a mut dyn FnMut(&'static str, &str, Vec<u8>);

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn label_of(size: Bytes, kind: PvKind, extent_size: Bytes, features: Features) -> Label {
    Label {
        vg: VG,
        pv: PV,
        vg_name: name("data"),
        device_size: size,
        sector_size: 512,
        extent_size,
        geometry: layout::geometry(size, kind, extent_size).expect("large enough"),
        features,
    }
}

fn labels(add: Add<'_>) {
    let none = Features::default();
    // A header is 312 bytes; the zeros behind it need not be kept.
    let mut put = |name: &str, label: &Label, copy| add("label", name, label::encode(label, copy)[..312].to_vec());
    put("disk", &label_of(Bytes::mib(64), PvKind::WholeDisk, Bytes::mib(4), none), 0);
    put("disk-copy-1", &label_of(Bytes::gib(900), PvKind::WholeDisk, Bytes::mib(4), none), 1);
    put("partition", &label_of(Bytes::gib(8), PvKind::Partition, Bytes::mib(1), none), 0);
    put("extents-1g", &label_of(Bytes::gib(4000), PvKind::WholeDisk, Bytes::gib(1), none), 0);
    let newer = Features { compat: 1, ro_compat: 1 << 63, incompat: 0 };
    put("read-only", &label_of(Bytes::mib(64), PvKind::WholeDisk, Bytes::mib(4), newer), 0);
    let newest = Features { incompat: 1, ..none };
    put("newer", &label_of(Bytes::mib(64), PvKind::WholeDisk, Bytes::mib(4), newest), 0);
    let long = Label {
        vg_name: name(&"x".repeat(128)),
        sector_size: 4096,
        ..label_of(Bytes::mib(64), PvKind::Partition, Bytes::mib(1), none)
    };
    put("long-name", &long, 1);
}

/// One of everything, in the order of keys.
fn objects() -> Vec<Object> {
    let volume_id = |number: u8| VolumeId::from_bytes([number; 16]);
    let pv = |id, metadata, file: Option<&str>, hardware_id: &str, left| {
        Object::Pv(Pv {
            id,
            path_hint: "/dev/sdb".to_owned(),
            device_size: Bytes::mib(64),
            data_offset: Bytes::mib(6),
            extents: Extents(14),
            metadata,
            backing_file: file.map(str::to_owned),
            hardware_id: hardware_id.to_owned(),
            left,
            labels: ["tier=fast"].iter().filter_map(|text| text.parse().ok()).collect(),
        })
    };
    let volume = |number: u8, text: &str, state, content, of: Option<u8>| {
        Object::Volume(Volume {
            id: volume_id(number),
            name: name(text),
            backing: Backing::Thin { pool: POOL, thin_id: u32::from(number) },
            size: Bytes::mib(64),
            state,
            content,
            snapshot: of.map(|of| Snapshot { of: volume_id(of), of_name: name("pg") }),
            created_at: 1,
            labels: ["tier=gold", "app=pg"].iter().filter_map(|text| text.parse().ok()).collect(),
            protected: of.is_none(),
            clone_of: of
                .map(|of| Box::new(CloneOf { id: volume_id(of), volume: name("pg"), snapshot: Some(name("s")) })),
            reserve: Bytes::mib(1),
            check_fs: of.is_some(),
            deleted_at: (state == VolumeState::Deleted).then_some(7),
            subdir: of.map(|_| Box::new(name("data"))),
        })
    };
    // Two extents, of which one is wiped.
    let thick = |object: Object| match object {
        Object::Volume(it) => Object::Volume(Volume {
            backing: Backing::Thick(Box::new(Thick {
                segments: [6, 7].map(|start| Segment { pv: PV, start: Extents(start), count: Extents(1) }).to_vec(),
                stripes: 1,
                stripe_size: Bytes::ZERO,
                filled: Bytes::mib(4),
                wanted: None,
            })),
            size: Bytes::mib(4),
            reserve: Bytes::ZERO,
            ..it
        }),
        other => other,
    };
    let segment = |start, count| Segment { pv: PV, start: Extents(start), count: Extents(count) };
    let uuid = [0x77; 16];
    let formatted = |fs| Content::Formatted { fs, uuid };
    vec![
        Object::Vg(Vg {
            id: VG,
            name: name("data"),
            state: VgState::Ready,
            extent_size: Bytes::mib(4),
            sector_size: 512,
            metadata_copies: 4,
            created_at: 1,
        }),
        pv(PV, true, None, "wwn-0x5000c500a1b2c3d4", Vec::new()),
        pv(PvId::from_bytes([0x23; 16]), false, Some("/v/ü.img"), "", vec![CommitPoint { sequence: 3, hash: [9; 32] }]),
        Object::Pool(Pool {
            id: POOL,
            name: name("tank"),
            state: PoolState::Ready,
            chunk_size: Bytes(64 * Bytes::KIB),
            transaction_id: 7,
            next_thin_id: 99,
            snapshots_made: 1,
            overcommit_percent: 1000,
            data: vec![segment(2, 4), segment(8, 6)],
            metadata: vec![segment(0, 2)],
            created_at: 1,
            growth: Growth::UpTo(Bytes::gib(1)),
            when_full: WhenFull::Error,
            reserve_percent: 10,
            repair: Some(vec![segment(20, 2)]),
            original: vec![segment(24, 2)],
            placement: Box::new(vol_types::Placement {
                on: vec![PV],
                not_on: vec![PvId::from_bytes([0x23; 16])],
                labels: ["tier=fast"].iter().filter_map(|text| text.parse().ok()).collect(),
            }),
        }),
        volume(0x41, "blank", VolumeState::Creating, Content::Blank, None),
        volume(0x42, "half", VolumeState::Creating, Content::Formatting { fs: FsKind::Btrfs, uuid }, None),
        volume(0x43, "pg", VolumeState::Ready, formatted(FsKind::Xfs), None),
        volume(0x44, "raw", VolumeState::Deleting, Content::Raw, None),
        volume(0x45, "before", VolumeState::Ready, formatted(FsKind::Ext4), Some(0x43)),
        thick(volume(0x46, "log", VolumeState::Ready, Content::Raw, None)),
        volume(0x47, "kept", VolumeState::Deleted, Content::Raw, None),
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

fn records(add: Add<'_>) {
    let puts: Vec<Change> = objects().into_iter().map(Change::Put).collect();
    let deletions: Vec<Change> = objects().iter().map(|object| Change::Delete(object.key())).collect();
    let mut put = |name: &str, changes: &[Change]| {
        let payload = record::encode_payload(changes).expect("small");
        let count = changes.len() as u8;
        add("record_payload", name, [&[count][..], &payload].concat());
        let bytes = record::encode(&COPY, 8192, 7, &GENESIS, &payload, u32::from(count));
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        add("record", name, bytes[..end].to_vec());
    };
    put("empty", &[]);
    put("puts", &puts);
    put("deletions", &deletions);
    for (change, name) in puts.iter().zip([
        "vg",
        "pv",
        "pv-file",
        "pool",
        "blank",
        "formatting",
        "volume",
        "raw",
        "snapshot",
        "thick",
        "kept",
        "intent",
    ]) {
        put(name, std::slice::from_ref(change));
    }
    put("put-and-delete", &[puts[6].clone(), deletions[6].clone()]);
}

fn checkpoints(add: Add<'_>) {
    let mut put = |name: &str, slot, objects: &[Object], ancestors: usize| {
        let payload = checkpoint::encode_payload(objects).expect("small");
        let end = payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let count = (objects.len() as u16).to_le_bytes();
        add("checkpoint_payload", name, [&count[..], &payload[..end]].concat());
        let header = Header {
            slot,
            sequence: 1000,
            hash: [3; 32],
            log_position: 8192,
            object_count: objects.len() as u64,
            payload_len: payload.len() as u64,
            payload_hash: checkpoint::payload_hash(&payload),
            ancestors: (0..ancestors).map(|at| Ancestor { sequence: 999 - at as u64, hash: [at as u8; 32] }).collect(),
        };
        let block = header.encode(&COPY);
        let end = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        add("checkpoint_header", &format!("{name}-alone"), block[..end].to_vec());
        add("checkpoint_header", name, [block, payload].concat());
    };
    let all = objects();
    put("all", 0, &all, 0);
    put("ancestors", 1, &all[..1], 3);
    put("full", 1, &all[..3], checkpoint::ANCESTORS_MAX);
    put("nothing", 0, &[], 1);
    let pools = [&all[..1], &all[3..4]].concat();
    put("pool-without-pv", 0, &pools, 0);
}

fn images(add: Add<'_>) {
    let mut put = |name: &str, bytes: &[&[u8]]| add("image", name, bytes.concat());
    put("untouched", &[]);
    put("label-0-flipped", &[&[7, 0, 200, 0]]);
    put("labels-zeroed", &[&[0x14, 0], &[0x14, 1]]);
    put("one-disk-blank", &[&[4, 0], &[4, 1]]);
    put("slots-zeroed", &[&[0x14, 2], &[0x14, 3]]);
    put("tail-torn", &[&[7, 6, 0, 4]]);
    put("tail-torn-on-both", &[&[0x17, 6, 0, 4]]);
    put("log-damaged-in-the-middle", &[&[0x17, 5 | 2 << 3, 0, 4]]);
    put("disk-cloned", &[&[0x0e, 0]]);
    put("label-of-the-other-disk", &[&[5, 0, 0x80]]);
    let number = |op: u8, region: u8, offset: u16, value: u64| {
        [&[op, region][..], &offset.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    // Fields of a checkpoint's header and of a label, with a right checksum: sequence, log position, lengths.
    for (name, region, offset) in [
        ("sequence", 2, 56),
        ("log-position", 2, 96),
        ("object-count", 2, 104),
        ("payload-len", 2, 112),
        ("label-size", 0, 80),
        ("label-log-len", 0, 136),
        ("label-slot-len", 0, 160),
        ("label-extents", 0, 176),
        ("record-sequence", 6, 64),
    ] {
        for (edge, value) in [("max", u64::MAX - 4095), ("half", 1 << 63), ("zero", 0)] {
            put(&format!("{name}-{edge}"), &[&number(0x31, region, offset, value)]);
        }
    }
    forged(&mut put);
}

/// Records and checkpoints with right checksums and impossible content.
fn forged(put: &mut dyn FnMut(&str, &[&[u8]])) {
    let newest = BASE.newest();
    let mut record = |name: &str, changes: &[Change]| {
        let payload = record::encode_payload(changes).expect("small");
        let len = (payload.len() as u16).to_le_bytes();
        put(&format!("record-{name}"), &[&[0x12, changes.len() as u8], &len, &payload]);
    };
    let put_all = |edit: &dyn Fn(&mut Object)| -> Vec<Change> {
        newest.iter().cloned().map(|mut object| (edit(&mut object), object).1).map(Change::Put).collect()
    };
    record("same-again", &put_all(&|_| {}));
    for state in [VgState::Creating, VgState::Deleting, VgState::Erasing, VgState::Exported] {
        record(
            &format!("vg-{state:?}").to_lowercase(),
            &put_all(&|object| {
                if let Object::Vg(vg) = object {
                    vg.state = state
                }
            }),
        );
    }
    record(
        "pool-deleting",
        &put_all(&|object| {
            if let Object::Pool(pool) = object {
                pool.state = PoolState::Deleting
            }
        }),
    );
    record(
        "pool-creating",
        &put_all(&|object| {
            if let Object::Pool(pool) = object {
                pool.state = PoolState::Creating
            }
        }),
    );
    record(
        "volumes-deleting",
        &put_all(&|object| {
            if let Object::Volume(it) = object {
                it.state = VolumeState::Deleting
            }
        }),
    );
    record(
        "volumes-creating",
        &put_all(&|object| {
            if let Object::Volume(it) = object {
                (it.state, it.content) = (VolumeState::Creating, Content::Blank)
            }
        }),
    );
    record(
        "extents-huge",
        &put_all(&|object| match object {
            Object::Pv(pv) => pv.extents = Extents(u64::MAX),
            Object::Pool(pool) => pool.data.iter_mut().for_each(|segment| segment.start = Extents(u64::MAX / 2)),
            _ => {}
        }),
    );
    record(
        "thin-ids-used-up",
        &put_all(&|object| {
            if let Object::Pool(pool) = object {
                (pool.next_thin_id, pool.transaction_id) = (u32::MAX, u64::MAX)
            }
        }),
    );
    record(
        "sizes-huge",
        &put_all(&|object| match object {
            Object::Volume(volume) => volume.size = Bytes(u64::MAX),
            Object::Pv(pv) => pv.data_offset = Bytes(u64::MAX),
            _ => {}
        }),
    );
    record("intent", &BASE.intent().map_or(Vec::new(), |intent| vec![Change::Put(Object::Intent(intent))]));
    let payload = checkpoint::encode_payload(&newest).expect("small");
    let end = payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for (name, ahead) in [("now", 0), ("ahead", 1)] {
        let head = [&[0x13][..], &(newest.len() as u16).to_le_bytes(), &[ahead], &(end as u16).to_le_bytes()].concat();
        put(&format!("checkpoint-{name}"), &[&head, &payload[..end]]);
    }
}

fn texts(add: Add<'_>) {
    for (name, text) in [
        ("pool", "0 11/2048 0/1024 - rw discard_passdown queue_if_no_space - 1024 "),
        ("pool-full", "7 12/2048 1024/1024 - out_of_data_space discard_passdown queue_if_no_space - 1024"),
        ("pool-sick", "7 12/2048 3/1024 42 ro no_discard_passdown error_if_no_space needs_check 1024"),
        ("pool-old", "18446744073709551615 1/2 3/4 0 rw ignore_discard\nFail\nError\n"),
        ("thin", "0 -\n12288 2097151\nFail\nError"),
        ("none", "7 1/2 3/4 - odd\n7 12 3/4 - rw\n-1 -\n12 x"),
    ] {
        add("dm_status", name, text.into());
    }
    for (name, text) in [
        ("linear", "0 8192 linear 8:0 0\n8192 8192 linear 8:16 2048"),
        ("gap", "0 8 linear 8:0 0\n16 8 linear 8:0 8"),
        ("overflow", "0 18446744073709551615 linear 8:0 1\n18446744073709551615 8 linear 8:0 0"),
        ("pool", "0 8192 thin-pool 8:0 8:16 128 32768 0"),
        ("pool-features", "0 8192 thin-pool 8:0 8:16 128 32768 2 read_only error_if_no_space"),
        ("thin", "0 8192 thin 253:0 1"),
        ("uuid", "VOLUMED-33333333-3333-3333-3333-333333333333-tpool VOLUMED-33333333-3333-3333-3333-333333333333"),
        ("uuids", "VOLUMED-33333333-3333-3333-3333-333333333333-tmeta VOLUMED-33333333333333333333333333333333"),
    ] {
        add("dm_table", name, text.into());
    }
    let segments: Vec<u8> =
        [0x11u8, 0x22].iter().flat_map(|pv| [&[*pv][..], &2u64.to_le_bytes(), &8u64.to_le_bytes()].concat()).collect();
    add("dm_table", "segments", [&(6u64 << 20).to_le_bytes()[..], &segments].concat());
    for (name, text) in [
        (
            "vg",
            r#"{"name":"data","devices":["/dev/sdb"],"files":[{"path":"/a.img","size":"20G"}],"wipe":true,"extent_size":"4M","metadata_copies":4}"#,
        ),
        ("pool", r#"{"vg":"data","name":"tank","size":"80%FREE","chunk_size":"64K","overcommit_limit_percent":1000}"#),
        ("volume", r#"{"vg":"data","name":"pg","pool":null,"size":"1.5T","fs":"ext4"}"#),
        ("volume-protected", r#"{"vg":"data","name":"pg","size":"1G","protect":true,"reserve":"full"}"#),
        (
            "clone",
            r#"{"vg":"data","volume":"pg","snapshot":"before","name":"copy","size":"20G","protect":true,"labels":{"a":"b"}}"#,
        ),
        ("snapshot", r#"{"vg":"data","volume":"pg","name":"before"}"#),
        ("init", r#"{"devices":["/dev/sdb"],"files":[],"vg":"data","pool":"pool","wipe":false}"#),
        ("mount", r#"{"path":"/srv/pg","read_only":true}"#),
        ("scan", r#"{"files":["/a.img"]}"#),
        ("unknown-key", r#"{"vg":"data","name":"pg","size":"1G","force":true}"#),
        ("error", r#"{"error":{"code":"no_space","message":"m","hint":null,"details":["d"]}}"#),
        ("error-newer", r#"{"error":{"code":"from_the_future","message":"m"}}"#),
        (
            "plan",
            r#"{"title":"t","changes":true,"steps":[{"number":1,"action":"a","description":"d","requires":["r"]}]}"#,
        ),
        ("deep", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["),
    ] {
        add("api_body", name, text.into());
    }
    let json = |value: serde_json::Result<Vec<u8>>| value.expect("a value that can be written");
    let volume = vol_api::VolumeInfo { mounts: vec![vol_api::MountInfo::default()], ..Default::default() };
    let vg = vol_api::VgInfo::default();
    add("api_body", "outcome", json(serde_json::to_vec(&vol_api::Outcome::changed(volume.clone()))));
    add("api_body", "outcome-vg", json(serde_json::to_vec(&vol_api::Outcome::changed(vg.clone()))));
    add("api_body", "volumes", json(serde_json::to_vec(&vol_api::VolumeList { volumes: vec![volume] })));
    add("api_body", "vgs", json(serde_json::to_vec(&vol_api::VgList { vgs: vec![vg] })));
    add("api_body", "pools", json(serde_json::to_vec(&vol_api::PoolList { pools: vec![Default::default()] })));
    add("api_body", "pvs", json(serde_json::to_vec(&vol_api::PvList { pvs: vec![Default::default()] })));
    add(
        "api_body",
        "snapshots",
        json(serde_json::to_vec(&vol_api::SnapshotList { snapshots: vec![Default::default()] })),
    );
    let finding = vol_api::Finding::new("udevd", vol_api::Level::Warning, "udevd does not run", "start it");
    add("api_body", "doctor", json(serde_json::to_vec(&vol_api::Doctor::new(vec![finding]))));
    add("api_body", "status", json(serde_json::to_vec(&vol_api::Status::default())));
    add(
        "api_body",
        "df",
        json(serde_json::to_vec(&vol_api::Df { vgs: vec![Default::default()], pools: vec![Default::default()] })),
    );
    add("api_body", "initialised", json(serde_json::to_vec(&vol_api::InitInfo::default())));
    add("api_body", "scanned", json(serde_json::to_vec(&vol_api::ScanInfo::default())));
    for (at, text) in [
        "data",
        "data/pg",
        "data/pg@before",
        "10G",
        "1.5TiB",
        "10GB",
        "80%FREE",
        "100%free",
        "16E",
        "15.9999EiB",
        "0.0000000000000000001E",
        " 10 g ",
        "..",
        "-rf",
        "18446744073709551615",
        "999.5K",
        "33333333-3333-3333-3333-333333333333",
        "{33333333-3333-3333-3333-333333333333}",
        "urn:uuid:33333333-3333-3333-3333-333333333333",
        "10ä",
        "1.2.3G",
    ]
    .iter()
    .enumerate()
    {
        add("words", &format!("{at:02}"), (*text).into());
    }
}

fn backups(add: Add<'_>) {
    use vol_api::backup::{Backup, LayoutRecord};
    let whole = |object: &Object| match object {
        Object::Pool(pool) => pool.state == PoolState::Ready,
        Object::Volume(volume) => volume.state == VolumeState::Ready,
        Object::Intent(_) => false,
        Object::Vg(_) | Object::Pv(_) => true,
    };
    let geometry = layout::geometry(Bytes::mib(64), PvKind::WholeDisk, Bytes::mib(4)).expect("large enough");
    let places = LayoutRecord {
        area_offset_bytes: geometry.area_offset,
        label_offsets_bytes: geometry.label_offsets,
        log_offset_bytes: geometry.log_offset,
        log_len_bytes: geometry.log_len,
        checkpoint_offsets_bytes: geometry.checkpoint_offsets,
        checkpoint_len_bytes: geometry.checkpoint_len,
    };
    let document = |objects: &[Object]| {
        let backup = Backup::new(12, "2026-11-21".to_owned(), "0.1.0".to_owned(), objects, |_| Some(places));
        serde_json::to_string(&backup.expect("nothing in it is half done")).expect("it can be written")
    };
    let at_rest = |object: Object| match object {
        Object::Pool(pool) => Object::Pool(Pool { repair: None, ..pool }),
        other => other,
    };
    let all: Vec<Object> = objects().into_iter().filter(whole).map(at_rest).collect();
    let text = document(&all);
    let group_only: Vec<Object> = all.iter().take(2).cloned().collect();
    add("backup_json", "group", document(&group_only).into_bytes());
    for (name, from, to) in [
        ("unknown-key", "\"content\":{", "\"content\":{\"force\":true,"),
        ("other-format", "volumed vg backup", "lvm vg backup"),
        ("newer", "\"format_version\":1", "\"format_version\":2"),
        ("wrong-sum", "\"sequence\":12", "\"sequence\":13"),
        ("huge", "\"sequence\":12", "\"sequence\":18446744073709551615"),
        ("negative", "\"sequence\":12", "\"sequence\":-1"),
        ("bad-name", "\"name\":\"data\"", "\"name\":\"../data\""),
        ("bad-chunk", "\"chunk_size_bytes\":65536", "\"chunk_size_bytes\":1"),
        ("same-extents", "\"start\":8", "\"start\":2"),
        ("far-extents", "\"start\":8", "\"start\":18446744073709551610"),
        ("upper-case-id", "\"id\":\"1111", "\"id\":\"AAAA"),
    ] {
        assert!(text.contains(from), "{name}: nothing to replace in {text}");
        add("backup_json", name, text.replacen(from, to, 1).into_bytes());
    }
    add("backup_json", "all", text.into_bytes());
}

/// Trees as the kernel's, with nodes of few entries. `thins`: of each thin id the block that its mappings begin at.
fn thin_metadata(add: Add<'_>) {
    const INNER: u32 = 1;
    const LEAF: u32 = 2;
    const MAX: u32 = 6;
    let patch = |block: u16, at: u16, bytes: &[u8]| {
        let len = bytes.len() as u16;
        [&block.to_le_bytes()[..], &at.to_le_bytes(), &len.to_le_bytes(), bytes].concat()
    };
    let header = |flags: u32, entries: usize, size: u32| {
        [[flags, 0, 0], [entries as u32, MAX, size]]
            .concat()
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let node = |block: u16, flags, entries: &[(u64, u64)]| {
        let words =
            |of: fn(&(u64, u64)) -> u64| entries.iter().flat_map(move |it| of(it).to_le_bytes()).collect::<Vec<u8>>();
        let values = patch(block, 32 + 8 * MAX as u16, &words(|it| it.1));
        [patch(block, 4, &header(flags, entries.len(), 8)), patch(block, 32, &words(|it| it.0)), values].concat()
    };
    let leaf = |block, chunks: &[u64]| {
        let entries: Vec<_> = chunks.iter().enumerate().map(|(at, chunk)| (at as u64, chunk << 24 | 5)).collect();
        node(block, LEAF, &entries)
    };
    let details = |block: u16, ids: &[u64]| {
        let keys: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let values: Vec<u8> = ids.iter().flat_map(|_| [60u64, 3, 1].map(u64::to_le_bytes)).flatten().collect();
        [
            patch(block, 4, &header(LEAF, ids.len(), 24)),
            patch(block, 32, &keys),
            patch(block, 32 + 8 * MAX as u16, &values),
        ]
        .concat()
    };
    let superblock = |block: u16, held: u64, roots: u64, details: u64| {
        let wide = [(32, 27_022_010), (48, 7), (56, held), (64, 4096), (320, roots), (328, details), (344, 256u64)];
        let small = [(40, 2u32), (44, 5), (336, 128), (340, 8)];
        let wide = wide.iter().flat_map(|(at, number)| patch(block, *at, &number.to_le_bytes()));
        wide.chain(small.iter().flat_map(|(at, number)| patch(block, *at, &number.to_le_bytes()))).collect::<Vec<u8>>()
    };
    let mut put = |name: &str, how: u8, parts: &[&[u8]]| {
        add("thin_metadata", name, [&[how][..], &parts.concat()].concat());
    };
    let pool = |thins: &[(u64, u64)]| {
        let ids: Vec<u64> = thins.iter().map(|it| it.0).collect();
        [superblock(0, 0, 1, 2), node(1, LEAF, thins), details(2, &ids)].concat()
    };
    let one = [pool(&[(1, 9)]), leaf(9, &[3, 4, 5])].concat();
    put("nothing", 0, &[]);
    put("no-volume", 0, &[&pool(&[])]);
    put("one", 0, &[&one]);
    put("snapshot", 0b0010_0010, &[&pool(&[(1, 9), (2, 9)]), &leaf(9, &[3, 4, 5])]);
    let apart = [leaf(9, &[3, 4, 5]), leaf(10, &[3, 8, 5]), leaf(11, &[3, 4, 7])].concat();
    put("written-after", 0b0010_0010, &[&pool(&[(1, 9), (2, 10), (3, 11)]), &apart]);
    put("of-nobody", 0b0100_1010, &[&pool(&[(1, 9), (6, 10), (13, 11)]), &apart]);
    let deep = [node(8, INNER, &[(0, 9), (3, 10)]), node(12, INNER, &[(0, 9), (3, 11)]), apart.clone()].concat();
    put("deep", 0b0010_0010, &[&pool(&[(1, 8), (2, 12), (3, 9)]), &deep]);
    put("held", 1, &[&one, &patch(0, 56, &20u64.to_le_bytes()), &superblock(20, 0, 21, 2), &node(21, LEAF, &[(1, 9)])]);
    put("nothing-held", 1, &[&one]);
    put("held-past-the-end", 1, &[&one, &patch(0, 56, &999u64.to_le_bytes())]);
    put("loop", 0, &[&pool(&[(1, 8)]), &node(8, INNER, &[(0, 8)])]);
    put("chunk-past-the-end", 0, &[&pool(&[(1, 9)]), &leaf(9, &[4096])]);
    put("node-of-another-tree", 0, &[&pool(&[(1, 2)])]);
    put("no-details", 0, &[&one, &details(2, &[])]);
}
