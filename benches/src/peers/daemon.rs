//! volumed, by requests to its socket.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::client::{Client, Connections};
use crate::disk::Disk;
use crate::peer::{METADATA_MIB, POOL_MIB, Peer, SIZE_MIB, by_clients};
use crate::table::OURS;

const PATIENCE: Duration = Duration::from_secs(120);
/// Clients that make the crowd.
const CLIENTS: usize = 64;

/// How a daemon is started, and its pool made.
#[derive(Clone, Debug)]
pub struct Options {
    pub who: &'static str,
    pub connections: Connections,
    /// Further lines of its configuration.
    pub config: String,
    /// Where it serves `/metrics`; `None`: nowhere.
    pub metrics: Option<&'static str>,
    pub chunk: Option<&'static str>,
    pub pool_mib: u64,
}

impl Default for Options {
    fn default() -> Self {
        let connections = Connections::OneForEach;
        Self { who: OURS, connections, config: String::new(), metrics: None, chunk: None, pool_mib: POOL_MIB }
    }
}

/// A volume group and a pool on one disk, and the daemon that has them. That ends with the last of its groups; what it made stays until
/// the disks are cleaned.
#[derive(Debug)]
pub struct Daemon {
    options: Options,
    process: Arc<Process>,
    disk: Disk,
    client: Client,
    /// The group: those of one run are told apart by it.
    vg: String,
    crowd: AtomicUsize,
}

/// A daemon at work: a machine has one.
#[derive(Debug)]
struct Process {
    dir: tempfile::TempDir,
    child: Mutex<Child>,
    /// Of all groups.
    disks: Mutex<Vec<Disk>>,
}

impl Daemon {
    /// # Errors
    /// It cannot be started, does not become ready, or refuses the disk.
    pub fn start(disk: &Disk, options: Options) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let child = Mutex::new(launch(dir.path(), &options)?);
        let process = Arc::new(Process { dir, child, disks: Mutex::default() });
        process.wait_until_ready()?;
        Self::on(process, disk, options)
    }

    /// Another group of the same daemon, on another disk.
    ///
    /// # Errors
    /// The disk is refused.
    pub fn beside(&self, disk: &Disk, who: &'static str) -> Result<Self> {
        Self::on(Arc::clone(&self.process), disk, Options { who, ..self.options.clone() })
    }

    fn on(process: Arc<Process>, disk: &Disk, options: Options) -> Result<Self> {
        disk.clean();
        let vg = format!("bench-{}", options.who);
        let client = Client::new(&process.socket(), options.connections);
        process.disks.lock().unwrap_or_else(PoisonError::into_inner).push(disk.clone());
        let daemon = Self { options, process, disk: disk.clone(), client, vg, crowd: AtomicUsize::new(0) };
        daemon.ask("POST", "vgs", &json!({"name": daemon.vg, "devices": [disk.node], "wipe": true}))?;
        let mut pool = json!({
            "vg": daemon.vg, "name": "tank", "size": format!("{}M", daemon.options.pool_mib),
            "overcommit_limit_percent": 100_000,
        });
        if let Some(chunk) = daemon.options.chunk {
            pool["chunk_size"] = chunk.into();
        }
        daemon.ask("POST", "pools", &pool)?;
        let metadata = json!({"metadata": format!("{METADATA_MIB}M")});
        daemon.ask("POST", &format!("pools/{}/tank/extend", daemon.vg), &metadata)?;
        daemon.create("base")?;
        daemon.ask("POST", &daemon.of("base", "/attach"), &Value::Null)?;
        Ok(daemon)
    }

    /// Ends it in order and starts it anew; how long until it answered that it is ready.
    ///
    /// # Errors
    /// It does not end, or does not come up.
    pub fn restart(&mut self) -> Result<Duration> {
        self.process.end()?;
        let begin = Instant::now();
        let child = launch(self.process.dir.path(), &self.options)?;
        *self.process.child.lock().unwrap_or_else(PoisonError::into_inner) = child;
        self.client = Client::new(&self.socket(), self.options.connections);
        self.process.wait_until_ready()?;
        Ok(begin.elapsed())
    }

    /// The same with other lines of its configuration.
    ///
    /// # Errors
    /// As of [`Daemon::restart`].
    pub fn restart_with(&mut self, config: &str) -> Result<Duration> {
        config.clone_into(&mut self.options.config);
        self.restart()
    }

    pub fn pid(&self) -> u32 {
        self.process.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    pub fn vg(&self) -> &str {
        &self.vg
    }

    pub fn socket(&self) -> PathBuf {
        self.process.socket()
    }

    pub fn dir(&self) -> &Path {
        self.process.dir.path()
    }

    /// A request that must be granted.
    ///
    /// # Errors
    /// What was answered instead.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.client.ask(method, path, body)
    }

    /// Path of a volume in the API.
    pub fn of(&self, name: &str, rest: &str) -> String {
        format!("volumes/{}/{name}{rest}", self.vg)
    }

    /// The device of a volume or of the answer to a change of one.
    fn device(answer: &Value) -> Result<String> {
        let device = answer["object"]["device"].as_str().or_else(|| answer["device"].as_str());
        device.map(str::to_owned).with_context(|| format!("no device in {answer}"))
    }

    /// # Errors
    /// It has none.
    pub fn node(&self, name: &str) -> Result<String> {
        Self::device(&self.ask("GET", &self.of(name, ""), &Value::Null)?)
    }

    fn wanted(&self, name: &str) -> Value {
        json!({"vg": self.vg, "name": name, "size": format!("{SIZE_MIB}M"), "fs": "none"})
    }
}

