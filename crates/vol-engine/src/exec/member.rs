//! Effects on what a VG is made of: copies that are admitted or given up, names in labels, metadata under new ids.

use vol_format::checkpoint::{self, Header};
use vol_format::layout::BLOCK;
use vol_format::{label, record};
use vol_types::{Object, PvId};

use super::{Executor, missing};
use crate::error::StepError;
use crate::host::HostMut;
use crate::observe::{self, Carries};
use crate::store::{self, StoreError};

impl<H: HostMut + ?Sized> Executor<'_, H> {
    /// Only the name changes: what else the label says, feature bits that this release does not know among it (FMT-30, FMT-31),
    /// is written back as it was read.
    pub(super) fn refresh_label(&self, id: PvId) {
        let Ok(pv) = self.pv(id) else { return };
        let (vg, name) = self.read_catalog(|catalog| (catalog.vg().id, catalog.vg().name.clone()));
        let refreshed = match observe::read_label(&*pv.device) {
            Ok(Carries::Label(found)) if (found.vg, found.pv) == (vg, id) => {
                if found.vg_name == name {
                    return;
                }
                let label = label::Label { vg_name: name, ..*found };
                (0..2u8).try_for_each(|copy| {
                    let offset = label.geometry.label_offsets[usize::from(copy)];
                    self.durable(pv, &[(offset, label::encode(&label, copy))])
                })
            }
            Ok(_) => return,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = refreshed {
            tracing::warn!(node = %pv.node.display(), %error, "the name in a label could not be renewed; it is tried again when the group is opened");
        }
    }

    pub(super) fn admit_copy(&mut self, id: PvId) -> Result<(), StepError> {
        self.touch(id);
        let open = self.pv(id)?.clone();
        let store = self.session.store.as_mut().ok_or_else(|| missing("the open metadata of the volume group"))?;
        Ok(store.admit(self.host, self.catalog, id, &open)?)
    }

    pub(super) fn declare_lost(&mut self, pvs: &[PvId]) -> Result<(), StepError> {
        let store = self.session.store.as_mut().ok_or_else(|| missing("the open metadata of the volume group"))?;
        Ok(store.declare_lost(pvs)?)
    }

    /// FMT-15: header emptied, payload durable, then the header. A log that begins anew at position 0 continues nothing that
    /// stands there, since what does is of another VG.
    pub(super) fn imprint(&self, id: PvId, sequence: u64, slot: u8, objects: &[Object]) -> Result<(), StepError> {
        let pv = self.pv(id)?;
        let vg = self.read_catalog(|catalog| catalog.vg().id);
        let payload = checkpoint::encode_payload(objects).map_err(|error| StoreError::TooLarge(error.to_string()))?;
        let room = pv.geometry.checkpoint_len - BLOCK as u64;
        let needed = payload.len() as u64;
        if needed > room {
            return Err(StoreError::Full { needed, room }.into());
        }
        let header = Header {
            slot,
            sequence,
            hash: record::chain(vg, &record::GENESIS, sequence, &payload),
            log_position: 0,
            object_count: objects.len() as u64,
            payload_len: needed,
            payload_hash: checkpoint::payload_hash(&payload),
            ancestors: Vec::new(),
        };
        let offset = pv.geometry.checkpoint_offsets[usize::from(slot)];
        self.durable(pv, &[(offset, label::blank())])?;
        for (at, part) in (0u64..).step_by(1 << 20).zip(payload.chunks(1 << 20)) {
            pv.device.write_at(offset + BLOCK as u64 + at, part)?;
        }
        pv.device.flush()?;
        self.durable(pv, &[(offset, header.encode(&record::Copy { vg, pv: id }))])
    }

    pub(super) fn open_store(&mut self) -> Result<(), StepError> {
        let vg = self.read_catalog(|catalog| catalog.vg().id);
        let opened = store::open(self.host, vg, &self.session.pvs)
            .map_err(|reason| StepError::Missing(format!("metadata that was just written ({reason})")))?;
        *self.catalog.write().unwrap_or_else(std::sync::PoisonError::into_inner) = opened.catalog;
        self.session.store = Some(opened.store);
        Ok(())
    }
}
