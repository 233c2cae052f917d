//! fio, and what it measured.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::program;

/// What a job does. `Default` is what most have in common.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    pub node: &'a str,
    /// `randread`, `randwrite`, `read`, `write`.
    pub rw: &'a str,
    /// Bytes of one request.
    pub block: u64,
    pub depth: u32,
    pub jobs: u32,
    /// The part of the device that is used, in bytes.
    pub size: u64,
    /// For how long; zero: until all of `size` was done once.
    pub seconds: u32,
}

/// What came of it; times in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done {
    pub per_second: f64,
    pub bytes_per_second: f64,
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

impl Job<'_> {
    fn arguments(&self) -> Vec<String> {
        let mut all = vec![
            "--name=bench".to_owned(),
            format!("--filename={}", self.node),
            format!("--rw={}", self.rw),
            format!("--bs={}", self.block),
            format!("--iodepth={}", self.depth),
            format!("--numjobs={}", self.jobs),
            format!("--size={}", self.size),
        ];
        let usual = [
            "--direct=1",
            "--ioengine=io_uring",
            "--group_reporting",
            "--allow_file_create=0",
            "--randrepeat=1",
            "--norandommap",
            "--lat_percentiles=1",
            "--percentile_list=50:99:99.9",
            "--output-format=json",
        ];
        all.extend(usual.map(str::to_owned));
        if self.seconds > 0 {
            all.extend(["--time_based".to_owned(), format!("--runtime={}", self.seconds)]);
        }
        all
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// fio is not there, fails, or says something else than it used to.
    pub fn run(&self) -> Result<Done> {
        self.run_with(None)
    }

    /// As [`Job::run`], of the part that begins at this byte.
    ///
    /// # Errors
    /// Those of [`Job::run`].
    pub fn run_at(&self, offset: u64) -> Result<Done> {
        self.run_with(Some(format!("--offset={offset}")))
    }

    /// As [`Job::run`], with what was written made durable at the end, and that within its time.
    ///
    /// # Errors
    /// Those of [`Job::run`].
    pub fn run_durable(&self) -> Result<Done> {
        self.run_with(Some("--end_fsync=1".to_owned()))
    }

    fn run_with(&self, more: Option<String>) -> Result<Done> {
        let mut arguments = self.arguments();
        arguments.extend(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        parse(&program::run("fio", &arguments)?, self.rw)
    }

    /// Begins it, for something else to be done meanwhile.
    ///
    /// # Errors
    /// fio cannot be started.
    pub fn begin(&self) -> Result<Running> {
        let mut fio = Command::new("fio");
        fio.args(self.arguments()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = fio.spawn().context("fio")?;
        Ok(Running { child: Some(child), rw: self.rw.to_owned() })
    }
}

/// fio at work; it ends with this.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    rw: String,
}

impl Running {
    /// Waits for its end.
    ///
    /// # Errors
    /// Those of [`Job::run`].
    pub fn end(mut self) -> Result<Done> {
        let child = self.child.take().context("fio was ended before")?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("fio: {}", output.status);
        }
        parse(&String::from_utf8_lossy(&output.stdout), &self.rw)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            vol_tests::tool::signal(child.id(), "INT");
            _ = child.wait();
        }
    }
}

/// A device that is written to, one block at a time, until this is dropped.
///
/// # Errors
/// fio cannot be started.
pub fn load(node: &str, size: u64) -> Result<Running> {
    let job = Job { node, rw: "randwrite", block: 4096, depth: 1, jobs: 1, size, seconds: 3600 };
    let running = job.begin()?;
    // It opens its device and makes its buffers first.
    std::thread::sleep(Duration::from_millis(1500));
    Ok(running)
}

fn parse(text: &str, rw: &str) -> Result<Done> {
    // Warnings may come before.
    let json = text.find('{').and_then(|at| text.get(at..)).context("fio printed no JSON")?;
    let all: Value = serde_json::from_str(json).context("what fio printed")?;
    let side = if rw.contains("read") { "read" } else { "write" };
    let job = &all["jobs"][0][side];
    let number = |value: &Value| value.as_f64().with_context(|| format!("fio told nothing of {side}: {job}"));
    // Of the whole time of a request, queueing included.
    let latency = &job["lat_ns"];
    let share = |name: &str| Ok::<_, anyhow::Error>(number(&latency["percentile"][name])? / 1e9);
    Ok(Done {
        per_second: number(&job["iops"])?,
        bytes_per_second: number(&job["bw_bytes"])?,
        mean: number(&latency["mean"])? / 1e9,
        p50: share("50.000000")?,
        p99: share("99.000000")?,
        p999: share("99.900000")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = r#"fio: a note
{"jobs": [{"read": {"iops": 0.0, "bw_bytes": 0, "lat_ns": {"mean": 0.0}},
 "write": {"iops": 1000.5, "bw_bytes": 4098048, "lat_ns": {"mean": 998000.0,
  "percentile": {"50.000000": 900000, "99.000000": 2000000, "99.900000": 5000000}}}}]}"#;

    #[test]
    fn what_fio_says_is_read_in_seconds() {
        let done = parse(SAID, "randwrite").unwrap();
        assert_eq!((done.per_second, done.p50, done.p99, done.p999), (1000.5, 0.0009, 0.002, 0.005));
        assert!(parse(SAID, "randread").is_err());
        assert!(parse("", "read").is_err());
    }

    #[test]
    fn a_job_without_a_time_runs_once_over_its_part() {
        let job = Job { node: "/dev/x", rw: "write", block: 1 << 20, depth: 4, jobs: 1, size: 1 << 30, seconds: 0 };
        let arguments = job.arguments();
        assert!(!arguments.iter().any(|one| one.contains("time")), "{arguments:?}");
        assert!(arguments.contains(&"--filename=/dev/x".to_owned()));
    }
}
