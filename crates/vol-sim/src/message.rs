//! Messages to a thin pool, and the snapshot with its suspended window.

use std::sync::Arc;

use vol_engine::host::{HostErrorKind, HostResult, ThinSnapshot};
use vol_types::defect;
use vol_types::limit::THIN_ID_MAX;

use crate::contents::Held;
use crate::effect::Mishap;
use crate::fault::Fault;
use crate::mapper::dm_dev;
use crate::pool::{Message, PoolDisk, SimPoolMode, Thin};
use crate::world::{World, fail};

/// The snapshot clock is packed into so many values (`dm-thin-metadata.c`, `pack_block_time`).
const CLOCK_MAX: u32 = (1 << 24) - 1;

impl Message {
    fn parse(text: &str) -> Option<Self> {
        // The kernel compares with `strcasecmp` (`dm-thin.c`, `pool_message`).
        let text = text.to_ascii_lowercase();
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let id = |word: &str| word.parse().ok().filter(|id| *id <= THIN_ID_MAX);
        match words[..] {
            ["create_thin", new] => Some(Self::Create(id(new)?)),
            ["create_snap", new, origin] => Some(Self::Snap { id: id(new)?, origin: id(origin)? }),
            ["delete", old] => Some(Self::Delete(id(old)?)),
            ["reserve_metadata_snap"] => Some(Self::ReserveSnapshot),
            ["release_metadata_snap"] => Some(Self::ReleaseSnapshot),
            ["set_transaction_id", from, to] => {
                Some(Self::SetTransactionId { from: from.parse().ok()?, to: to.parse().ok()? })
            }
            _ => None,
        }
    }

    /// Why the kernel refuses; in the order of `dm-thin-metadata.c`.
    fn check(self, what: &str, disk: &PoolDisk) -> HostResult<()> {
        match self {
            Self::Create(id) | Self::Snap { id, .. } if disk.thins.contains_key(&id) => {
                fail(HostErrorKind::Exists, what, "EEXIST: the thin id is taken")
            }
            Self::Snap { origin: id, .. } | Self::Delete(id) if !disk.thins.contains_key(&id) => {
                fail(HostErrorKind::NotFound, what, "ENODATA: no such thin id")
            }
            Self::SetTransactionId { from, .. } if from != disk.transaction_id => {
                fail(HostErrorKind::Invalid, what, "EINVAL: mismatched transaction id")
            }
            Self::ReserveSnapshot if disk.held.is_some() => {
                fail(HostErrorKind::Busy, what, "EBUSY: a metadata snapshot is held already")
            }
            Self::ReleaseSnapshot if disk.held.is_none() => {
                fail(HostErrorKind::Invalid, what, "EINVAL: no metadata snapshot is held")
            }
            _ => Ok(()),
        }
    }

    fn apply(self, disk: &mut PoolDisk) {
        match self {
            Self::Create(id) => {
                let thin = Thin { created_transaction: disk.transaction_id, ..Thin::default() };
                disk.thins.insert(id, thin);
            }
            Self::Snap { id, origin } => {
                disk.clock += 1;
                if let Some(thin) = disk.thins.get(&origin).cloned() {
                    for block in thin.blocks.values() {
                        *disk.blocks.entry(*block).or_default() += 1;
                    }
                    let created_transaction = disk.transaction_id;
                    disk.thins.insert(id, Thin { origin: Some(origin), created_transaction, ..thin });
                }
            }
            Self::Delete(id) => disk.drop_thin(id),
            Self::SetTransactionId { to, .. } => disk.transaction_id = to,
            Self::ReserveSnapshot => {
                disk.held = Some(Arc::new(Held { contents: disk.contents(), mappings: disk.mappings() }));
            }
            Self::ReleaseSnapshot => disk.held = None,
        }
    }
}

impl World {
    pub fn message(&mut self, what: &str, uuid: &str, text: &str, mishap: Mishap) -> HostResult<()> {
        self.counters.ioctls += 1;
        let minor = self.dm_minor(what, uuid)?;
        let Some(active) = self.active_pool(minor).cloned() else {
            return fail(HostErrorKind::Invalid, what, "the target takes no messages");
        };
        if self.dm.get(&minor).is_none_or(|device| device.live.is_none()) {
            return fail(HostErrorKind::NotFound, what, "no live table");
        }
        self.counters.messages += 1;
        if active.mode >= SimPoolMode::OutOfMetadataSpace {
            return fail(HostErrorKind::Unsupported, what, "EOPNOTSUPP: the pool is read-only or failed");
        }
        let Some(message) = Message::parse(text) else {
            return fail(HostErrorKind::Invalid, what, "EINVAL: unrecognised thin pool message");
        };
        let Some(disk) = self.pool_disk(minor) else {
            return fail(HostErrorKind::Io, what, "no committed state");
        };
        message.check(what, disk)?;
        let life = disk.life;
        if let Message::Delete(id) = message
            && self.dm.values().any(|device| device.opens_thin(dm_dev(minor), id))
        {
            return fail(HostErrorKind::Busy, what, "EBUSY: the thin device is open");
        }
        self.watch(minor, life, message);
        // The kernel goes on when only the daemon dies here.
        if mishap.power_cut_at(1) {
            return Ok(());
        }
        match mishap.0 {
            Some(Fault::MessageCommitFails) => self.abort_pool(minor),
            // The result of the commit is thrown away (`dm-thin.c`, `pool_message`).
            failing => {
                // Taking and giving back a metadata snapshot leaves the pool as it was: the state keeps its name, so that a machine
                // that only looked at its pools has the same fingerprint as before.
                let looks = matches!(message, Message::ReserveSnapshot | Message::ReleaseSnapshot);
                let committed = if looks && !self.refuses_writes(active.metadata) {
                    self.change_data(minor, |disk| message.apply(disk));
                    Ok(())
                } else {
                    self.commit_pool(minor, |disk| message.apply(disk))
                };
                if committed.is_ok() {
                    self.remember(life, message);
                }

                if failing == Some(Fault::MessageCommitFailsLate) {
                    self.abort_pool(minor);
                }
            }
        }
        if let (Message::SetTransactionId { to, .. }, Some(pool)) = (message, self.pool_mut(minor))
            && pool.needs_check
        {
            pool.shown_transaction = Some(to);
        }
        Ok(())
    }

