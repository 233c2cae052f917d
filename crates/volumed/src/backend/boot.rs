//! What is to be attached when a machine comes up: the volumes that `/etc/fstab` names, and those of `activate_at_boot`.
//!
//! They are attached and not mounted: who wrote them into fstab wants his service manager to do that. The one-shot at boot
//! ([`crate::activate`]) and the daemon at its start do the same, over the same list.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use vol_core::VolumeName;
use vol_core::dm::Device;
use vol_engine::host::{HostMut, HostRead};
use vol_engine::{Done, Engine, Problem};
use vol_types::{Name, VolumeState};

use super::EngineBackend;
use super::error::from_engine;
use crate::config::{AtBoot, Config};

/// Where udev puts its links to volumes.
const LINKS: &str = "/dev/volumed";
pub const FSTAB: &str = "/etc/fstab";

/// How often it is looked whether disks have come. Listing them opens none.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Volumes that somebody counts on at boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootList {
    wanted: Vec<Wanted>,
    /// What was asked for and makes no sense, for people.
    pub complaints: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    what: AtBoot,
    /// Who names it: `/etc/fstab, line 3`.
    by: String,
}

/// What became of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Attached,
    /// It was so already.
    There,
    /// A disk of its group is not there: it may come.
    Waiting(String),
    /// Nothing that comes by itself will change that.
    Failed(String),
}

/// A volume, or a whole group (`VG/*`) that is not there, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub vg: Name,
    /// `None` for all volumes of a group.
    pub name: Option<VolumeName>,
    pub by: String,
    pub fate: Fate,
}

impl Line {
    pub fn path(&self) -> String {
        self.name.as_ref().map_or_else(|| format!("{}/*", self.vg), |name| format!("{}/{name}", self.vg))
    }
    pub const fn is_waiting(&self) -> bool {
        matches!(self.fate, Fate::Waiting(_))
    }
    /// Why it is not attached, if it is not.
    pub fn trouble(&self) -> Option<String> {
        match &self.fate {
            Fate::Attached | Fate::There => None,
            Fate::Waiting(why) | Fate::Failed(why) => {
                Some(format!("{} ({}) is not attached: {why}", self.path(), self.by))
            }
        }
    }
}

impl BootList {
    /// What `fstab` and the configuration name. A file that cannot be read is a complaint: the configuration still counts.
    pub fn read(config: &Config, fstab: &Path) -> Self {
        let mut list = Self::default();
        match vol_linux::fstab(fstab) {
            Ok(entries) => {
                for entry in entries {
                    let by = format!("{}, line {}", fstab.display(), entry.line);
                    list.name(&entry.source, by);
                }
            }
            Err(error) => list.complaints.push(format!("{} cannot be read: {error}", fstab.display())),
        }
        for what in &config.activate_at_boot {
            list.add(what.clone(), "activate_at_boot".to_owned());
        }
        list
    }

    pub const fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Takes up a device that somebody names, if it is one of ours.
    fn name(&mut self, device: &Path, by: String) {
        let Ok(path) = device.strip_prefix(LINKS) else { return };
        let what = path.to_str().ok_or_else(|| "it is no text".to_owned()).and_then(|text| match text.parse() {
            Ok(AtBoot::All(_)) => Err("a device is one volume".to_owned()),
            other => other,
        });
        match what {
            Ok(what) => self.add(what, by),
            Err(error) => self.complaints.push(format!("{by}: {} names no volume: {error}", device.display())),
        }
    }

    fn add(&mut self, what: AtBoot, by: String) {
        if !self.wanted.iter().any(|one| one.what == what) {
            self.wanted.push(Wanted { what, by });
        }
    }

    /// Attaches what can be, and tells what became of each.
    pub fn attach<H: HostMut>(&self, engine: &Engine<H>) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for Wanted { what, by } in &self.wanted {
            let (vg, name) = match what {
                AtBoot::One(vg, name) => (vg, Some(name)),
                AtBoot::All(vg) => (vg, None),
            };
            let line = |name, fate| Line { vg: vg.clone(), name, by: by.clone(), fate };
            let Ok(open) = engine.vg(vg) else {
                let why = format!("volume group {vg} is not there");
                lines.push(line(name.cloned(), Fate::Waiting(why)));
                continue;
            };
            let names: Vec<VolumeName> = match name {
                Some(name) => vec![name.clone()],
                None => open.read(|catalog| {
                    let volumes = catalog.volumes().filter(|one| one.state == VolumeState::Ready);
                    volumes.filter(|one| one.snapshot.is_none()).map(VolumeName::of).collect()
                }),
            };
            for name in names {
                if lines.iter().any(|line| line.vg == *vg && line.name.as_ref() == Some(&name)) {
                    continue;
                }
                let fate = match engine.activate(vg, &name, false) {
                    Ok(Done::Changed(_)) => Fate::Attached,
                    Ok(_) => Fate::There,
                    Err(error) => {
                        let error = from_engine(error);
                        let hint = error.hint.map_or(String::new(), |hint| format!(" ({hint})"));
                        let why = format!("{}{hint}", error.message);
                        match open.view().missing.as_slice() {
                            [] => Fate::Failed(why),
                            missing => Fate::Waiting(format!("{why}; PVs that are missing: {}", missing.len())),
                        }
                    }
                };
                lines.push(line(Some(name), fate));
            }
        }
        lines
    }
}

