//! `pool usage`, `volume usage`, `map`, and the extents of `pv show`.

use serde_json::Value;
use vol_api::{PoolUsage, PvInfo, PvMap, PvSegment, SegmentUse, SnapshotUsage, VgInfo, VgList, VgMap, VolumeUsage};

use super::fake::Daemon;

const GIB: u64 = 1 << 30;
const ID: &str = "0191d6e0-0000-7000-8000-000000000001";

fn volume() -> VolumeUsage {
    let snapshot = SnapshotUsage {
        full_name: "data/pg@before".into(),
        size_bytes: 10 * GIB,
        allocated_bytes: Some(GIB),
        exclusive_bytes: Some(GIB / 4),
        shared_bytes: Some(GIB / 4 * 3),
        ..SnapshotUsage::default()
    };
    VolumeUsage {
        vg: "data".into(),
        volume: "pg".into(),
        pool: "tank".into(),
        read_at: "2026-11-21T10:00:00Z".into(),
        size_bytes: 10 * GIB,
        allocated_bytes: Some(2 * GIB),
        exclusive_bytes: Some(GIB),
        shared_bytes: Some(GIB),
        reclaimable_bytes: Some(GIB / 2),
        with_snapshots_bytes: Some(2 * GIB + GIB / 4),
        snapshots: vec![snapshot],
    }
}

fn pool() -> PoolUsage {
    let new = VolumeUsage { vg: "data".into(), volume: "new".into(), size_bytes: GIB, ..VolumeUsage::default() };
    PoolUsage {
        vg: "data".into(),
        pool: "tank".into(),
        read_at: "2026-11-21T10:00:00Z".into(),
        size_bytes: 100 * GIB,
        allocated_bytes: 3 * GIB,
        exclusive_bytes: 2 * GIB,
        shared_bytes: GIB,
        reclaimable_bytes: GIB / 2,
        metadata_size_bytes: GIB,
        metadata_used_bytes: Some(GIB / 8),
        volumes: vec![new, volume()],
        ..PoolUsage::default()
    }
}

#[test]
fn a_pool_is_shown_with_its_volumes_their_snapshots_and_the_whole() {
    let daemon = Daemon::start().answer("GET /v1/pools/data/tank/usage", &pool());
    let ran = daemon.volctl("pool usage data/tank");
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""));
    let expected = "\
NAME                SIZE  ALLOCATED  EXCLUSIVE    SHARED  RECLAIMABLE
data/new        1.00 GiB          –          –         –            –
data/pg         10.0 GiB   2.00 GiB   1.00 GiB  1.00 GiB      512 MiB
data/pg@before  10.0 GiB   1.00 GiB    256 MiB   768 MiB

size:          100 GiB
allocated:    3.00 GiB  by anything, counted once (3 %)
exclusive:    2.00 GiB  of one volume or snapshot (2 %)
shared:       1.00 GiB  of several (1 %)
reclaimable:   512 MiB  if all snapshots were deleted (1 %)
metadata:      128 MiB  of the pool's own (13 %)
read at 2026-11-21T10:00:00Z
";
    assert_eq!(ran.out, expected);
    assert_eq!(daemon.volctl("pool usage data/tank -o name").out, "data/new\ndata/pg\ndata/pg@before\n");
    let json: Value = serde_json::from_str(&daemon.volctl("pool usage data/tank -o json").out).unwrap();
    assert_eq!(json["volumes"][1]["snapshots"][0]["exclusive_bytes"], GIB / 4);
    assert_eq!(json["volumes"][0]["exclusive_bytes"], Value::Null);
}

#[test]
fn an_empty_pool_is_shown_without_a_table() {
    let empty = PoolUsage { volumes: vec![], ..pool() };
    let daemon = Daemon::start().answer("GET /v1/pools/data/tank/usage", &empty);
    assert!(daemon.volctl("pool usage data/tank").out.starts_with("size: "));
}

