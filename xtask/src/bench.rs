//! `cargo xtask bench`: benchmarks of volumed beside bare ioctls and LVM2, in guests of both kernels or on this machine. What is measured,
//! and how, is `vol-bench`'s matter (`benches/`); here are the machines and disks that it runs on, and what becomes of its records.

use crate::cmd::{cmd, output, run};
use crate::lab::spec::Runner;
use crate::{target_dir, workspace};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rustix::fs::OFlags;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where tables and pictures are published.
const PUBLISHED: &str = "docs/performance";
/// Where a daemon of this machine remembers its volume groups.
const REMEMBERED: &str = "/var/lib/volumed/volume-groups";
/// A guest that takes longer than this is stuck.
const UML_SECONDS: u64 = 3 * 3600;
/// Under emulation everything takes ten times as long.
const QEMU_SECONDS: u64 = 12 * 3600;
const MIB: u64 = 1 << 20;
/// What is left free on the file system with the disks.
const SPARE: u64 = 4 << 30;

#[derive(Args)]
pub struct Options {
    /// Which benchmarks; all without any. `cargo xtask bench --list` tells them
    names: Vec<String>,
    /// Tell the benchmarks and what they answer
    #[arg(long)]
    list: bool,
    /// The machines that they run on
    #[arg(long, value_enum, default_value = "both", conflicts_with = "on_host")]
    runner: Where,
    /// On this machine instead of in guests; needs root, device-mapper, and disks that are named
    #[arg(long, requires = "disks")]
    on_host: bool,
    /// With --on-host: a disk that is DESTROYED; as often as a benchmark needs disks
    #[arg(long = "disk", value_name = "DEVICE", requires = "on_host")]
    disks: Vec<PathBuf>,
    /// With --on-host: take disks too that have something on them
    #[arg(long, requires = "on_host")]
    force: bool,
    /// Keep all records in this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Make pages and pictures in docs/performance of what was measured
    #[arg(long)]
    publish: bool,
    /// How often peers take turns
    #[arg(long)]
    rounds: Option<u16>,
    /// How often each does something in a round
    #[arg(long)]
    samples: Option<u16>,
    /// How many volumes there are besides, in turn: 0,1000,10000
    #[arg(long)]
    volumes: Option<String>,
    /// What a reader of the records has to know of this machine, such as what else it does meanwhile
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// As little as shows that it still runs; nothing that it says counts
    #[arg(long)]
    smoke: bool,
    /// Use what is in target/release
    #[arg(long)]
    no_build: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Where {
    Uml,
    Qemu,
    Both,
}

impl Where {
    fn runners(self) -> &'static [Runner] {
        match self {
            Where::Uml => &[Runner::Uml],
            Where::Qemu => &[Runner::Qemu],
            Where::Both => &[Runner::Uml, Runner::Qemu],
        }
    }
}

const fn name_of(runner: Runner) -> &'static str {
    match runner {
        Runner::Uml => "uml",
        Runner::Qemu => "qemu",
    }
}

/// What a benchmark needs of a machine, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Needs {
    name: String,
    disks: usize,
    mib_each: u64,
    memory_mib: u64,
}

/// The exit code: 0 if all that was asked for was measured, whatever came of it.
pub fn main(options: &Options) -> Result<i32> {
    if !options.no_build {
        crate::setup::all()?;
        build()?;
    }
    let program = target_dir().join("release/vol-bench");
    ensure!(program.is_file(), "{} is not there; leave out --no-build", program.display());
    if options.list {
        run(&mut cmd(&program.to_string_lossy(), ["list"]))?;
        return Ok(0);
    }
    let known = parse(&output(&mut cmd(&program.to_string_lossy(), ["list", "--json"]))?)?;
    let wanted = chosen(&known, &options.names)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "benchmarks need root: the lab makes namespaces, a host's disks are root's"
    );
    let dir = target_dir().join("bench");
    let records = dir.join("records");
    fs::create_dir_all(&records)?;
    if options.on_host {
        // All of them, before anything is lost on one.
        has_no_groups(Path::new("/sys/block"), Path::new(REMEMBERED))?;
        are_unused(&options.disks, options.force)?;
    }
    let mut made = Vec::new();
    let mut all_run = true;
    let machines: Vec<Option<Runner>> =
        if options.on_host { vec![None] } else { options.runner.runners().iter().copied().map(Some).collect() };
    for machine in machines {
        for needs in &wanted {
            let runner = machine.map_or("host", name_of);
            let record = records.join(format!("{}-{runner}.json", needs.name));
            // Of an earlier run.
            _ = fs::remove_file(&record);
            let done = match machine {
                Some(runner) => in_guest(options, needs, runner, &dir, &records, &program),
                None => on_host(options, needs, &records, &program),
            };
            if let Err(error) = done {
                eprintln!("bench: {} ({runner}): {error:#}", needs.name);
                all_run = false;
            }
            if record.is_file() {
                made.push(record);
            } else if !options.smoke {
                all_run = false;
            }
        }
    }
    tell(options, &program, &made)?;
    Ok(i32::from(!all_run))
}