/// Notices disks that come and go, without opening any.
#[derive(Default)]
pub struct Disks(Vec<PathBuf>);

impl Disks {
    pub fn now(host: &(impl HostRead + ?Sized)) -> Self {
        Self(host.block_devices().unwrap_or_default())
    }
    /// Whether there are others than when this was asked last.
    pub fn have_changed(&mut self, host: &(impl HostRead + ?Sized)) -> bool {
        let now = Self::now(host);
        let changed = now.0 != self.0;
        *self = now;
        changed
    }
}

impl<H: HostMut + 'static> EngineBackend<H> {
    /// Keeps this list of what is to be attached.
    #[must_use]
    pub fn attaching(self, list: BootList) -> Self {
        Self { at_boot: Arc::new(list), ..self }
    }

    /// Attaches what is to be attached at boot and is not: at the start, and whenever a volume group has become complete. It takes as
    /// long as the changes that it makes; a volume that cannot be attached is told of in the log and in `status`.
    pub fn attach_at_boot(&self) {
        attach_and_tell(&self.engine, &self.at_boot, &self.not_attached);
    }

    /// What has to be done whenever disks have come or gone: attaches what waited for them.
    pub(super) fn attaching_late(&self) -> impl FnMut() + Send + 'static + use<H> {
        let (engine, list, lines) = (self.engine.clone(), self.at_boot.clone(), self.not_attached.clone());
        // Nothing is at the beginning: what was incomplete then is looked at once more.
        let mut seen = Vec::new();
        move || {
            let waiting = lines.lock().unwrap_or_else(PoisonError::into_inner).iter().any(Line::is_waiting);
            let groups: Vec<_> = engine.vgs().iter().map(|vg| (vg.id, vg.view().missing.len())).collect();
            if waiting && groups != seen {
                attach_and_tell(&engine, &list, &lines);
            }
            seen = groups;
        }
    }

    /// Those that were to be attached, could not be, and are not yet.
    pub(super) fn boot_problems(&self) -> Vec<Problem> {
        problems(&self.engine, &self.not_attached)
    }
}

pub(super) fn problems<H: HostMut>(engine: &Engine<H>, not_attached: &NotAttached) -> Vec<Problem> {
    let lines = not_attached.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let lines = lines.into_iter().filter(|line| !is_active(engine, line));
    lines
        .filter_map(|line| {
            Some(Problem {
                code: "not-attached",
                message: line.trouble()?,
                hint: "a volume that waits for a disk is attached when the disk comes, others by `volctl pv scan`; see not_attached in \
                       docs/troubleshooting.md"
                    .to_owned(),
                subject: None,
            })
        })
        .collect()
}

fn is_active<H: HostMut>(engine: &Engine<H>, line: &Line) -> bool {
    let (Ok(vg), Some(name)) = (engine.vg(&line.vg), &line.name) else { return false };
    let id = vg.read(|catalog| catalog.volume_named(name).map(|volume| volume.id));
    id.is_some_and(|id| vg.view().kernel.dm.contains_key(&Device::Volume(id)))
}

pub(super) type NotAttached = Arc<std::sync::Mutex<Vec<Line>>>;

fn attach_and_tell<H: HostMut>(engine: &Engine<H>, list: &BootList, not_attached: &NotAttached) {
    let lines = list.attach(engine);
    for line in &lines {
        match (&line.fate, line.trouble()) {
            (Fate::Attached, _) => tracing::info!(volume = line.path(), by = line.by, "attached at boot"),
            (_, Some(trouble)) => tracing::warn!("{trouble}"),
            _ => {}
        }
    }
    let left = lines.into_iter().filter(|line| line.trouble().is_some()).collect();
    *not_attached.lock().unwrap_or_else(PoisonError::into_inner) = left;
}
