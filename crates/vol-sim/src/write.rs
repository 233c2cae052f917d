//! The changing half of the host: each call is one effect.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use vol_core::dm::UUID_PREFIX;
use vol_core::observed::{
    DevNumber, DiskIdentity, DmInfo, FsCheck, FsVerdict, Mount, Signature, TargetLine, ThinVerdict,
};
use vol_core::plan::repair::Known;
use vol_engine::host::{
    BindCall, BlockWrite, DmCreate, DmEnd, DurableWrite, HostErrorKind, HostMut, HostResult, MountCall, NodeCall,
    ThinSnapshot, WipeMethod,
};
use vol_types::{Bytes, FsKind, MkfsOptions, RootDir, defect};

use crate::disk::{Medium, Node, NodeKind, resolve_link};
use crate::effect::Mishap;
use crate::fault::EffectKind;
use crate::handle::{Handle, Place};
use crate::host::SimHost;
use crate::world::{World, dead, fail};

const LOOP_MAJOR: u32 = 7;

impl SimHost {
    /// One effect whose name in the trace and in errors is `what`.
    fn effect<T>(
        &self,
        kind: EffectKind,
        device: impl AsRef<Path>,
        what: String,
        body: impl FnOnce(&mut World, &str, Mishap) -> HostResult<T>,
    ) -> HostResult<T> {
        let name = what.clone();
        self.holds.pass(kind, device.as_ref());
        let mut world = self.lock();
        let device = resolve_link(&world.links, device.as_ref());
        world.effect(kind, &device.to_string_lossy(), what, |world, mishap| body(world, &name, mishap))
    }
}

impl HostMut for SimHost {
    fn new_uuid(&self) -> Uuid {
        if defect("host: every new id is the same") {
            return Uuid::from_bytes([0x4D; 16]);
        }
        self.lock().ids.uuid()
    }

    fn open_write(&self, node: &Path, expected: &DiskIdentity) -> HostResult<Arc<dyn BlockWrite>> {
        let what = format!("open {} for writing", node.display());
        self.effect(EffectKind::OpenWrite, node, what, |world, what, _| {
            let handle = self.handle(world, what, node, true)?;
            if handle.identity != *expected {
                return fail(HostErrorKind::Changed, what, "another device took its place");
            }
            if world.media.get(&handle.medium).is_some_and(|medium| medium.read_only) {
                return fail(HostErrorKind::Denied, what, "the device is read-only");
            }
            Ok(Arc::new(handle) as Arc<dyn BlockWrite>)
        })
    }