/// The product as users get it, and the tool.
fn build() -> Result<()> {
    let packages = ["-p", "volumed", "-p", "volctl", "-p", "vol-benches"];
    let programs = ["--bin", "volumed", "--bin", "volctl", "--bin", "vol-bench"];
    let mut cargo = cmd("cargo", ["build", "--quiet", "--release"]);
    cargo.args(packages).args(programs).current_dir(workspace()).stdin(Stdio::null());
    run(&mut cargo).context("volumed and its benchmarks do not build")
}

fn parse(json: &str) -> Result<Vec<Needs>> {
    let all: Vec<Value> = serde_json::from_str(json).context("what vol-bench lists")?;
    let one = |entry: &Value| {
        let number = |key: &str| entry[key].as_u64().with_context(|| format!("vol-bench tells no {key}"));
        Ok(Needs {
            name: entry["name"].as_str().context("vol-bench tells no name")?.to_owned(),
            disks: usize::try_from(number("disks")?)?,
            mib_each: number("mib_each")?,
            memory_mib: number("memory_mib")?,
        })
    };
    all.iter().map(one).collect()
}

fn chosen(known: &[Needs], names: &[String]) -> Result<Vec<Needs>> {
    if let Some(strange) = names.iter().find(|name| known.iter().all(|one| one.name != **name)) {
        let all: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
        bail!("there is no benchmark {strange}; there are {}", all.join(", "));
    }
    let meant = |one: &&Needs| names.is_empty() || names.contains(&one.name);
    Ok(known.iter().filter(meant).cloned().collect())
}

/// What `vol-bench run` is told, but for where it writes.
fn arguments(options: &Options, needs: &Needs, runner: &str) -> Vec<String> {
    let mut all: Vec<String> = ["run", needs.name.as_str(), "--runner", runner].map(str::to_owned).to_vec();
    let given = [
        ("--rounds", options.rounds.map(|count| count.to_string())),
        ("--samples", options.samples.map(|count| count.to_string())),
        ("--volumes", options.volumes.clone()),
        ("--note", options.note.clone()),
        ("--commit", commit()),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            all.push(key.to_owned());
            all.push(value);
        }
    }
    if options.smoke {
        all.push("--smoke".to_owned());
    }
    all
}

/// What the repository is at; `None` where there is none, as in a release's sources.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).current_dir(workspace()).stderr(Stdio::null()).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let id = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { id } else { format!("{id}, changed") })
}

fn in_guest(
    options: &Options,
    needs: &Needs,
    runner: Runner,
    dir: &Path,
    records: &Path,
    program: &Path,
) -> Result<()> {
    let seconds = if runner == Runner::Uml { UML_SECONDS } else { QEMU_SECONDS };
    let mut lab = Command::new(crate::own_exe());
    lab.args(["lab", "run", "--no-build", "--runner", name_of(runner)]);
    lab.args(["--timeout", &seconds.to_string(), "--mem", &format!("{}M", needs.memory_mib)]);
    lab.arg("--share").arg(records).arg("--bin").arg(program);
    for index in 0..needs.disks {
        lab.arg("--disk").arg(disk_file(dir, index, needs.mib_each * MIB)?);
    }
    let disks: Vec<String> = (0..needs.disks).map(|index| format!("/dev/labdisk{index}")).collect();
    lab.env("VOLUMED_TEST_DISKS", disks.join(","));
    lab.args(["--", "vol-bench"]).args(arguments(options, needs, name_of(runner))).args(["--into", "/share"]);
    eprintln!("bench: {} in a guest of {}", needs.name, name_of(runner));
    run(lab.stdin(Stdio::null()))
}

