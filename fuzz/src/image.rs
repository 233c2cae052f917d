//! Whole disks: what a scan makes of two PVs with a past, after the bytes had their way with them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use vol_core::{Catalog, VolumeName};
use vol_engine::{CreatePool, CreateVg, CreateVolume, Engine};
use vol_format::checkpoint::{self, Header};
use vol_format::label::{self, Label};
use vol_format::layout::{BLOCK, LABEL_OFFSETS_IN_AREA, WHOLE_DISK_AREA_OFFSET};
use vol_format::record::{self, ChainHash, Copy};
use vol_sim::{CrashMode, EffectKind, SimDisk, SimHost};
use vol_types::{Bytes, FsKind, Intent, IntentId, Labels, MkfsOptions, Name, Object, SizeSpec, ThinOp, limit};

use crate::record::judged;
use crate::repair;

/// The nodes of the two PVs.
const DISKS: [&str; 2] = ["/dev/sda", "/dev/sdb"];
const DISK_SIZE: Bytes = Bytes::mib(64);
/// More patches than this make a run slow and nothing clearer.
const PATCHES_MAX: usize = 24;

/// The machine before it is patched.
pub(crate) struct Base {
    host: SimHost,
    /// Of [`DISKS`].
    pub copies: [(Label, Copy); 2],
    /// Where the history ends on a disk: position of the next record, sequence number and chain hash of the last.
    ends: [(u64, u64, ChainHash); 2],
    /// What the catalog held after each commit that the disks still tell of.
    known: BTreeMap<u64, Vec<Object>>,
}

impl Base {
    /// The newest catalog's objects.
    pub fn newest(&self) -> Vec<Object> {
        self.known.last_key_value().map_or(Vec::new(), |(_, objects)| objects.clone())
    }

    /// An intent that undoes the newest volume, as a crash in the middle of a deletion leaves it.
    pub fn intent(&self) -> Option<Intent> {
        let objects = self.newest();
        let pool = objects.iter().find_map(|object| match object {
            Object::Pool(pool) => Some(pool.clone()),
            _ => None,
        })?;
        let op = objects.iter().find_map(|object| match object {
            Object::Volume(volume) => Some(ThinOp::Delete { volume: volume.id, thin_id: volume.thin_id()? }),
            _ => None,
        })?;
        Some(Intent { id: IntentId::from_bytes([0x55; 16]), pool: pool.id, from: pool.transaction_id, ops: vec![op] })
    }
}

/// Made once: two disks of 64 MiB with a VG, a pool, volumes and a snapshot, after a power cut.
pub(crate) static BASE: LazyLock<Base> = LazyLock::new(base);

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn base() -> Base {
    let host = SimHost::new(7);
    host.keep_trace(false);
    for disk in DISKS {
        host.add_disk(SimDisk::new(disk, DISK_SIZE));
    }
    let engine = Engine::new(host.clone());
    engine.scan(&[], false).expect("empty disks");
    let vg = CreateVg {
        name: name("data"),
        disks: DISKS.iter().map(Into::into).collect(),
        files: Vec::new(),
        wipe: false,
        extent_size: limit::EXTENT_SIZE_MIN,
        metadata_copies: 4,
    };
    engine.create_vg(&vg, false).expect("a VG");
    let pool = CreatePool {
        vg: name("data"),
        name: name("tank"),
        size: SizeSpec::PercentFree(80),
        chunk_size: None,
        overcommit_percent: limit::OVERCOMMIT_PERCENT_DEFAULT,
        policy: vol_engine::SpacePolicy::default(),
        place: vol_engine::PlaceOn::default(),
    };
    engine.create_pool(&pool, false).expect("a pool");
    for (path, fs) in [("data/pg", Some(FsKind::Ext4)), ("data/raw", None), ("data/gone", None)] {
        engine.create_volume(&volume(path, fs), false).expect("a volume");
    }
    engine.create_snapshot(&"data/pg@before".parse().expect("a path"), false).expect("a snapshot");
    engine.delete_volume(&name("data"), &VolumeName { volume: name("gone"), snapshot: None }, false).expect("gone");
    drop(engine);
    host.crash(CrashMode::LoseAll);
    host.restart();
    let mut known = BTreeMap::new();
    let copies = DISKS.map(|disk| {
        let at = WHOLE_DISK_AREA_OFFSET + LABEL_OFFSETS_IN_AREA[0];
        let (label, _) = label::decode(&host.peek(disk, at, BLOCK), at).expect("sound").expect("a label");
        let copy = Copy { vg: label.vg, pv: label.pv };
        (label, copy)
    });
    let ends = [0, 1].map(|disk| history(&host, DISKS[disk], &copies[disk].0, &mut known).expect("a history"));
    Base { host, copies, ends, known }
}

