//! A change of the references as a line of JSON, and back.

use std::str::FromStr as _;

use serde::{Deserialize, Serialize};
use vol_types::VolumeId;

use super::{COUNT_MAX, IDS_MAX, Reference, Refs, is_id};
use crate::Runtime;

/// Of lines that are none, so many are told one by one.
const TOLD_MAX: usize = 16;

/// A change, to be written down as a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The boot in which it was made: each line has it, so that each can be read alone.
    boot: String,
    #[serde(flatten)]
    change: Change,
}

/// What a line says. Each is what holds from then on, not a step: to read one twice is to read it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "lowercase")]
enum Change {
    /// An id is counted so often; zero: no longer.
    Reference { runtime: Runtime, volume: String, id: String, count: u32, confirmed: bool },
    /// An engine has begun anew.
    Activated { runtime: Runtime },
    /// No id of an engine's is counted of a volume any more.
    Forgotten { runtime: Runtime, volume: String },
}

impl Record {
    pub(super) fn of(boot: &str, one: &Reference) -> Self {
        let Reference { runtime, volume, id, count, confirmed } = one;
        let (volume, id) = (volume.to_string(), id.clone());
        let change = Change::Reference { runtime: *runtime, volume, id, count: *count, confirmed: *confirmed };
        Self { boot: boot.to_owned(), change }
    }

    pub(super) fn activated(boot: &str, runtime: Runtime) -> Self {
        Self { boot: boot.to_owned(), change: Change::Activated { runtime } }
    }

    pub(super) fn forgotten(boot: &str, runtime: Runtime, volume: VolumeId) -> Self {
        Self { boot: boot.to_owned(), change: Change::Forgotten { runtime, volume: volume.to_string() } }
    }

    /// As it is written down, with the end of the line.
    pub fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// What lines came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub refs: Refs,
    /// Lines of other boots, which were dropped.
    pub of_other_boots: usize,
    /// Lines that are none, the first few of them.
    pub unreadable: Vec<Unreadable>,
    /// How many there are altogether.
    pub unreadable_lines: usize,
}

/// A line that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// From 1.
    pub line: usize,
    pub why: String,
}

pub(super) fn load<'a>(lines: impl IntoIterator<Item = &'a str>, boot_id: &str) -> Loaded {
    let mut loaded =
        Loaded { refs: Refs::new(boot_id), of_other_boots: 0, unreadable: Vec::new(), unreadable_lines: 0 };
    for (line, text) in (1..).zip(lines) {
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let done = serde_json::from_str::<Record>(text).map_err(|error| error.to_string()).and_then(|record| {
            if record.boot == boot_id {
                apply(&mut loaded.refs, record.change)
            } else {
                loaded.of_other_boots += 1;
                Ok(())
            }
        });
        if let Err(why) = done {
            loaded.unreadable_lines += 1;
            if loaded.unreadable.len() < TOLD_MAX {
                loaded.unreadable.push(Unreadable { line, why });
            }
        }
    }
    loaded
}

fn apply(refs: &mut Refs, change: Change) -> Result<(), String> {
    let volume_of = |text: &str| VolumeId::from_str(text).map_err(|error| format!("volume {text:?}: {error}"));
    match change {
        Change::Activated { runtime } => {
            refs.activated(runtime);
        }
        Change::Forgotten { runtime, volume } => {
            refs.forget_of(runtime, volume_of(&volume)?);
        }
        Change::Reference { runtime, volume, id, count, confirmed } => {
            let volume = volume_of(&volume)?;
            if !is_id(&id) {
                return Err(format!("the mount id has {} bytes, or control characters", id.len()));
            }
            let count = if runtime.counts() { count } else { count.min(1) };
            if count > COUNT_MAX {
                return Err(format!("the count is {count}; the most is {COUNT_MAX}"));
            }
            let known = refs.of(volume).iter().position(|one| one.is(runtime, &id));
            match known {
                _ if count == 0 => {
                    refs.forget_id(runtime, volume, &id);
                }
                Some(at) => {
                    if let Some(one) = refs.volumes.get_mut(&volume).and_then(|of| of.get_mut(at)) {
                        (one.count, one.confirmed) = (count, confirmed);
                    }
                }
                None if refs.ids() >= IDS_MAX => return Err(format!("there are more than {IDS_MAX} mount ids")),
                None => {
                    let one = Reference { runtime, volume, id, count, confirmed };
                    refs.volumes.entry(volume).or_default().push(one);
                }
            }
        }
    }
    Ok(())
}
