use vol_types::{Growth, Labels, PoolId, VgId, VolumeId, WhenFull, limit};

use super::*;

fn ids(n: u8) -> [u8; 16] {
    [n; 16]
}

fn objects() -> Vec<Object> {
    let name = |text: &str| Name::new(text).unwrap();
    let pv = PvId::from_bytes(ids(2));
    let segment = |start, count| vec![Segment { pv, start: Extents(start), count: Extents(count) }];
    vec![
        Object::Vg(Vg {
            id: VgId::from_bytes(ids(1)),
            name: name("data"),
            state: VgState::Ready,
            extent_size: Bytes::mib(4),
            sector_size: 512,
            metadata_copies: 4,
            created_at: 7,
        }),
        Object::Pv(Pv {
            id: pv,
            path_hint: "/dev/sdb".to_owned(),
            device_size: Bytes::gib(4),
            data_offset: Bytes::mib(18),
            extents: Extents(1000),
            metadata: true,
            backing_file: None,
            hardware_id: "naa.1".to_owned(),
            left: Vec::new(),
            labels: ["tier=fast"].iter().filter_map(|text| text.parse().ok()).collect(),
        }),
        Object::Pool(Pool {
            id: PoolId::from_bytes(ids(3)),
            name: name("tank"),
            state: PoolState::Ready,
            chunk_size: Bytes(65536),
            transaction_id: 9,
            next_thin_id: 3,
            snapshots_made: 1,
            overcommit_percent: 1000,
            data: segment(2, 900),
            metadata: segment(0, 2),
            created_at: 8,
            growth: Growth::default(),
            when_full: WhenFull::default(),
            reserve_percent: limit::POOL_RESERVE_PERCENT_DEFAULT,
            repair: None,
            original: Vec::new(),
            placement: Box::new(Placement {
                on: vec![pv],
                not_on: Vec::new(),
                labels: ["tier=fast"].iter().filter_map(|text| text.parse().ok()).collect(),
            }),
        }),
        Object::Volume(Volume {
            id: VolumeId::from_bytes(ids(4)),
            name: name("pg"),
            backing: Backing::Thin { pool: PoolId::from_bytes(ids(3)), thin_id: 1 },
            size: Bytes::gib(10),
            state: VolumeState::Ready,
            content: VolumeContent::Formatted { fs: FsKind::Xfs, uuid: ids(5) },
            snapshot: None,
            created_at: 9,
            labels: Labels::default(),
            protected: false,
            clone_of: None,
            reserve: Bytes::ZERO,
            check_fs: false,
            deleted_at: None,
            subdir: Some(Box::new(name("data"))),
        }),
        Object::Volume(Volume {
            id: VolumeId::from_bytes(ids(6)),
            name: name("before"),
            backing: Backing::Thin { pool: PoolId::from_bytes(ids(3)), thin_id: 2 },
            size: Bytes::gib(10),
            state: VolumeState::Ready,
            content: VolumeContent::Raw,
            snapshot: Some(Snapshot { of: VolumeId::from_bytes(ids(4)), of_name: name("pg") }),
            created_at: 10,
            labels: Labels::default(),
            protected: false,
            clone_of: None,
            reserve: Bytes::ZERO,
            check_fs: false,
            deleted_at: None,
            subdir: None,
        }),
    ]
}

fn layout(_: PvId) -> Option<LayoutRecord> {
    Some(LayoutRecord {
        area_offset_bytes: 1 << 20,
        label_offsets_bytes: [1_114_112, 1_179_648],
        log_offset_bytes: 2 << 20,
        log_len_bytes: 4 << 20,
        checkpoint_offsets_bytes: [6 << 20, 12 << 20],
        checkpoint_len_bytes: 6 << 20,
    })
}

fn document() -> Backup {
    Backup::new(42, "2026-01-01T00:00:00Z".to_owned(), "0.1.0".to_owned(), &objects(), layout).unwrap()
}

fn refused(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut value = serde_json::to_value(document()).unwrap();
    change(&mut value);
    parse(&serde_json::to_vec(&value).unwrap()).unwrap_err().to_string()
}

/// As [`refused`], with the checksum made to fit.
fn refused_content(change: impl FnOnce(&mut Content)) -> String {
    let mut backup = document();
    change(&mut backup.content);
    backup.checksum = checksum(&backup.content).unwrap();
    parse(&serde_json::to_vec(&backup).unwrap()).unwrap_err().to_string()
}

#[test]
fn what_was_backed_up_is_read_back_in_every_field() {
    for text in [serde_json::to_vec(&document()).unwrap(), serde_json::to_vec_pretty(&document()).unwrap()] {
        let parsed = parse(&text).unwrap();
        assert_eq!(parsed.objects, objects());
        assert_eq!(parsed.content.sequence, 42);
        assert_eq!(Some(parsed.content.pvs[0].layout), layout(PvId::from_bytes(ids(2))));
    }
}

#[test]
fn a_changed_document_is_refused_and_says_why() {
    assert!(refused(|v| v["content"]["sequence"] = 43.into()).contains("its checksum does not match"));
    assert!(refused(|v| v["content"]["pools"][0]["transaction_id"] = 8.into()).contains("its checksum"));
    assert!(refused(|v| v["checksum"] = "".into()).contains("its checksum"));
    assert!(refused(|v| v["format"] = "other".into()).contains("\"other\""));
    assert!(refused(|v| v["format_version"] = 2.into()).contains("version 2"));
    assert!(refused(|v| v["content"]["vg"]["extra"] = 1.into()).contains("unknown field `extra`"));
    assert!(refused(|v| v["content"]["vg"]["id"] = 1.into()).contains("invalid type"));
    assert!(parse(b"").unwrap_err().to_string().contains("no JSON"));
}

#[test]
fn values_that_are_none_are_refused_even_with_a_checksum_that_fits() {
    assert!(refused_content(|c| c.vg.id = "1".to_owned()).contains("vg.id: \"1\" is no id"));
    assert!(refused_content(|c| c.pvs[0].id = c.pvs[0].id.replace('-', "")).contains("is no id"));
    assert!(refused_content(|c| c.pools[0].name = "a/b".to_owned()).contains("pools.name"));
    assert!(refused_content(|c| c.pvs.clear()).contains("1 to 256 PVs"));
    assert!(refused_content(|c| c.pvs.push(c.pvs[0].clone())).contains("twice"));
    assert!(refused_content(|c| c.sequence = 0).contains("sequence"));
    let ntfs = ContentRecord::Formatted { fs: "ntfs".to_owned(), uuid: c_uuid() };
    assert!(refused_content(|c| c.volumes[0].content = ntfs).contains("\"ntfs\" is not known"));
}

fn c_uuid() -> String {
    VolumeId::from_bytes(ids(5)).to_string()
}

#[test]
fn what_is_half_done_is_not_backed_up() {
    let mut all = objects();
    let Object::Volume(volume) = &mut all[3] else { panic!("not a volume") };
    volume.state = VolumeState::Creating;
    let error = Backup::new(1, String::new(), String::new(), &all, layout).unwrap_err();
    assert_eq!(error.to_string(), "volume pg is in the middle of a change");
}
