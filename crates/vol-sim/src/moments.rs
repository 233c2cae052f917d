//! What an exhaustive search needs: the worlds in which each effect's death would leave the machine, taken while one run goes
//! on; which pending sectors make a difference; and a number that tells worlds apart.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use crate::fault::{EffectKind, Fault};
use crate::fs::Content;
use crate::host::SimHost;
use crate::pool::{PoolDisk, ThinFlaw};
use crate::world::World;

/// A machine as a death right before or right after one effect leaves it.
#[derive(Clone, Debug)]
pub struct Moment {
    pub effect: u64,
    pub kind: EffectKind,
    /// One of the four deaths before and after.
    pub death: Fault,
    /// Dead; a power cut waits for [`SimHost::settle`].
    pub host: SimHost,
}

/// Moments as they are kept while a run goes on.
#[derive(Debug, Default)]
pub(crate) struct Recorder(pub Vec<(u64, EffectKind, Fault, World)>);

impl Clone for Recorder {
    /// Another world begins with no moments of its own.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl World {
    /// Keeps the world as `death` at this point would leave it.
    pub(crate) fn record(&mut self, effect: u64, kind: EffectKind, death: Fault) {
        let Some(mut kept) = self.recorder.take() else { return };
        let mut world = self.clone();
        if death.cuts_power() {
            world.cut_power();
        } else {
            // What the daemon had not handed over yet when it died never comes.
            world.media.values_mut().for_each(|medium| medium.image.drop_all_flights());
            world.kill_daemon();
        }
        kept.0.push((effect, kind, death, world));
        self.recorder = Some(kept);
    }
}

impl SimHost {
    /// From now on keeps, for each effect, what the four deaths before and after it would leave. Deaths inside an effect need
    /// a run of their own with [`SimHost::fail_effect`].
    pub fn record_moments(&self) {
        self.lock().recorder = Some(Recorder::default());
    }

    /// Ends the recording; the moments in the order of the effects.
    pub fn take_moments(&self) -> Vec<Moment> {
        let recorder = self.lock().recorder.take();
        let host = |world| SimHost {
            world: Arc::new(Mutex::new(world)),
            holds: Arc::default(),
            news: Arc::default(),
            mount_news: Arc::default(),
        };
        let moments = recorder.map(|recorder| recorder.0).unwrap_or_default();
        moments
            .into_iter()
            .map(|(effect, kind, death, world)| Moment { effect, kind, death, host: host(world) })
            .collect()
    }

    /// Places in [`SimHost::pending`] whose loss or survival can make a difference: not those that write to a sector, as the
    /// only pending write there, what is durable in it already.
    pub fn pending_that_matter(&self) -> Vec<usize> {
        let world = self.lock();
        let mut first = 0;
        let mut places = Vec::new();
        for medium in world.media.values() {
            places.extend(medium.image.pending_that_matter().map(|at| first + at));
            first += medium.image.pending().count();
        }
        places
    }

    /// A number for all that a later run can depend on: disks with their pending writes, files, device-mapper, pools, mounts,
    /// and what the checks remember of thin ids. Left out: planned faults, counters, the trace, the streams of randomness, and
    /// numbers that only count (boot id, disk sequence numbers, mount ids). Worlds with different numbers differ.
    pub fn fingerprint(&self) -> u64 {
        let world = self.lock();
        let mut mix = Mix::default();
        for (id, medium) in &world.media {
            (id, medium.size, medium.read_only, &medium.bad).hash(&mut mix);
            for (at, signatures) in &medium.signatures {
                at.hash(&mut mix);
                signatures.iter().for_each(|signature| (&signature.usage, &signature.kind).hash(&mut mix));
            }
            medium.image.hash_into(&mut mix);
        }
        for (path, node) in world.nodes.iter().chain(&world.unplugged) {
            (path, node.medium, node.start, node.dev.major, node.dev.minor).hash(&mut mix);
        }
        (world.unplugged.len(), &world.files, &world.remembered).hash(&mut mix);
        for (minor, device) in &world.dm {
            (minor, &device.uuid, device.suspended, device.guarded, device.read_only, &device.held).hash(&mut mix);
            device.looked_at.hash(&mut mix);
            for table in [&device.live, &device.inactive] {
                table.is_some().hash(&mut mix);
                for line in table.iter().flat_map(|table| &table.lines) {
                    (line.start.get(), line.len.get(), &line.target, &line.params).hash(&mut mix);
                }
            }
            if let Some(pool) = &device.pool {
                (pool.state, pool.mode as u8, pool.needs_check, pool.total_data, pool.total_metadata).hash(&mut mix);
            }
        }
        for (state, disk) in &world.pool_states {
            state.hash(&mut mix);
            hash_pool(disk, &mut mix);
        }
        for (id, life) in &world.thin_lives {
            (id, life.created, life.used, life.handed_out, life.mkfs).hash(&mut mix);
        }
        for (number, content) in &world.on_disks {
            number.hash(&mut mix);
            hash_content(content, &mut mix);
        }
        for (uuid, life) in &world.linear_lives {
            (uuid, life.created, life.used, life.handed_out, life.mkfs).hash(&mut mix);
        }
        for mounted in &world.mounts {
            let mount = &mounted.mount;
            (mount.dev.major, mount.dev.minor, &mount.root, &mount.target, mount.read_only, &mounted.held)
                .hash(&mut mix);
        }
        mix.finish()
    }
}

fn hash_pool(disk: &PoolDisk, mix: &mut Mix) {
    (disk.chunk, disk.transaction_id, disk.clock, disk.data_blocks, disk.needs_check, disk.blocks.len()).hash(mix);
    (disk.flaw != ThinFlaw::None).hash(mix);
    for (id, thin) in &disk.thins {
        (id, thin.origin, thin.created_transaction, thin.blocks.len()).hash(mix);
        hash_content(&thin.content, mix);
    }
}

fn hash_content(content: &Content, mix: &mut Mix) {
    match content {
        Content::Nothing => 0u8.hash(mix),
        Content::Partial(kind) => (1u8, *kind as u8).hash(mix),
        Content::Fs { kind, uuid, files, size, flaw } => {
            let files: &BTreeMap<String, Vec<u8>> = files;
            (2u8, *kind as u8, uuid.as_bytes(), files, size, *flaw as u8).hash(mix);
        }
        Content::Raw(bytes) => (3u8, bytes).hash(mix),
    }
}

/// A quick hash that is the same on every machine. Not against an adversary.
#[derive(Default)]
pub(crate) struct Mix(u64);

const K: u64 = 0x9E37_79B9_7F4A_7C15;

impl Mix {
    pub fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(K);
        self.0 ^= self.0 >> 29;
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }
    fn write_u64(&mut self, word: u64) {
        self.word(word);
    }
    fn finish(&self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Of a block at a place; the sum over all blocks of an image is the image's.
pub(crate) fn block_hash(index: u64, bytes: &[u8]) -> u64 {
    // Four lanes, so that the processor need not wait for one multiplication after the other.
    let mut lanes = [index ^ K, index.rotate_left(16) ^ K, index.rotate_left(32) ^ K, index.rotate_left(48) ^ K];
    for chunk in bytes.as_chunks::<32>().0 {
        for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *lane = (lane.rotate_left(7) ^ u64::from_le_bytes(*word)).wrapping_mul(K);
        }
    }
    let mut mix = Mix::default();
    lanes.iter().for_each(|lane| mix.word(*lane));
    mix.finish()
}
