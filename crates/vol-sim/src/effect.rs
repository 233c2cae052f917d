//! The numbering of effects: where faults strike, and what was done is written down.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use vol_engine::host::{HostError, HostErrorKind, HostResult};

use crate::fault::{EffectKind, Fault};
use crate::world::{World, dead};

/// One effect as it was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// From 1, in the order of the calls.
    pub number: u64,
    pub kind: EffectKind,
    /// The call with its arguments.
    pub what: String,
    pub fault: Option<Fault>,
    /// `None` for success.
    pub error: Option<(HostErrorKind, String)>,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4} {} -> ", self.number, self.what)?;
        match &self.error {
            None => write!(f, "ok")?,
            Some((kind, detail)) => write!(f, "{kind:?}: {detail}")?,
        }
        self.fault.map_or(Ok(()), |fault| write!(f, " [{fault:?}]"))
    }
}

/// How much was done, for tests that bound the cost of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Device-mapper ioctls as the real host makes them: 3 to create (create, load, resume) or snapshot (suspend, message,
    /// resume), 2 to reload, 1 for all else.
    pub ioctls: u64,
    pub messages: u64,
    /// Calls of `flush`, and one for each durable write.
    pub flushes: u64,
    /// Calls of `write_at`, and each durable write.
    pub writes: u64,
    /// By the node that was written to.
    pub bytes_written: BTreeMap<PathBuf, u64>,
    pub reads: u64,
    pub bytes_read: u64,
    pub opens: u64,
    pub mkfs: u64,
    /// How long it was waited for something, or rested ([`vol_engine::host::HostRead::pause`]).
    pub paused: std::time::Duration,
    /// Bytes of slices that were wiped.
    pub wiped: u64,
    /// Bytes of slices that were copied.
    pub copied: u64,
}

/// What is to go wrong inside one effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mishap(pub Option<Fault>);

impl Mishap {
    /// Ends a compound effect here if this is the stage to die at.
    pub fn stage(self, stage: u8) -> HostResult<()> {
        match self.0 {
            Some(Fault::KillDaemonInside(at) | Fault::PowerCutInside(at)) if at == stage => Err(dead("stopped inside")),
            _ => Ok(()),
        }
    }
    /// What this ioctl (from 1) of a compound effect comes to for want of memory; done nothing if an error.
    pub fn memory(self, what: &str, ioctl: usize) -> HostResult<()> {
        let (from, to) = match self.0 {
            Some(Fault::NoMemory(at)) => (usize::from(at), usize::from(at)),
            Some(Fault::NoMemoryFrom(at)) => (usize::from(at), usize::MAX),
            _ => return Ok(()),
        };
        if (from..=to).contains(&ioctl) {
            return Err(HostError::new(HostErrorKind::Other, what, "Cannot allocate memory (ENOMEM)"));
        }
        Ok(())
    }
    pub fn power_cut_at(self, stage: u8) -> bool {
        self.0 == Some(Fault::PowerCutInside(stage))
    }
}

impl World {
    /// Carries out one effect on `device`, and what is planned to go wrong with it.
    pub fn effect<T>(
        &mut self,
        kind: EffectKind,
        device: &str,
        what: String,
        body: impl FnOnce(&mut Self, Mishap) -> HostResult<T>,
    ) -> HostResult<T> {
        self.alive(&what)?;
        self.effects += 1;
        let number = self.effects;
        if self.recorder.is_some() {
            self.record(number, kind, Fault::KillDaemonBefore);
            self.record(number, kind, Fault::PowerCutBefore);
        }
        let fault = self.faults.take(number, kind, device);
        let injected = |kind| HostError::new(kind, what.clone(), "injected fault");
        let result = match fault {
            Some(Fault::Error(error)) => {
                self.prevented(kind, device);
                Err(injected(error))
            }
            Some(fault) if fault.prevents() => Err(dead(&what)),
            _ => body(self, Mishap(fault)),
        };
        let result = match fault {
            Some(Fault::ErrorAfter(error)) => result.and_then(|_| Err(injected(error))),
            Some(fault) if fault.kills_daemon() || fault.cuts_power() => Err(dead(&what)),
            _ => result,
        };
        if let Some(log) = &mut self.log {
            let error = result.as_ref().err().map(|error| (error.kind, error.detail.clone()));
            log.push(Effect { number, kind, what, fault, error });
        }
        match fault {
            Some(fault) if fault.kills_daemon() => self.kill_daemon(),
            Some(fault) if fault.cuts_power() => self.cut_power(),
            _ => {}
        }
        if self.recorder.is_some() {
            self.record(number, kind, Fault::KillDaemonAfter);
            self.record(number, kind, Fault::PowerCutAfter);
        }
        result
    }

    /// What an error leaves behind although nothing was done.
    fn prevented(&mut self, kind: EffectKind, device: &str) {
        if kind != EffectKind::Flush {
            return;
        }
        let medium = self.nodes.get(std::path::Path::new(device)).map(|node| node.medium);
        if let Some(medium) = medium.and_then(|id| self.media.get_mut(&id)) {
            medium.image.flush_failed();
        }
    }
}
