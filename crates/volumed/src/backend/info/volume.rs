//! Volumes and snapshots, one by one and in long lists.

use super::*;

/// What a view says of many objects, sorted by them: of one it is quicker to go through what there is.
pub struct Around<'a> {
    view: &'a View,
    sorted: Option<Sorted<'a>>,
}

struct Sorted<'a> {
    problems: BTreeMap<ObjectKey, Vec<&'a Problem>>,
    mounts: BTreeMap<observed::DevNumber, Vec<&'a observed::Mount>>,
}

impl<'a> Around<'a> {
    /// For one object.
    pub const fn one(view: &'a View) -> Self {
        Self { view, sorted: None }
    }

    /// For a list.
    pub fn many(view: &'a View) -> Self {
        let mut sorted = Sorted { problems: BTreeMap::new(), mounts: BTreeMap::new() };
        for problem in &view.problems {
            if let Some(subject) = problem.subject {
                sorted.problems.entry(subject).or_default().push(problem);
            }
        }
        for mount in &view.kernel.mounts {
            sorted.mounts.entry(mount.dev).or_default().push(mount);
        }
        Self { view, sorted: Some(sorted) }
    }

    fn problems_of(&self, subject: ObjectKey) -> Vec<vol_api::Problem> {
        match &self.sorted {
            None => problems_of(self.view, subject),
            Some(sorted) => sorted
                .problems
                .get(&subject)
                .map(|all| all.iter().map(|one| problem(one)).collect())
                .unwrap_or_default(),
        }
    }

    fn mounts_of(&self, info: &observed::DmInfo) -> Vec<MountInfo> {
        let shown = |mount: &&observed::Mount| MountInfo {
            path: mount.target.display().to_string(),
            read_only: mount.read_only,
        };
        match &self.sorted {
            None => {
                self.view.kernel.mounts.iter().filter(|mount| mount.dev == info.dev).map(|one| shown(&one)).collect()
            }
            Some(sorted) => sorted.mounts.get(&info.dev).into_iter().flatten().map(shown).collect(),
        }
    }
}

/// What is told of a volume and stands neither in the catalog nor in the view.
pub struct Besides<'a> {
    /// How far a thick volume is filled that somebody fills now.
    pub filling: Option<Fill>,
    pub references: Vec<vol_api::VolumeRefs>,
    /// What follows its id in its handle.
    pub csi_mark: Option<&'a str>,
}

/// Puts a text in the place of another, in the same memory.
fn put(to: &mut String, shown: impl std::fmt::Display) {
    use std::fmt::Write as _;
    to.clear();
    // Writing to a string cannot fail.
    let _ = write!(to, "{shown}");
}

fn put_str(to: &mut String, text: &str) {
    to.clear();
    to.push_str(text);
}

fn put_some(to: &mut Option<String>, text: Option<&str>) {
    match text {
        None => *to = None,
        Some(text) => put_str(to.get_or_insert_default(), text),
    }
}

/// The name of a volume's pool, or its id if it is not there; empty for a thick volume.
pub fn pool_name(catalog: &Catalog, volume: &Volume) -> String {
    let Some(id) = volume.pool() else { return String::new() };
    catalog.pool(id).map_or_else(|| id.to_string(), |pool| pool.name.to_string())
}

