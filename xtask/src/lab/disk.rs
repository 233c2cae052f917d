//! What `--disk` and `--mem` accept: sizes, files, and files that are made on first use.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// One disk of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disk {
    /// A sparse file without a name, gone with the guest.
    Scratch { bytes: u64 },
    /// A file of the caller's; made with this size when it does not exist.
    File { path: PathBuf, create: Option<u64> },
}

/// A size in bytes: digits and an optional K, M, G or T (powers of 1024), optionally followed by `iB` or `B`.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" | "KIB" | "KB" => 10,
        "M" | "MIB" | "MB" => 20,
        "G" | "GIB" | "GB" => 30,
        "T" | "TIB" | "TB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// For clap: a size or a sentence.
pub fn size_arg(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| format!("{text:?} is not a size; write for example 512M or 4G"))
}

/// `SIZE`, `FILE` or `FILE:SIZE`. A file whose name looks like a size is written `./4G`.
pub fn parse_disk(text: &str) -> Result<Disk> {
    if let Some(bytes) = parse_size(text) {
        return Ok(Disk::Scratch { bytes: usable(bytes, text)? });
    }
    let (path, create) = match text.rsplit_once(':') {
        Some((path, size)) if !Path::new(text).exists() && !path.is_empty() => match parse_size(size) {
            Some(bytes) => (path, Some(usable(bytes, text)?)),
            None => (text, None),
        },
        _ => (text, None),
    };
    let path = std::path::absolute(path).with_context(|| format!("--disk {text}"))?;
    match path.metadata() {
        Ok(meta) if meta.is_file() => {}
        Ok(meta) if meta.file_type().is_block_device() => {
            bail!("--disk {text}: a block device of this machine is never given to a guest; name a file")
        }
        Ok(_) => bail!("--disk {text}: not a regular file"),
        Err(_) if create.is_some() => {}
        Err(err) => bail!("--disk {text}: {err}; write {text}:4G to have it made"),
    }
    Ok(Disk::File { path, create })
}

fn usable(bytes: u64, text: &str) -> Result<u64> {
    if bytes < 1 << 20 || !bytes.is_multiple_of(512) {
        bail!("--disk {text}: a disk is at least 1M and a whole number of 512-byte sectors");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4G"), Some(4 << 30));
        assert_eq!(parse_size("512M"), Some(512 << 20));
        assert_eq!(parse_size("1TiB"), Some(1 << 40));
        assert_eq!(parse_size("8k"), Some(8192));
        assert_eq!(parse_size("123"), Some(123));
        for bad in ["", "G", "4X", "4 G", "-1G", "1.5G", "99999999999999999999", "18446744073709551615T", "4Gx"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn disks() {
        assert_eq!(parse_disk("4G").unwrap(), Disk::Scratch { bytes: 4 << 30 });
        let here = std::env::temp_dir();
        let absent = here.join("no such lab disk.img");
        let text = format!("{}:64M", absent.display());
        assert_eq!(parse_disk(&text).unwrap(), Disk::File { path: absent.clone(), create: Some(64 << 20) });
        assert!(parse_disk(absent.to_str().unwrap()).unwrap_err().to_string().contains(":4G"));
        assert!(parse_disk(here.to_str().unwrap()).is_err(), "a directory is no disk");
        assert!(parse_disk("4").is_err(), "too small");
        assert!(parse_disk("/dev/null").is_err(), "a device is no disk");
    }
}
