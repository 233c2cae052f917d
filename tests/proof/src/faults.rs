//! What goes wrong in a seeded history, in words that can be read back. To add a fault: a variant of [`Trouble`], its text, and
//! an arm in `seeds`.

use std::fmt;
use std::str::FromStr;

use vol_engine::host::HostErrorKind;
use vol_sim::{Damage, Fault, ProbeLie, ReadFault, SimPoolMode};

use crate::ops::{Op, Pool};

/// One step of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Do(Op),
    Go(Trouble),
}

/// Disks are numbered as the victims of the epoch: the minority that silent harm and absence may strike. With no victim
/// (fewer than three copies) such a step does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The effect after so many others suffers this; an error that is told, a death, or a message that lies.
    Effect(u8, Fault),
    /// On a victim, the effect after so many others, once; errors and silent harm.
    Once(u8, u8, Fault),
    /// A victim from now on.
    Sticky(u8, Fault),
    /// Reads of a victim from now on.
    Reads(u8, ReadFault),
    /// A victim works again.
    Heal(u8),
    Remove(u8),
    Reattach(u8),
    /// Remembers what stands in the metadata of a victim, and brings it back later.
    Save(u8),
    Stale(u8),
    Clone(u8),
    Unclone,
    /// Of a victim's first label, log or checkpoints: region, which 4 KiB in it, and how.
    Damage(u8, Region, u8, Damage),
    Clock(u32),
    PoolMode(Pool, SimPoolMode),
    BreakPool(Pool),
    RepairPool(Pool),
    /// A volume's user writes until the pool is full; how many chunks.
    Fill(u8),
    Lie(u8),
    Truth,
    Kill,
    PowerCut,
    /// A daemon starts (after a death, or in place of the one that runs).
    Restart,
    /// All faults stop, all comes right, and other disks are the victims.
    Epoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    Label,
    Log,
    Slot0,
    Slot1,
}

impl Region {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Label, "label"), (Self::Log, "log"), (Self::Slot0, "slot0"), (Self::Slot1, "slot1")];
}

/// Faults by name, those that a history may hold.
pub const FAULTS: &[(Fault, &str)] = &[
    (Fault::Error(HostErrorKind::Io), "eio"),
    (Fault::Error(HostErrorKind::Busy), "busy"),
    (Fault::Error(HostErrorKind::NoSpace), "nospace"),
    (Fault::Error(HostErrorKind::TimedOut), "timeout"),
    (Fault::ErrorAfter(HostErrorKind::TimedOut), "late"),
    (Fault::ErrorAfter(HostErrorKind::Io), "late-eio"),
    (Fault::Torn, "torn"),
    (Fault::MessageCommitFails, "commit-fails"),
    (Fault::MessageCommitFailsLate, "commit-fails-late"),
    (Fault::KillDaemonBefore, "kill-before"),
    (Fault::KillDaemonInside(1), "kill-inside1"),
    (Fault::KillDaemonInside(2), "kill-inside2"),
    (Fault::KillDaemonAfter, "kill-after"),
    (Fault::PowerCutBefore, "cut-before"),
    (Fault::PowerCutInside(1), "cut-inside1"),
    (Fault::PowerCutInside(2), "cut-inside2"),
    (Fault::PowerCutAfter, "cut-after"),
    (Fault::LostWrite, "lost"),
    (Fault::Junk, "junk"),
    (Fault::Zeros, "zeros"),
    (Fault::Misdirected, "misdirected"),
];

/// Harm that nobody is told of.
pub const fn silent(fault: Fault) -> bool {
    matches!(fault, Fault::LostWrite | Fault::Junk | Fault::Zeros | Fault::Misdirected)
}

const READS: &[(ReadFault, &str)] =
    &[(ReadFault::Error, "error"), (ReadFault::Zeros, "zeros"), (ReadFault::Junk, "junk")];
