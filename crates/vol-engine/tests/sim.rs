//! The engine on the simulated host: the main job, what is refused, every crash point of every
//! change, and disks with a past.

mod sim {
    mod agreement;
    mod batch;
    pub mod bench;
    mod catalogue;
    mod changes;
    mod check;
    mod checkpoints;
    mod cost;
    mod crash;
    mod crowd;
    mod failures;
    mod found;
    mod fs;
    mod histories;
    mod hotplug;
    mod jobs;
    mod life;
    mod links;
    mod looking;
    mod main_job;
    mod members;
    mod memory;
    mod mount_points;
    mod move_cost;
    mod moving;
    mod owed;
    mod parallel;
    mod placement;
    mod refused;
    mod repair;
    mod reserve;
    mod restore;
    mod review;
    mod sight;
    mod space;
    mod store;
    mod subdir;
    mod thick;
    mod trash;
    mod udev;
    mod usage;
}