    fn write_durable(&self, writes: &[DurableWrite<'_>]) -> Vec<HostResult<()>> {
        let mut guard = self.lock();
        let world = &mut *guard;
        let places: Vec<HostResult<Place>> = writes.iter().map(|write| self.durable_place(world, write)).collect();
        // All go out together: a power cut during one finds each of the others anywhere between old and new.
        let in_flight = (world.faults.may_cut_power() || world.recorder.is_some()) && !world.dead;
        if in_flight {
            for (index, (place, write)) in places.iter().zip(writes).enumerate() {
                let medium = place.as_ref().ok().and_then(|place| world.media.get_mut(&place.medium));
                if let (Ok(place), Some(medium)) = (place, medium) {
                    medium.image.write_pending(place.offset, write.data, index + 1);
                }
            }
        }
        let mut results = Vec::with_capacity(writes.len());
        for (index, (place, write)) in places.into_iter().zip(writes).enumerate() {
            let node = place.as_ref().map_or_else(|_| PathBuf::new(), |place| place.node.clone());
            let what = format!("durable write {} at {} len {}", node.display(), write.offset, write.data.len());
            let name = what.clone();
            let result = world.effect(EffectKind::DurableWrite, &node.to_string_lossy(), what, |world, mishap| {
                let place = place.clone()?;
                if in_flight && let Some(medium) = world.media.get_mut(&place.medium) {
                    medium.image.drop_flight(index + 1);
                }
                world.counters.flushes += 1;
                if index > 0 && defect("host: of several writes only the first is made") {
                    return Ok(());
                }
                world.write(&name, &place, write.data, true, mishap)
            });
            let still = in_flight && !world.off;
            if let (true, Ok(place)) = (still, &place)
                && let Some(medium) = world.media.get_mut(&place.medium)
            {
                medium.image.drop_flight(index + 1);
            }
            results.push(result);
        }
        results
    }

    fn wipe_signatures(&self, node: &Path, identity: &DiskIdentity, expected: &[Signature]) -> HostResult<()> {
        let what = format!("wipe signatures of {}", node.display());
        self.effect(EffectKind::WipeSignatures, node, what, |world, what, mishap| {
            world.wipe(what, node, identity, expected, mishap)
        })
    }

    fn reread_partitions(&self, node: &Path) {
        let what = format!("reread partitions of {}", node.display());
        // The contract: failure is of no consequence.
        let _ = self.effect(EffectKind::RereadPartitions, node, what, |_, _, _| Ok(()));
    }

    fn create_file(&self, path: &Path, size: Bytes) -> HostResult<()> {
        let what = format!("create file {} of {} bytes", path.display(), size.get());
        self.effect(EffectKind::CreateFile, path, what, |world, what, mishap| {
            let below_file = path.ancestors().skip(1).any(|part| world.files.contains_key(part));
            if below_file {
                return fail(HostErrorKind::Invalid, what, "a component is no directory");
            }
            if world.files.contains_key(path) || world.paths.contains(path) {
                return fail(HostErrorKind::Exists, what, "it is there already");
            }
            let whole = mishap.stage(1);
            let medium = Medium::new(if whole.is_ok() { size.get() } else { 0 }, 512, "");
            let id = world.add_medium(medium);
            world.files.insert(path.to_path_buf(), id);
            whole
        })
    }

    fn delete_file(&self, path: &Path) -> HostResult<()> {
        self.effect(EffectKind::DeleteFile, path, format!("delete file {}", path.display()), |world, what, _| {
            if defect("host: a deleted file stays") {
                return Ok(());
            }
            // An attached loop device keeps the content, as an open file does.
            match world.files.remove(path) {
                Some(_) => Ok(()),
                None => fail(HostErrorKind::NotFound, what, "no such file"),
            }
        })
    }

    fn attach_loop(&self, file: &Path) -> HostResult<PathBuf> {
        self.effect(EffectKind::AttachLoop, file, format!("attach loop to {}", file.display()), |world, what, _| {
            world.attach(what, file)
        })
    }

    fn detach_loop(&self, node: &Path) -> HostResult<()> {
        self.effect(EffectKind::DetachLoop, node, format!("detach {}", node.display()), |world, what, _| {
            let Some(found) = world.nodes.get(node).filter(|found| matches!(found.kind, NodeKind::Loop { .. })) else {
                return fail(HostErrorKind::NotFound, what, "no such loop device");
            };
            if world.open_count(found.dev) > 0 {
                if let Some(node) = world.nodes.get_mut(node) {
                    node.going = true;
                }
                return fail(HostErrorKind::Busy, what, "the device is in use");
            }
            world.nodes.remove(node);
            Ok(())
        })
    }

    fn remember_backing_files(&self, files: &[PathBuf]) -> HostResult<()> {
        let what = format!("remember {} backing files", files.len());
        self.effect(EffectKind::RememberFiles, "", what, |world, _, _| {
            world.remembered = files.to_vec();
            Ok(())
        })
    }

    fn dm_create(&self, device: &DmCreate) -> HostResult<DmInfo> {
        let what = format!("dm create {}: {}", device.uuid, lines(&device.table));
        self.effect(EffectKind::DmCreate, &device.uuid, what, |world, what, mishap| {
            world.create_dm(what, device, mishap)
        })
    }

    fn dm_reload(&self, uuid: &str, table: &[TargetLine]) -> HostResult<()> {
        let what = format!("dm reload {uuid}: {}", lines(table));
        self.effect(EffectKind::DmReload, uuid, what, |world, what, mishap| world.reload_dm(what, uuid, table, mishap))
    }

    fn dm_resume(&self, uuid: &str) -> HostResult<()> {
        self.effect(EffectKind::DmResume, uuid, format!("dm resume {uuid}"), |world, what, mishap| {
            world.counters.ioctls += 1;
            let minor = world.dm_minor(what, uuid)?;
            mishap.memory(what, 1)?;
            world.resume_minor(minor)
        })
    }

    fn dm_link(&self, uuid: &str, link: &str) -> HostResult<()> {
        let known = self.lock();
        let is_so = known.minor_of(uuid).and_then(|minor| known.dm.get(&minor)?.link.clone()).as_deref() == Some(link);
        let alive = known.alive("dm link");
        drop(known);
        if is_so {
            return alive;
        }
        self.effect(EffectKind::DmLink, uuid, format!("dm link {uuid} {link}"), |world, what, _| {
            // The real host asks for the device's number.
            world.counters.ioctls += 1;
            let minor = world.dm_minor(what, uuid)?;
            if world.udev.run_is_full {
                return fail(HostErrorKind::NoSpace, what, "no space left in /run");
            }
            world.dm_by_minor(what, minor)?.link = Some(link.to_owned());
            Ok(())
        })
    }

    fn dm_remove(&self, uuid: &str) -> HostResult<()> {
        self.effect(EffectKind::DmRemove, uuid, format!("dm remove {uuid}"), |world, what, mishap| {
            mishap.memory(what, 1)?;
            world.remove_dm(what, uuid)
        })
    }

    fn dm_message(&self, uuid: &str, message: &str) -> HostResult<()> {
        let what = format!("dm message {uuid} {message}");
        self.effect(EffectKind::DmMessage, uuid, what, |world, what, mishap| {
            mishap.memory(what, 1)?;
            world.message(what, uuid, message, mishap)
        })
    }

    fn thin_snapshot(&self, snapshot: &ThinSnapshot) -> HostResult<()> {
        let what = format!("{}: {snapshot}", snapshot.pool_uuid);
        self.effect(EffectKind::ThinSnapshot, &snapshot.pool_uuid, what, |world, what, mishap| {
            world.snapshot(what, snapshot, mishap)
        })
    }

    fn zero_device(&self, dev: DevNumber, offset: u64, len: u64) -> HostResult<()> {
        let what = format!("zero {dev} at {offset} len {len}");
        let device = self.lock().dm_uuid_of(dev).unwrap_or_default();
        self.effect(EffectKind::ZeroDevice, device, what, |world, what, mishap| {
            world.zero(what, dev, offset, len, mishap)
        })
    }

    fn discard(&self, dev: DevNumber, dm_uuid: &str, offset: u64, len: u64) -> HostResult<()> {
        let what = format!("discard {dev} {dm_uuid} at {offset} len {len}");
        self.effect(EffectKind::Discard, dm_uuid, what, |world, what, _| {
            world.discard_thin(what, dev, dm_uuid, offset, len)
        })
    }

    fn wipe_slice(&self, dev: DevNumber, dm_uuid: &str, offset: u64, len: u64) -> HostResult<WipeMethod> {
        let what = format!("wipe {dev} {dm_uuid} at {offset} len {len}");
        self.effect(EffectKind::WipeSlice, dm_uuid, what, |world, what, mishap| {
            world.wipe_slice(what, (dev, dm_uuid), (offset, len), mishap)
        })
    }

    fn copy_slice(&self, from: &DmEnd, to: &DmEnd, offset: u64, len: u64) -> HostResult<()> {
        let what = format!("copy {} {} to {} {} at {offset} len {len}", from.dev, from.uuid, to.dev, to.uuid);
        self.effect(EffectKind::CopySlice, &to.uuid, what, |world, what, mishap| {
            world.copy_slice(what, (from, to), (offset, len), mishap)
        })
    }

    fn mkfs(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, fs_uuid: Uuid, options: &MkfsOptions) -> HostResult<()> {
        let with = if options.is_empty() { String::new() } else { format!(" with {options}") };
        let what = format!("mkfs.{} {dev} {dm_uuid} {fs_uuid}{with}", fs.as_str());
        self.effect(EffectKind::Mkfs, dm_uuid, what, |world, what, mishap| {
            world.make_fs(what, dev, dm_uuid, fs, fs_uuid, mishap)
        })
    }

    fn fs_prepare_root(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, root: &RootDir) -> HostResult<()> {
        let what = format!("prepare the root of {} {dev}: {root}", fs.as_str());
        self.effect(EffectKind::PrepareRoot, dm_uuid, what, |world, what, _| {
            world.prepare_root(what, (dev, dm_uuid), fs, root)
        })
    }

    fn mount(&self, call: &MountCall) -> HostResult<()> {
        let of = call.subdir.as_ref().map_or(String::new(), |subdir| format!(", of which {subdir},"));
        let what = format!("mount {} {}{of} at {}", call.fs.as_str(), call.dev, call.target.display());
        let mounted = self.effect(EffectKind::Mount, &call.target, what, |world, what, _| world.mount_fs(what, call));
        self.mount_news.tell();
        mounted
    }

    fn bind(&self, call: &BindCall) -> HostResult<()> {
        let what = format!("show {} at {}", call.from.display(), call.target.display());
        self.effect(EffectKind::Bind, &call.target, what, |world, what, _| world.bind_fs(what, call))
    }

    fn show_node(&self, call: &NodeCall) -> HostResult<()> {
        let what = format!("show the node of {} at {}", call.dev, call.target.display());
        self.effect(EffectKind::ShowNode, &call.target, what, |world, what, _| world.show_node(what, call))
    }

    fn unmount(&self, mount: &Mount) -> HostResult<()> {
        let what = format!("unmount {}", mount.target.display());
        let gone =
            self.effect(EffectKind::Unmount, &mount.target, what, |world, what, _| world.unmount_fs(what, mount));
        self.mount_news.tell();
        gone
    }

    fn make_directory(&self, dir: &Path, mode: u32) -> HostResult<()> {
        let what = format!("make the directory {} with mode {mode:o}", dir.display());
        self.effect(EffectKind::MakeDirectory, dir, what, |world, what, _| world.make_directory(what, dir))
    }

    fn remove_mount_point(&self, path: &Path) -> HostResult<()> {
        let what = format!("remove the mount point {}", path.display());
        self.effect(EffectKind::RemoveMountPoint, path, what, |world, what, _| world.remove_mount_point(what, path))
    }

    fn fs_grow(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, at: &Path) -> HostResult<()> {
        let what = format!("grow {} {dev} at {}", fs.as_str(), at.display());
        self.effect(EffectKind::FsGrow, dm_uuid, what, |world, what, mishap| {
            world.grow_fs(what, (dev, dm_uuid), fs, at, mishap)
        })
    }

    fn fs_check(&self, dev: DevNumber, dm_uuid: &str, fs: FsKind, how: FsCheck) -> HostResult<FsVerdict> {
        let what = format!("check {} {dev}: {how:?}", fs.as_str());
        self.effect(EffectKind::FsCheck, dm_uuid, what, |world, what, _| world.check_fs(what, (dev, dm_uuid), fs, how))
    }

    fn fs_trim(&self, dev: DevNumber, at: &Path) -> HostResult<Bytes> {
        let what = format!("trim {dev} at {}", at.display());
        self.effect(EffectKind::FsTrim, at, what, |world, what, _| world.trim_fs(what, dev, at))
    }

    fn thin_clear_needs_check(&self, dev: DevNumber, dm_uuid: &str) -> HostResult<ThinVerdict> {
        let what = format!("take needs_check away on {dev}");
        self.effect(EffectKind::ThinClear, dm_uuid, what, |world, what, _| world.clear_needs_check(what, dev, dm_uuid))
    }

    fn thin_repair(&self, from: (DevNumber, &str), to: (DevNumber, &str), known: &Known) -> HostResult<()> {
        let what = format!("repair the metadata on {} to {}", from.0, to.0);
        self.effect(EffectKind::ThinRepair, to.1, what, |world, what, mishap| {
            world.repair_metadata(what, from, to, known, mishap)
        })
    }
}

fn lines(table: &[TargetLine]) -> String {
    let line = |line: &TargetLine| format!("{} {} {} {}", line.start, line.len, line.target, line.params);
    table.iter().map(line).collect::<Vec<_>>().join(", ")
}

impl SimHost {
    fn durable_place(&self, world: &World, write: &DurableWrite<'_>) -> HostResult<Place> {
        let what = "durable write";
        if world.dead {
            return Err(dead(what));
        }
        match write.device.as_any().downcast_ref::<Handle>() {
            Some(handle) if Arc::ptr_eq(&handle.world, &self.world) => {
                handle.place(world, what, write.offset, write.data.len())
            }
            _ => fail(HostErrorKind::Invalid, what, "a descriptor of another host"),
        }
    }
}

impl World {
    fn wipe(
        &mut self,
        what: &str,
        path: &Path,
        identity: &DiskIdentity,
        expected: &[Signature],
        mishap: Mishap,
    ) -> HostResult<()> {
        let Some((_, node)) = self.node(path) else {
            return fail(HostErrorKind::NotFound, what, "no such device");
        };
        if self.identity(node) != *identity {
            return fail(HostErrorKind::Changed, what, "another device took its place");
        }
        let (id, start, len) = (node.medium, node.start, self.node_size(node));
        self.check_wipe(path);
        // The real host opens exclusively.
        let family = self.family(&resolve_link(&self.links, path));
        if family.iter().any(|dev| self.open_count(*dev) > 0) {
            return fail(HostErrorKind::Busy, what, "the device is in use");
        }
        let Some(medium) = self.media.get_mut(&id) else { return fail(HostErrorKind::Io, what, "no medium") };
        if medium.read_only {
            return fail(HostErrorKind::Denied, what, "the device is read-only");
        }
        let found = medium.signatures(start);
        let same = found.len() == expected.len() && found.iter().all(|signature| expected.contains(signature));
        if !same {
            return fail(HostErrorKind::Changed, what, "other signatures than expected");
        }
        if mishap.stage(1).is_err() {
            let signatures = medium.signatures.entry(start).or_default();
            let half = signatures.len() / 2;
            signatures.truncate(half);
            return mishap.stage(1);
        }
        medium.signatures.remove(&start);
        if !found.is_empty() {
            medium.erase_partition_table(start, len);
        }
        Ok(())
    }

