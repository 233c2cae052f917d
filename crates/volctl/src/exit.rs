//! Exit codes, part of the interface. 3 to 8 come from [`vol_api::ErrorCode::exit_code`].

/// Everything was done.
pub const OK: u8 = 0;
/// It failed, for none of the reasons below.
pub const FAILURE: u8 = 1;
/// The command line, or what it asks for, is malformed.
pub const USAGE: u8 = 2;
/// The object does not exist.
pub const NOT_FOUND: u8 = 3;
/// This user may not do it.
pub const DENIED: u8 = 7;
/// The daemon does not run, or is not ready.
pub const UNREACHABLE: u8 = 8;
/// The question was answered with no, or there was nobody to ask.
pub const DECLINED: u8 = 9;
/// Done with warnings; for `status`: something is degraded; for `pv check` and `debug dump`: damage; for `doctor`: a warning.
pub const WARNINGS: u8 = 10;

/// The codes for `--help` and the man page.
pub const HELP: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 busy, 5 exists, 6 no space, 7 denied, \
8 volumed is not reachable, 9 declined at the prompt, 10 done with warnings, degraded or damaged.";
