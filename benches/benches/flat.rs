//! Is a change as cheap in a full volume group as in an empty one?
//!
//! On the simulated host, so that what is measured is our own work: planning, encoding, bookkeeping. Each row is the median
//! of many creations with so many volumes present, as a ratio to the row of the empty group in the same run; beside it the
//! bytes per commit, which are exact, the time to open the group, also as a ratio to reading its bytes, and the memory that the
//! opened group takes for each volume. Below it the parts of an opening, each done by itself, the median of several; what is beside them
//! is reading, the log behind the checkpoint, the comparison with the pools' own metadata, and the view.
//!
//! `cargo bench -p vol-benches` (half a minute); `cargo bench -p vol-benches -- 10000` for another size.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use vol_core::Catalog;
use vol_core::catalog::Builder;
use vol_engine::{CreatePool, CreateVg, CreateVolume, Engine};
use vol_format::checkpoint::{self, Header};
use vol_sim::{SimDisk, SimHost};
use vol_types::{Bytes, Labels, Name, SizeSpec, limit};

const SAMPLES: usize = 200;
const OPENINGS: usize = 7;
const POOLS: [&str; 4] = ["a", "b", "c", "d"];

fn main() {
    let most = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(100_000);
    let host = SimHost::new(1);
    host.keep_trace(false);
    host.add_disk(SimDisk::new("/dev/sda", Bytes(64 * Bytes::TIB)));
    let engine = Engine::new(host.clone());
    let name = |text: &str| Name::new(text).expect("a valid name");
    let vg = CreateVg {
        name: name("data"),
        disks: vec![PathBuf::from("/dev/sda")],
        files: Vec::new(),
        wipe: false,
        extent_size: limit::EXTENT_SIZE_DEFAULT,
        metadata_copies: 1,
    };
    engine.create_vg(&vg, false).expect("a volume group");
    // The kernel's metadata of one pool has not room for so many.
    for (pool, share) in POOLS.iter().zip([30, 40, 60, 90]) {
        let pool = CreatePool {
            vg: name("data"),
            name: name(pool),
            size: SizeSpec::PercentFree(share),
            chunk_size: None,
            overcommit_percent: limit::OVERCOMMIT_PERCENT_MAX,
            policy: vol_engine::SpacePolicy::default(),
            place: vol_engine::PlaceOn::default(),
        };
        engine.create_pool(&pool, false).expect("a pool");
    }
    let request = |n: usize| CreateVolume {
        path: format!("data/pvc-{n:08x}-0d3c-4f7b-9d2e-3a5c8e1b7f60").parse().expect("a valid name"),
        pool: Some(name(POOLS[n % POOLS.len()])),
        size: Bytes::mib(64),
        fs: None,
        labels: Labels::default(),
        reserve: vol_types::Reserve::None,
        protect: false,
        mkfs: vol_types::MkfsOptions::default(),
    };
    let create = |n: usize| drop(engine.create_volume(&request(n), false).expect("a volume"));

    println!(
        "{:>9}  {:>14}  {:>16}  {:>12}  {:>10}  {:>13}  {:>14}",
        "volumes", "create, median", "ratio to empty", "bytes/commit", "open", "open, ratio", "bytes/volume"
    );
    let mut made = 0;
    let mut empty = None;
    for present in [0, 100, 1_000, most] {
        while made < present {
            let batch: Vec<_> = (made..present.min(made + 64)).map(request).collect();
            let answers = engine.create_volumes(&name("data"), &batch).expect("volumes");
            for answer in answers {
                answer.expect("a volume");
                made += 1;
            }
            engine.vgs()[0].maintain(&host);
        }
        let before = engine.vgs()[0].view().counters;
        let mut times: Vec<Duration> = (0..SAMPLES)
            .map(|n| {
                let begin = Instant::now();
                create(made + n);
                begin.elapsed()
            })
            .collect();
        made += SAMPLES;
        times.sort();
        let median = times[SAMPLES / 2];
        let base = *empty.get_or_insert(median);
        let after = engine.vgs()[0].view().counters;
        let bytes = (after.commit_bytes - before.commit_bytes) / (after.commits - before.commits).max(1);
        let mut opened: Vec<_> = (0..OPENINGS).map(|_| open(&host)).collect();
        // Of the first: later ones find memory that was given back and is resident still.
        let memory = opened[0].memory;
        opened.sort_by_key(|one| one.time);
        let opened = Opened { memory, ..opened.swap_remove(OPENINGS / 2) };
        println!(
            "{present:>9}  {:>11.1} us  {:>16.2}  {bytes:>12}  {:>7.1} ms  {:>13.2}  {:>14}",
            median.as_secs_f64() * 1e6,
            median.as_secs_f64() / base.as_secs_f64(),
            opened.time.as_secs_f64() * 1e3,
            opened.ratio,
            opened.memory / made.max(1) as u64,
        );
        let parts = engine.vgs()[0].read(parts);
        let parts: Vec<_> =
            parts.iter().map(|(part, time)| format!("{part} {:.1} ms", time.as_secs_f64() * 1e3)).collect();
        println!("{:>9}  of an opening: {}", "", parts.join(", "));
    }
}