fn launch(dir: &Path, options: &Options) -> Result<Child> {
    let at = dir.display();
    let metrics = options.metrics.unwrap_or("off");
    let text = format!(
        "run_dir = \"{at}/run\"\nstate_dir = \"{at}/state\"\nmetrics_listen = \"{metrics}\"\nruntimes.docker_socket = \"off\"\n{}",
        options.config
    );
    let config = dir.join("volumed.toml");
    fs::write(&config, text)?;
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    let named = std::env::var_os("VOLUMED_TEST_BIN_DIR");
    let program = named.map_or_else(|| PathBuf::from("volumed"), |dir| Path::new(&dir).join("volumed"));
    let mut command = Command::new(program);
    command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("volumed cannot be started: is it on the PATH?")
}

impl Process {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/control.sock")
    }

    fn end(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        vol_tests::tool::signal(child.id(), "TERM");
        let begin = Instant::now();
        while child.try_wait()?.is_none() {
            ensure!(begin.elapsed() < PATIENCE, "volumed does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn wait_until_ready(&self) -> Result<()> {
        let client = Client::new(&self.socket(), Connections::OneForEach);
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = Instant::now();
        while !matches!(client.request("GET", "status", &Value::Null), Ok((200, _))) {
            if let Some(status) = child.try_wait()? {
                bail!("volumed ended at once: {status}\n{}", self.log());
            }
            ensure!(begin.elapsed() < PATIENCE, "volumed is not ready\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// The end of its log.
    fn log(&self) -> String {
        let text = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.end().is_err() {
            let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
            _ = child.kill();
            _ = child.wait();
        }
        self.disks.get_mut().unwrap_or_else(PoisonError::into_inner).iter().for_each(Disk::clean);
    }
}

impl Peer for Daemon {
    fn who(&self) -> &'static str {
        self.options.who
    }
    fn disk(&self) -> &Disk {
        &self.disk
    }
    fn base(&self) -> Result<String> {
        self.node("base")
    }
    fn fill(&self, volumes: usize) -> Result<()> {
        let present = self.crowd.fetch_max(volumes, Ordering::Relaxed);
        let names: Vec<String> = (present..volumes).map(|n| format!("crowd{n}")).collect();
        by_clients(CLIENTS, &names, |name| self.create(name))
    }
    fn create(&self, name: &str) -> Result<()> {
        self.ask("POST", "volumes", &self.wanted(name)).map(drop)
    }
    fn open(&self, name: &str) -> Result<()> {
        let answer = self.ask("POST", &self.of(name, "/attach"), &Value::Null)?;
        File::open(Self::device(&answer)?)?;
        Ok(())
    }
    fn create_open(&self, name: &str) -> Result<()> {
        let mut wanted = self.wanted(name);
        wanted["attach"] = true.into();
        File::open(Self::device(&self.ask("POST", "volumes", &wanted)?)?)?;
        Ok(())
    }
    fn close(&self, name: &str) -> Result<()> {
        self.ask("POST", &self.of(name, "/detach"), &Value::Null).map(drop)
    }
    fn delete(&self, name: &str) -> Result<()> {
        self.ask("DELETE", &self.of(name, ""), &Value::Null).map(drop)
    }
    fn delete_now(&self, name: &str) -> Result<()> {
        self.ask("DELETE", &self.of(name, "?now=true"), &Value::Null).map(drop)
    }
    fn snapshot(&self, name: &str) -> Result<()> {
        self.ask("POST", "snapshots", &json!({"vg": self.vg, "volume": "base", "name": name})).map(drop)
    }
    fn delete_snapshot(&self, name: &str) -> Result<()> {
        self.ask("DELETE", &format!("snapshots/{}/base/{name}?now=true", self.vg), &Value::Null).map(drop)
    }
    fn read(&self, name: &str) -> Result<bool> {
        self.ask("GET", &self.of(name, ""), &Value::Null).map(|_| true)
    }
    /// What it says is not taken apart, as what LVM2 prints is not.
    fn list(&self) -> Result<Option<usize>> {
        let (status, said) = self.client.bytes("GET", &format!("volumes?vg={}", self.vg), &Value::Null)?;
        ensure!(status == 200, "a list of volumes: {status}");
        Ok(Some(String::from_utf8_lossy(&said).matches("\"name\":").count()))
    }
    fn settle(&self) -> Result<()> {
        self.ask("POST", &format!("pools/{}/tank/purge", self.vg), &Value::Null)?;
        // The end of the last transaction is written with the next commit: this is one.
        for labels in [json!({"set": {"settled": "now"}}), json!({"remove": ["settled"]})] {
            self.ask("POST", &self.of("base", "/labels"), &labels)?;
        }
        Ok(())
    }
    fn counted(&self) -> Result<Vec<(String, u64)>> {
        let Some(address) = self.options.metrics else { return Ok(Vec::new()) };
        let page = vol_tests::scrape::get(address, "/metrics")?;
        let line = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            let name = match name.strip_prefix("volumed_dm_calls_total{call=\"") {
                Some(call) => format!("dm_{}", call.strip_suffix("\"}")?),
                None => name.starts_with("volumed_metadata_commits_total").then(|| "commits".to_owned())?,
            };
            Some((name, value.parse::<f64>().ok()? as u64))
        };
        Ok(page.lines().filter_map(line).collect())
    }
}
