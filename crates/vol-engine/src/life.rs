//! What becomes of volumes after they were made: clones, snapshots of one instant, rollbacks, names, labels, protection.

use vol_core::plan::{change, clone, reserve, rollback, snapshot};
use vol_core::{Refusal, VolumeName};
use vol_types::{Bytes, IntentId, Label, Labels, Name, Reserve, SnapshotPath, VolumeId};

use crate::engine::{Done, Engine, done};
use crate::error::EngineError;
use crate::host::HostMut;
use crate::placement::PlaceOn;
use crate::queue::ThinRequest;

/// `volume clone` as asked for.
#[derive(Clone, Debug)]
pub struct CloneVolume {
    pub vg: Name,
    /// The volume or snapshot that it is made from.
    pub of: VolumeName,
    pub name: Name,
    pub labels: Labels,
    /// Not less than its source has; its file system grows when it is next mounted. `None`: as its source.
    pub size: Option<Bytes>,
    /// What is set aside for it; of no thick volume.
    pub reserve: Reserve,
    /// Protected from the moment on at which it is there.
    pub protect: bool,
    /// Where it is to lie; of a thick volume alone.
    pub place: PlaceOn,
}

impl<H: HostMut> Engine<H> {
    /// Makes a writable clone of a volume or a snapshot.
    pub fn clone_volume(&self, request: &CloneVolume, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        let wanted = clone::CloneVolume {
            id: VolumeId::from_uuid(self.host().new_uuid()),
            intent: IntentId::from_uuid(self.host().new_uuid()),
            of: request.of.clone(),
            name: request.name.clone(),
            labels: request.labels.clone(),
            size: request.size,
            reserve: request.reserve,
            protect: request.protect,
            placement: self.placement(&*self.vg(&request.vg)?, &request.place)?,
            contiguous: request.place.contiguous,
            now: self.host().now(),
        };
        if self.is_thick(&request.vg, &request.of) {
            return self.clone_thick(&request.vg, &wanted, dry_run);
        }
        self.submit(&*self.vg(&request.vg)?, ThinRequest::Clone(wanted), dry_run)
    }

    pub fn create_snapshot(&self, path: &SnapshotPath, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        self.create_snapshots(std::slice::from_ref(path), &Labels::default(), dry_run)
    }

    /// Takes snapshots of one instant, of volumes of one pool: all of them or none. The answer is the first.
    pub fn create_snapshots(
        &self,
        paths: &[SnapshotPath],
        labels: &Labels,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        let Some(vg) = paths.first().map(|first| &first.volume.vg) else {
            return Err(Refusal::invalid("no snapshot is named").into());
        };
        if let Some(other) = paths.iter().find(|path| path.volume.vg != *vg) {
            return Err(Refusal::invalid(format!("{other} is not in volume group {vg}, as the first snapshot is"))
                .hint("snapshots of one instant are of volumes of one pool; take the others by themselves")
                .into());
        }
        let ids: Vec<_> = paths.iter().map(|_| VolumeId::from_uuid(self.host().new_uuid())).collect();
        let intent = IntentId::from_uuid(self.host().new_uuid());
        let now = self.host().now();
        let wanted = paths.iter().zip(ids).map(|(path, id)| snapshot::CreateSnapshot {
            id,
            intent,
            of: path.volume.volume.clone(),
            name: path.snapshot.clone(),
            labels: labels.clone(),
            now,
        });
        self.submit(&*self.vg(vg)?, ThinRequest::Snapshot(wanted.collect()), dry_run)
    }

    /// Gives a volume the content and the size of one of its snapshots. What it held is a deleted snapshot then, which can be taken
    /// back for a while, or gone if it is not to be kept.
    pub fn rollback(&self, path: &SnapshotPath, keep: bool, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        let uuid = || self.host().new_uuid();
        let wanted = rollback::Rollback {
            helper: VolumeId::from_uuid(uuid()),
            intent: IntentId::from_uuid(uuid()),
            removal: IntentId::from_uuid(uuid()),
            of: path.volume.volume.clone(),
            snapshot: path.snapshot.clone(),
            keep,
            now: self.host().now(),
        };
        let vg = self.vg(&path.volume.vg)?;
        let mut after = None;
        let of = |snapshot| VolumeName { volume: path.volume.volume.clone(), snapshot };
        let about = [of(None), of(Some(path.snapshot.clone()))];
        let result = vg.change_about(self.host(), dry_run, &about, |catalog, kernel, _| {
            let rollback::Planned { plan, volume, thin_id } = rollback::rollback(catalog, kernel, &wanted)?;
            after = Some((volume, thin_id));
            Ok((plan, volume))
        });
        let is_done = after.is_some_and(|(id, thin_id)| {
            vg.read(|catalog| catalog.volume(id).is_some_and(|volume| volume.thin_id() == Some(thin_id)))
        });
        match (result, after) {
            (Ok((plan, volume)), _) => Ok(done(plan, volume, dry_run)),
            // It failed after the volume had got its new content, and recovery has done the rest.
            (Err(EngineError::Step(failed)), Some((id, _))) if is_done && failed.settled => Ok(Done::Changed(id)),
            (Err(EngineError::Step(mut failed)), _) if is_done => {
                failed.title =
                    format!("{} (done, but what {} held before is not deleted yet)", failed.title, path.volume);
                Err(EngineError::Step(failed))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Gives a volume another name, and its snapshots with it; or a snapshot another name of its own.
    pub fn rename_volume(
        &self,
        vg: &Name,
        name: &VolumeName,
        new: &Name,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        let renamed = self.change_volume(vg, name, dry_run, |catalog, _, volume| change::rename(catalog, volume, new));
        if matches!(renamed, Ok(Done::Changed(_))) {
            self.vg(vg)?.show_links(self.host());
        }
        renamed
    }

    /// Sets labels of a volume or a snapshot, and takes others away.
    pub fn relabel(
        &self,
        vg: &Name,
        name: &VolumeName,
        (set, remove): (&[Label], &[String]),
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        self.change_volume(vg, name, dry_run, |catalog, _, volume| change::relabel(catalog, volume, set, remove))
    }

    /// Sets space of the pool aside for a volume, or no more.
    pub fn reserve(
        &self,
        vg: &Name,
        name: &VolumeName,
        wanted: Reserve,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        self.change_volume(vg, name, dry_run, |catalog, kernel, volume| reserve::set(catalog, kernel, volume, wanted))
    }

    /// Protects a volume or a snapshot from being deleted or rolled back, or no more.
    pub fn protect(
        &self,
        vg: &Name,
        name: &VolumeName,
        protected: bool,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        self.change_volume(vg, name, dry_run, |catalog, _, volume| change::protect(catalog, volume, protected))
    }
}
