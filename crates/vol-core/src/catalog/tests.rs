use proptest::prelude::*;
use uuid::Uuid;
use vol_types::*;

use super::*;

fn uuid(n: u8) -> Uuid {
    Uuid::from_bytes([n; 16])
}

fn empty() -> Catalog {
    Catalog::new(Vg {
        id: VgId::from_uuid(uuid(1)),
        name: Name::new("data").unwrap(),
        state: VgState::Ready,
        extent_size: limit::EXTENT_SIZE_DEFAULT,
        sector_size: 512,
        metadata_copies: 4,
        created_at: 0,
    })
}

fn volume() -> impl Strategy<Value = Volume> {
    let state = prop_oneof![
        Just(VolumeState::Creating),
        Just(VolumeState::Ready),
        Just(VolumeState::Deleting),
        Just(VolumeState::Deleted)
    ];
    (0u8..6, 0u8..6, 0u8..2, state, proptest::option::of(0u8..6), 1u64..100, any::<bool>()).prop_map(
        |(id, name, pool, state, of, size, check_fs)| Volume {
            id: VolumeId::from_uuid(uuid(id)),
            name: Name::new(&format!("v{name}")).unwrap(),
            backing: Backing::Thin { pool: PoolId::from_uuid(uuid(pool)), thin_id: u32::from(id) },
            size: Bytes(size),
            state,
            content: Content::Raw,
            snapshot: of.map(|of| Snapshot {
                of: VolumeId::from_uuid(uuid(of)),
                of_name: Name::new(&format!("v{of}")).unwrap(),
            }),
            created_at: 0,
            labels: Labels::default(),
            protected: false,
            clone_of: None,
            reserve: Bytes::ZERO,
            check_fs,
            deleted_at: None,
            subdir: None,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => volume().prop_map(|volume| Change::Put(Object::Volume(volume))),
        1 => (0u8..6).prop_map(|id| Change::Delete(ObjectKey::Volume(VolumeId::from_uuid(uuid(id))))),
        1 => (0u8..6).prop_map(|id| Change::Put(Object::Intent(Intent {
            id: IntentId::from_uuid(uuid(id)), pool: PoolId::from_uuid(uuid(0)), from: 0, ops: Vec::new(),
        }))),
        1 => (0u8..6).prop_map(|id| Change::Delete(ObjectKey::Intent(IntentId::from_uuid(uuid(id))))),
    ]
}

proptest! {
    #[test]
    fn what_the_index_says_is_what_a_walk_finds(changes in proptest::collection::vec(change(), 0..60)) {
        let mut catalog = empty();
        for change in changes {
            catalog.apply(change);
        }
        let live = |volume: &&Volume| volume.state.has_name();
        for pool in [0, 1].map(|n| PoolId::from_uuid(uuid(n))) {
            let found = catalog.members(pool);
            let of_pool = || catalog.volumes_of(pool).filter(live);
            prop_assert_eq!(found.volumes as usize, of_pool().filter(|volume| volume.snapshot.is_none()).count());
            prop_assert_eq!(found.snapshots as usize, of_pool().filter(|volume| volume.snapshot.is_some()).count());
            let size: Bytes = of_pool().filter(|volume| volume.snapshot.is_none()).map(|volume| volume.size).sum();
            prop_assert_eq!(found.virtual_size(), size);
        }
        for id in (0..6).map(|n| VolumeId::from_uuid(uuid(n))) {
            let walked = catalog.volumes().filter(live).filter(|one| one.snapshot.as_ref().is_some_and(|of| of.of == id));
            prop_assert_eq!(catalog.snapshots_of(id).count(), walked.count());
        }
        let unfinished = catalog.volumes().filter(|volume| !volume.state.is_settled()).count();
        prop_assert_eq!(catalog.unfinished().count(), unfinished + catalog.intents().count());
        let to_check: Vec<_> = catalog.volumes().filter(|one| one.check_fs && one.snapshot.is_none()).collect();
        prop_assert_eq!(catalog.to_check().collect::<Vec<_>>(), to_check);
        for name in catalog.volumes().filter(live).map(VolumeName::of) {
            prop_assert!(catalog.volume_named(&name).is_none_or(|found| VolumeName::of(found) == name));
        }
    }

    #[test]
    fn a_catalog_read_from_its_own_objects_is_the_same(changes in proptest::collection::vec(change(), 0..40)) {
        let mut catalog = empty();
        for change in changes {
            // A name given twice is what the planner refuses and the checker forbids (CAT-2).
            let taken = match &change {
                Change::Put(Object::Volume(volume)) => {
                    catalog.volume_named(&VolumeName::of(volume)).is_some_and(|other| other.id != volume.id)
                }
                _ => false,
            };
            if !taken {
                catalog.apply(change);
            }
        }
        prop_assert_eq!(Catalog::from_objects(0, catalog.objects()).unwrap(), catalog.clone());
        // A checkpoint has them in the order of their keys; a backup that somebody wrote may not.
        prop_assert_eq!(Catalog::from_objects(0, catalog.objects().into_iter().rev()).unwrap(), catalog);
    }
}
