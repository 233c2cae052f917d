//! A tour of Podman: what people do with volumes, and what happens to them; at its end the plug is pulled.

use vol_tests::engine::{Engine, last, options, passed};
use vol_tests::guest::{Lab, none_failed};

/// Seconds, on a slow machine.
const LONG: u32 = 1200;

const TOUR: &str = "
part images
for name in first copying resizing copies full read_only copy_up names options hundred thirty undelete elsewhere usage bare killed; do part $name; done
part cut_off
";

const AFTER: &str = "
part back
part quadlet
check volctl status
";

#[test]
fn podman_keeps_its_volumes_through_a_tour_and_a_power_cut() {
    let Some(lab) = Lab::new() else { return };
    let (volumes, engine) = (lab.disk("volumes.img"), lab.disk("engine.img"));
    let options = options(&volumes, &engine);
    let mut guest = lab.start_within(LONG, &options, &Engine::Podman.script(TOUR));
    guest.wait_long_for("writer", |line| line == "ACK 20");
    let said = guest.cut(&lab);
    println!("{}", said.join("\n"));
    none_failed(&said.join("\n"));
    let acknowledged = last(&said, "ACK ").unwrap();

    let out = lab.ok_within(LONG, &options, &Engine::Podman.script(AFTER));
    passed(&out);
    let there = last(&out.lines().map(str::to_owned).collect::<Vec<_>>(), "LINES ").unwrap();
    assert!(there >= acknowledged, "{there} lines are there, and {acknowledged} had been acknowledged");
}
