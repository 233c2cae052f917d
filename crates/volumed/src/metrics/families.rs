//! Every family of samples that the daemon may show, declared once: a family that is not here cannot be set, and each that is here is set by
//! something (a test sees to that) and told in `docs/metrics.md` (another does).

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    /// Only grows while the daemon, or the volume group, is open.
    Counter,
    Histogram,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// One family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! families {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// Names a family.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Id {
            $($id),*
        }

        /// All of them, in the order of [`Id`].
        pub const FAMILIES: &[Family] = &[
            $(Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help }),*
        ];

        #[cfg(test)]
        pub const IDS: &[Id] = &[$(Id::$id),*];
    };
}

families! {
    // The daemon.
    Up Gauge "volumed_up" [] "1 if the daemon answers requests, 0 while it recovers at start";
    BuildInfo Gauge "volumed_build_info" ["version"] "Always 1; the label tells the version";
    StartSeconds Gauge "volumed_start_seconds" [] "How long it took from the start of the daemon until it answered requests";
    IoBackendInfo Gauge "volumed_io_backend_info" ["backend"] "Always 1; how the daemon does its own I/O";
    DmCalls Counter "volumed_dm_calls_total" ["call"] "Calls of device-mapper, by kind";
    ProcessStart Gauge "process_start_time_seconds" [] "When the daemon was started, in seconds since 1970";
    ProcessCpu Counter "process_cpu_seconds_total" [] "Processor time that the daemon took, in user and system mode";
    ProcessResident Gauge "process_resident_memory_bytes" [] "Memory of the daemon that is resident";
    ProcessOpenFds Gauge "process_open_fds" [] "Descriptors that the daemon has open";
    ProcessMaxFds Gauge "process_max_fds" [] "Descriptors that it may have open";
    ProcessThreads Gauge "process_threads" [] "Threads of the daemon";
    // Requests.
    OperationSeconds Histogram "volumed_operation_duration_seconds" ["operation"] "How long requests that change something took, the refused and failed ones included";
    OperationErrors Counter "volumed_operation_errors_total" ["operation", "code"] "Requests that were refused or failed, by the error's code";
    ChangesRunning Gauge "volumed_changes_running" [] "Requests that change something and are being carried out or wait for others inside the engine";
    VgWaiting Gauge "volumed_vg_requests_waiting" ["vg"] "Requests that wait for a transaction of their pool, or for somebody's work on a volume";
    VgAtWork Gauge "volumed_vg_objects_at_work" ["vg"] "Volumes and pools that are being formatted, checked, mounted or the like beside other changes";
    // What is moved in the background.
    MovesRunning Gauge "volumed_moves_running" ["kind"] "Volumes that are being wiped or copied to (fill), or given back to their pool (empty)";
    MovesLeft Gauge "volumed_moves_left_bytes" [] "What is left to be wiped or copied of the fills that are running";
    MovedBytes Counter "volumed_moved_bytes_total" ["method"] "Bytes that were wiped, copied or given back in the background";
    // Container engines.
    MountReferences Gauge "volumed_mount_references" ["runtime"] "Mounts that a container engine has asked for and not given back";
    MountReferencesUnconfirmed Gauge "volumed_mount_references_unconfirmed" ["runtime"] "Those of them that the engine has not mentioned since it was started anew";
    // Problems.
    Problems Gauge "volumed_problems" ["vg", "code"] "Problems that volctl status tells, by code; vg is empty for those of the machine";
    // Volume groups.
    VgSize Gauge "volumed_vg_size_bytes" ["vg"] "Size of all extents of the volume group";
    VgFree Gauge "volumed_vg_free_bytes" ["vg"] "Size of the extents that nothing uses";
    VgAllocated Gauge "volumed_vg_allocated_bytes" ["vg"] "Size of the extents in use";
    VgHealthy Gauge "volumed_vg_healthy" ["vg"] "1 if the volume group is as it should be, else 0";
    VgFrozen Gauge "volumed_vg_frozen" ["vg"] "1 if the volume group takes no changes, because its metadata cannot be written or judged, else 0";
    VgRefreshAge Gauge "volumed_vg_refresh_age_seconds" ["vg"] "How long ago all that the kernel knows of the volume group was last looked at";
    VgCopies Gauge "volumed_vg_metadata_copies" ["vg"] "Metadata copies that are there and written to";
    VgCopiesWanted Gauge "volumed_vg_metadata_copies_expected" ["vg"] "Metadata copies that there should be";
    Commits Counter "volumed_metadata_commits_total" ["vg"] "Commits of the metadata since the volume group was opened";
    CommitFailures Counter "volumed_metadata_commit_failures_total" ["vg"] "Commits that could not be made";
    Checkpoints Counter "volumed_metadata_checkpoints_total" ["vg"] "Checkpoints of the metadata";
    MetadataBytes Counter "volumed_metadata_written_bytes_total" ["vg"] "Bytes written to all metadata copies together";
    MetadataFlushes Counter "volumed_metadata_flushes_total" ["vg"] "Flushes of all metadata copies together; a durable write counts as one";
    // PVs.
    PvInfo Gauge "volumed_pv_info" ["vg", "pv", "device"] "Always 1; where the PV is now, empty while it is missing";
    PvSize Gauge "volumed_pv_size_bytes" ["vg", "pv"] "Size of the extents of the PV";
    PvFree Gauge "volumed_pv_free_bytes" ["vg", "pv"] "Size of its extents that nothing uses";
    PvAllocated Gauge "volumed_pv_allocated_bytes" ["vg", "pv"] "Size of its extents in use";
    PvPresent Gauge "volumed_pv_present" ["vg", "pv"] "1 if the PV is there, 0 if it is missing";
    PvHealthy Gauge "volumed_pv_healthy" ["vg", "pv"] "1 if the PV is there and has no problem, else 0";
    // Pools.
    PoolSize Gauge "volumed_pool_size_bytes" ["vg", "pool"] "Size of the pool's data";
    PoolUsed Gauge "volumed_pool_used_bytes" ["vg", "pool"] "Data that is in use";
    PoolMetadataSize Gauge "volumed_pool_metadata_size_bytes" ["vg", "pool"] "Size of the pool's metadata";
    PoolMetadataUsed Gauge "volumed_pool_metadata_used_bytes" ["vg", "pool"] "Metadata that is in use";
    PoolVirtual Gauge "volumed_pool_virtual_bytes" ["vg", "pool"] "Sum of the sizes of the pool's volumes";
    PoolOvercommit Gauge "volumed_pool_overcommit_ratio" ["vg", "pool"] "What is promised to volumes over the pool's size";
    PoolOvercommitLimit Gauge "volumed_pool_overcommit_limit_ratio" ["vg", "pool"] "Where it ends: nothing is made that goes beyond";
    PoolReserved Gauge "volumed_pool_reserved_bytes" ["vg", "pool"] "Set aside for volumes and not written yet";
    PoolReserve Gauge "volumed_pool_reserve_ratio" ["vg", "pool"] "Share of the pool that new volumes and snapshots must leave free";
    PoolGrowable Gauge "volumed_pool_growable_bytes" ["vg", "pool"] "What the pool may still grow by without being asked";
    PoolFill Gauge "volumed_pool_fill_bytes_per_second" ["vg", "pool"] "How fast the pool fills; negative when it empties";
    PoolTimeToFull Gauge "volumed_pool_time_to_full_seconds" ["vg", "pool", "confidence"] "When the pool will be full if it goes on like this, and how sure that is";
    PoolSnapshotClock Gauge "volumed_pool_snapshot_clock" ["vg", "pool"] "Snapshots made in the pool's life; 16,000,000 are allowed";
    PoolVolumes Gauge "volumed_pool_volumes" ["vg", "pool"] "Volumes in the pool, without snapshots and what is deleted";
    PoolSnapshots Gauge "volumed_pool_snapshots" ["vg", "pool"] "Snapshots in the pool, without what is deleted";
    PoolDeleted Gauge "volumed_pool_deleted" ["vg", "pool"] "Volumes and snapshots that are deleted and kept for a while";
    PoolDeletedSize Gauge "volumed_pool_deleted_size_bytes" ["vg", "pool"] "Sum of their sizes: what they have written is not known while they are kept, and is no more than this";
    PoolWritable Gauge "volumed_pool_writable" ["vg", "pool"] "1 if the kernel lets the pool be written to, 0 if it is out of space, read-only or failed";
    PoolHealthy Gauge "volumed_pool_healthy" ["vg", "pool"] "1 if the pool is as it should be, else 0";
    PoolProblem Gauge "volumed_pool_problem" ["vg", "pool", "code"] "1 for each problem of the pool that volctl status tells";
    // Volumes.
    Volumes Gauge "volumed_volumes" ["vg", "state"] "Volumes, without snapshots, by state";
    Snapshots Gauge "volumed_snapshots" ["vg", "state"] "Snapshots, by state";
    VolumesActive Gauge "volumed_volumes_active" ["vg"] "Volumes and snapshots that have a device now";
    VolumesMounted Gauge "volumed_volumes_mounted" ["vg"] "Volumes and snapshots that are mounted somewhere";
    VolumesNotShown Gauge "volumed_volumes_without_samples" [] "Volumes that have no samples of their own, because of volume_metrics or its bound";
    VolumeSize Gauge "volumed_volume_size_bytes" ["vg", "pool", "volume"] "Size of the volume; pool is empty for a thick one";
    VolumeUsed Gauge "volumed_volume_used_bytes" ["vg", "pool", "volume"] "What the volume takes of its pool, shared data included";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_units_are_as_prometheus_asks() {
        let mut names = BTreeSet::new();
        for (family, id) in FAMILIES.iter().zip(IDS) {
            let name = family.name;
            assert!(names.insert(name), "{name} twice");
            assert_eq!(FAMILIES[*id as usize].name, name);
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(name.starts_with("volumed_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
            for unit in ["_ms", "_milliseconds", "_minutes", "_kib", "_mib", "_kb", "_mb", "_gb", "_percent"] {
                assert!(!name.ends_with(unit), "{name}: base units only");
            }
            assert!(!family.help.is_empty() && !family.help.ends_with('.'), "{name}: {:?}", family.help);
            assert!(!family.labels.contains(&"le") && !family.labels.contains(&"job"), "{name}");
        }
    }
}