fn volume(path: &str, fs: Option<FsKind>) -> CreateVolume {
    CreateVolume {
        path: path.parse().expect("a path"),
        pool: None,
        size: Bytes::mib(96),
        fs,
        labels: Labels::default(),
        reserve: vol_types::Reserve::None,
        protect: false,
        mkfs: MkfsOptions::default(),
    }
}

/// Reads a disk's newest sound checkpoint and the log behind it, by the specification and not by the engine.
fn history(
    host: &SimHost,
    disk: &str,
    label: &Label,
    known: &mut BTreeMap<u64, Vec<Object>>,
) -> Option<(u64, u64, ChainHash)> {
    let copy = Copy { vg: label.vg, pv: label.pv };
    let (slot, start) = slots(host, disk, label).into_iter().max_by_key(|(header, _)| header.recency())?;
    let mut catalog = Catalog::from_objects(slot.sequence, start)?;
    let (mut position, mut hash) = (slot.log_position, slot.hash);
    known.insert(catalog.sequence(), catalog.objects());
    let lap = label.geometry.log_len;
    while let Ok(found) = record::decode(
        &copy,
        position,
        &host.peek(disk, label.geometry.log_offset + position % lap, (lap - position % lap).min(1 << 16) as usize),
    ) {
        if found.follows(catalog.sequence(), &hash).is_err() {
            break;
        }
        (position, hash) = (position + found.len as u64, found.hash);
        catalog.commit(found.sequence, found.changes);
        known.insert(catalog.sequence(), catalog.objects());
    }
    Some((position, catalog.sequence(), hash))
}

/// The sound checkpoints on a disk.
fn slots(host: &SimHost, disk: &str, label: &Label) -> Vec<(Header, Vec<Object>)> {
    let copy = Copy { vg: label.vg, pv: label.pv };
    (0..2u8)
        .filter_map(|slot| {
            let at = label.geometry.checkpoint_offsets[usize::from(slot)];
            let last = at.checked_add(label.geometry.checkpoint_len)?;
            if last > DISK_SIZE.get() {
                return None;
            }
            let header = checkpoint::decode_header(&copy, slot, &host.peek(disk, at, BLOCK)).ok()??;
            if header.payload_len > label.geometry.checkpoint_len - BLOCK as u64 {
                return None;
            }
            let payload = host.peek(disk, at + BLOCK as u64, usize::try_from(header.payload_len).ok()?);
            let read = checkpoint::decode_payload(&header, &payload).ok()?;
            Some((header, read.objects))
        })
        .collect()
}

/// The bytes as a list of patches to two disks with a history, which a daemon then finds. A patch begins with a byte: what it does
/// (three bits), on which disk (two), and whether checksums and hashes of the place are repaired afterwards (one).
///
/// Claims: no panic, neither while opening nor in the requests that follow; disks without one sound label and checkpoint are not
/// written to; metadata that contradicts itself is not written to; if nothing was repaired or forged, what is shown is a state
/// that was committed, and nothing is done to devices that the simulator knows to be wrong.
pub fn image(data: &[u8]) -> bool {
    let base = &*BASE;
    let host = base.host.fork();
    let mut patcher = Patcher { host: &host, base, ends: base.ends, forged: false };
    let mut bytes = Bits(data);
    for _ in 0..PATCHES_MAX {
        if patcher.patch(&mut bytes).is_none() {
            break;
        }
    }
    let forged = patcher.forged;
    let sound = sound(&host);
    host.keep_trace(true);
    let engine = Engine::new(host.clone());
    let scanned = engine.scan(&[], false);
    assert!(scanned.is_ok(), "a scan of damaged disks failed: {scanned:?}");
    // Opening a disk for writing changes nothing, nor does flushing it.
    let mut effects: Vec<_> = host.effect_log();
    effects.retain(|effect| !matches!(effect.kind, EffectKind::OpenWrite | EffectKind::Flush));
    let untouched = effects.is_empty();
    host.keep_trace(false);
    let vgs = engine.vgs();
    if !sound {
        assert!(untouched && vgs.is_empty(), "nothing sound was found, and yet: {effects:#?}");
    }
    for vg in &vgs {
        let violations = vg.read(|catalog| {
            judged(catalog);
            vol_core::check::violations(catalog)
        });
        assert!(violations.is_empty() || untouched, "{violations:?}, and yet: {effects:#?}");
        if !forged {
            assert_eq!(violations, Vec::<String>::new(), "damage became a contradiction");
            let (sequence, objects) = vg.read(|catalog| (catalog.sequence(), catalog.objects()));
            assert!(!untouched || base.known.get(&sequence) == Some(&objects), "damage became another catalog");
        }
    }
    if !forged {
        assert_eq!(host.violations(), Vec::<String>::new());
    }
    requests(&engine);
    !vgs.is_empty()
}

