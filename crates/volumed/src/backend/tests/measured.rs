//! What a scrape shows of a machine, and what it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vol_api::SetPool;
use vol_engine::host::HostErrorKind;
use vol_sim::{CrashMode, Fault, SimPoolMode};

use super::*;
use crate::access::Access;
use crate::config::{Config, VolumeMetrics};
use crate::metrics::families::FAMILIES;
use crate::metrics::{self, VOLUMES_MAX, VOLUMES_TOP};
use crate::server::operation::Who;
use crate::server::{Front, Limits};

/// The daemon's front before a backend: what answers scrapes.
fn front() -> Arc<Front> {
    Arc::new(Front::new(Access::new(&Config::default(), |_| None), Limits::default()))
}

struct Scraped(String);

impl Scraped {
    fn of(front: &Arc<Front>) -> Self {
        let source: Arc<dyn metrics::Source> = front.clone();
        Self(metrics::text(&metrics::registry(source, front.requests()).unwrap()).unwrap())
    }

    /// The value of a sample, as it is written.
    fn get(&self, sample: &str) -> Option<f64> {
        self.0.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    }

    fn names(&self) -> BTreeSet<String> {
        let name = |line: &str| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned);
        self.0.lines().filter_map(name).collect()
    }

    /// Samples by family; each line once.
    fn samples(&self) -> BTreeMap<String, usize> {
        let mut seen = BTreeSet::new();
        let mut counts = BTreeMap::new();
        for line in self.0.lines().filter(|line| !line.starts_with('#')) {
            let series = line.rsplit_once(' ').unwrap().0;
            assert!(seen.insert(series), "twice: {series}");
            *counts.entry(series.split('{').next().unwrap().to_owned()).or_default() += 1;
        }
        counts
    }
}

fn served(backend: Sim) -> Arc<Front> {
    let front = front();
    front.set_backend(Arc::new(backend));
    front
}

#[test]
fn until_recovery_is_over_the_daemon_is_not_up() {
    let page = Scraped::of(&front());
    assert_eq!(page.get("volumed_up"), Some(0.0));
    assert!(!page.0.contains("volumed_vg") && !page.0.contains("volumed_start_seconds"), "{}", page.0);
    assert_eq!(Scraped::of(&served(start(&machine()))).get("volumed_up"), Some(1.0));
}

/// A pool that fills, is nearly full, with volumes and snapshots in use and deleted.
fn busy() -> (SimHost, Sim) {
    let (host, backend) = furnished();
    let backend = backend.keeping_deleted(Some(Duration::from_secs(3600)));
    done(backend.mount_volume(&volume("data/pg"), mount_at("/srv/pg"), false));
    done(backend.create_snapshot(snapshot_request("before"), false));
    done(backend.create_volume(volume_request("gone", "1G", "none"), false));
    done(backend.delete_volume(&volume("data/gone"), false, false));
    let device = device_of(&backend.volume(&volume("data/pg")).unwrap());
    done(backend.set_pool(&pool("data/tank"), SetPool { grow_to: Some("off".into()), ..SetPool::default() }, false));
    for _ in 0..40 {
        host.pass(Duration::from_secs(1));
        host.fill(&device, 2150).unwrap();
        backend.engine.refresh();
    }
    backend.process.look();
    (host, backend)
}

#[test]
fn every_family_is_set_by_something() {
    let (_, backend) = busy();
    let front = served(backend);
    let who = Who { uid: 0, role: None, pid: None };
    front.operations().begin("volume.create", true, who).refused(&ApiError::internal("a defect"));
    let declared: BTreeSet<String> = FAMILIES.iter().map(|family| family.name.to_owned()).collect();
    let page = Scraped::of(&front);
    assert_eq!(page.names(), declared, "{}", page.0);
    page.samples();
}