/// The median of some runs of `part`; what it makes is dropped outside of the time.
fn timed<T>(mut part: impl FnMut() -> T) -> Duration {
    let mut times: Vec<Duration> = (0..OPENINGS)
        .map(|_| {
            let begin = Instant::now();
            let made = black_box(part());
            let time = begin.elapsed();
            drop(made);
            time
        })
        .collect();
    times.sort();
    times[OPENINGS / 2]
}

/// What opening does with a checkpoint once it is read.
fn parts(catalog: &Catalog) -> [(&'static str, Duration); 4] {
    let objects = catalog.objects();
    let payload = checkpoint::encode_payload(&objects).expect("a payload");
    let header = Header {
        slot: 0,
        sequence: catalog.sequence(),
        hash: [0; 32],
        log_position: 0,
        object_count: objects.len() as u64,
        payload_len: payload.len() as u64,
        payload_hash: checkpoint::payload_hash(&payload),
        ancestors: Vec::new(),
    };
    drop(objects);
    let read = |take: &mut dyn FnMut(vol_types::Object)| {
        checkpoint::objects_of_proven(&header, &payload, take).expect("sound objects");
    };
    let hash = timed(|| checkpoint::payload_hash(&payload));
    let decode = timed(|| read(&mut |object| drop(black_box(object))));
    let mut builders: Vec<Builder> = Vec::new();
    for _ in 0..OPENINGS {
        let mut builder = Builder::default();
        read(&mut |object| builder.add(object));
        builders.push(builder);
    }
    let build = timed(|| builders.pop().and_then(|builder| builder.build(1)));
    let check = timed(|| vol_core::check::violations(catalog));
    [("hash", hash), ("decode", decode), ("build", build), ("check", check)]
}

struct Opened {
    time: Duration,
    /// Over the time to do nothing but read as many bytes.
    ratio: f64,
    /// Bytes of resident memory that the open group added.
    memory: u64,
}

fn open(host: &SimHost) -> Opened {
    use vol_engine::host::HostRead as _;
    let host = host.fork();
    host.reset_counters();
    let resident = resident_bytes();
    let begin = Instant::now();
    let engine = Engine::new(host.clone());
    engine.scan(&[], false).expect("a scan");
    let time = begin.elapsed();
    let memory = resident_bytes().saturating_sub(resident);
    black_box(engine.vgs().len());
    let read: u64 = host.counters().bytes_read;
    let device = host.open_read(std::path::Path::new("/dev/sda")).expect("the disk");
    let begin = Instant::now();
    let mut at = 0;
    while at < read {
        let part = usize::try_from((read - at).min(1 << 20)).expect("a part of a MiB").next_multiple_of(4096);
        black_box(device.read_at(at, part).expect("the bytes"));
        at += part as u64;
    }
    Opened { time, ratio: time.as_secs_f64() / begin.elapsed().as_secs_f64().max(1e-9), memory }
}

/// Resident memory of this process (`proc(5)`, `statm`, second field, in pages of 4096 bytes); 0 if it cannot be told.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
