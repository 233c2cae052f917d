//! A VG of a hundred thousand volumes, made by writing its checkpoint: what a change and an opening cost there, counted.

use vol_core::Catalog;
use vol_engine::{CreateVolume, Engine};
use vol_format::checkpoint::{self, Header};
use vol_format::{label, layout, record};
use vol_sim::{SimDisk, SimHost};
use vol_types::*;

use super::bench::*;

const DISKS: [&str; 2] = ["/dev/sda", "/dev/sdb"];

/// Two disks of 32 GiB with a pool that has so many raw volumes on record.
pub fn crowd(volumes: u32) -> SimHost {
    let host = SimHost::new(5);
    host.keep_trace(false);
    for disk in DISKS {
        host.add_disk(SimDisk::new(disk, Bytes::gib(32)));
    }
    let engine = start(&host);
    engine.create_vg(&vg_request(&DISKS), false).unwrap();
    let request = vol_engine::CreatePool { overcommit_percent: limit::OVERCOMMIT_PERCENT_MAX, ..pool_request() };
    engine.create_pool(&request, false).unwrap();
    let vg = engine.vgs()[0].clone();
    let (mut objects, sequence, pool) =
        vg.read(|catalog| (catalog.objects(), catalog.sequence(), catalog.pools().next().unwrap().clone()));
    for object in &mut objects {
        if let Object::Pool(pool) = object {
            pool.next_thin_id = volumes;
        }
    }
    objects.extend((0..volumes).map(|n| {
        let mut id = [0x40; 16];
        id[8..12].copy_from_slice(&n.to_be_bytes());
        Object::Volume(Volume {
            id: VolumeId::from_bytes(id),
            name: name(&format!("pvc-{n:08x}-0d3c-4f7b-9d2e-3a5c8e1b7f60")),
            backing: Backing::Thin { pool: pool.id, thin_id: n },
            size: Bytes::mib(64),
            state: VolumeState::Ready,
            content: Content::Raw,
            snapshot: None,
            created_at: 0,
            labels: Labels::default(),
            protected: false,
            clone_of: None,
            reserve: Bytes::ZERO,
            check_fs: false,
            deleted_at: None,
            subdir: None,
        })
    }));
    let payload = checkpoint::encode_payload(&objects).unwrap();
    let sequence = sequence + 1;
    let hash = record::chain(vg.id, &record::GENESIS, sequence, &payload);
    for (pv, node) in vg.view().nodes.iter() {
        let block = host.peek(node, Bytes::MIB + layout::LABEL_OFFSETS_IN_AREA[0], layout::BLOCK);
        let at = Bytes::MIB + layout::LABEL_OFFSETS_IN_AREA[0];
        let (found, _) = label::decode(&block, at).unwrap().unwrap();
        let header = Header {
            slot: 1,
            sequence,
            hash,
            log_position: layout::BLOCK_BYTES * 64,
            object_count: objects.len() as u64,
            payload_len: payload.len() as u64,
            payload_hash: checkpoint::payload_hash(&payload),
            ancestors: Vec::new(),
        };
        let offset = found.geometry.checkpoint_offsets[1];
        assert!(payload.len() as u64 + layout::BLOCK_BYTES <= found.geometry.checkpoint_len);
        host.poke(node, offset, &header.encode(&record::Copy { vg: vg.id, pv: *pv }));
        host.poke(node, offset + layout::BLOCK_BYTES, &payload);
    }
    drop((vg, engine));
    host.crash(vol_sim::CrashMode::KeepAll);
    host.restart();
    host
}

#[test]
fn at_a_hundred_thousand_volumes_a_change_costs_what_it_costs_at_none() {
    let host = crowd(100_000);
    let engine = Engine::new(host.clone());
    host.reset_counters();
    engine.scan(&[], false).unwrap();
    let read = host.counters();
    let vg = engine.vgs()[0].clone();
    assert_eq!(vg.read(Catalog::object_count), 100_000 + 4);
    assert_eq!(vg.view().copies, (2, 2));
    // Each copy's checkpoint once, its log, and little else.
    assert!(read.bytes_read < 2 * (24 << 20) + (16 << 20), "{} bytes were read", read.bytes_read);
    assert_eq!(read.writes, 0, "opening what is in order writes nothing");
    host.reset_counters();
    let before = vg.view().counters;
    let request = CreateVolume { size: Bytes::mib(64), ..volume_request("one-more", None) };
    engine.create_volume(&request, false).unwrap();
    let after = vg.view().counters;
    assert_eq!((after.commits - before.commits, after.commit_bytes - before.commit_bytes), (1, 4096));
    assert_eq!(host.counters().flushes, 2, "one commit on two copies");
    assert_eq!(after.checkpoints, 0);
}
