//! Reads the values of arguments: names, sizes, file specifications and paths. What is refused here exits with 2.
//!
//! The rules are `vol-types`'; this file adds the accepted form to each message and makes paths absolute.

use std::io;
use std::path::{Component, Path, PathBuf};

use vol_types::{GrowSpec, Name, PvId, SizeSpec, parse_bytes, parse_growth};

/// A size as typed, after it was checked: the daemon reads the same text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeText(pub String);

/// `PATH:SIZE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileText {
    pub path: String,
    pub size: SizeText,
}

/// A PV as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PvText {
    Id(PvId),
    Path(String),
}

/// What a snapshot list is kept to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub vg: Name,
    pub volume: Option<Name>,
}

pub fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| {
        format!("{error} (a name: 1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or a digit)")
    })
}

pub fn size(text: &str) -> Result<SizeText, String> {
    parse_bytes(text).map_err(|error| format!("{error} (a size: 512M, 10G, 1.5T; K, M, G, T are powers of 1024)"))?;
    Ok(SizeText(text.to_owned()))
}

/// `UID` or `UID:GID`.
pub fn owner(text: &str) -> Result<String, String> {
    text.parse::<vol_types::Owner>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub fn mode(text: &str) -> Result<String, String> {
    vol_types::mkfs::parse_mode(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// A size, or with a `+` so much more.
pub fn new_size(text: &str) -> Result<SizeText, String> {
    let size = text.trim().strip_prefix('+').unwrap_or(text);
    parse_bytes(size)
        .map_err(|error| format!("{error} (a size: 40G, 1.5T, or with a + before it so much more: +10G)"))?;
    Ok(SizeText(text.to_owned()))
}

pub fn size_or_share(text: &str) -> Result<SizeText, String> {
    match text.parse::<SizeSpec>() {
        Ok(_) => Ok(SizeText(text.to_owned())),
        Err(error) => Err(format!("{error} (a size: 512M, 10G, 1.5T, or a share of the free space: 80%FREE)")),
    }
}

pub fn grow_size(text: &str) -> Result<SizeText, String> {
    match text.parse::<GrowSpec>() {
        Ok(_) => Ok(SizeText(text.to_owned())),
        Err(error) => {
            Err(format!("{error} (+10G: by so much; 40G: to this size; 50%FREE: by a share of the free space)"))
        }
    }
}

pub fn growth(text: &str) -> Result<SizeText, String> {
    parse_growth(text).map_err(|error| format!("{error} (vg: as far as there is space; off; or a size)"))?;
    Ok(SizeText(text.to_owned()))
}

pub fn file(text: &str) -> Result<FileText, String> {
    let form = "PATH:SIZE, for example /var/lib/volumed/demo.img:20G";
    let Some((path, length)) = text.rsplit_once(':') else { return Err(format!("the size is missing; write {form}")) };
    if path.is_empty() {
        return Err(format!("the path is missing; write {form}"));
    }
    Ok(FileText { path: path.to_owned(), size: size(length)? })
}

pub fn path(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a path must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

pub fn pv(text: &str) -> Result<PvText, String> {
    match text.parse() {
        Ok(id) => Ok(PvText::Id(id)),
        Err(_) => path(text).map(PvText::Path),
    }
}

/// `PV=DISK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PvDisk {
    pub pv: PvId,
    pub disk: String,
}

pub fn pv_disk(text: &str) -> Result<PvDisk, String> {
    let form = "write PV=DISK, the id of a PV and the path of a disk";
    let (pv, disk) = text.split_once('=').ok_or_else(|| format!("there is no '='; {form}"))?;
    Ok(PvDisk { pv: pv.parse().map_err(|_| format!("{pv:?} is no id of a PV; {form}"))?, disk: path(disk)? })
}

pub fn scope(text: &str) -> Result<Scope, String> {
    match text.split_once('/') {
        None => Ok(Scope { vg: name(text)?, volume: None }),
        Some((vg, volume)) => Ok(Scope { vg: name(vg)?, volume: Some(name(volume)?) }),
    }
}

/// An absolute path without symbolic links in the part that exists. Mount points and files are resolved here, as the
/// user sees them, so that the daemon need follow no link.
///
/// # Errors
/// A `..` behind the part that exists (it cannot be resolved), or a part that cannot be looked at.
pub fn resolve(path: &str) -> io::Result<String> {
    let absolute = std::path::absolute(path)?;
    let mut missing: Vec<Component<'_>> = Vec::new();
    let mut prefix = absolute.as_path();
    let mut resolved = loop {
        match prefix.canonicalize() {
            Ok(found) => break found,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(error) => {
                let last = prefix.components().next_back().ok_or(error)?;
                missing.push(last);
                prefix = prefix.parent().unwrap_or(Path::new("/"));
            }
        }
    };
    for component in missing.iter().rev() {
        match component {
            Component::Normal(part) => resolved.push(part),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "a part before '..' does not exist")),
        }
    }
    text(resolved)
}

/// As [`resolve`], but the last component stays as typed: a disk keeps the name that the user knows it by.
pub fn resolve_parent(path: &str) -> io::Result<String> {
    let absolute = std::path::absolute(path)?;
    match (absolute.parent().and_then(Path::to_str), absolute.file_name()) {
        (Some(parent), Some(last)) => text(Path::new(&resolve(parent)?).join(last)),
        _ => resolve(path),
    }
}

fn text(path: PathBuf) -> io::Result<String> {
    path.into_os_string()
        .into_string()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"))
}

/// `--reserve`, checked as the daemon will.
pub fn reserve(text: &str) -> Result<String, String> {
    text.parse::<vol_types::Reserve>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_path_and_a_size() {
        let demo = file("/var/lib/volumed/demo.img:20G").unwrap();
        assert_eq!((demo.path.as_str(), demo.size.0.as_str()), ("/var/lib/volumed/demo.img", "20G"));
        assert_eq!(file("/srv/a:b.img:1T").unwrap().path, "/srv/a:b.img");
        for bad in ["demo.img", ":20G", "demo.img:", "demo.img:-1G", "demo.img:20%FREE", "demo.img:0"] {
            assert!(file(bad).is_err(), "{bad} was taken as a file");
        }
    }

    #[test]
    fn links_are_resolved_as_far_as_the_path_exists() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        let at = |path: &str| root.join(path).to_str().unwrap().to_owned();
        assert_eq!(resolve(&at("link")).unwrap(), at("real"));
        assert_eq!(resolve(&at("link/new/deep")).unwrap(), at("real/new/deep"));
        assert_eq!(resolve(&at("link/../real")).unwrap(), at("real"));
        assert!(resolve(&at("new/../real")).is_err());
        assert_eq!(resolve_parent(&at("link")).unwrap(), at("link"));
        assert_eq!(resolve_parent(&at("./link/../link")).unwrap(), at("link"));
        assert_eq!(resolve_parent("/").unwrap(), "/");
    }
}