/// Puts a volume in the place of what `info` was. Where that had texts, their memory is used again: a long list is made in one record.
pub fn show(info: &mut VolumeInfo, catalog: &Catalog, around: &Around<'_>, one: &Volume, besides: Besides<'_>) {
    let view = around.view;
    // Each field by its name: a new one is not forgotten, or it would be the one of the volume before.
    let VolumeInfo {
        id,
        vg,
        name,
        pool,
        state: its_state,
        content,
        fs,
        fs_uuid,
        size_bytes,
        used_bytes,
        thick,
        reserve_bytes,
        active,
        device,
        mounts,
        snapshot_count,
        labels: its_labels,
        protected,
        clone_of: its_origin,
        kept_until,
        created_at,
        check_fs,
        subdir,
        references,
        csi_handle,
        health,
        problems,
    } = info;
    put(id, one.id);
    put_str(vg, catalog.vg().name.as_str());
    put_str(name, one.name.as_str());
    match one.pool().map(|id| (id, catalog.pool(id))) {
        None => pool.clear(),
        Some((_, Some(found))) => put_str(pool, found.name.as_str()),
        Some((id, None)) => put(pool, id),
    }
    *its_state = state(one.state);
    *content = match one.content {
        Content::Blank => VolumeContent::Blank,
        Content::Formatting { .. } => VolumeContent::Formatting,
        Content::Formatted { .. } => VolumeContent::Formatted,
        Content::Raw => VolumeContent::Raw,
    };
    match &one.content {
        Content::Formatted { fs: kind, uuid } | Content::Formatting { fs: kind, uuid } => {
            put_some(fs, Some(kind.as_str()));
            put(fs_uuid.get_or_insert_default(), uuid::Uuid::from_bytes(*uuid));
        }
        Content::Blank | Content::Raw => (*fs, *fs_uuid) = (None, None),
    }
    *size_bytes = one.size.get();
    *used_bytes = match one.thick() {
        Some(_) => Some(one.size.get()),
        None => view.mapped.get(&one.id).map(|mapped| mapped.get().saturating_mul(512)),
    };
    *thick = one.thick().map(|thick| thick_info(catalog, one, thick, besides.filling));
    *reserve_bytes = one.reserve.get();
    let found = view.kernel.dm.get(&Device::Volume(one.id));
    *active = found.is_some();
    match found {
        None => *device = None,
        Some(found) => put(device.get_or_insert_default(), format_args!("/dev/dm-{}", found.dev.minor)),
    }
    *mounts = found.map(|found| around.mounts_of(found)).unwrap_or_default();
    *snapshot_count = catalog.snapshots_of(one.id).count() as u64;
    *its_labels = labels(&one.labels);
    *protected = one.protected;
    *its_origin = one.clone_of.as_deref().map(|of| clone_of(catalog, of));
    *kept_until = None;
    created_at.clear();
    vol_api::push_rfc3339(created_at, one.created_at);
    *check_fs = one.check_fs;
    put_some(subdir, one.subdir.as_deref().map(vol_types::Name::as_str));
    *references = besides.references;
    match besides.csi_mark {
        None => *csi_handle = None,
        Some(mark) => put(csi_handle.get_or_insert_default(), format_args!("{}{mark}", one.id)),
    }
    *problems = around.problems_of(ObjectKey::Volume(one.id));
    problems.extend(
        one.pool()
            .into_iter()
            .flat_map(|pool| around.problems_of(ObjectKey::Pool(pool)))
            .filter(|one| matches!(one.code.as_str(), "pool_refused" | "pool_full")),
    );
    *health = health_of(problems, false);
}

fn thick_info(catalog: &Catalog, volume: &Volume, thick: &Thick, filling: Option<Fill>) -> ThickInfo {
    let capacity = thick.capacity(catalog.vg().extent_size);
    // What nobody has yet begins where the volume ends, or with the volume if that is new.
    let base = if volume.state == VolumeState::Creating { Bytes::ZERO } else { volume.size };
    let known = || Fill {
        copy: volume.state == VolumeState::Creating && volume.clone_of.is_some(),
        done: thick.filled.saturating_sub(base),
        total: capacity.saturating_sub(base),
    };
    let fill = filling.unwrap_or_else(known);
    ThickInfo {
        stripes: thick.stripes,
        stripe_size_bytes: (thick.stripes > 1).then(|| thick.stripe_size.get()),
        capacity_bytes: capacity.get(),
        filling: vol_core::plan::thick::is_filling(catalog, volume).then(|| FillingInfo {
            kind: if fill.copy { "copy" } else { "wipe" }.to_owned(),
            running: filling.is_some(),
            done_bytes: fill.done.get(),
            total_bytes: fill.total.get(),
        }),
    }
}

pub fn labels(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn clone_of(catalog: &Catalog, of: &CloneOf) -> CloneInfo {
    let there = catalog.volume(of.id).filter(|source| source.state.has_name());
    let then = || VolumeName { volume: of.volume.clone(), snapshot: of.snapshot.clone() };
    CloneInfo {
        id: of.id.to_string(),
        name: format!("{}/{}", catalog.vg().name, there.map_or_else(then, VolumeName::of)),
        exists: there.is_some(),
    }
}

const fn state(state: VolumeState) -> ObjectState {
    match state {
        VolumeState::Creating => ObjectState::Creating,
        VolumeState::Ready => ObjectState::Ready,
        VolumeState::Deleting => ObjectState::Deleting,
        VolumeState::Deleted => ObjectState::Deleted,
    }
}

/// A snapshot; `None` for a volume.
pub fn snapshot(catalog: &Catalog, around: &Around<'_>, volume: &Volume) -> Option<SnapshotInfo> {
    let of = volume.snapshot.as_ref()?;
    let device = around.view.kernel.dm.get(&Device::Volume(volume.id));
    let vg = &catalog.vg().name;
    Some(SnapshotInfo {
        id: volume.id.to_string(),
        vg: vg.to_string(),
        volume: of.of_name.to_string(),
        name: volume.name.to_string(),
        full_name: format!("{vg}/{}", VolumeName::of(volume)),
        volume_exists: catalog.volume(of.of).is_some_and(|origin| origin.state.has_name()),
        pool: pool_name(catalog, volume),
        size_bytes: volume.size.get(),
        fs: match &volume.content {
            Content::Formatted { fs, .. } | Content::Formatting { fs, .. } => Some(fs.as_str().to_owned()),
            Content::Blank | Content::Raw => None,
        },
        subdir: volume.subdir.as_ref().map(ToString::to_string),
        active: device.is_some(),
        mounts: device.map(|device| around.mounts_of(device)).unwrap_or_default(),
        labels: labels(&volume.labels),
        protected: volume.protected,
        kept_until: None,
        created_at: time(volume.created_at),
    })
}
