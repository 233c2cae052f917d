//! On what something was measured.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::program;

/// The machine, as far as it matters for times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `uml`, `qemu` or `host`.
    pub runner: String,
    pub kernel: String,
    pub processors: usize,
    pub model: String,
    pub memory_mib: u64,
    /// Whether grace periods of RCU are expedited for the whole machine; `None` where the kernel does not say.
    pub rcu_expedited: Option<bool>,
    pub disks: Vec<String>,
    /// Of programs that were compared or used.
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    pub fn look(runner: &str, disks: &[Disk]) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
        let total: u64 = total.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        let programs: [(&str, &str, &[&str]); 6] = [
            ("lvm2", "lvm", &["version"]),
            ("fio", "fio", &["--version"]),
            ("thin-provisioning-tools", "thin_delta", &["--version"]),
            ("e2fsprogs", "mkfs.ext4", &["-V"]),
            ("xfsprogs", "mkfs.xfs", &["-V"]),
            ("volumed", "volumed", &["--version"]),
        ];
        let versions = programs.into_iter().filter_map(|(name, program, args)| {
            program::version(program, args).map(|version| (name.to_owned(), version))
        });
        Self {
            runner: runner.to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processors: cpu.lines().filter(|line| line.starts_with("processor")).count(),
            model: model.trim_matches([' ', '\t', ':']).to_owned(),
            memory_mib: total >> 10,
            rcu_expedited: match read("/sys/kernel/rcu_expedited").trim() {
                "0" => Some(false),
                "1" => Some(true),
                _ => None,
            },
            disks: disks.iter().map(Disk::about).collect(),
            versions: versions.collect(),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let expedited = if self.rcu_expedited == Some(true) { ", RCU expedited" } else { "" };
        format!(
            "{}: kernel {}, {} processor(s) {}, {} MiB{expedited}",
            self.runner, self.kernel, self.processors, self.model, self.memory_mib
        )
    }
}
