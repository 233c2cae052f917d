//! Finding volume groups: attach the backing files, read the labels of all disks, open what belongs together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use vol_core::observed::{DiskIdentity, DiskInfo};
use vol_core::{Catalog, Refusal};
use vol_format::feature::Access;
use vol_format::label::Label;
use vol_types::{Name, PvId, VgId, VgState, defect};

use crate::engine::{Engine, Membership};
use crate::error::EngineError;
use crate::exec::Session;
use crate::host::{HostMut, HostResult};
use crate::hotplug::is_refused_by_somebody;
use crate::observe::{self, Carries};
use crate::pvs::{self, OpenPv, OpenPvs};
use crate::store;
use crate::vg::{OpenVg, Problem};

mod claim;
mod strange;

pub use strange::UnknownPv;

/// A disk with a label of ours.
pub(crate) struct Labelled {
    pub info: DiskInfo,
    pub label: Label,
}

/// What a look at a disk found.
pub(crate) struct Looked {
    /// What it was when it was looked at.
    pub identity: DiskIdentity,
    pub labelled: Option<Labelled>,
}

/// What a look at all disks found.
#[derive(Default)]
struct Sight {
    /// The devices that there were before.
    names: BTreeSet<PathBuf>,
    looked: BTreeMap<PathBuf, (DiskIdentity, Option<Label>)>,
    groups: BTreeMap<VgId, Vec<Labelled>>,
    problems: Vec<Problem>,
}

/// So often all disks are looked at while others change VGs; after that they wait for one look.
const LOOKS_MAX: u32 = 4;

/// What the problem `vg-busy` of a VG says.
pub(crate) fn busy_message(vg: &str) -> String {
    format!("volume group {vg} is being changed and was not looked at anew")
}

/// A loop device that a scan made.
struct Attached {
    file: PathBuf,
    node: PathBuf,
}

impl<H: HostMut> Engine<H> {
    /// Looks at all disks, and opens every VG that is not open, or is open but incomplete. Nothing changes in the kernel for
    /// what is running already. One VG, file or disk that cannot be opened does not keep the others from it.
    ///
    /// `forget_missing`: a remembered backing file that does not exist is remembered no more. A person who asks for a scan
    /// means it; at start the file system it stands on may just not be mounted yet.
    pub fn scan(&self, more_files: &[PathBuf], forget_missing: bool) -> Result<(), EngineError> {
        let _alone = self.scanning.lock().unwrap_or_else(PoisonError::into_inner);
        let mut problems = Vec::new();
        let mut failed = None;
        let guard = self.membership();
        if forget_missing {
            self.forget_missing_files(more_files);
        }
        self.progress.tell("looking at all disks".to_owned());
        let (attached, unusable) = self.attach_files(more_files, &mut problems, &mut failed);
        drop(guard);
        let (guard, sight) = match self.look_at_all() {
            Ok(all) => all,
            Err(error) => {
                let _guard = self.membership();
                self.take_back_loops(&attached);
                return Err(error.into());
            }
        };
        let Sight { names, looked, groups, problems: mut of_disks } = sight;
        problems.append(&mut of_disks);
        let labelled_nodes: Vec<_> = groups.values().flatten().map(|disk| disk.info.node.clone()).collect();
        self.settle_files(more_files, attached, unusable, &labelled_nodes, &mut problems, &mut failed);
        let seen: Vec<_> = groups.values().flatten().map(strange::Seen::of).collect();
        let mut later = BTreeSet::new();
        for (id, disks) in groups {
            if self.needs_opening(id) {
                let nodes: Vec<_> = disks.iter().map(|disk| disk.info.node.clone()).collect();
                let before = problems.len();
                self.open_group(id, disks, &mut problems);
                if problems.iter().skip(before).any(|problem| problem.code == "vg-busy") {
                    later.extend(nodes);
                }
            }
        }
        self.saw_all(names, looked, later);
        self.forget_taken_away(&seen);
        self.tell_strange(seen, &mut problems);
        *self.scan_problems.write().unwrap_or_else(PoisonError::into_inner) = problems;
        self.find_stray_devices();
        drop(guard);
        failed.map_or(Ok(()), Err)
    }

    /// Looks at all disks, without the right to change VGs, for one of them may hang: only who looks waits for it then. Gives that right with
    /// what was seen; if VGs were changed meanwhile, what was seen is out of date, and is looked at again.
    fn look_at_all(&self) -> HostResult<(Membership<'_>, Sight)> {
        for _ in 0..LOOKS_MAX {
            let changes = self.membership_changes();
            let sight = self.look_once()?;
            let guard = self.membership();
            if self.membership_changes() == changes {
                return Ok((guard, sight));
            }
        }
        let guard = self.membership();
        Ok((guard, self.look_once()?))
    }

