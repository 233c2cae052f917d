//! What does a commit cost by io_uring, as a ratio to pread/pwrite in the same run?
//!
//! On loop devices over files (root; on tmpfs if `TMPDIR` is on one), so that little but system calls, copying and waking
//! is measured: what a disk takes for its flush comes on top, the same for all. Rounds of the paths alternate.
//!
//! `cargo bench -p vol-benches --bench commit`
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vol_engine::host::{BlockWrite, DurableWrite, HostMut, HostRead};
use vol_linux::{IoChoice, LinuxHost, LinuxOptions};
use vol_types::Bytes;

const ROUNDS: usize = 20;
const SAMPLES: usize = 50;
const DISKS: usize = 4;

/// One path with its own descriptors of all disks.
struct Peer {
    host: LinuxHost,
    devices: Vec<Arc<dyn BlockWrite>>,
    times: Vec<Duration>,
}

impl Peer {
    fn new(io: IoChoice, dir: &std::path::Path, nodes: &[PathBuf]) -> Option<Self> {
        let (run_dir, state_dir) = (dir.join("run"), dir.join("state"));
        let host = LinuxHost::new(LinuxOptions { io, run_dir, state_dir, guard_command: None }).ok()?;
        let open = |node: &PathBuf| host.open_write(node, &host.inspect(node).ok()?.identity).ok();
        let devices = nodes.iter().map(open).collect::<Option<Vec<_>>>()?;
        Some(Self { host, devices, times: Vec::new() })
    }

    fn round(&mut self, work: impl Fn(&LinuxHost, &[Arc<dyn BlockWrite>])) {
        for _ in 0..SAMPLES {
            let start = Instant::now();
            work(&self.host, &self.devices);
            self.times.push(start.elapsed());
        }
    }

    fn median(&mut self) -> f64 {
        self.times.sort();
        let median = self.times[self.times.len() / 2];
        self.times.clear();
        median.as_secs_f64() * 1e6
    }
}

fn commit(host: &LinuxHost, devices: &[Arc<dyn BlockWrite>], data: &[u8]) {
    let writes: Vec<_> = devices.iter().map(|device| DurableWrite { device, offset: 4096, data }).collect();
    assert!(host.write_durable(&writes).iter().all(Result::is_ok));
}

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = LinuxOptions {
        io: IoChoice::Plain,
        run_dir: dir.path().join("run"),
        state_dir: dir.path().join("state"),
        guard_command: None,
    };
    let maker = LinuxHost::new(options).expect("plain I/O");
    let mut nodes = Vec::new();
    for at in 0..DISKS {
        let file = dir.path().join(format!("disk{at}.img"));
        let node = maker.create_file(&file, Bytes::mib(64)).and_then(|()| maker.attach_loop(&file));
        match node {
            Ok(node) => nodes.push(node),
            Err(e) => {
                println!("skipped: {e}");
                break;
            }
        }
    }
    if nodes.len() == DISKS {
        measure(dir.path(), &nodes);
    }
    for node in &nodes {
        if let Err(e) = maker.detach_loop(node) {
            println!("left behind: {e}");
        }
    }
}

fn measure(dir: &std::path::Path, nodes: &[PathBuf]) {
    let Some(mut plain) = Peer::new(IoChoice::Plain, dir, nodes) else { return println!("skipped: no plain I/O") };
    let Some(mut unregistered) = Peer::new(IoChoice::Unregistered, dir, nodes) else {
        return println!("skipped: io_uring is refused");
    };
    let Some(mut ring) = Peer::new(IoChoice::Uring, dir, nodes) else { return };
    println!("{}", ring.host.io_backend().name);
    println!("{:>26}  {:>14}  {:>17}  {:>15}", "what", "pread/pwrite", "io_uring, ratio", "registered");
    let row = |what: String, peers: [&mut Peer; 3]| {
        let [plain, unregistered, ring] = peers.map(Peer::median);
        println!("{what:>26}  {plain:>11.1} us  {:>17.2}  {:>15.2}", unregistered / plain, ring / plain);
    };
    for (len, copies) in [(8192, 1), (8192, 2), (8192, 4), (512 << 10, 1), (512 << 10, 4)] {
        let data = vec![0x5a; len];
        for _ in 0..ROUNDS {
            for peer in [&mut plain, &mut unregistered, &mut ring] {
                peer.round(|host, devices| commit(host, &devices[..copies], &data));
            }
        }
        row(format!("commit {} KiB x {copies}", len >> 10), [&mut plain, &mut unregistered, &mut ring]);
    }
    for len in [4096, 64 << 10, 4 << 20] {
        for _ in 0..ROUNDS {
            for peer in [&mut plain, &mut unregistered, &mut ring] {
                peer.round(|_, devices| assert_eq!(devices[0].read_at(0, len).map(|data| data.len()), Ok(len)));
            }
        }
        row(format!("read {} KiB", len >> 10), [&mut plain, &mut unregistered, &mut ring]);
    }
}