#[test]
fn the_numbers_of_a_pool_are_those_of_the_api_and_bounded() {
    let (host, backend) = busy();
    let tank = backend.pool(&pool("data/tank")).unwrap();
    let vg = backend.vg(&name("data")).unwrap();
    host.pass(Duration::from_secs(3));
    let page = Scraped::of(&served(backend));
    let pool = |family: &str| page.get(&format!("volumed_pool_{family}{{pool=\"tank\",vg=\"data\"}}"));
    assert_eq!(pool("size_bytes"), Some(tank.size_bytes as f64));
    assert_eq!(pool("used_bytes"), tank.used_bytes.map(|used| used as f64));
    assert_eq!(pool("fill_bytes_per_second"), tank.fill_bytes_per_second.map(|rate| rate as f64));
    assert_eq!((pool("volumes"), pool("snapshots"), pool("deleted")), (Some(2.0), Some(1.0), Some(1.0)));
    assert_eq!(pool("deleted_size_bytes"), Some((1_u64 << 30) as f64));
    assert_eq!(pool("overcommit_limit_ratio"), Some(10.0));
    assert_eq!(pool("overcommit_ratio"), Some(tank.virtual_bytes as f64 / tank.size_bytes as f64));
    assert_eq!((pool("writable"), pool("healthy")), (Some(1.0), Some(0.0)));
    let of_vg = |family: &str| page.get(&format!("volumed_{family}{{vg=\"data\"}}"));
    assert_eq!(of_vg("vg_allocated_bytes"), Some((vg.size_bytes - vg.free_bytes) as f64));
    assert_eq!(of_vg("vg_refresh_age_seconds"), Some(3.0));
    assert_eq!((of_vg("volumes_active"), of_vg("volumes_mounted")), (Some(1.0), Some(1.0)));
    assert!(of_vg("metadata_commits_total") > Some(4.0));
    // Two copies, a durable write each, and the checkpoint that the group began with is not counted.
    assert_eq!(of_vg("metadata_flushes_total"), of_vg("metadata_commits_total").map(|commits| 2.0 * commits));
    assert_eq!(page.get("volumed_volumes{state=\"deleted\",vg=\"data\"}"), Some(1.0));
    assert_eq!(page.get("volumed_snapshots{state=\"ready\",vg=\"data\"}"), Some(1.0));
    let samples = page.samples();
    let of_pool: usize = samples.iter().filter(|(family, _)| family.starts_with("volumed_pool_")).map(|(_, n)| n).sum();
    assert!(of_pool <= 40, "{of_pool} samples for one pool");
    let all: usize = samples.values().sum();
    assert!(all <= 110, "{all} samples for one pool on two disks");
}

#[test]
fn what_is_gone_leaves_no_sample() {
    let (_, backend) = furnished();
    done(backend.attach_volume(&volume("data/raw"), false));
    let backend = Arc::new(backend);
    let front = front();
    front.set_backend(backend.clone());
    assert!(Scraped::of(&front).0.contains("volume=\"raw\""));
    done(backend.detach_volume(&volume("data/raw"), false));
    done(backend.delete_volume(&volume("data/raw"), true, false));
    done(backend.delete_volume(&volume("data/pg"), true, false));
    let page = Scraped::of(&front);
    assert!(!page.0.contains("volume=\"") && page.0.contains("pool=\"tank\""), "{}", page.0);
    done(backend.delete_pool(&pool("data/tank"), false));
    let page = Scraped::of(&front);
    assert!(!page.0.contains("tank") && page.0.contains("vg=\"data\""), "{}", page.0);
    done(backend.delete_vg(&name("data"), false));
    assert!(!Scraped::of(&front).0.contains("data"));
}

