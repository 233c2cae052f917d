//! Files of the state directory of which nothing is needed: read with a bound, replaced as wholes, appended to in between.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What stands in it, as far as `max` bytes; what is no text is replaced.
///
/// # Errors
/// Those of opening and reading.
pub fn read(path: &Path, max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Replaces the content of a file, or makes it with its directory, for root alone; then it is open for appending. The content is on the
/// disk before it has the name; the name need not be there after a power cut, unless `named`.
///
/// # Errors
/// Those of the file system. The old content, or the new, is there.
pub fn replace(path: &Path, bytes: &[u8], named: bool) -> io::Result<File> {
    let temporary = path.with_extension("new");
    let written = || {
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let mut new = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        new.write_all(bytes)?;
        new.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(dir) if named => sync_directory(dir)?,
            _ => {}
        }
        OpenOptions::new().append(true).open(path)
    };
    written().inspect_err(|_| _ = fs::remove_file(&temporary))
}

/// Removes a file, for good also after a power cut. One that is not there is removed.
///
/// # Errors
/// Those of the file system.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes durable what a directory calls its files; and the directory's own name, in case that it was just made.
fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()?;
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
    above.map_or(Ok(()), |above| File::open(above)?.sync_all())
}
