//! Who is compared: each makes a pool on a disk of its own, and volumes in it.

use anyhow::Result;

use crate::disk::Disk;

/// Of each volume. Small, so that a hundred thousand of them are promised by one pool.
pub const SIZE_MIB: u64 = 16;
/// Data of a pool.
pub const POOL_MIB: u64 = 2048;
/// Each thin id takes a block of a pool's metadata: enough for 100,000 and snapshots of them.
pub const METADATA_MIB: u64 = 512;
/// What a disk needs for such a pool: LVM2 keeps as much as the metadata again for their repair, and volumed leaves it alone.
pub const DISK_MIB: u64 = POOL_MIB + 2 * METADATA_MIB + 1024;

/// One way to make volumes. All of it may be asked for from many threads at once; names are the caller's, and used by nobody else.
pub trait Peer: Sync {
    fn who(&self) -> &'static str;
    fn disk(&self) -> &Disk;
    /// The node of a volume that is there from the beginning, for load and snapshots.
    ///
    /// # Errors
    /// It is not there.
    fn base(&self) -> Result<String>;
    /// Until there are so many volumes besides, none of them active.
    ///
    /// # Errors
    /// They cannot be made.
    fn fill(&self, volumes: usize) -> Result<()>;
    /// A volume: when this returns it is durable.
    ///
    /// # Errors
    /// It cannot be made.
    fn create(&self, name: &str) -> Result<()>;
    /// Its node, until it was opened once.
    ///
    /// # Errors
    /// It cannot be activated or opened.
    fn open(&self, name: &str) -> Result<()>;
    /// Both, asked for as cheaply as this peer can be asked.
    ///
    /// # Errors
    /// Those of both.
    fn create_open(&self, name: &str) -> Result<()> {
        self.create(name)?;
        self.open(name)
    }
    /// Its device is gone.
    ///
    /// # Errors
    /// Somebody holds it.
    fn close(&self, name: &str) -> Result<()>;
    /// It is gone, as far as whoever asks can tell; it has no device.
    ///
    /// # Errors
    /// It cannot be deleted.
    fn delete(&self, name: &str) -> Result<()>;
    /// It is gone for good, and so is what it took.
    ///
    /// # Errors
    /// It cannot be deleted.
    fn delete_now(&self, name: &str) -> Result<()> {
        self.delete(name)
    }
    /// A snapshot of the base.
    ///
    /// # Errors
    /// It cannot be made.
    fn snapshot(&self, name: &str) -> Result<()>;
    /// # Errors
    /// It cannot be deleted.
    fn delete_snapshot(&self, name: &str) -> Result<()>;
    /// What is known of one volume; `false` for who knows nothing.
    ///
    /// # Errors
    /// It cannot be told.
    fn read(&self, _name: &str) -> Result<bool> {
        Ok(false)
    }
    /// What is known of all; how many that are. `None` for who knows nothing.
    ///
    /// # Errors
    /// It cannot be told.
    fn list(&self) -> Result<Option<usize>> {
        Ok(None)
    }
    /// What nobody waits for is done now.
    ///
    /// # Errors
    /// It cannot be.
    fn settle(&self) -> Result<()> {
        Ok(())
    }
    /// What it counts itself, by name: `commits` of its metadata, `dm_…` calls of device-mapper; empty where nothing is known.
    ///
    /// # Errors
    /// It cannot be told.
    fn counted(&self) -> Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }
}

/// Peers in the order of a round: each comes first in turn.
pub fn turns<T: Copy>(peers: &[T], round: usize) -> Vec<T> {
    let mut all = peers.to_vec();
    if !all.is_empty() {
        all.rotate_left(round % peers.len());
    }
    all
}

/// So many clients at once, each with its share of the names; the first error of any.
///
/// # Errors
/// Those of `each`.
pub fn by_clients(clients: usize, names: &[String], each: impl Fn(&str) -> Result<()> + Sync) -> Result<()> {
    let each = &each;
    std::thread::scope(|scope| {
        let shares = names.chunks(names.len().div_ceil(clients.max(1)).max(1));
        let threads: Vec<_> =
            shares.map(|share| scope.spawn(move || share.iter().try_for_each(|name| each(name)))).collect();
        let ends: Vec<Result<()>> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked"))))
            .collect();
        ends.into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_peer_comes_first_in_turn() {
        assert_eq!(turns(&["a", "b", "c"], 0), ["a", "b", "c"]);
        assert_eq!(turns(&["a", "b", "c"], 4), ["b", "c", "a"]);
        assert!(turns::<u8>(&[], 3).is_empty());
    }

    #[test]
    fn clients_share_all_names_and_an_error_of_one_is_told() {
        let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let done = AtomicUsize::new(0);
        let each = |_: &str| {
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        by_clients(4, &names, each).unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 10);
        by_clients(64, &[], |_| anyhow::bail!("never")).unwrap();
        let error = by_clients(3, &names, |name| if name == "7" { anyhow::bail!("seven") } else { Ok(()) });
        assert_eq!(error.unwrap_err().to_string(), "seven");
    }
}