    fn look_once(&self) -> HostResult<Sight> {
        // What comes while it is looked is new to who compares names.
        let mut sight = Sight { names: self.host().device_names().unwrap_or_default(), ..Sight::default() };
        for node in self.host().block_devices()? {
            match self.look_at(&node, &mut sight.problems) {
                Ok(Looked { identity, labelled }) => {
                    sight.looked.insert(node, (identity, labelled.as_ref().map(|found| found.label.clone())));
                    if let Some(found) = labelled {
                        sight.groups.entry(found.label.vg).or_default().push(found);
                    }
                }
                // Disks of others may be empty card readers or failing: no business of ours unless they are asked for.
                Err(error) => tracing::info!(node = %node.display(), %error, "a device could not be read"),
            }
        }
        Ok(sight)
    }

    /// Attaches the remembered files and `more`; gives those that were not attached before, and those of `more` that cannot
    /// be. What goes wrong with a file of `more` is the request's failure, with others a problem.
    fn attach_files(
        &self,
        more: &[PathBuf],
        problems: &mut Vec<Problem>,
        failed: &mut Option<EngineError>,
    ) -> (Vec<Attached>, Vec<PathBuf>) {
        let mut known = self.remembered_files(problems);
        known.extend(more.iter().filter(|file| !known.contains(file)).cloned().collect::<Vec<_>>());
        let mut attached = Vec::new();
        let mut unusable = Vec::new();
        for file in known {
            let node = match self.host().loop_device_of(&file) {
                Ok(Some(_)) => continue,
                Ok(None) => self.host().attach_loop(&file),
                Err(error) => Err(error),
            };
            match node {
                Ok(node) => attached.push(Attached { file, node }),
                Err(error) if more.contains(&file) => {
                    unusable.push(file);
                    *failed = Some(error.into());
                }
                Err(error) => problems.push(Problem {
                    code: "file-not-attached",
                    message: format!("the backing file {} cannot be attached: {error}", file.display()),
                    hint: "bring the file back and run `volctl pv scan`; without it, a scan forgets the file"
                        .to_owned(),
                    subject: None,
                }),
            }
        }
        (attached, unusable)
    }

    fn forget_missing_files(&self, more: &[PathBuf]) {
        let mut files = self.remembered_files(&mut Vec::new());
        let known = files.len();
        files.retain(|file| more.contains(file) || !matches!(self.host().path_exists(file), Ok(false)));
        if files.len() < known
            && let Err(error) = self.host().remember_backing_files(&files)
        {
            tracing::error!(%error, "the list of backing files could not be written");
        }
    }

    fn remembered_files(&self, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
        self.host().backing_files().unwrap_or_else(|error| {
            problems.push(Problem {
                code: "backing-files-unreadable",
                message: format!("the list of backing files cannot be read: {error}"),
                hint: "volume groups on files are attached with `volctl pv scan --file FILE`".to_owned(),
                subject: None,
            });
            Vec::new()
        })
    }

    /// Detaches again what turned out to carry no PV, and remembers what does.
    fn settle_files(
        &self,
        more: &[PathBuf],
        attached: Vec<Attached>,
        mut without: Vec<PathBuf>,
        labelled: &[PathBuf],
        problems: &mut Vec<Problem>,
        failed: &mut Option<EngineError>,
    ) {
        let blank: Vec<_> = attached.into_iter().filter(|one| !labelled.contains(&one.node)).collect();
        self.take_back_loops(&blank);
        for Attached { file, .. } in blank {
            let message = format!("the file {} carries no PV of a volume group", file.display());
            if more.contains(&file) {
                *failed = Some(Refusal::invalid(message).into());
            } else {
                problems.push(Problem {
                    code: "file-without-pv",
                    message,
                    hint: "delete it if an earlier `volctl vg create --file` was cut short".to_owned(),
                    subject: None,
                });
            }
            without.push(file);
        }
        let known = self.remembered_files(&mut Vec::new());
        let mut all = known.clone();
        all.extend(more.iter().filter(|file| !known.contains(file) && !without.contains(file)).cloned());
        if all != known
            && let Err(error) = self.host().remember_backing_files(&all)
        {
            tracing::error!(%error, "the list of backing files could not be written: they are not attached at the next start");
        }
    }

    /// Takes back loop devices that this scan made.
    fn take_back_loops(&self, attached: &[Attached]) {
        for Attached { file, node } in attached {
            if let Err(error) = self.host().detach_loop(node) {
                tracing::warn!(file = %file.display(), %error, "a loop device could not be detached again");
            }
        }
    }

