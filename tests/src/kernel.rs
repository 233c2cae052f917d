//! What the kernel says, through dmsetup, findmnt and lsblk: witnesses that know nothing of volumed.

use crate::tool::{attempt, run};
use serde_json::Value;

/// The kernel's data of one mount.
#[derive(Debug, Clone)]
pub struct Mounted {
    pub source: String,
    pub fs: String,
    pub options: Vec<String>,
    /// `254:3`
    pub number: String,
}

/// What is mounted at a path, uppermost.
pub fn mounted(path: &str) -> Option<Mounted> {
    let args = ["--json", "--mountpoint", path, "--output", "SOURCE,FSTYPE,OPTIONS,MAJ:MIN"];
    let output = attempt("findmnt", &args)?;
    let json: Value = serde_json::from_slice(&output.stdout).ok()?;
    let mount = json["filesystems"].as_array()?.last()?.clone();
    let text = |key: &str| mount[key].as_str().unwrap_or_default().to_owned();
    Some(Mounted {
        source: text("source"),
        fs: text("fstype"),
        options: text("options").split(',').map(str::to_owned).collect(),
        number: text("maj:min"),
    })
}

fn by_number(verb: &str, number: &str) -> String {
    let (major, minor) = number.split_once(':').unwrap_or_else(|| panic!("{number:?} is no device number"));
    run("dmsetup", &[verb, "--major", major, "--minor", minor]).trim().to_owned()
}

/// The dm table of a device number.
pub fn table(number: &str) -> String {
    by_number("table", number)
}

/// The dm status of a device number.
pub fn status(number: &str) -> String {
    by_number("status", number)
}

/// The number of the pool below a thin device, from its table.
pub fn pool_of(thin: &str) -> String {
    let table = table(thin);
    let words: Vec<&str> = table.split(' ').collect();
    assert_eq!(words.get(2), Some(&"thin"), "no thin device: {table}");
    words[3].to_owned()
}

/// Chunks in use of a pool, by its device number.
pub fn pool_used(pool: &str) -> u64 {
    let status = status(pool);
    let used = status.split(' ').nth(5).and_then(|data| data.split_once('/')?.0.parse().ok());
    used.unwrap_or_else(|| panic!("no status of a working pool: {status}"))
}

/// Writes into a full pool wait for ten minutes from the next full one on, and not for the minute in which a machine may stand still. Of
/// the whole machine; a test that wants less sets it for itself.
pub fn be_patient_in_full_pools() {
    // Without root it stays as it is.
    _ = std::fs::write("/sys/module/dm_thin_pool/parameters/no_space_timeout", "600");
}

/// The uuids of all dm devices of ours.
pub fn our_uuids() -> Vec<String> {
    let list = run("dmsetup", &["info", "--columns", "--noheadings", "--options", "uuid"]);
    let mut uuids: Vec<String> = list.lines().filter(|uuid| uuid.starts_with("VOLUMED-")).map(str::to_owned).collect();
    uuids.sort();
    uuids
}

/// The device number of a dm device of ours.
pub fn number_of(uuid: &str) -> String {
    run(
        "dmsetup",
        &["info", "--columns", "--noheadings", "--separator", ":", "--options", "major,minor", "--uuid", uuid],
    )
    .trim()
    .to_owned()
}

/// Everything that the kernel holds of ours and should not change by itself: names, numbers, tables.
pub fn snapshot() -> String {
    let options = "name,uuid,major,minor,attr,suspended,readonly,tables_loaded";
    let mut info: Vec<String> = run("dmsetup", &["info", "--columns", "--noheadings", "--options", options])
        .lines()
        .filter(|line| line.contains("VOLUMED-"))
        .map(str::to_owned)
        .collect();
    info.sort();
    let mut tables: Vec<String> = run("dmsetup", &["table"]).lines().map(str::to_owned).collect();
    tables.retain(|line| line.starts_with("volumed-"));
    tables.sort();
    format!("{}\n{}", info.join("\n"), tables.join("\n"))
}

/// Our dm devices that are suspended, or have no live table.
pub fn not_live() -> Vec<String> {
    let options = "name,uuid,suspended,tables_loaded";
    run("dmsetup", &["info", "--columns", "--noheadings", "--separator", "|", "--options", options])
        .lines()
        .filter(|line| line.contains("VOLUMED-") && (line.contains("|Suspended") || !line.ends_with("Live")))
        .map(str::to_owned)
        .collect()
}

/// As [`not_live`], of a machine on which a daemon works: those that stay so. A pool that grows just now has its table changed.
pub fn stays_not_live() -> Vec<String> {
    let mut all = not_live();
    for _ in 0..20 {
        if all.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(150));
        let again = not_live();
        all.retain(|line| again.contains(line));
    }
    all
}

/// Whether device-mapper answers here.
pub fn has_device_mapper() -> bool {
    std::fs::File::options().read(true).write(true).open("/dev/mapper/control").is_ok()
}

/// Errors that the kernel has told since boot, as far as they are about I/O.
pub fn io_errors() -> Vec<String> {
    let Some(log) = attempt("dmesg", &[]) else { return Vec::new() };
    let bad = |line: &str| ["I/O error", "EXT4-fs error", "metadata error"].iter().any(|bad| line.contains(bad));
    String::from_utf8_lossy(&log.stdout).lines().filter(|line| bad(line)).map(str::to_owned).collect()
}
