//! Reads what dm-log-writes has written (`drivers/md/dm-log-writes.c`; Documentation/admin-guide/device-mapper/log-writes.rst).
//!
//! The log begins with a superblock in the first sector: magic, version, number of entries (u64 each) and sector size (u32), all
//! little-endian. Each entry is a sector with `sector`, `nr_sectors`, `flags`, `data_len` (u64 each, in sectors of the log), followed by
//! its data unless it is a discard. A mark has its text behind the four words. The target writes an entry down when the write is on the
//! disk by the disk's word: at once for FUA, at the next completed flush for others. So each prefix of the log that ends with a flush or
//! a FUA write is a state that a power cut may leave.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// Four words of an entry.
const ENTRY: usize = 32;

const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place on the logged device and length, in bytes.
    pub offset: u64,
    pub len: u64,
    flags: u64,
    /// The text of a mark.
    pub mark: Option<String>,
    /// Where the data stand in the log, in bytes.
    data_at: u64,
}

impl Entry {
    /// Whether all before it is durable when it is done.
    pub fn is_durable(&self) -> bool {
        self.flags & (FLUSH | FUA) != 0
    }
    pub fn is_discard(&self) -> bool {
        self.flags & DISCARD != 0
    }
}

/// A log, read from its first entry on.
pub struct WriteLog {
    file: File,
    /// Where the log begins in the file, in bytes.
    base: u64,
    sector: u64,
    left: u64,
    at: u64,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn broken(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl WriteLog {
    /// The log that begins at byte `base` of a file or disk.
    ///
    /// # Errors
    /// It cannot be read, or is no log of version 1.
    pub fn open(file: File, base: u64) -> io::Result<WriteLog> {
        let mut head = [0; 512];
        file.read_exact_at(&mut head, base)?;
        let (magic, version, left) = (word(&head, 0), word(&head, 8), word(&head, 16));
        let sector = word(&head, 24) & 0xffff_ffff;
        if magic != MAGIC || version != VERSION || !matches!(sector, 512 | 4096) {
            return Err(broken(format!("no write log: magic {magic:x}, version {version}, sectors of {sector}")));
        }
        Ok(WriteLog { file, base, sector, left, at: base + sector })
    }

    /// The next entry; `None` after the last.
    ///
    /// # Errors
    /// It cannot be read, or makes no sense.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; self.sector as usize];
        self.file.read_exact_at(&mut bytes, self.at)?;
        let flags = word(&bytes, 16);
        let bytes_of = |sectors: u64| sectors.checked_mul(self.sector);
        let place = bytes_of(word(&bytes, 0)).zip(bytes_of(word(&bytes, 8)));
        let Some((offset, len)) = place.filter(|_| flags < 32) else {
            return Err(broken(format!("the entry at byte {} of the log makes no sense", self.at - self.base)));
        };
        let mark = (flags & MARK != 0).then(|| {
            let text = (word(&bytes, 24) as usize).min(bytes.len() - ENTRY);
            String::from_utf8_lossy(&bytes[ENTRY..ENTRY + text]).trim_end_matches('\0').to_owned()
        });
        let data_at = self.at + self.sector;
        let data = if flags & (DISCARD | MARK) == 0 { len } else { 0 };
        self.at = data_at.checked_add(data).ok_or_else(|| broken("an entry is too long".to_owned()))?;
        self.left -= 1;
        Ok(Some(Entry { offset, len, flags, mark, data_at }))
    }

    /// Does to `disk`, from byte `base` on, what the entry says. A discard leaves zeroes.
    ///
    /// # Errors
    /// The log cannot be read, or the disk not be written.
    pub fn apply(&self, entry: &Entry, disk: &File, base: u64) -> io::Result<()> {
        const PIECE: u64 = 1 << 20;
        let mut done = 0;
        while done < entry.len && entry.mark.is_none() {
            let mut piece = vec![0; PIECE.min(entry.len - done) as usize];
            if !entry.is_discard() {
                self.file.read_exact_at(&mut piece, entry.data_at + done)?;
            }
            disk.write_all_at(&piece, base + entry.offset + done)?;
            done += piece.len() as u64;
        }
        Ok(())
    }

    /// All entries, for a look ahead; the reader stays where it is.
    ///
    /// # Errors
    /// As [`WriteLog::next_entry`].
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let file = self.file.try_clone()?;
        let mut reader = WriteLog { file, ..*self };
        let mut all = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            all.push(entry);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const BASE: u64 = 4096;

    fn entry(sector: u64, count: u64, flags: u64, text: &str) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            [sector, count, flags, text.len() as u64].iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.extend(text.as_bytes());
        bytes.resize(512, 0);
        bytes
    }

    fn log(count: u64, entries: &[Vec<u8>]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0xee; BASE as usize]).unwrap();
        let mut head: Vec<u8> = [MAGIC, VERSION, count, 512].iter().flat_map(|w| w.to_le_bytes()).collect();
        head.resize(512, 0);
        file.write_all(&head).unwrap();
        entries.iter().for_each(|entry| file.write_all(entry).unwrap());
        file
    }

    #[test]
    fn entries_are_read_and_applied_one_after_the_other() {
        let file = log(
            4,
            &[
                entry(2, 1, FUA, ""),
                vec![7; 512],
                entry(0, 0, FLUSH, ""),
                entry(0, 0, MARK, "made"),
                entry(2, 1, DISCARD, ""),
            ],
        );
        let mut log = WriteLog::open(file, BASE).unwrap();
        assert_eq!(log.entries().unwrap().len(), 4);
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(8192).unwrap();
        let at = |offset| {
            let mut byte = [0];
            disk.read_exact_at(&mut byte, offset).unwrap();
            byte[0]
        };
        let write = log.next_entry().unwrap().unwrap();
        assert_eq!((write.offset, write.len, write.is_durable()), (1024, 512, true));
        log.apply(&write, &disk, 512).unwrap();
        assert_eq!((at(1535), at(1536), at(2047), at(2048)), (0, 7, 7, 0));
        assert!(log.next_entry().unwrap().unwrap().is_durable());
        let mark = log.next_entry().unwrap().unwrap();
        assert_eq!((mark.mark.as_deref(), mark.is_durable()), (Some("made"), false));
        let discard = log.next_entry().unwrap().unwrap();
        log.apply(&discard, &disk, 512).unwrap();
        assert_eq!((discard.is_discard(), at(1536)), (true, 0));
        assert_eq!(log.next_entry().unwrap(), None);
    }

    #[test]
    fn what_is_no_log_is_an_error_and_not_a_panic() {
        assert!(WriteLog::open(log(0, &[]), 0).is_err(), "another magic");
        assert!(WriteLog::open(log(0, &[]), BASE + 512).is_err(), "past the end");
        let mut short = WriteLog::open(log(1, &[]), BASE).unwrap();
        assert!(short.next_entry().is_err(), "an entry that is not there");
        for wrong in [entry(u64::MAX, 1, 0, ""), entry(0, u64::MAX / 2, 0, ""), entry(0, 0, 1 << 40, "")] {
            assert!(WriteLog::open(log(1, &[wrong]), BASE).unwrap().next_entry().is_err());
        }
        let long = WriteLog::open(log(1, &[entry(0, 4, 0, "")]), BASE).unwrap();
        let first = long.entries().unwrap().remove(0);
        assert!(long.apply(&first, &tempfile::tempfile().unwrap(), 0).is_err(), "data that are not there");
    }
}