#[test]
fn a_missing_disk_and_a_pool_that_stopped_are_samples() {
    let host = machine();
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(4)));
    let backend = start(&host);
    let devices = ["/dev/sda", "/dev/sdb", "/dev/sdc"].map(str::to_owned).to_vec();
    done(backend.create_vg(CreateVg { devices, ..vg_request() }, false));
    let tank = done(backend.create_pool(vol_api::CreatePool { size: "1G".into(), ..pool_request() }, false));
    host.set_pool_mode(&pool_device(&tank.id), SimPoolMode::OutOfDataSpace);
    backend.engine.refresh();
    let page = Scraped::of(&served(backend));
    assert_eq!(page.get("volumed_pool_writable{pool=\"tank\",vg=\"data\"}"), Some(0.0));
    assert_eq!(page.get("volumed_pool_problem{code=\"pool_full\",pool=\"tank\",vg=\"data\"}"), Some(1.0));

    host.crash(CrashMode::LoseAll);
    host.restart();
    host.remove_disk("/dev/sdc");
    let page = Scraped::of(&served(start(&host)));
    assert_eq!(page.get("volumed_problems{code=\"pv_missing\",vg=\"data\"}"), Some(1.0), "{}", page.0);
    assert_eq!(page.get("volumed_vg_healthy{vg=\"data\"}"), Some(0.0));
    assert_eq!(page.get("volumed_vg_metadata_copies{vg=\"data\"}"), Some(2.0));
    assert_eq!(page.get("volumed_vg_metadata_copies_expected{vg=\"data\"}"), Some(3.0));
    let gone = |family: &str| page.0.lines().filter(|line| line.starts_with(family) && line.ends_with(" 0")).count();
    assert_eq!((gone("volumed_pv_present"), gone("volumed_pv_healthy")), (1, 1), "{}", page.0);
}

/// Keeps the problems that it was told of last.
#[derive(Default)]
struct Told(std::sync::Mutex<Vec<crate::api::Standing>>);

impl crate::api::Listener for Told {
    fn problems(&self, all: Vec<crate::api::Standing>) {
        *self.0.lock().unwrap() = all;
    }
    fn job_begun(&self, _: vol_api::JobInfo) {}
    fn job_ended(&self, _: vol_api::JobInfo) {}
    fn pool_grown(&self, _: String, _: String) {}
}

#[test]
fn problems_of_the_boot_and_of_the_server_are_samples_and_events_too() {
    let (_, backend) = furnished();
    let config = Config { activate_at_boot: vec!["data/gone".parse().unwrap()], ..Config::default() };
    let list = crate::backend::boot::BootList::read(&config, std::path::Path::new("/nonexistent/fstab"));
    let backend = backend.attaching(list);
    backend.attach_at_boot();
    let told = Arc::new(Told::default());
    backend.listen(told.clone());
    let codes: Vec<_> = told.0.lock().unwrap().iter().map(|one| one.problem.code.clone()).collect();
    assert_eq!(codes, ["not_attached"]);
    let front = served(backend);
    let problem = vol_api::Problem { code: "metrics_unavailable".into(), message: String::new(), hint: String::new() };
    front.set_metrics(crate::server::MetricsState { listen: None, problem: Some(problem) });
    let page = Scraped::of(&front);
    for code in ["not_attached", "metrics_unavailable"] {
        let sample = format!("volumed_problems{{code=\"{code}\",vg=\"\"}}");
        assert_eq!(page.get(&sample), Some(1.0), "{}", page.0);
    }
}

#[test]
fn commits_that_cannot_be_made_are_counted_and_the_group_is_frozen() {
    let (host, backend) = furnished();
    for disk in ["/dev/sda", "/dev/sdb"] {
        host.fail_device(disk, Fault::Error(HostErrorKind::Io));
    }
    failed(backend.create_volume(volume_request("x", "1G", "none"), false));
    let page = Scraped::of(&served(backend));
    assert!(page.get("volumed_metadata_commit_failures_total{vg=\"data\"}") >= Some(1.0), "{}", page.0);
    assert_eq!(page.get("volumed_vg_frozen{vg=\"data\"}"), Some(1.0));
    assert_eq!(page.get("volumed_vg_metadata_copies{vg=\"data\"}"), Some(0.0));
}

