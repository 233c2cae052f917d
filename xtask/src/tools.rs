//! Programs for tests that no Debian package has: from PyPI, in a virtual environment of their own, each in a version that is written down.

use crate::cmd::{cmd, run_quiet};
use crate::{target_dir, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// What makes up requests from the OpenAPI document, and what holds manifests against the schemas of Kubernetes, with everything that they need: versions, and the hashes of their wheels for CPython 3.11
/// to 3.14 on x86-64 and arm64.
const SCHEMATHESIS: &str = "crates/volumed/tests/schemathesis/requirements.txt";

/// Installs schemathesis, unless it is there in the version that is asked for.
pub fn schemathesis() -> Result<()> {
    let requirements = workspace().join(SCHEMATHESIS);
    let wanted = fs::read_to_string(&requirements).with_context(|| format!("cannot read {SCHEMATHESIS}"))?;
    let venv = target_dir().join("tools/venv");
    let stamp = venv.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    // Debian's, which python3-venv belongs to, rather than whatever else is on PATH.
    let python = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    run_quiet(cmd(python, ["-m", "venv", "--clear"]).arg(&venv)).context("cannot make a virtual environment")?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary=:all:",
        "--require-hashes",
        "-r",
    ];
    run_quiet(cmd(&venv.join("bin/python").to_string_lossy(), pip).arg(&requirements))
        .context("PyPI does not give schemathesis")?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_taken_from_pypi_has_its_version_and_a_hash_written_down() {
        let text = fs::read_to_string(workspace().join(SCHEMATHESIS)).unwrap();
        let all: Vec<String> = text.replace("\\\n", " ").lines().map(str::to_owned).collect();
        assert!(all.iter().any(|one| one.starts_with("schemathesis==")), "{all:?}");
        for one in all {
            assert!(one.contains("==") && one.contains(" --hash=sha256:"), "{one}");
        }
    }
}
