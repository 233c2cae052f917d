//! Reading a PV of an open VG again, while the VG is in use: what stands on the disk against what is known in memory.
//!
//! Nothing is written. Commits go on meanwhile, so a record that is half written or a checkpoint that is being replaced may be
//! seen: what is found counts only if the store did nothing in between. It is looked again a few times, at last with the VG held
//! still, which lets changes wait for as long as one copy takes to read.

use std::path::PathBuf;
use std::sync::Arc;

use vol_format::examine::compare::{Standing, standing};
use vol_format::examine::{Examination, Finding, Severity, examine};
use vol_types::{CommitPoint, PvId};

use crate::exec::Session;
use crate::host::BlockWrite;
use crate::store::{self, Store, StoreCounters};
use crate::vg::OpenVg;

/// Tries without holding the VG.
const TRIES: u32 = 3;

/// What was found on a PV.
#[derive(Clone, Debug)]
pub struct Checked {
    pub node: PathBuf,
    /// With findings about how the copy stands to what is in memory.
    pub found: Examination,
}

/// What the store had done at one moment.
#[derive(Clone, PartialEq, Eq)]
struct Moment {
    head: CommitPoint,
    counters: StoreCounters,
    /// Whether this PV's copy is written to.
    in_use: bool,
    /// A checkpoint is being written beside the changes.
    checkpoint: bool,
}

fn moment(session: &Session, pv: PvId) -> Option<Moment> {
    let store = session.store.as_ref()?;
    Some(Moment {
        head: store.head(),
        counters: store.counters(),
        in_use: store.failed_copies().all(|(failed, _)| failed != pv),
        checkpoint: store.job().is_some(),
    })
}

fn read(device: &Arc<dyn BlockWrite>) -> Examination {
    let size = device.identity().size;
    examine(size, 512, &mut |offset, len| device.read_at(offset, len).map_err(|error| error.to_string()))
}

impl OpenVg {
    /// Reads what stands on a PV again; `None` if it is not there.
    pub fn check_pv(&self, pv: PvId) -> Option<Checked> {
        for _ in 0..TRIES {
            let (device, node, before) = {
                let session = self.session();
                let open = session.pvs.get(&pv)?;
                (open.device.clone(), open.node.clone(), moment(&session, pv))
            };
            let found = read(&device);
            let after = moment(&self.session(), pv);
            if before == after && after.as_ref().is_none_or(|now| !now.checkpoint) {
                return Some(self.checked(pv, node, found, after.as_ref()));
            }
        }
        let session = self.session();
        let open = session.pvs.get(&pv)?;
        let job = session.store.as_ref().and_then(Store::job).cloned();
        // Between two steps of a checkpoint its slot is either empty or whole.
        let _between_steps = job.as_deref().map(store::lock);
        let found = read(&open.device);
        Some(self.checked(pv, open.node.clone(), found, moment(&session, pv).as_ref()))
    }

    fn checked(&self, pv: PvId, node: PathBuf, mut found: Examination, now: Option<&Moment>) -> Checked {
        let (member, left) =
            self.read(|catalog| catalog.pv(pv).map(|pv| (pv.metadata, pv.left.clone()))).unwrap_or_default();
        if found.label.as_ref().is_none_or(|label| (label.vg, label.pv) != (self.id, pv)) {
            found.findings.push(damage(
                "label-changed",
                "the label of this physical volume is not on the disk any more".to_owned(),
                "the disk was written over: restore it before the daemon or the machine restarts",
            ));
        }
        if let (true, Some(now)) = (member, now) {
            found.findings.extend(against_memory(&found, now, &left));
        }
        found.findings.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.offset.cmp(&b.offset)));
        Checked { node, found }
    }
}

/// How a member's copy stands to the head in memory.
fn against_memory(found: &Examination, now: &Moment, left: &[CommitPoint]) -> Option<Finding> {
    let sequence = now.head.sequence;
    let Some(head) = &found.head else {
        let text = format!("there is no copy of the metadata although there should be one, at commit {sequence}");
        return Some(damage("copy-missing", text, AGAIN));
    };
    // The disk knows its own past; the newest point in memory is all that it is compared with.
    let known = std::collections::BTreeMap::from([(sequence, now.head.hash)]);
    match standing(&now.head, &known, left, head) {
        Standing::UpToDate => None,
        _ if head.sequence < sequence && !now.in_use => {
            let text =
                format!("a write to this copy failed at commit {}, it is not written to any more", head.sequence);
            Some(Finding { rule: Some(24), ..damage("copy-failed", text, AGAIN) })
        }
        _ if head.sequence < sequence => Some(damage(
            "copy-behind",
            format!(
                "the copy ends at commit {}, the volume group is at {sequence}: acknowledged writes were lost",
                head.sequence
            ),
            "do not trust this disk: it acknowledged what it did not keep. Replace it; until then `volctl pv scan` writes the copy anew",
        )),
        _ => Some(damage(
            "copy-different",
            format!(
                "the copy ends at commit {} of another history than the one in use, which is at {sequence}",
                head.sequence
            ),
            "somebody else writes to this disk: another machine, or a clone of it",
        )),
    }
}

const AGAIN: &str = "check the disk (kernel log, `smartctl -a`); `volctl pv scan` writes the copy anew";

fn damage(code: &'static str, text: String, advice: &'static str) -> Finding {
    Finding { severity: Severity::Damage, code, rule: None, text, advice, offset: None }
}
