//! The engine on the simulated host: the main job, what is refused, and every crash point of every change.

mod sim {
    pub mod bench;
    mod cost;
    mod crash;
    mod main_job;
    mod refused;
    mod store;
}
