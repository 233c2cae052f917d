//! Commands that watch: events and jobs.

use clap::{Args, Subcommand};
use vol_types::Name;

use super::Change;
use crate::values::name;

/// `volctl events`.
#[derive(Clone, Debug, Args)]
pub struct Events {
    /// Go on with what happens from now on, until it is interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// What came after the event of this number; 0 is all that is kept
    #[arg(long, value_name = "SEQUENCE")]
    pub since: Option<u64>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Job {
    /// List jobs: those that have not ended, and those that ended in the last hour
    #[command(alias = "ls")]
    List,
    /// Show one job
    #[command(alias = "inspect")]
    Show(OneJob),
    /// Wait until a job has ended, with its progress on a terminal; exit code 1 if it failed or was cancelled
    Wait(OneJob),
    /// Cancel a job: what it had taken is taken back. Giving back the space of what was deleted cannot be cancelled
    Cancel {
        #[command(flatten)]
        job: OneJob,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Clone, Debug, Args)]
pub struct OneJob {
    /// Its id, as volctl job list shows it
    #[arg(value_parser = name, value_name = "JOB")]
    pub job: Name,
}
