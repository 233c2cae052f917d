//! The engine on the simulated host: the main job, what is refused, every crash point of every
//! change, and disks with a past.

mod sim {
    pub mod bench;
    mod cost;
    mod crash;
    mod histories;
    mod main_job;
    mod members;
    mod refused;
    mod restore;
    mod store;
}
