//! The engine on the simulated host: the main job, what is refused, every crash point of every
//! change, and disks with a past.

mod sim {
    mod batch;
    pub mod bench;
    mod checkpoints;
    mod cost;
    mod crash;
    mod found;
    mod histories;
    mod main_job;
    mod refused;
    mod store;
}
