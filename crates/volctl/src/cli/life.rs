//! What can be done with volumes and snapshots after they were made, as it is typed.

use clap::Args;
use vol_types::label::check_key;
use vol_types::{Label, Name, Selector, SnapshotPath, VolumePath};

use super::Change;
use super::space::Place;
use crate::values::{SizeText, name, reserve, size};

/// Labels of something new.
#[derive(Clone, Debug, Default, Args)]
pub struct WithLabels {
    /// Label it (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<Label>,
}

/// What a list is kept to.
#[derive(Clone, Debug, Default, Args)]
pub struct Selected {
    /// Only with these labels: KEY=VALUE, KEY!=VALUE, KEY or !KEY, with commas between them (repeatable)
    #[arg(short = 'l', long = "selector", value_name = "SELECTOR", value_parser = selector)]
    pub selectors: Vec<String>,
}

impl Selected {
    /// All of them as one, if there is any.
    pub fn joined(&self) -> Option<String> {
        (!self.selectors.is_empty()).then(|| self.selectors.join(","))
    }
}

fn selector(text: &str) -> Result<String, String> {
    text.parse::<Selector>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// `VG/VOLUME` or `VG/VOLUME@SNAPSHOT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub volume: VolumePath,
    pub snapshot: Option<Name>,
}

fn source(text: &str) -> Result<Source, String> {
    if text.contains('@') {
        let path: SnapshotPath = text.parse().map_err(|error| format!("{error}"))?;
        return Ok(Source { volume: path.volume, snapshot: Some(path.snapshot) });
    }
    Ok(Source { volume: text.parse().map_err(|error| format!("{error}"))?, snapshot: None })
}

#[derive(Clone, Debug, Args)]
pub struct CloneArgs {
    /// What it is made from: a snapshot, or a volume as it is now
    #[arg(value_name = "VG/VOLUME[@SNAPSHOT]", value_parser = source)]
    pub of: Source,
    /// The new volume, in the same volume group
    #[arg(value_name = "VG/NEW")]
    pub new: VolumePath,
    #[command(flatten)]
    pub with: WithLabels,
    /// Set this much of the pool aside for it: a size, or full
    #[arg(long, value_name = "SIZE|full", value_parser = reserve, allow_hyphen_values = true)]
    pub reserve: Option<String>,
    /// Larger than what it is made from: its size, for example 20G
    #[arg(long, value_parser = size, allow_hyphen_values = true)]
    pub size: Option<SizeText>,
    /// Refuse to delete it, from the start
    #[arg(long)]
    pub protect: bool,
    /// Of a thick volume: where the copy is to lie
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub change: Change,
}

#[derive(Clone, Debug, Args)]
pub struct RenameVolume {
    /// Volume group and volume, for example data/pg
    #[arg(value_name = "VG/VOLUME")]
    pub volume: VolumePath,
    /// Its new name, in the same volume group
    #[arg(value_name = "VG/NEW")]
    pub new: VolumePath,
    #[command(flatten)]
    pub change: Change,
}

#[derive(Clone, Debug, Args)]
pub struct RenameSnapshot {
    /// Volume group, volume and snapshot, for example data/pg@before
    #[arg(value_name = "VG/VOLUME@SNAPSHOT")]
    pub snapshot: SnapshotPath,
    /// Its new name; the volume stays as it is
    #[arg(value_name = "NEW", value_parser = name)]
    pub new: Name,
    #[command(flatten)]
    pub change: Change,
}

/// A label to be set, or a key whose label is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelChange {
    Set(Label),
    Remove(String),
}

fn label_change(text: &str) -> Result<LabelChange, String> {
    match text.strip_suffix('-').filter(|_| !text.contains('=')) {
        Some(key) => check_key(key).map(|()| LabelChange::Remove(key.to_owned())).map_err(|error| error.to_string()),
        None => text
            .parse()
            .map(LabelChange::Set)
            .map_err(|error| format!("{error} (KEY=VALUE sets a label, KEY- takes it away)")),
    }
}

/// Labels to be set and taken away.
#[derive(Clone, Debug, Args)]
pub struct LabelChanges {
    /// A label to set, or KEY- to take one away
    #[arg(value_name = "KEY=VALUE|KEY-", value_parser = label_change, required = true)]
    pub labels: Vec<LabelChange>,
}

#[derive(Clone, Debug, Args)]
pub struct LabelVolume {
    /// Volume group and volume, for example data/pg
    #[arg(value_name = "VG/VOLUME")]
    pub volume: VolumePath,
    #[command(flatten)]
    pub labels: LabelChanges,
    #[command(flatten)]
    pub change: Change,
}

#[derive(Clone, Debug, Args)]
pub struct LabelSnapshot {
    /// Volume group, volume and snapshot, for example data/pg@before
    #[arg(value_name = "VG/VOLUME@SNAPSHOT")]
    pub snapshot: SnapshotPath,
    #[command(flatten)]
    pub labels: LabelChanges,
    #[command(flatten)]
    pub change: Change,
}

/// A volume, and nothing else.
#[derive(Clone, Debug, Args)]
pub struct OneVolume {
    /// Volume group and volume, for example data/pg
    #[arg(value_name = "VG/VOLUME")]
    pub volume: VolumePath,
    #[command(flatten)]
    pub change: Change,
}

#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    /// Volume group, volume and snapshot, for example data/pg@before
    #[arg(value_name = "VG/VOLUME@SNAPSHOT")]
    pub snapshot: SnapshotPath,
    /// What the volume holds is lost for good, and its space is free at once
    #[arg(long)]
    pub now: bool,
    #[command(flatten)]
    pub change: Change,
}

/// A snapshot, and nothing else.
#[derive(Clone, Debug, Args)]
pub struct OneSnapshot {
    /// Volume group, volume and snapshot, for example data/pg@before
    #[arg(value_name = "VG/VOLUME@SNAPSHOT")]
    pub snapshot: SnapshotPath,
    #[command(flatten)]
    pub change: Change,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_set_with_its_value_and_taken_away_with_a_hyphen() {
        let set = |text: &str| LabelChange::Set(text.parse().unwrap());
        assert_eq!(label_change("tier=fast"), Ok(set("tier=fast")));
        assert_eq!(label_change("note=a-"), Ok(set("note=a-")));
        assert_eq!(label_change("tier-"), Ok(LabelChange::Remove("tier".into())));
        for bad in ["tier", "-", "=x", "a b=c", ""] {
            assert!(label_change(bad).is_err(), "{bad:?} was taken as a change of labels");
        }
    }

    #[test]
    fn a_clone_is_made_from_a_volume_or_a_snapshot() {
        assert_eq!(source("data/pg").unwrap().snapshot, None);
        assert_eq!(source("data/pg@t1").unwrap().snapshot.unwrap().as_str(), "t1");
        for bad in ["pg", "data/pg@", "data/@t1", "data/pg@t1@t2", ""] {
            assert!(source(bad).is_err(), "{bad:?} was taken as a source");
        }
    }
}
