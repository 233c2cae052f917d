//! What a client wants to do with a volume.

use vol_types::{FsKind, MountOptionError, MountOptions};

use crate::Refused;
use crate::csi::VolumeCapability;
use crate::csi::volume_capability::{AccessType, access_mode};
use crate::limits::MAP_MAX;

/// Who may use a volume at once.
pub type Mode = access_mode::Mode;

/// One capability of a request, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// As a block device; else mounted.
    pub block: bool,
    /// `None`: whichever the volume has.
    pub fs: Option<FsKind>,
    /// Options of the mount. `ro` is among them if it is asked for.
    pub flags: MountOptions,
    pub mode: Mode,
}

impl Capability {
    /// Reads one that has to be there.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`: it is missing, or says something that no volume of ours can do.
    pub fn read(capability: Option<&VolumeCapability>) -> Result<Self, Refused> {
        let capability = capability.ok_or_else(|| Refused::invalid("volume_capability is missing"))?;
        let mode = capability.access_mode.as_ref().map_or(Mode::Unknown, |mode| mode.mode());
        if mode == Mode::Unknown {
            return Err(Refused::invalid(
                "volume_capability.access_mode is missing, or one that volumed does not know",
            ));
        }
        let mount = match &capability.access_type {
            None => return Err(Refused::invalid("volume_capability says neither block nor mount")),
            Some(AccessType::Block(_)) => {
                return Ok(Self { block: true, fs: None, flags: MountOptions::default(), mode });
            }
            Some(AccessType::Mount(mount)) => mount,
        };
        if !mount.volume_mount_group.is_empty() {
            return Err(Refused::invalid(
                "volume_mount_group is given, and no file system of volumed's can be mounted with one",
            )
            .with_hint("the group of files is set by Kubernetes: fsGroupPolicy: File in the CSIDriver object"));
        }
        let fs = fs_kind("fs_type", &mount.fs_type)?;
        let size = mount.mount_flags.iter().fold(0usize, |size, flag| size.saturating_add(flag.len()));
        if size > MAP_MAX {
            return Err(Refused::invalid(format!("mount_flags have {size} bytes, and at most {MAP_MAX} fit")));
        }
        // Each may be several with commas between them; a context, which the kubelet adds, has commas of its own.
        let is_context = |flag: &&String| flag.starts_with("context=");
        let plain: Vec<&str> = mount.mount_flags.iter().filter(|flag| !is_context(flag)).map(String::as_str).collect();
        let wrong = |error: MountOptionError| Refused::invalid(format!("mount_flags: {error}"));
        let mut flags = MountOptions::parse(fs, &plain.join(",")).map_err(wrong)?;
        let mut contexts = mount.mount_flags.iter().filter(is_context);
        if let Some(context) = contexts.next() {
            let context = context.trim_start_matches("context=").trim_matches('"');
            flags = flags.with_context(context).map_err(wrong)?;
        }
        if contexts.next().is_some() {
            return Err(Refused::invalid("mount_flags: context is given twice"));
        }
        Ok(Self { block: false, fs, flags, mode })
    }

    /// Reads those of a request, of which there is at least one; all want either block or mount.
    ///
    /// # Errors
    /// As [`Capability::read`].
    pub fn read_all(capabilities: &[VolumeCapability]) -> Result<Vec<Self>, Refused> {
        if capabilities.is_empty() {
            return Err(Refused::invalid("volume_capabilities are missing"));
        }
        let all = capabilities.iter().map(|one| Self::read(Some(one))).collect::<Result<Vec<_>, _>>()?;
        if all.iter().any(|one| one.block) && all.iter().any(|one| !one.block) {
            return Err(Refused::invalid(
                "volume_capabilities ask for a block device and a file system of one volume: it is either of them",
            ));
        }
        Ok(all)
    }

    /// Nobody writes.
    pub const fn reads_only(&self) -> bool {
        matches!(self.mode, Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly)
    }

    /// At one place at a time.
    pub const fn is_single(&self) -> bool {
        matches!(self.mode, Mode::SingleNodeWriter | Mode::SingleNodeSingleWriter)
    }
}

/// A file system by its name; an empty one is none.
///
/// # Errors
/// `INVALID_ARGUMENT`: it is none that volumed makes.
pub fn fs_kind(field: &str, name: &str) -> Result<Option<FsKind>, Refused> {
    match name {
        "" => Ok(None),
        "ext4" => Ok(Some(FsKind::Ext4)),
        "xfs" => Ok(Some(FsKind::Xfs)),
        "btrfs" => Ok(Some(FsKind::Btrfs)),
        other => Err(Refused::invalid(format!(
            "{field}: {:?} is no file system that volumed makes: ext4, xfs, btrfs",
            other.chars().take(60).collect::<String>()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::volume_capability::{AccessMode, MountVolume};

    fn read(flags: &[&str]) -> Result<Capability, Refused> {
        let mount_flags = flags.iter().map(ToString::to_string).collect();
        Capability::read(Some(&VolumeCapability {
            access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
            access_type: Some(AccessType::Mount(MountVolume { mount_flags, ..MountVolume::default() })),
        }))
    }

    #[test]
    fn a_context_of_the_kubelets_is_taken_whole_and_nothing_besides() {
        let context = r#"context="system_u:object_r:container_file_t:s0:c1,c2""#;
        let flags = read(&["noatime,ro", context]).unwrap().flags;
        assert_eq!(flags.to_string(), "noatime,ro,context=system_u:object_r:container_file_t:s0:c1,c2");
        for wrong in
            [&["context=\"\""][..], &["context=a b"], &["context=a", "context=b"], &["ro,context=a"], &["fscontext=a"]]
        {
            assert_eq!(read(wrong).unwrap_err().code, tonic::Code::InvalidArgument, "{wrong:?}");
        }
    }
}