const DAMAGES: &[(Damage, &str)] = &[
    (Damage::Zeros, "zeros"),
    (Damage::Junk, "junk"),
    (Damage::BitFlip, "bitflip"),
    // The first record of the log, as a write that went to the wrong place leaves it.
    (Damage::CopyOf(2 << 20), "copy"),
    (Damage::Unreadable, "unreadable"),
];
const MODES: &[(SimPoolMode, &str)] = &[
    (SimPoolMode::OutOfDataSpace, "no-data"),
    (SimPoolMode::OutOfMetadataSpace, "no-metadata"),
    (SimPoolMode::ReadOnly, "read-only"),
    (SimPoolMode::Fail, "fail"),
];

/// What a probe may say instead of the truth.
pub fn lie(number: u8) -> ProbeLie {
    match number % 4 {
        0 => ProbeLie::Nothing,
        1 => ProbeLie::Ambivalent,
        2 => ProbeLie::Error,
        _ => ProbeLie::Other("xfs".to_owned()),
    }
}

fn text<T: Copy + PartialEq>(of: &[(T, &'static str)], value: T) -> &'static str {
    of.iter().find(|(one, _)| *one == value).map_or("?", |(_, text)| text)
}

fn value<T: Copy>(of: &[(T, &'static str)], text: &str) -> Option<T> {
    of.iter().find(|(_, one)| *one == text).map(|(value, _)| *value)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trouble = match self {
            Self::Do(op) => return op.fmt(f),
            Self::Go(trouble) => trouble,
        };
        f.write_str("!")?;
        match *trouble {
            Trouble::Effect(after, fault) => write!(f, "effect,{after},{}", text(FAULTS, fault)),
            Trouble::Once(disk, after, fault) => write!(f, "once,{disk},{after},{}", text(FAULTS, fault)),
            Trouble::Sticky(disk, fault) => write!(f, "sticky,{disk},{}", text(FAULTS, fault)),
            Trouble::Reads(disk, fault) => write!(f, "reads,{disk},{}", text(READS, fault)),
            Trouble::Heal(disk) => write!(f, "heal,{disk}"),
            Trouble::Remove(disk) => write!(f, "remove,{disk}"),
            Trouble::Reattach(disk) => write!(f, "reattach,{disk}"),
            Trouble::Save(disk) => write!(f, "save,{disk}"),
            Trouble::Stale(disk) => write!(f, "stale,{disk}"),
            Trouble::Clone(disk) => write!(f, "clone,{disk}"),
            Trouble::Unclone => f.write_str("unclone"),
            Trouble::Damage(disk, region, block, damage) => {
                write!(f, "damage,{disk},{},{block},{}", text(&Region::ALL, region), text(DAMAGES, damage))
            }
            Trouble::Clock(now) => write!(f, "clock,{now}"),
            Trouble::PoolMode(pool, mode) => write!(f, "mode,{},{}", pool.as_str(), text(MODES, mode)),
            Trouble::BreakPool(pool) => write!(f, "break,{}", pool.as_str()),
            Trouble::RepairPool(pool) => write!(f, "repair,{}", pool.as_str()),
            Trouble::Fill(chunks) => write!(f, "fill,{chunks}"),
            Trouble::Lie(number) => write!(f, "lie,{number}"),
            Trouble::Truth => f.write_str("truth"),
            Trouble::Kill => f.write_str("kill"),
            Trouble::PowerCut => f.write_str("power-cut"),
            Trouble::Restart => f.write_str("restart"),
            Trouble::Epoch => f.write_str("epoch"),
        }
    }
}

impl FromStr for Step {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('!') {
            None => text.parse().map(Self::Do),
            Some(words) => {
                let words: Vec<&str> = words.split(',').collect();
                trouble(&words).map(Self::Go).ok_or_else(|| format!("{text:?} is no fault, as !once,0,3,junk is one"))
            }
        }
    }
}

fn trouble(words: &[&str]) -> Option<Trouble> {
    let number = |text: &str| text.parse::<u8>().ok();
    Some(match *words {
        ["effect", after, fault] => Trouble::Effect(number(after)?, value(FAULTS, fault)?),
        ["once", disk, after, fault] => Trouble::Once(number(disk)?, number(after)?, value(FAULTS, fault)?),
        ["sticky", disk, fault] => Trouble::Sticky(number(disk)?, value(FAULTS, fault)?),
        ["reads", disk, fault] => Trouble::Reads(number(disk)?, value(READS, fault)?),
        ["heal", disk] => Trouble::Heal(number(disk)?),
        ["remove", disk] => Trouble::Remove(number(disk)?),
        ["reattach", disk] => Trouble::Reattach(number(disk)?),
        ["save", disk] => Trouble::Save(number(disk)?),
        ["stale", disk] => Trouble::Stale(number(disk)?),
        ["clone", disk] => Trouble::Clone(number(disk)?),
        ["unclone"] => Trouble::Unclone,
        ["damage", disk, region, block, damage] => {
            Trouble::Damage(number(disk)?, value(&Region::ALL, region)?, number(block)?, value(DAMAGES, damage)?)
        }
        ["clock", now] => Trouble::Clock(now.parse().ok()?),
        ["mode", pool, mode] => Trouble::PoolMode(Pool::of(pool)?, value(MODES, mode)?),
        ["break", pool] => Trouble::BreakPool(Pool::of(pool)?),
        ["repair", pool] => Trouble::RepairPool(Pool::of(pool)?),
        ["fill", chunks] => Trouble::Fill(number(chunks)?),
        ["lie", which] => Trouble::Lie(number(which)?),
        ["truth"] => Trouble::Truth,
        ["kill"] => Trouble::Kill,
        ["power-cut"] => Trouble::PowerCut,
        ["restart"] => Trouble::Restart,
        ["epoch"] => Trouble::Epoch,
        _ => return None,
    })
}

/// A random fault.
pub fn draw(dice: &mut crate::work::Dice) -> Trouble {
    let told: Vec<Fault> = FAULTS.iter().map(|(fault, _)| *fault).filter(|fault| !silent(*fault)).collect();
    let any: Vec<Fault> = FAULTS.iter().map(|(fault, _)| *fault).filter(|fault| harms_a_disk(*fault)).collect();
    let disk = dice.below(2) as u8;
    let after = dice.below(24) as u8;
    let pool = if dice.one_in(4) { Pool::Spare } else { Pool::Tank };
    let error = Fault::Error(HostErrorKind::Io);
    match dice.below(32) {
        0..=9 => Trouble::Effect(after, dice.pick(&told).unwrap_or(error)),
        10..=14 => Trouble::Once(disk, after % 6, dice.pick(&any).unwrap_or(error)),
        15 => Trouble::Sticky(disk, dice.pick(&any).unwrap_or(error)),
        16 => Trouble::Reads(disk, READS[dice.below(3) as usize].0),
        17 => Trouble::Heal(disk),
        18 => Trouble::Remove(disk),
        19 => Trouble::Reattach(disk),
        20 => Trouble::Save(disk),
        21 => Trouble::Stale(disk),
        22 => [Trouble::Clone(disk), Trouble::Unclone][dice.below(2) as usize],
        23 | 24 => {
            let region = Region::ALL[dice.below(4) as usize].0;
            Trouble::Damage(disk, region, dice.below(24) as u8, DAMAGES[dice.below(5) as usize].0)
        }
        25 => Trouble::Clock(dice.roll() as u32),
        26 => Trouble::PoolMode(pool, MODES[dice.below(4) as usize].0),
        27 => [Trouble::BreakPool(pool), Trouble::RepairPool(pool), Trouble::Fill(after * 10)][dice.below(3) as usize],
        28 => [Trouble::Lie(after), Trouble::Truth][dice.below(2) as usize],
        29 => [Trouble::Kill, Trouble::PowerCut][dice.below(2) as usize],
        30 => Trouble::Restart,
        _ => [Trouble::Epoch, Trouble::Restart, Trouble::Restart][dice.below(3) as usize],
    }
}

/// What can befall one disk without the machine's death.
fn harms_a_disk(fault: Fault) -> bool {
    !fault.kills_daemon()
        && !fault.cuts_power()
        && !matches!(fault, Fault::MessageCommitFails | Fault::MessageCommitFailsLate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_that_can_be_drawn_is_read_back_from_its_text() {
        let mut dice = crate::work::Dice(1);
        for _ in 0..5000 {
            let step = Step::Go(draw(&mut dice));
            assert_eq!(step.to_string().parse(), Ok(step), "{step}");
        }
    }
}