/// Whether any disk has a sound label and a sound checkpoint of it.
fn sound(host: &SimHost) -> bool {
    DISKS.iter().any(|disk| {
        [WHOLE_DISK_AREA_OFFSET, 0].iter().any(|area| {
            let read = |offset: u64| label::decode(&host.peek(disk, area + offset, BLOCK), area + offset);
            let [first, second] = LABEL_OFFSETS_IN_AREA;
            let chosen = label::choose(read(first), read(second));
            chosen.ok().flatten().is_some_and(|label| !slots(host, disk, &label).is_empty())
        })
    })
}

/// What an operator might try next: each is done or refused.
fn requests(engine: &Engine<SimHost>) {
    for vg in engine.vgs() {
        let (vg_name, pool, first) = vg.read(|catalog| {
            let first = catalog.volumes().next().map(VolumeName::of);
            (catalog.vg().name.clone(), catalog.pools().next().map(|pool| pool.name.clone()), first)
        });
        let new = format!("{vg_name}/new-1");
        if let Ok(path) = new.parse() {
            let request = CreateVolume {
                path,
                pool: pool.clone(),
                size: Bytes::mib(16),
                fs: None,
                labels: Labels::default(),
                reserve: vol_types::Reserve::None,
                protect: false,
                mkfs: MkfsOptions::default(),
            };
            let _ = engine.create_volume(&request, false);
        }
        if let Some(first) = first {
            if let Ok(path) = format!("{vg_name}/{}@new-2", first.volume).parse() {
                let _ = engine.create_snapshot(&path, false);
            }
            let _ = engine.attach(&vg_name, &first, false);
            let _ = engine.detach(&vg_name, &first, false);
            let _ = engine.delete_volume(&vg_name, &first, false);
        }
        if let Some(pool) = pool {
            let _ = engine.delete_pool(&vg_name, &pool, false);
        }
        let _ = engine.delete_vg(&vg_name, true);
    }
    engine.refresh();
}

/// Takes numbers off the front.
struct Bits<'a>(&'a [u8]);

impl<'a> Bits<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    fn u16(&mut self) -> Option<usize> {
        Some(usize::from(self.u8()?) | usize::from(self.u8()?) << 8)
    }
    fn u64(&mut self) -> Option<u64> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*value))
    }
    /// So many bytes, or those that are left.
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct Patcher<'a> {
    host: &'a SimHost,
    base: &'a Base,
    /// As in [`Base::ends`], moving on with each record that is forged.
    ends: [(u64, u64, ChainHash); 2],
    /// Whether a checksum was repaired or a record or checkpoint forged.
    forged: bool,
}