    fn attach(&mut self, what: &str, file: &Path) -> HostResult<PathBuf> {
        if let Some(node) = self.loop_of(file) {
            return Ok(node);
        }
        let Some(&medium) = self.files.get(file) else {
            return fail(HostErrorKind::NotFound, what, "no such file");
        };
        let path = |index: u32| PathBuf::from(format!("/dev/loop{index}"));
        let index = (0..).find(|index| !self.nodes.contains_key(&path(*index))).unwrap_or(u32::MAX);
        let diskseq = self.diskseq();
        let node = Node {
            medium,
            start: 0,
            size: None,
            dev: DevNumber { major: LOOP_MAJOR, minor: index },
            diskseq,
            kind: NodeKind::Loop { file: file.to_path_buf() },
            swap: false,
            holders: Vec::new(),
            boot_mounts: Vec::new(),
            dm_uuid: None,
            going: false,
        };
        self.nodes.insert(path(index), node);
        Ok(path(index))
    }

    fn zero(&mut self, what: &str, dev: DevNumber, offset: u64, len: u64, mishap: Mishap) -> HostResult<()> {
        if self.dm_uuid_of(dev).is_none_or(|uuid| !uuid.starts_with(UUID_PREFIX)) {
            return fail(HostErrorKind::Changed, what, "no dm device of ours");
        }
        if defect("host: zeroing leaves what was there") {
            return Ok(());
        }
        if let Ok(at) = self.thin_at(what, dev) {
            if offset.checked_add(len).is_none_or(|end| end > at.size) {
                return fail(HostErrorKind::Io, what, "beyond the end of the device");
            }
            let blank = if offset == 0 { crate::fs::Content::Nothing } else { self.content(what, at)?.clone() };
            return self.thin_write_at(what, at, (offset, len), blank);
        }
        if self.open_count(dev) > 0 {
            self.violation(format!("zeroed {dev}, which is in use"));
        }
        let len = if mishap.stage(1).is_err() { (len / 2).next_multiple_of(512) } else { len };
        let runs = self.resolve(what, dev, offset, len)?;
        self.write_runs(&runs, &vec![0; len as usize]);
        mishap.stage(1)
    }

    /// Durable bytes at places on media, one after the other.
    pub fn write_runs(&mut self, runs: &[crate::mapper::Run], bytes: &[u8]) {
        let mut rest = bytes;
        for run in runs {
            let (now, later) = rest.split_at(rest.len().min(run.len as usize));
            if let Some(medium) = self.media.get_mut(&run.medium) {
                medium.heal(run.offset, run.offset + run.len);
                medium.image.write_through(run.offset, now);
            }
            rest = later;
        }
    }

    /// The bytes of a disk or linear device.
    pub fn read_linear(&self, what: &str, dev: DevNumber, offset: u64, len: u64) -> HostResult<Vec<u8>> {
        let mut bytes = Vec::new();
        for run in self.resolve(what, dev, offset, len)? {
            match self.media.get(&run.medium) {
                Some(medium) if !medium.is_bad(run.offset, run.offset + run.len) && medium.read_fault.is_none() => {
                    bytes.extend(medium.image.read(run.offset, run.len as usize));
                }
                _ => return fail(HostErrorKind::Io, what, "unreadable"),
            }
        }
        Ok(bytes)
    }
}
