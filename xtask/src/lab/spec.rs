//! What one guest is made of. xtask writes it, the launcher and the agent in the guest read it; names and arguments are bytes in it,
//! never words for a shell.

use super::disk::Disk;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Which machine the guest is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Runner {
    /// User-Mode Linux: boots in seconds, one processor.
    #[default]
    Uml,
    /// QEMU with Debian's stock cloud kernel: two processors, slower.
    Qemu,
}

/// A guest, complete.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub runner: Runner,
    /// QEMU only: whether a probe boot has shown that KVM works.
    pub kvm: bool,
    /// Guest memory in bytes.
    pub mem: u64,
    pub kernel_args: Vec<String>,
    pub disks: Vec<Disk>,
    /// Host folder that the guest sees read-write at /share.
    pub share: Option<PathBuf>,
    /// Programs for the guest's PATH: name and host file.
    pub bins: Vec<(String, PathBuf)>,
    /// The repository's systemd folder.
    pub units: Option<PathBuf>,
    /// Small files that the guest finds in /lab/files.
    pub files: Vec<(String, String)>,
    /// The lab folder (root, images, logs).
    pub lab: PathBuf,
    /// Where the kernel's console goes.
    pub console: PathBuf,
    /// The launcher's end of the line whose hanging up means that xtask is gone.
    pub life: i32,
    pub argv: Vec<Vec<u8>>,
    pub env: Vec<(String, String)>,
    /// Rows and columns where the command gets a terminal.
    pub tty: Option<(u16, u16)>,
    pub daemon: bool,
    pub systemd: bool,
    /// A shell script that is run before the first service.
    pub before: Option<String>,
    /// Seconds that the command may take.
    pub timeout: Option<u64>,
}

impl Spec {
    /// Length and JSON on a stream; what follows on the stream is left alone.
    pub fn send(&self, to: &mut impl Write) -> Result<()> {
        let json = serde_json::to_vec(self)?;
        to.write_all(&u32::try_from(json.len())?.to_le_bytes())?;
        to.write_all(&json)?;
        to.flush()?;
        Ok(())
    }

    /// The reverse of `send`; reads not a byte more.
    pub fn receive(from: &mut impl Read) -> Result<Spec> {
        let mut len = [0u8; 4];
        from.read_exact(&mut len)?;
        let mut json = vec![0u8; u32::from_le_bytes(len) as usize];
        from.read_exact(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }

    pub fn load(path: &Path) -> Result<Spec> {
        let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_json::from_slice(&json)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_exactly_and_the_stream_goes_on() {
        let spec = Spec {
            runner: Runner::Uml,
            kvm: false,
            mem: 1,
            kernel_args: vec!["quiet".into()],
            disks: vec![Disk::Scratch { bytes: 1 << 30 }],
            share: Some("/a b".into()),
            bins: vec![],
            units: None,
            files: vec![("demo.sh".into(), "echo '$x'\n".into())],
            lab: "/lab".into(),
            console: "/c".into(),
            life: 9,
            argv: vec![b"printf".to_vec(), b"a b\n\"'$(x)".to_vec(), vec![0xff, 0xfe], vec![]],
            env: vec![("VOLUMED_TEST_X".into(), " y ".into())],
            tty: Some((24, 80)),
            daemon: true,
            systemd: false,
            before: Some("true".into()),
            timeout: None,
        };
        let mut line = Vec::new();
        spec.send(&mut line).unwrap();
        line.extend(b"rest");
        let mut from = line.as_slice();
        assert_eq!(Spec::receive(&mut from).unwrap(), spec);
        assert_eq!(from, b"rest");
    }
}
