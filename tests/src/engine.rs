//! Guests with a container engine in them: Docker or Podman, its images made on the spot, and no network.

use crate::guest::{CHECKS, none_failed};

/// What is in a guest's `/etc` for both engines, for `--before`. Their images and containers are on the guest's second disk.
pub const ETC: &str = include_str!("../engines/etc.sh");
const LIB: &str = include_str!("../engines/lib.sh");

/// The example of a Quadlet volume, as a variable.
const PGDATA_VOLUME: &str = concat!("PGDATA_VOLUME='", include_str!("../../deploy/podman/pgdata.volume"), "'\n");

/// An engine, and the shell functions of its tour.
#[derive(Clone, Copy)]
pub enum Engine {
    Docker,
    Podman,
    /// Docker, with an image that has PostgreSQL.
    Postgres,
}

impl Engine {
    /// A script in which the engine runs, and a new volume group `data` with a pool `tank` is on the first disk unless it is there.
    pub fn script(self, text: &str) -> String {
        let docker = include_str!("../engines/docker.sh");
        let (unit, functions) = match self {
            Self::Docker => ("docker.service", vec![docker]),
            Self::Podman => ("podman.socket", vec![include_str!("../engines/podman.sh"), PGDATA_VOLUME]),
            Self::Postgres => ("docker.service", vec![docker, include_str!("../engines/postgres.sh")]),
        };
        let begin = "volctl vg show data > /tmp/out 2>&1 || check volctl init /dev/labdisk0 --pool tank --yes";
        format!("{CHECKS}{LIB}{}\n{begin}\ncheck systemctl start {unit}\n{text}\necho DONE\n", functions.concat())
    }
}

/// The options of a guest with these two disks.
pub fn options<'a>(volumes: &'a str, engine: &'a str) -> Vec<&'a str> {
    vec!["--systemd", "--mem", "3G", "--disk", volumes, "--disk", engine, "--before", ETC]
}

/// Everything was done, and nothing failed.
#[track_caller]
pub fn passed(out: &str) {
    println!("{out}");
    none_failed(out);
    assert!(out.lines().any(|line| line == "DONE"), "{out}");
}

/// The last number that was told of as `WORD NUMBER`.
pub fn last(lines: &[String], word: &str) -> Option<u64> {
    lines.iter().rev().find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
}
