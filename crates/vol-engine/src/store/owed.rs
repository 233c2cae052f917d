//! What is in force and on no disk yet: the ends of pool transactions.
//!
//! That a transaction is over, the kernel's transaction id says; the intent that stands on the disks says what it was. A daemon
//! that starts finds both and records the end (`docs/spec/pool-transactions.md`). So the end need not cost a flush of its own: it
//! rides on the next commit, and is written by itself when none comes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::RwLock;

use vol_core::Catalog;
use vol_types::{Change, Object, ObjectKey, defect};

use super::{Store, StoreError, read, write};
use crate::host::HostMut;

#[derive(Default)]
pub(super) struct Owed {
    changes: Vec<Change>,
    /// The objects as the disks have them; `None` for those that they do not have.
    on_disk: BTreeMap<ObjectKey, Option<Object>>,
    /// Whether it was there already when somebody asked whether it has waited for long.
    old: bool,
}

impl Owed {
    /// Both, for one record; of an object that is changed again the last word is enough.
    pub fn with<'a>(&self, changes: &'a [Change]) -> Cow<'a, [Change]> {
        if self.changes.is_empty() || defect("what is owed is forgotten") {
            return Cow::Borrowed(changes);
        }
        let again = |owed: &&Change| changes.iter().any(|change| change.key() == owed.key());
        let owed = self.changes.iter().filter(|owed| !again(owed));
        Cow::Owned(owed.chain(changes).cloned().collect())
    }
}

impl Store {
    /// Makes `changes` visible in `catalog`, and leaves it to the next commit to make them durable. They must be such that a daemon
    /// which starts without them comes to the same.
    pub fn commit_later(&mut self, catalog: &RwLock<Catalog>, changes: &[Change]) -> Result<(), StoreError> {
        self.changeable()?;
        self.sound(catalog, changes)?;
        write(catalog, |catalog| {
            for change in changes {
                self.owed.on_disk.entry(change.key()).or_insert_with(|| catalog.object(change.key()));
                catalog.anticipate(change.clone());
            }
        });
        self.owed.changes.extend_from_slice(changes);
        Ok(())
    }

    /// Whether something waits for the next commit.
    pub fn owes(&self) -> bool {
        !self.owed.changes.is_empty()
    }

    /// Whether it was owed when this was asked last, and still is: no commit has come meanwhile.
    pub fn owes_for_long(&mut self) -> bool {
        let old = self.owed.old;
        self.owed.old = self.owes();
        old && self.owes()
    }

    /// Makes durable what is owed, by a commit of its own. After an error it is still owed, or the store is frozen.
    pub fn settle<H: HostMut + ?Sized>(&mut self, host: &H, catalog: &RwLock<Catalog>) -> Result<(), StoreError> {
        if self.owes() { self.commit(host, catalog, &[]) } else { Ok(()) }
    }

    /// The objects at the newest commit: what a checkpoint of this moment holds.
    pub(super) fn objects_on_disk(&self, catalog: &RwLock<Catalog>) -> Vec<Object> {
        if !self.owes() {
            return read(catalog, Catalog::objects);
        }
        let mut catalog = read(catalog, Catalog::clone);
        for (key, object) in &self.owed.on_disk {
            catalog.apply(object.clone().map_or(Change::Delete(*key), Change::Put));
        }
        catalog.objects()
    }
}