    /// Writes down what a message must not do, though the kernel lets it.
    fn watch(&mut self, minor: u32, life: u64, message: Message) {
        match message {
            Message::Snap { id, origin } => {
                let running = |device: &crate::mapper::DmDevice| {
                    device.running() && device.thin() == Some((dm_dev(minor), origin))
                };
                if self.dm.values().any(running) {
                    self.violation(format!("snapshot_of_running_origin: thin {id} of {origin} while it runs"));
                }
                if self.pool_disk(minor).is_some_and(|disk| disk.clock >= CLOCK_MAX) {
                    self.violation("the snapshot clock of a pool wrapped around".to_owned());
                }
                self.thin_lives.entry((life, origin)).or_default().used = true;
            }
            Message::Create(_) | Message::Delete(_) => {}
            Message::SetTransactionId { from, to } if to != from.wrapping_add(1) => {
                self.violation(format!("a transaction id went from {from} to {to}"));
            }
            Message::SetTransactionId { .. } | Message::ReserveSnapshot | Message::ReleaseSnapshot => {}
        }
        if let Message::Create(id) | Message::Snap { id, .. } = message
            && self.thin_lives.get(&(life, id)).is_some_and(|thin| thin.created > 0 && thin.used)
        {
            self.violation(format!("thin id {id} was used, deleted and created again"));
        }
    }

    fn remember(&mut self, life: u64, message: Message) {
        let (id, handed_out) = match message {
            Message::Create(id) => (id, false),
            Message::Snap { id, origin } => {
                (id, self.thin_lives.get(&(life, origin)).is_some_and(|thin| thin.handed_out))
            }
            _ => return,
        };
        let thin = self.thin_lives.entry((life, id)).or_default();
        thin.created += 1;
        thin.handed_out = handed_out;
    }

    /// Suspend, messages, resume; its stages are those of [`crate::EffectKind::stages`].
    pub fn snapshot(&mut self, what: &str, call: &ThinSnapshot, mishap: Mishap) -> HostResult<()> {
        let active = call.of.iter().filter_map(|one| one.uuid.as_deref());
        let origins: Vec<u32> = active.map(|uuid| self.dm_minor(what, uuid)).collect::<HostResult<_>>()?;
        let mut suspended = Ok(());
        for (at, minor) in origins.iter().enumerate() {
            suspended = mishap.memory(what, at + 1);
            if suspended.is_err() {
                break;
            }
            if let Some(device) = self.dm.get_mut(minor)
                && !defect("host: the origin of a snapshot runs on")
            {
                device.suspended = true;
                device.guarded = true;
                self.counters.ioctls += 1;
            }
            if at == 0 {
                mishap.stage(1)?;
            }
        }
        if origins.is_empty() {
            mishap.stage(1)?;
        }
        mishap.stage(3)?;
        // The stages of a message itself are not those of the snapshot.
        let of_message = match mishap.0 {
            Some(Fault::KillDaemonInside(_) | Fault::PowerCutInside(_)) => Mishap(None),
            _ => mishap,
        };
        let mut sent = suspended;
        let messages = if sent.is_ok() { call.of.as_slice() } else { &[] };
        for (at, one) in messages.iter().enumerate() {
            let text = format!("create_snap {} {}", one.thin_id, one.origin_thin_id);
            sent = mishap
                .memory(what, origins.len() + at + 1)
                .and_then(|()| self.message(what, &call.pool_uuid, &text, of_message))
                .map_err(|error| error.at(at));
            if at == 0 {
                mishap.stage(2)?;
            }
            if sent.is_err() {
                break;
            }
        }
        mishap.stage(4)?;
        let mut resumed = Ok(());
        let stays = defect("host: the origin of a snapshot stays suspended");
        // What fails but once is tried again.
        let tried = match mishap.0 {
            Some(Fault::NoMemory(_)) => Mishap(None),
            _ => mishap,
        };
        for (at, minor) in origins.iter().enumerate().filter(|_| !stays) {
            self.counters.ioctls += 1;
            let memory = tried.memory(what, origins.len() + call.of.len() + at + 1);
            resumed = resumed.and(memory.and_then(|()| self.resume_minor(*minor)));
            if at == 0 {
                mishap.stage(5)?;
            }
        }
        if let Err(error) = &mut resumed {
            error.detail = format!("{}; a device may still be suspended", error.detail);
            // The guard outside goes on trying.
            if self.guard_resumes {
                origins.iter().try_for_each(|minor| self.resume_minor(*minor))?;
            }
        }
        resumed.and(sent)
    }
}
