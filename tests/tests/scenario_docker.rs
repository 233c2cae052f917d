//! A tour of Docker: what people do with volumes, and what happens to them, with the real dockerd.

use vol_tests::engine::{Engine, options, passed};
use vol_tests::guest::Lab;

/// Seconds, on a slow machine.
const LONG: u32 = 1200;

const TOUR: &str = "
part images
for name in first copying resizing copies full read_only copy_up anonymous names options hundred thirty undelete elsewhere usage compose; do part $name; done
for name in killed live_restore late; do part $name; done
is \"$(volctl refs list -o json | jq '.refs | length')\" 0 'references at the end'
check volctl status
";

#[test]
fn docker_keeps_its_volumes_through_a_tour() {
    let Some(lab) = Lab::new() else { return };
    passed(&lab.ok_within(LONG, &options("4G", "4G"), &Engine::Docker.script(TOUR)));
}
