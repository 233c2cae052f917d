//! The daemon itself, over a host that ends it at a chosen effect (`vol_tests::dying`). Without VOLUMED_DIES it is the plain daemon.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use vol_tests::dying::Dying;

fn main() -> ExitCode {
    let dir = std::env::var_os("VOLUMED_DIES").unwrap_or_default();
    volumed::program::run(move |host| Dying::new(host, dir.into()))
}
