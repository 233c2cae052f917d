use uuid::Uuid;
use vol_types::*;

use super::*;

fn id(n: u8) -> Uuid {
    Uuid::from_bytes([n; 16])
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn vg() -> Object {
    Object::Vg(Vg {
        id: VgId::from_uuid(id(1)),
        name: name("data"),
        state: VgState::Ready,
        extent_size: limit::EXTENT_SIZE_DEFAULT,
        sector_size: 512,
        metadata_copies: 1,
        created_at: 0,
    })
}

fn pool(n: u8, called: &str) -> Object {
    Object::Pool(Pool {
        id: PoolId::from_uuid(id(n)),
        name: name(called),
        state: PoolState::Ready,
        chunk_size: limit::CHUNK_SIZE_MIN,
        transaction_id: 0,
        next_thin_id: 100,
        snapshots_made: 0,
        overcommit_percent: 100,
        data: Vec::new(),
        metadata: Vec::new(),
        created_at: 0,
        growth: Growth::default(),
        when_full: WhenFull::default(),
        reserve_percent: limit::POOL_RESERVE_PERCENT_DEFAULT,
        repair: None,
        original: Vec::new(),
        placement: Box::default(),
    })
}

/// In the pool 2, or a snapshot `NAME` of `OF@NAME`.
fn volume(n: u8, called: &str, thin_id: u32) -> Volume {
    let (volume, snapshot) = called.split_once('@').map_or((called, None), |(of, own)| (own, Some(of)));
    Volume {
        id: VolumeId::from_uuid(id(n)),
        name: name(volume),
        backing: Backing::Thin { pool: PoolId::from_uuid(id(2)), thin_id },
        size: limit::CHUNK_SIZE_MIN,
        state: VolumeState::Ready,
        content: Content::Raw,
        snapshot: snapshot.map(|of| Snapshot { of: VolumeId::from_uuid(id(99)), of_name: name(of) }),
        created_at: 0,
        labels: Labels::default(),
        protected: false,
        clone_of: None,
        reserve: Bytes::ZERO,
        check_fs: false,
        deleted_at: None,
        subdir: None,
    }
}

fn found(pools: &[(u8, &str)], volumes: &[Volume]) -> Vec<String> {
    let pools = pools.iter().map(|(n, called)| pool(*n, called));
    let all = [vg()].into_iter().chain(pools).chain(volumes.iter().cloned().map(Object::Volume));
    violations(&Catalog::from_objects(1, all).unwrap())
}

#[test]
fn names_that_only_begin_alike_are_no_violation() {
    let long = "a-name-of-more-than-sixteen-bytes";
    let volumes = [
        volume(10, "a", 0),
        volume(11, "a-b", 1),
        volume(12, "a@b", 2),
        volume(13, "a@tank", 3),
        volume(14, long, 4),
        volume(15, &format!("{long}2"), 5),
        volume(16, &format!("{long}@1"), 6),
        volume(17, &format!("{long}@2"), 7),
    ];
    assert_eq!(found(&[(2, "tank")], &volumes), [""; 0]);
}

#[test]
fn each_name_that_is_given_twice_is_told() {
    let long = "a-name-of-more-than-sixteen-bytes";
    let volumes = [
        volume(10, long, 0),
        volume(11, "b@s", 1),
        volume(12, "other", 2),
        volume(13, long, 3),
        volume(14, "b@s", 4),
        volume(15, "tank", 5),
        Volume { state: VolumeState::Deleting, ..volume(16, "other", 6) },
    ];
    let mut told = found(&[(2, "tank"), (3, "twice"), (4, "twice")], &volumes);
    told.sort();
    let twice = |name: &str| format!("CAT-2: the name {name} is used twice");
    assert_eq!(told, [twice(long), twice("b@s"), twice("tank"), "CAT-2: two pools are named twice".to_owned()]);
}

#[test]
fn a_thin_id_of_two_volumes_is_told_and_one_of_two_pools_is_not() {
    let elsewhere =
        Volume { backing: Backing::Thin { pool: PoolId::from_uuid(id(3)), thin_id: 7 }, ..volume(12, "elsewhere", 7) };
    let volumes = [volume(10, "a", 7), volume(11, "b", 7), elsewhere];
    let told = found(&[(2, "tank"), (3, "spare")], &volumes);
    assert_eq!(told, ["CAT-3: thin id 7 of b has two volumes"]);
}
