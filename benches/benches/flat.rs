//! Is a change as cheap in a full volume group as in an empty one?
//!
//! On the simulated host, so that what is measured is our own work: planning, encoding, bookkeeping. Each row is the median
//! of many creations with so many volumes present, as a ratio to the row of the empty group in the same run; beside it the
//! bytes per commit, which are exact, and the time to open the group, as a ratio to reading its bytes.
//!
//! `cargo bench -p vol-benches` (a few seconds); `cargo bench -p vol-benches -- 100000` for another size.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use vol_engine::{CreatePool, CreateVg, CreateVolume, Engine};
use vol_sim::{SimDisk, SimHost};
use vol_types::{Bytes, Name, SizeSpec, limit};

const SAMPLES: usize = 200;

fn main() {
    let most = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(10_000);
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
    let pool = CreatePool {
        vg: name("data"),
        name: name("tank"),
        size: SizeSpec::PercentFree(90),
        chunk_size: None,
        overcommit_percent: limit::OVERCOMMIT_PERCENT_MAX,
    };
    engine.create_pool(&pool, false).expect("a pool");
    let create = |n: usize| {
        let request = CreateVolume {
            path: format!("data/v{n}").parse().expect("a valid name"),
            pool: None,
            size: Bytes::mib(64),
            fs: None,
        };
        engine.create_volume(&request, false).expect("a volume");
    };

    println!(
        "{:>9}  {:>14}  {:>16}  {:>12}  {:>13}",
        "volumes", "create, median", "ratio to empty", "bytes/commit", "open, ratio"
    );
    let mut made = 0;
    let mut empty = None;
    for present in [0, 100, 1_000, most] {
        while made < present {
            create(made);
            made += 1;
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
        println!(
            "{present:>9}  {:>11.1} us  {:>16.2}  {bytes:>12}  {:>13.2}",
            median.as_secs_f64() * 1e6,
            median.as_secs_f64() / base.as_secs_f64(),
            open_ratio(&host),
        );
    }
}

/// Time to open the group, over the time to do nothing but read as many bytes.
fn open_ratio(host: &SimHost) -> f64 {
    use vol_engine::host::HostRead as _;
    let host = host.fork();
    host.reset_counters();
    let begin = Instant::now();
    let engine = Engine::new(host.clone());
    engine.scan(&[], false).expect("a scan");
    let opening = begin.elapsed();
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
    opening.as_secs_f64() / begin.elapsed().as_secs_f64().max(1e-9)
}
