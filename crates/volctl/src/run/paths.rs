//! Paths of a command line as the daemon wants them: absolute, links resolved where the user sees them.

use std::io;

use vol_api::FileSpec;

use crate::cli::{FileText, PvText};
use crate::values::{resolve, resolve_parent};
use crate::{Failure, exit};

fn usage(path: &str, result: io::Result<String>) -> Result<String, Failure> {
    result.map_err(|error| Failure::new(exit::USAGE, format!("{path}: {error}"), None))
}

/// A directory to mount at.
pub fn mount_point(path: &str) -> Result<String, Failure> {
    usage(path, resolve(path))
}

/// A file that backs a PV.
pub fn file(path: &str) -> Result<String, Failure> {
    usage(path, resolve(path))
}

/// Files to be made, with their sizes.
pub fn files(files: &[FileText]) -> Result<Vec<FileSpec>, Failure> {
    files.iter().map(|spec| Ok(FileSpec { path: file(&spec.path)?, size: spec.size.0.clone() })).collect()
}

/// PVs as the daemon wants them named.
pub fn pvs(pvs: &[PvText]) -> Result<Vec<String>, Failure> {
    let name = |pv: &PvText| match pv {
        PvText::Id(id) => Ok(id.to_string()),
        PvText::Path(path) => usage(path, resolve_parent(path)),
    };
    pvs.iter().map(name).collect()
}

/// Disks, under the names that the user knows them by.
pub fn devices(paths: &[String]) -> Result<Vec<String>, Failure> {
    paths.iter().map(|path| usage(path, resolve_parent(path))).collect()
}
