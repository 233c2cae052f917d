//! The Container Storage Interface as an orchestrator's own gRPC library speaks it: a client in Python (`csi/`) plays the provisioner and the
//! kubelet on the installed service's socket, and checks rule by rule.

use vol_tests::guest::{Lab, none_failed};

/// Seconds, on a slow machine.
const LONG: u32 = 1200;
/// So much is asserted at least: a suite that has lost its checks does not pass.
const CHECKS: u64 = 117;
const ASSERTED: u64 = 6000;

#[test]
fn every_rule_of_the_interface_holds_for_a_client_in_python() {
    let Some(lab) = Lab::new() else { return };
    let share = concat!(env!("CARGO_MANIFEST_DIR"), "/csi");
    let before = include_str!("../csi/before.sh");
    // It holds volumes of 10 GiB, which take what is written to them.
    let options = ["--systemd", "--daemon", "--before", before, "--share", share, "--disk", "40G"];
    let script = "
volctl init /dev/labdisk0 --pool tank --yes > /dev/null
PYTHONDONTWRITEBYTECODE=1 python3 /share/conformance.py
code=$?
[ $code = 0 ] || journalctl -q -o cat -u volumed -u volumed-csi.socket | tail -50
true";
    let out = lab.ok_within(LONG, &options, script);
    println!("{out}");
    none_failed(&out);
    let last = out.lines().find(|line| line.starts_with("CHECKS ")).expect("the suite came to its end");
    let words: Vec<&str> = last.split_whitespace().collect();
    let said = |what: &str| {
        let at = words.iter().position(|word| *word == what).expect("a number of it");
        words[at + 1].parse::<u64>().expect("a number")
    };
    assert!(said("CHECKS") >= CHECKS && said("ASSERTED") >= ASSERTED && said("FAILED") == 0, "{last}");
}
