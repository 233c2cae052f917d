//! Programs of the system, by an argument array; what failed is an error that says how.

use anyhow::{Context as _, Result, bail};
use vol_tests::tool;

/// Runs a program to its end; what it printed to standard output.
///
/// # Errors
/// It is not there, or did not succeed.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = tool::attempt(program, args).with_context(|| format!("{program} cannot be started"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}: {}", args.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program for what good it may do.
pub fn succeeds(program: &str, args: &[&str]) -> bool {
    tool::try_run(program, args)
}

/// The first line of what a program says of its version, on either output.
pub fn version(program: &str, args: &[&str]) -> Option<String> {
    let output = tool::attempt(program, args)?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    said.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}
