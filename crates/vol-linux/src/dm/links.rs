//! What udev calls our devices: one small file for each that has a name, which the rule in `systemd/56-volumed.rules` imports by the dm
//! uuid. They are below `/run`, for they are of this boot, and nobody but udev needs them: that one cannot be written costs a link.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use crate::files;

/// The place that the rule knows; no setting.
const DIR: &str = "/run/volumed/udev";

/// The key in a file.
const KEY: &str = "VOLUMED_LINK";

/// Where the files are.
pub(crate) struct Links {
    dir: PathBuf,
}

impl Links {
    pub(crate) fn new() -> Self {
        Self { dir: PathBuf::from(DIR) }
    }

    /// `None` for what is no uuid of ours: it would be a path.
    fn file(&self, uuid: &str) -> Option<PathBuf> {
        let plain = !uuid.is_empty() && uuid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain.then(|| self.dir.join(uuid))
    }

    /// The device's link, as udev reads it.
    pub(crate) fn of(&self, uuid: &str) -> Option<String> {
        let text = files::read_trimmed(&self.file(uuid)?)?;
        Some(text.strip_prefix(KEY)?.strip_prefix('=')?.to_owned())
    }

    /// Replaces the device's link: udev reads the old one or the new one, never half of one.
    pub(crate) fn set(&self, uuid: &str, link: &str) -> io::Result<()> {
        let file = self.file(uuid).filter(|_| is_plain(link)).ok_or(io::ErrorKind::InvalidInput)?;
        // A dot: the rule looks for no such name.
        let new = self.dir.join(format!(".{uuid}"));
        let made = match File::create(&new) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o755).create(&self.dir)?;
                File::create(&new)
            }
            other => other,
        };
        let written = made
            .and_then(|mut made| made.write_all(format!("{KEY}={link}\n").as_bytes()))
            .and_then(|()| fs::rename(&new, &file));
        written.inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// As [`Links::set`], and tells udev to look again. If it could not be told there is no file: with one, the link would be taken for
    /// made, and not be tried again.
    pub(crate) fn set_and_tell(&self, uuid: &str, link: &str, tell: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.set(uuid, link)?;
        tell().inspect_err(|_| self.forget(uuid))
    }

    /// The device is gone.
    pub(crate) fn forget(&self, uuid: &str) {
        if let Some(file) = self.file(uuid)
            && let Err(error) = fs::remove_file(&file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %file.display(), %error, "the name of a device that is gone stays in /run");
        }
    }
}

/// `VG/VOLUME` or `VG/VOLUME@SNAPSHOT`, of names as `vol_types::Name` has them: nothing in it means anything to udev.
fn is_plain(link: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match link.split_once('/') {
        Some((vg, name)) => part(vg) && name.splitn(2, '@').all(part),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "VOLUMED-8a1e9bb0-4d0f-4bb5-9b52-6f2c1a0f6b11";

    #[test]
    fn a_link_is_written_replaced_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let links = Links { dir: dir.path().join("made") };
        assert_eq!(links.of(UUID), None);
        links.forget(UUID);
        links.set(UUID, "data/pg").unwrap();
        assert_eq!(fs::read_to_string(links.dir.join(UUID)).unwrap(), "VOLUMED_LINK=data/pg\n");
        links.set(UUID, "data/pg.2@s-1").unwrap();
        assert_eq!(links.of(UUID).as_deref(), Some("data/pg.2@s-1"));
        links.forget(UUID);
        assert_eq!(fs::read_dir(&links.dir).unwrap().count(), 0);
    }

    #[test]
    fn a_link_that_udev_could_not_be_told_of_is_not_taken_for_made() {
        let dir = tempfile::tempdir().unwrap();
        let links = Links { dir: dir.path().to_owned() };
        links.set(UUID, "data/old").unwrap();
        links.set_and_tell(UUID, "data/pg", || Err(io::ErrorKind::OutOfMemory.into())).unwrap_err();
        assert_eq!(links.of(UUID), None);
        links.set_and_tell(UUID, "data/pg", || Ok(())).unwrap();
        assert_eq!(links.of(UUID).as_deref(), Some("data/pg"));
    }

    #[test]
    fn what_is_no_name_or_no_uuid_of_ours_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let links = Links { dir: dir.path().to_owned() };
        for link in [
            "",
            "data",
            "data/",
            "/pg",
            "../pg",
            "data/..",
            "data/pg@",
            "data/a/b",
            "data/a\nB=1",
            "data/a b",
            "data/$x",
        ] {
            assert!(links.set(UUID, link).is_err(), "{link:?}");
        }
        for uuid in ["", "..", "a/b", "VOLUMED-\n"] {
            assert!(links.set(uuid, "data/pg").is_err(), "{uuid:?}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
