//! What the planner decides, as text: the very lines that `--dry-run` prints. Each test's name is a claim.

mod plans {
    mod agreement;
    pub mod fixture;
    mod fs;
    mod grow;
    mod mount;
    mod pool;
    mod recover;
    mod thick;
    mod vg;
    mod volume;
}
