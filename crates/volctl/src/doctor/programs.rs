//! The programs that volumed runs because they own a format.

use vol_api::{Finding, Level};

use super::{Machine, run};

/// Programs of one purpose.
struct Set {
    package: &'static str,
    /// Each with the argument that makes it print its version.
    programs: &'static [(&'static str, &'static str)],
    /// What does not work without them, and how bad that is.
    purpose: &'static str,
    level: Level,
}

const SETS: [Set; 4] = [
    Set {
        package: "e2fsprogs",
        programs: &[("mkfs.ext4", "-V"), ("e2fsck", "-V"), ("resize2fs", "-V")],
        purpose: "volumes with ext4, the usual file system, cannot be made, checked or grown",
        level: Level::Problem,
    },
    Set {
        package: "xfsprogs",
        programs: &[("mkfs.xfs", "-V"), ("xfs_repair", "-V")],
        purpose: "volumes with XFS cannot be made or checked",
        level: Level::Note,
    },
    Set {
        package: "btrfs-progs",
        programs: &[("mkfs.btrfs", "-V"), ("btrfs", "--version")],
        purpose: "volumes with btrfs cannot be made or checked",
        level: Level::Note,
    },
    Set {
        package: "thin-provisioning-tools",
        programs: &[("thin_check", "-V"), ("thin_repair", "-V")],
        purpose: "a damaged pool can be neither checked nor repaired",
        level: Level::Warning,
    },
];

/// Each set, with versions.
pub async fn all(machine: &Machine) -> Vec<Finding> {
    let mut all = Vec::new();
    for set in &SETS {
        let (mut there, mut missing) = (Vec::new(), Vec::new());
        for (name, argument) in set.programs {
            match machine.program(name) {
                None => missing.push(*name),
                Some(path) => {
                    let said = run(&path, &[argument]).await.unwrap_or_else(|why| why);
                    there.push(format!("{name} {}", version(&said)));
                }
            }
        }
        all.push(if missing.is_empty() {
            Finding::ok("programs", there.join(", "))
        } else {
            Finding::new(
                "programs",
                set.level,
                format!("{} not installed: {}", missing.join(", "), set.purpose),
                format!("apt install {}", set.package),
            )
        });
    }
    all
}

/// The first word that looks like one.
fn version(said: &str) -> String {
    let words = said.split_whitespace().map(|word| word.trim_start_matches('v').trim_end_matches([',', ')']));
    let numbered = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    words.into_iter().find(numbered).unwrap_or("(says no version)").to_owned()
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_version_is_found_in_what_programs_say() {
        assert_eq!(version("mke2fs 1.47.2 (1-Jan-2025)\n\tUsing EXT2FS Library version 1.47.2"), "1.47.2");
        assert_eq!(version("mkfs.btrfs, part of btrfs-progs v6.14\n"), "6.14");
        assert_eq!(version("xfs_repair version 6.13.0\n"), "6.13.0");
        assert_eq!(version("1.1.0"), "1.1.0");
        assert_eq!(version("cannot be run: Permission denied"), "(says no version)");
    }
}
