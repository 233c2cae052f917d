//! Options about the space of a pool.

use clap::{Args, ValueEnum};

use vol_types::Label;

use crate::values::{PvText, SizeText, growth, pv};

/// What is to happen as a pool fills.
#[derive(Clone, Debug, Default, Args)]
pub struct Policy {
    /// How far it grows by itself, ahead of demand: vg (as far as there is space), off, or a size [default for a new pool: vg]
    #[arg(long, value_name = "SIZE|vg|off", value_parser = growth, allow_hyphen_values = true)]
    pub grow_to: Option<SizeText>,
    /// With no more than this share of it free, it makes no new volumes and snapshots [default for a new pool: 5]
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true,
          value_parser = clap::value_parser!(u32).range(0..=i64::from(vol_types::limit::POOL_RESERVE_PERCENT_MAX)))]
    pub reserve: Option<u32>,
    /// What becomes of writes when it is full [default for a new pool: queue]
    #[arg(long, value_enum)]
    pub when_full: Option<WhenFull>,
    /// How much may be promised to volumes, in percent of the pool's size [default for a new pool: 1000]
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(vol_types::limit::OVERCOMMIT_PERCENT_MAX)))]
    pub overcommit_limit: Option<u32>,
}

/// What becomes of writes that find no space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhenFull {
    /// They wait for space, for a minute unless the kernel is told otherwise
    Queue,
    /// They fail at once
    Error,
}

impl WhenFull {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Error => "error",
        }
    }
}

/// Which physical volumes are meant.
#[derive(Clone, Debug, Default, Args)]
pub struct Which {
    /// Only on this physical volume (repeatable)
    #[arg(long, value_parser = pv, value_name = "PATH|ID")]
    pub on: Vec<PvText>,
    /// Not on this physical volume (repeatable)
    #[arg(long, value_parser = pv, value_name = "PATH|ID")]
    pub not_on: Vec<PvText>,
    /// Only on physical volumes with this label (repeatable: with all of them)
    #[arg(long, value_name = "KEY=VALUE")]
    pub on_label: Vec<Label>,
}

/// How something may lie on physical volumes.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    #[command(flatten)]
    pub which: Which,
    /// Without gaps, or not at all
    #[arg(long)]
    pub contiguous: bool,
}

/// Where a pool grows from now on.
#[derive(Clone, Debug, Default, Args)]
#[command(
    mut_arg("on", |arg| arg.help("From now on it grows only on this physical volume (repeatable). What it remembers is replaced by \
                                  all that is given")),
    mut_arg("not_on", |arg| arg.help("From now on it does not grow on this physical volume (repeatable)")),
    mut_arg("on_label", |arg| arg.help("From now on it grows only on physical volumes with this label (repeatable: with all of them)")),
)]
pub struct GrowOn {
    #[command(flatten)]
    pub which: Which,
    /// From now on it grows on any physical volume
    #[arg(long, conflicts_with_all = ["on", "not_on", "on_label"])]
    pub anywhere: bool,
}