/// A file of so many bytes that was written once. In a sparse one each flush would pay for blocks that the host's file system has yet
/// to find. Guests punch holes by discarding, so it is looked at each time.
fn disk_file(dir: &Path, index: usize, bytes: u64) -> Result<PathBuf> {
    let path = dir.join(format!("disk{index}.img"));
    let whole = |meta: &fs::Metadata| meta.len() >= bytes && meta.blocks() * 512 >= meta.len() / 100 * 99;
    if fs::metadata(&path).is_ok_and(|meta| whole(&meta)) {
        return Ok(path);
    }
    let held = fs::metadata(&path).map_or(0, |meta| meta.blocks() * 512);
    let place = rustix::fs::statvfs(dir)?;
    let free = place.f_bavail * place.f_frsize;
    let wanted = bytes.saturating_sub(held).saturating_add(SPARE);
    ensure!(free >= wanted, "{} has {} MiB free, and {} are needed", dir.display(), free / MIB, wanted / MIB);
    eprintln!("bench: writing {} ({} MiB, once)", path.display(), bytes / MIB);
    let mut file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let block = vec![0; 1 << 20];
    for _ in 0..bytes.div_ceil(MIB) {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(path)
}

fn on_host(options: &Options, needs: &Needs, records: &Path, program: &Path) -> Result<()> {
    ensure!(Path::new("/dev/mapper/control").exists(), "this machine has no device-mapper (/dev/mapper/control)");
    let disks = options.disks.get(..needs.disks);
    let disks =
        disks.with_context(|| format!("{} disks are needed, {} are named", needs.disks, options.disks.len()))?;
    are_unused(disks, options.force)?;
    let named: Vec<String> = disks.iter().map(|disk| disk.display().to_string()).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [target_dir().join("release")].into_iter().chain(std::env::split_paths(&path));
    let mut bench = Command::new(program);
    bench.args(arguments(options, needs, "host")).arg("--into").arg(records);
    bench.env("VOLUMED_TEST_DISKS", named.join(",")).env("PATH", std::env::join_paths(folders)?);
    eprintln!("bench: {} on this machine; what is on {} is lost", needs.name, named.join(", "));
    run(bench.stdin(Stdio::null()))
}

/// The daemon that is measured takes up every volume group of the machine, and goes by another configuration than theirs: what was deleted
/// and is kept for weeks would be gone after a day. So it is not started beside any.
fn has_no_groups(devices: &Path, remembered: &Path) -> Result<()> {
    let entries = |dir: &Path| match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        found => {
            found.and_then(Iterator::collect::<std::io::Result<Vec<_>>>).with_context(|| dir.display().to_string())
        }
    };
    let uuid = |device: &fs::DirEntry| fs::read_to_string(device.path().join("dm/uuid")).unwrap_or_default();
    let active = entries(devices)?.iter().any(|device| uuid(device).starts_with("VOLUMED-"));
    ensure!(
        !active && entries(remembered)?.is_empty(),
        "this machine has volume groups of volumed, which a benchmark's daemon would take up: measure in the lab, or on a machine without any ({} and the uuids of device-mapper devices tell of them)",
        remembered.display()
    );
    Ok(())
}

fn are_unused(disks: &[PathBuf], force: bool) -> Result<()> {
    let mut seen = Vec::new();
    for disk in disks {
        is_unused(disk, force).with_context(|| format!("{} is not taken", disk.display()))?;
        let real = fs::canonicalize(disk)?;
        ensure!(!seen.contains(&real), "{} is named twice", real.display());
        seen.push(real);
    }
    Ok(())
}