/// So many volumes, the first of them with a device and as many chunks written as its number, plus one.
fn many(volumes: usize, active: usize) -> (SimHost, Sim) {
    let host = SimHost::new(3);
    host.keep_trace(false);
    host.add_disk(SimDisk::new("/dev/sda", Bytes::gib(64)));
    let backend = start(&host);
    done(backend.create_vg(CreateVg { devices: vec!["/dev/sda".into()], ..vg_request() }, false));
    done(backend.create_pool(CreatePool { overcommit_limit_percent: Some(100_000), ..pool_request() }, false));
    let wanted: Vec<_> = (0..volumes)
        .map(|n| vol_engine::CreateVolume {
            path: volume(&format!("data/pvc-{n:08x}-0d3c-4f7b-9d2e-3a5c8e1b7f60")),
            pool: Some(name("tank")),
            size: Bytes::mib(64),
            fs: None,
            labels: vol_types::Labels::default(),
            reserve: vol_types::Reserve::None,
            protect: false,
            mkfs: vol_types::MkfsOptions::default(),
        })
        .collect();
    for answer in backend.engine.create_volumes(&name("data"), &wanted).unwrap() {
        answer.unwrap();
    }
    for n in 0..active {
        let path = volume(&format!("data/pvc-{n:08x}-0d3c-4f7b-9d2e-3a5c8e1b7f60"));
        let made = done(backend.attach_volume(&path, false));
        host.fill(&device_of(&made), n as u64 + 1).unwrap();
    }
    backend.engine.refresh();
    (host, backend)
}

fn volumes_shown(page: &Scraped) -> Vec<String> {
    let name = |line: &str| Some(line.split_once("volume=\"")?.1.split_once('"')?.0[4..12].to_owned());
    page.0.lines().filter(|line| line.starts_with("volumed_volume_size_bytes{")).filter_map(name).collect()
}

#[test]
fn the_volumes_that_take_most_have_samples_of_their_own_unless_told_otherwise() {
    let (_, backend) = many(40, 15);
    let engine = backend.engine.clone();
    let with = |which| {
        let mut backend = EngineBackend::new(Engine::new(SimHost::new(1)), Facts::default()).measuring_volumes(which);
        backend.engine = engine.clone();
        Scraped::of(&served(backend))
    };
    let top = with(VolumeMetrics::Top);
    let largest: Vec<_> = (15 - VOLUMES_TOP..15).map(|n| format!("{n:08x}")).collect();
    assert_eq!(volumes_shown(&top), largest);
    assert_eq!(top.get("volumed_volumes_without_samples"), Some((40 - VOLUMES_TOP) as f64));
    let off = with(VolumeMetrics::Off);
    assert_eq!((volumes_shown(&off).len(), off.get("volumed_volumes_without_samples")), (0, Some(40.0)));
    let all = with(VolumeMetrics::All);
    assert_eq!((volumes_shown(&all).len(), all.get("volumed_volumes_without_samples")), (40, Some(0.0)));
    let used = all.0.lines().filter(|line| line.starts_with("volumed_volume_used_bytes{")).count();
    assert_eq!(used, 15, "what a volume without a device takes is not known");
}

#[test]
fn a_scrape_at_ten_thousand_volumes_asks_the_kernel_nothing_and_changes_nothing() {
    let (host, backend) = many(10_000, 20);
    let front = served(backend.measuring_volumes(VolumeMetrics::All));
    host.reset_counters();
    let effects = host.effects();
    let begun = Instant::now();
    let page = Scraped::of(&front);
    let took = begun.elapsed();
    assert_eq!(host.counters(), vol_sim::Counters::default(), "no ioctl, read, write, flush or process");
    assert_eq!(host.effects(), effects);
    assert_eq!(page.get("volumed_volumes{state=\"ready\",vg=\"data\"}"), Some(10_000.0));
    assert_eq!(volumes_shown(&page).len(), VOLUMES_MAX);
    assert_eq!(page.get("volumed_volumes_without_samples"), Some((10_000 - VOLUMES_MAX) as f64));
    eprintln!("a scrape of 10,000 volumes took {took:?}, {} bytes", page.0.len());
    // Fifty times what it takes, so that it says something on any machine: a build without optimisation, and others at work. The least of
    // some: a machine that stands still for a while makes one longer.
    let again = || {
        let begun = Instant::now();
        Scraped::of(&front);
        begun.elapsed()
    };
    let soon = |took: Duration| took < Duration::from_secs(2);
    assert!(soon(took) || (0..10).any(|_| soon(again())), "{took:?}");
}