#[test]
fn a_volume_is_shown_with_its_snapshots() {
    let daemon = Daemon::start().answer("GET /v1/volumes/data/pg/usage", &volume());
    let ran = daemon.volctl("volume usage data/pg --bytes");
    assert!(ran.out.contains("data/pg@before  10737418240  1073741824   268435456   805306368\n"), "{}", ran.out);
    assert!(ran.out.contains("\nwith all snapshots: 2415919104\n"), "{}", ran.out);
    assert_eq!(daemon.volctl("volume usage data/pg -o name").out, "data/pg\n");
}

fn segment(start_extent: u64, extent_count: u64, usage: SegmentUse) -> PvSegment {
    let pool = (usage != SegmentUse::Free).then(|| "tank".to_owned());
    let pool_offset_bytes = pool.as_ref().map(|_| start_extent * (4 << 20));
    PvSegment { start_extent, extent_count, usage, pool, pool_offset_bytes, volume: None }
}

fn map() -> VgMap {
    let first = PvMap {
        id: ID.into(),
        path: Some("/dev/null".into()),
        extent_count: 1000,
        free_extents: 499,
        segments: vec![
            segment(0, 500, SegmentUse::Data),
            segment(500, 1, SegmentUse::Metadata),
            segment(501, 499, SegmentUse::Free),
        ],
    };
    let second = PvMap {
        id: "b".into(),
        extent_count: 500,
        free_extents: 500,
        segments: vec![segment(0, 500, SegmentUse::Free)],
        ..PvMap::default()
    };
    VgMap { vg: "data".into(), extent_size_bytes: 4 << 20, pvs: vec![first, second] }
}

#[test]
fn a_group_is_drawn_to_scale_and_to_the_width_and_small_metadata_are_seen() {
    let daemon = Daemon::start()
        .answer("GET /v1/vgs", &VgList { vgs: vec![VgInfo { name: "data".into(), ..VgInfo::default() }] })
        .answer("GET /v1/vgs/data/map", &map());
    let ran = daemon.volctl("map --width 43");
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""));
    let expected = "\
data, extents of 4.00 MiB
/dev/null  3.91 GiB  [aaaaaaaaaaA.........]
b          1.95 GiB  [..........]
  a data of pool tank, A its metadata
  . free
";
    assert_eq!(ran.out, expected);
    for width in 40..300 {
        let ran = daemon.volctl(&format!("map data --width {width}"));
        assert!(ran.out.lines().all(|line| line.chars().count() <= width && line.is_ascii()), "{width}\n{}", ran.out);
        assert!(ran.out.contains("aA.."), "{width}\n{}", ran.out);
    }
    let json: Value = serde_json::from_str(&daemon.volctl("map -o json").out).unwrap();
    assert_eq!(json["vgs"][0]["pvs"][0]["segments"][1]["use"], "metadata");
}

#[test]
fn a_pv_is_shown_with_its_extents() {
    let pv = PvInfo { id: ID.into(), vg: "data".into(), path: Some("/dev/null".into()), ..PvInfo::default() };
    let daemon = Daemon::start().answer(&format!("GET /v1/pvs/{ID}"), &pv).answer("GET /v1/vgs/data/map", &map());
    let ran = daemon.volctl(&format!("pv show {ID}"));
    let expected = "
EXTENTS  COUNT      SIZE  USED BY
0-499      500  1.95 GiB  pool tank, data
500-500      1  4.00 MiB  pool tank, metadata from 1.95 GiB
501-999    499  1.95 GiB  free
free space in 1 piece
";
    assert!(ran.out.ends_with(expected), "{}", ran.out);
    let json: Value = serde_json::from_str(&daemon.volctl(&format!("pv show {ID} -o json")).out).unwrap();
    assert_eq!(json["path"], "/dev/null");
    assert_eq!(json["segments"][2]["extent_count"], 499);
}

#[test]
fn names_from_elsewhere_cannot_steer_the_terminal() {
    let mut evil = map();
    evil.vg = "data\u{1b}[2J".into();
    evil.pvs[0].path = Some("/dev/\u{202e}x".into());
    evil.pvs[0].segments[0].pool = Some("t\u{7}".into());
    let daemon = Daemon::start().answer("GET /v1/vgs/data/map", &evil);
    let ran = daemon.volctl("map data");
    assert!(ran.out.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{:?}", ran.out);
}