    pub(crate) fn look_at(&self, node: &Path, problems: &mut Vec<Problem>) -> HostResult<Looked> {
        let device = self.host().open_read(node)?;
        let identity = device.identity().clone();
        let label = match observe::read_label(&*device)? {
            Carries::Nothing => return Ok(Looked { identity, labelled: None }),
            Carries::Label(label) => *label,
            Carries::Newer(error) => {
                problems.push(Problem {
                    code: "pv-newer",
                    message: format!("{} carries a PV of a newer volumed: {error}", node.display()),
                    hint: "update volumed; nothing is read from it or written to it".to_owned(),
                    subject: None,
                });
                return Ok(Looked { identity, labelled: None });
            }
        };
        let info = self.host().inspect(node)?;
        // If another disk took its place between the two looks, the next look sees which.
        let labelled = (info.identity == identity).then_some(Labelled { info, label });
        Ok(Looked { identity, labelled })
    }

    fn needs_opening(&self, id: VgId) -> bool {
        self.vgs().iter().find(|vg| vg.id == id).is_none_or(|vg| {
            let view = vg.view();
            // An exported VG may come and go without notice.
            let exported = vg.read(|catalog| catalog.vg().state == VgState::Exported);
            exported || !view.missing.is_empty() || view.copies.0 < view.copies.1
        })
    }

    pub(crate) fn open_group(&self, id: VgId, disks: Vec<Labelled>, problems: &mut Vec<Problem>) {
        // Opened anew: changes that wait for the old session must find it closed, never write beside the new one.
        let old = self.vgs().into_iter().find(|vg| vg.id == id);
        let mut old_session = old.as_ref().map(|vg| vg.try_session());
        let name = disks.first().map(|disk| disk.label.vg_name.to_string()).unwrap_or_default();
        let mut complain = |code, message: String, hint: &str| {
            tracing::error!(vg = name, "{message}");
            problems.push(Problem { code, message, hint: hint.to_owned(), subject: None });
        };
        // Who fills a volume has the old session to note how far it is; closed, it would give the volume up.
        let at_work = |vg: &Arc<OpenVg>| vg.nobody_at_work().is_err() || self.is_filling_in(vg);
        if matches!(old_session, Some(None)) || old.as_ref().is_some_and(at_work) {
            complain(
                "vg-busy",
                busy_message(&name),
                "its disks are looked at again by themselves when that is done; `volctl pv scan` looks at once",
            );
            return;
        }
        // A checkpoint of the old session, which another thread may be writing, would go over what is read and written from here on.
        // Nothing is owed to the disks when they are read.
        if let (Some(Some(session)), Some(old)) = (old_session.as_mut(), &old) {
            old.settle_owed(self.host(), session);
            if let Some(store) = session.store.as_mut() {
                store.abandon();
            }
        }
        self.progress.tell(format!("opening volume group {name}"));
        let mut notes = Vec::new();
        let names: BTreeMap<PvId, Name> =
            disks.iter().map(|disk| (disk.label.pv, disk.label.vg_name.clone())).collect();
        let mut unopened = Vec::new();
        let pvs = self.open_pvs(disks, &mut notes, &mut unopened);
        let mut opened = match store::open(self.host(), id, &pvs) {
            Ok(opened) => opened,
            Err(reason) => {
                let twice = notes.iter().any(|note| note.contains("more than once"));
                let unopened = unopened.into_iter().map(|one: Problem| one.message);
                let reason = notes.into_iter().chain(unopened).chain([reason]).collect::<Vec<_>>().join("; ");
                complain(
                    "vg-unreadable",
                    format!("volume group {name} ({id}) cannot be opened: {reason}"),
                    if twice {
                        "nothing was changed; detach the copies and run `volctl pv scan`, or make them a group of their own: \
                         `volctl vg import-clone COPY… --name NEW`"
                    } else {
                        "nothing was changed; attach its other disks and run `volctl pv scan`"
                    },
                );
                return;
            }
        };
        let pvs = fitting(&opened.catalog, pvs, &mut notes);
        notes.append(&mut opened.problems);
        let taken = self
            .vgs()
            .iter()
            .any(|other| other.id != id && other.read(|catalog| catalog.vg().name == opened.catalog.vg().name));
        if taken {
            complain(
                "vg-name-twice",
                format!("there are two volume groups named {name}; the one with id {id} is not opened"),
                "rename or export the other one (`volctl vg rename`), then run `volctl pv scan`; a copy made disk by disk becomes a \
                 group of its own with `volctl vg import-clone`",
            );
            return;
        }
        if let Some(Some(Some(before))) = old_session.as_ref().map(|one| one.as_ref().map(|one| one.store.as_ref())) {
            opened.store.count_on(before.counters());
        }
        let unfinished = !opened.catalog.vg().state.is_whole();
        let session = Session::new(pvs, Some(opened.store));
        let vg = Arc::new(OpenVg::new(opened.catalog, session, notes));
        vg.complain_of(unopened);
        vg.tell_progress(self.progress.clone());
        let mut session = vg.session();
        vg.rejoin(self.host(), &mut session, old.as_deref());
        let settled = vg.recover(self.host(), &mut session);
        if unfinished {
            if !settled {
                complain(
                    "vg-unfinished",
                    format!("the unfinished volume group {name} could not be taken apart"),
                    "see the daemon's log; it is tried again at the next start",
                );
            }
            if let Some(Some(old)) = old_session.as_mut() {
                old.close();
            }
            // What could not be taken apart stays known, so that `vg delete` can be asked to go on.
            if settled {
                self.forget(id);
                return;
            }
        }
        self.renew_names(&vg, &mut session, &names);
        vg.refresh_with(self.host(), &session);
        vg.show_links(self.host());
        drop(session);
        if let Some(Some(old)) = old_session.as_mut() {
            old.close();
        }
        self.insert(vg);
    }

