//! What a process takes of the machine, by `/proc`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

/// Ticks of `/proc/PID/stat` in a second (`sysconf(3)`, `_SC_CLK_TCK`; 100 on every architecture that Linux has today).
const TICKS: f64 = 100.0;

/// Memory of a process in bytes (`proc_pid_smaps(5)`, `smaps_rollup`).
///
/// # Errors
/// It is gone, or its maps cannot be read.
pub fn memory(pid: u32) -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        Some((name.to_owned(), rest.split_whitespace().next()?.parse::<u64>().ok()? << 10))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// User and system time of a process, and of all that it has waited for, in seconds; in steps of a hundredth.
///
/// # Errors
/// It is gone.
pub fn processor(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Its name may have anything in it but this.
    let (_, rest) = stat.rsplit_once(") ").context("what the kernel says of a process")?;
    let fields: Vec<f64> = rest.split(' ').skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    Ok(fields.iter().sum::<f64>() / TICKS)
}

/// How often the threads of a process began to run.
///
/// # Errors
/// It is gone.
pub fn switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(entry.path().join("status")) else { continue };
        let keys = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
        let count = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        sum += keys.iter().filter_map(|key| count(key)).sum::<u64>();
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_process_is_read() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap()["Rss"] > 0);
        assert!(processor(pid).unwrap() >= 0.0);
        assert!(switches(pid).unwrap() > 0);
        assert!(processor(0).is_err());
    }
}