impl Patcher<'_> {
    /// Applies one patch; `None` at the end of the bytes.
    fn patch(&mut self, bytes: &mut Bits<'_>) -> Option<()> {
        let op = bytes.u8()?;
        let disks: &[usize] = [&[0usize][..], &[1], &[0, 1], &[0, 1]][usize::from(op >> 3 & 3)];
        let repair = op & 0x20 != 0;
        match op & 7 {
            0 => {
                let (region, offset, len) = (bytes.u8()?, bytes.u16()?, bytes.u8()?);
                let data = bytes.take(usize::from(len));
                self.each(disks, region, repair, |at, host, disk| host.poke(disk, at + offset as u64, data));
            }
            1 => {
                let (region, offset, value) = (bytes.u8()?, bytes.u16()?, bytes.u64()?);
                let value = value.to_le_bytes();
                self.each(disks, region, repair, |at, host, disk| host.poke(disk, at + offset as u64, &value));
            }
            2 => {
                let (count, len) = (bytes.u8()?, bytes.u16()?);
                let payload = bytes.take(len.min(record::PAYLOAD_LEN_MAX));
                disks.iter().for_each(|disk| self.record(*disk, count, payload));
            }
            3 => {
                let (count, ahead, len) = (bytes.u16()?, bytes.u8()?, bytes.u16()?);
                let payload = bytes.take(len);
                disks.iter().for_each(|disk| self.checkpoint(*disk, count as u64, u64::from(ahead), payload));
            }
            4 => {
                let region = bytes.u8()?;
                self.each(disks, region, false, |at, host, disk| host.poke(disk, at, &[0; BLOCK]));
            }
            5 => {
                let (region, from) = (bytes.u8()?, bytes.u8()?);
                let from_at = self.place(usize::from(from >> 7), from);
                let block = self.host.peek(DISKS[usize::from(from >> 7)], from_at, BLOCK);
                self.each(disks, region, repair, |at, host, disk| host.poke(disk, at, &block));
            }
            6 => {
                // One disk that comes back with another's content is a clone; damage cannot make one.
                self.forged = true;
                let from = usize::from(bytes.u8()? & 1);
                let image = self.host.disk_image(DISKS[from]);
                disks.iter().for_each(|disk| self.host.set_disk_image(DISKS[*disk], &image));
            }
            _ => {
                let (region, bit) = (bytes.u8()?, bytes.u16()?);
                self.each(disks, region, repair, |at, host, disk| {
                    let at = at + (bit / 8) as u64;
                    let byte = host.peek(disk, at, 1)[0] ^ 1 << (bit % 8);
                    host.poke(disk, at, &[byte]);
                });
            }
        }
        Some(())
    }

    /// Where a region begins.
    fn place(&self, disk: usize, region: u8) -> u64 {
        let geometry = &self.base.copies[disk].0.geometry;
        let [slot_0, slot_1] = geometry.checkpoint_offsets;
        let block = BLOCK as u64;
        match region & 7 {
            0 => geometry.label_offsets[0],
            1 => geometry.label_offsets[1],
            2 => slot_0,
            3 => slot_1,
            4 => slot_0 + block,
            5 => geometry.log_offset + u64::from(region >> 3 & 15) * block,
            6 => geometry.log_offset + self.ends[disk].0.saturating_sub(block),
            _ => 0,
        }
    }

    fn each(&mut self, disks: &[usize], region: u8, repair: bool, change: impl Fn(u64, &SimHost, &str)) {
        for &disk in disks {
            change(self.place(disk, region), self.host, DISKS[disk]);
            if repair {
                self.forged = true;
                self.repair(disk, region);
            }
        }
    }

    /// Makes the checksums of a region right, and the payload's hash of a slot.
    fn repair(&self, disk: usize, region: u8) {
        let (node, geometry) = (DISKS[disk], &self.base.copies[disk].0.geometry);
        let slot = match region & 7 {
            2 | 4 => Some(geometry.checkpoint_offsets[0]),
            3 => Some(geometry.checkpoint_offsets[1]),
            _ => None,
        };
        let at = slot.unwrap_or_else(|| self.place(disk, region));
        let mut bytes = self.host.peek(node, at, BLOCK);
        if slot.is_some() {
            let len = repair::u64_at(&bytes, 112).min(geometry.checkpoint_len - BLOCK as u64) as usize;
            let payload = self.host.peek(node, at + BLOCK as u64, len);
            repair::put(&mut bytes, 120, blake3::hash(&payload).as_bytes());
        } else if region & 7 >= 5 {
            let payload = repair::u32_at(&bytes, 104).min(1 << 16) as usize;
            bytes = self.host.peek(node, at, record::disk_len(payload));
        }
        repair::seal(&mut bytes);
        self.host.poke(node, at, &bytes);
    }

    /// Appends a record that continues the history.
    fn record(&mut self, disk: usize, count: u8, payload: &[u8]) {
        self.forged = true;
        let (label, copy) = &self.base.copies[disk];
        let (position, sequence, hash) = self.ends[disk];
        let bytes = record::encode(copy, position, sequence + 1, &hash, payload, u32::from(count));
        if position + bytes.len() as u64 > label.geometry.log_len {
            return;
        }
        self.host.poke(DISKS[disk], label.geometry.log_offset + position, &bytes);
        let hash = record::chain(copy.vg, &hash, sequence + 1, payload);
        self.ends[disk] = (position + bytes.len() as u64, sequence + 1, hash);
    }

    /// Writes a checkpoint into slot 1, `ahead` of the history.
    fn checkpoint(&mut self, disk: usize, object_count: u64, ahead: u64, payload: &[u8]) {
        self.forged = true;
        let (label, copy) = &self.base.copies[disk];
        let (log_position, sequence, hash) = self.ends[disk];
        let payload = repair::padded(payload, repair::blocks(payload.len()));
        if payload.len() as u64 > label.geometry.checkpoint_len - BLOCK as u64 {
            return;
        }
        let header = Header {
            slot: 1,
            sequence: sequence + ahead,
            hash,
            log_position,
            object_count,
            payload_len: payload.len() as u64,
            payload_hash: *blake3::hash(&payload).as_bytes(),
            ancestors: Vec::new(),
        };
        let at = label.geometry.checkpoint_offsets[1];
        self.host.poke(DISKS[disk], at, &header.encode(copy));
        self.host.poke(DISKS[disk], at + BLOCK as u64, &payload);
    }
}
