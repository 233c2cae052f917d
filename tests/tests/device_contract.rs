//! The contract's clauses on a real kernel. Needs root and device-mapper; makes its own loop devices.

use vol_tests::contract;
use vol_tests::contract::linux::LinuxBench;
use vol_tests::contract_clauses;

/// This program as the guard of a snapshot's window: `resume_guard_process` below.
const GUARD: &[&str] = &["/proc/self/exe", "--ignored", "--exact", "resume_guard_process", "--nocapture"];

#[test]
#[ignore = "the program of the guard, not a test"]
fn resume_guard_process() {
    std::process::exit(vol_linux::guard_main());
}

macro_rules! tests {
    ($($id:literal $topic:ident::$name:ident;)*) => {
        $(#[test]
        fn $name() {
            let start = std::time::Instant::now();
            println!("{}", $id);
            if let Some(bench) = LinuxBench::new(GUARD) {
                contract::$topic::$name(&bench);
                drop(bench);
                println!("{} took {:?}", $id, start.elapsed());
            }
        })*
    };
}
contract_clauses!(tests);