/// Nobody has it mounted or stacked upon, and nothing is on it unless that is said to be all right.
fn is_unused(disk: &Path, force: bool) -> Result<()> {
    let real = fs::canonicalize(disk)?;
    let name = real.file_name().context("it has no name")?;
    ensure!(Path::new("/sys/class/block").join(name).is_dir(), "it is no block device");
    // The kernel refuses an exclusive open of what is mounted or has a device on top (open(2), O_EXCL).
    let exclusive = i32::try_from(OFlags::EXCL.bits())?;
    File::options().read(true).write(true).custom_flags(exclusive).open(&real).context("somebody uses it")?;
    if force {
        return Ok(());
    }
    let found = output(cmd("wipefs", ["--no-act", "--parsable", "--noheadings"]).arg(&real))?;
    ensure!(found.trim().is_empty(), "there is something on it; --force takes it all the same:\n{}", found.trim());
    Ok(())
}

/// What was found: printed, kept, published.
fn tell(options: &Options, program: &Path, made: &[PathBuf]) -> Result<()> {
    if made.is_empty() {
        return Ok(());
    }
    if let Some(file) = &options.json {
        let read = |path: &PathBuf| Ok(serde_json::from_str(&fs::read_to_string(path)?)?);
        let all: Vec<Value> = made.iter().map(read).collect::<Result<_>>()?;
        let json = serde_json::to_string_pretty(&all)?;
        fs::write(file, json + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut report = Command::new(program);
    report.arg("report").args(made);
    if options.publish {
        report.arg("--into").arg(workspace().join(PUBLISHED));
    }
    run(&mut report)?;
    if options.publish {
        eprintln!("bench: {PUBLISHED} has what was found");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = r#"[{"name": "churn", "question": "?", "disks": 3, "mib_each": 4096, "memory_mib": 3072},
        {"name": "read", "question": "?", "disks": 2, "mib_each": 4096, "memory_mib": 3072}]"#;

    fn options(line: &[&str]) -> Options {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            options: Options,
        }
        <Cli as clap::Parser>::try_parse_from([&["bench"][..], line].concat()).map(|cli| cli.options).unwrap()
    }

    #[test]
    fn benchmarks_are_chosen_by_name_and_a_strange_name_is_refused() {
        let known = parse(LISTED).unwrap();
        assert_eq!(chosen(&known, &[]).unwrap(), known);
        assert_eq!(chosen(&known, &["read".to_owned()]).unwrap().len(), 1);
        let error = chosen(&known, &["raed".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("raed") && error.contains("churn, read"), "{error}");
        assert!(parse(r#"[{"name": "x"}]"#).is_err());
    }

    #[test]
    fn the_tool_is_told_what_was_asked_for() {
        let known = parse(LISTED).unwrap();
        let given = options(&["churn", "--rounds", "7", "--note", "builds beside it", "--smoke"]);
        let told = arguments(&given, &known[0], "uml");
        assert_eq!(told[..4], ["run", "churn", "--runner", "uml"]);
        assert!(told.contains(&"--smoke".to_owned()) && told.join(" ").contains("--rounds 7"), "{told:?}");
        assert!(told.windows(2).any(|two| two == ["--note", "builds beside it"]), "{told:?}");
        assert!(!told.contains(&"--samples".to_owned()));
    }

    #[test]
    fn both_kernels_unless_told() {
        assert_eq!(options(&[]).runner.runners().len(), 2);
        assert_eq!(options(&["--runner", "uml"]).runner.runners(), [Runner::Uml]);
    }

    #[test]
    fn a_machine_with_volume_groups_is_not_measured_on() {
        let dir = std::env::temp_dir().join(format!("volumed-bench-{}", std::process::id()));
        let (devices, remembered) = (dir.join("block"), dir.join("volume-groups"));
        assert!(has_no_groups(&devices, &remembered).is_ok());
        fs::create_dir_all(devices.join("dm-0/dm")).unwrap();
        fs::write(devices.join("dm-0/dm/uuid"), "LVM-x").unwrap();
        fs::create_dir_all(&remembered).unwrap();
        assert!(has_no_groups(&devices, &remembered).is_ok());
        fs::write(devices.join("dm-0/dm/uuid"), "VOLUMED-x").unwrap();
        assert!(has_no_groups(&devices, &remembered).is_err());
        fs::remove_dir_all(&devices).unwrap();
        fs::write(remembered.join("6c7e5f0c"), "data").unwrap();
        assert!(has_no_groups(&devices, &remembered).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_no_disk_is_not_taken() {
        assert!(is_unused(Path::new("/"), false).is_err());
        assert!(is_unused(Path::new("/nowhere"), true).is_err());
    }
}
