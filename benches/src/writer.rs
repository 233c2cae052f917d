//! Somebody who writes to a device, one block after another, and how long each took and when: a rate or a share of the whole run would
//! say little of a second in it.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rustix::fs::OFlags;

const BLOCK: usize = 4096;

/// One write.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub begun: Instant,
    pub took: Duration,
}

impl Write {
    /// Whether some of it was between these two.
    pub fn was_within(&self, from: Instant, to: Instant) -> bool {
        self.begun <= to && self.begun + self.took >= from
    }
}

/// Writes 4 KiB past the page cache to one place after the other, anywhere on a device, until it is ended; with this at the latest.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<Write>>>>,
}

impl Writer {
    /// Begins to write to the first `size` bytes of a device.
    ///
    /// # Errors
    /// The device cannot be opened.
    pub fn begin(node: &str, size: u64) -> Result<Self> {
        let direct = i32::try_from(OFlags::DIRECT.bits())?;
        let file = File::options().write(true).custom_flags(direct).open(node).with_context(|| node.to_owned())?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || write(&file, size, &told))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it; all that it wrote.
    ///
    /// # Errors
    /// A write failed.
    pub fn end(mut self) -> Result<Vec<Write>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was ended before")?;
        thread.join().map_err(|_| anyhow!("the writer panicked"))?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn write(file: &File, size: u64, stop: &AtomicBool) -> Result<Vec<Write>> {
    let memory = vec![1; 2 * BLOCK];
    // Past the page cache memory has to begin where a block does.
    let from = memory.as_ptr().align_offset(BLOCK);
    let block = memory.get(from..from + BLOCK).context("memory that is aligned")?;
    let blocks = (size / BLOCK as u64).max(1);
    let mut all = Vec::new();
    let mut place = 1_u64;
    while !stop.load(Ordering::Relaxed) {
        // Knuth's generator; its upper half is as good as random.
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let begun = Instant::now();
        file.write_all_at(block, (place >> 33) % blocks * BLOCK as u64)?;
        all.push(Write { begun, took: begun.elapsed() });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_counts_where_any_of_it_lies() {
        let at = Instant::now();
        let ms = Duration::from_millis;
        let one = Write { begun: at + ms(10), took: ms(10) };
        assert!(one.was_within(at, at + ms(10)) && one.was_within(at + ms(20), at + ms(30)));
        assert!(one.was_within(at + ms(12), at + ms(13)));
        assert!(!one.was_within(at, at + ms(9)) && !one.was_within(at + ms(21), at + ms(30)));
    }
}