    /// Opens the disks of a VG. A PV that is there twice is used from neither: only a person can know which is the clone.
    fn open_pvs(&self, disks: Vec<Labelled>, notes: &mut Vec<String>, unopened: &mut Vec<Problem>) -> OpenPvs {
        let mut by_pv: BTreeMap<PvId, Vec<Labelled>> = BTreeMap::new();
        for disk in disks {
            by_pv.entry(disk.label.pv).or_default().push(disk);
        }
        let mut open = OpenPvs::new();
        let mut again = BTreeMap::new();
        for (id, mut found) in by_pv {
            // Below a multipath or RAID device its members show the same label: the one that nothing stands on is meant.
            if found.iter().filter(|disk| self.foreign_holders(&disk.info).is_empty()).count() == 1 {
                found.retain(|disk| self.foreign_holders(&disk.info).is_empty());
            }
            if found.len() > 1 && !defect("either of two clones is used") {
                let nodes: Vec<_> = found.iter().map(|disk| disk.info.node.display().to_string()).collect();
                notes.push(format!("PV {id} is there more than once ({}): none of them is used; `volctl vg import-clone` makes a copy a volume group of its own", nodes.join(", ")));
                continue;
            }
            let Some(Labelled { info, label }) = found.pop() else { continue };
            let node = info.node.display();
            match label.features.check() {
                Ok(Access::ReadWrite) => {}
                Ok(Access::ReadOnly) => {
                    notes
                        .push(format!("{node} was written by a newer volumed, which this one may only read: not used"));
                    continue;
                }
                Err(error) => {
                    notes.push(format!("{node} was written by a newer volumed: {error}"));
                    continue;
                }
            }
            if let Some(use_) = self.foreign_use(&info, &label) {
                notes.push(format!("{node} carries the label of PV {id}, but {use_}: not used"));
                continue;
            }
            // What a daemon that died had written and not flushed is seen by who reads now, and lost with the power: it must be
            // durable before anything is read that others will be told of.
            let flushed = |device: Arc<dyn crate::host::BlockWrite>| device.flush().map(|()| device);
            match self.host().open_write(&info.node, &info.identity).and_then(flushed) {
                Ok(device)
                    if !self.still_labelled(&*device, &label) && !defect("a disk that comes back is not looked at") =>
                {
                    notes.push(format!("the label of {node} changed while it was opened: not used"));
                }
                Ok(device) => {
                    let kind = pvs::kind_of(&info);
                    let pv = OpenPv {
                        node: info.node.clone(),
                        identity: info.identity,
                        kind,
                        geometry: label.geometry,
                        device,
                        touched: true,
                    };
                    open.insert(id, pv);
                }
                Err(error) if is_refused_by_somebody(&error) => {
                    unopened.push(self.unopened(id, &info, &error));
                    again.insert(id, info.node);
                }
                Err(error) => notes.push(error.to_string()),
            }
        }
        self.could_open(open.keys());
        self.could_not_open(again);
        open
    }
}

/// The PVs that the catalog knows and that are as large as they were.
fn fitting(catalog: &Catalog, pvs: OpenPvs, notes: &mut Vec<String>) -> OpenPvs {
    pvs.into_iter()
        .filter(|(id, open)| match catalog.pv(*id) {
            None => false,
            Some(pv) if open.identity.size < pv.device_size && !defect("a disk that shrank is used") => {
                notes.push(format!(
                    "{} has shrunk from {} to {}: not used",
                    open.node.display(),
                    pv.device_size,
                    open.identity.size
                ));
                false
            }
            Some(_) => true,
        })
        .collect()
}
