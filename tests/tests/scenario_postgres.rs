//! PostgreSQL in a container, on a volume that Docker asked for: a clone of it taken while it is at work starts clean, and after a power-cut no
//! row is missing that was committed.

use std::thread::sleep;
use std::time::Duration;
use vol_tests::Random;
use vol_tests::engine::{Engine, last, options, passed};
use vol_tests::guest::{Lab, none_failed};

/// Seconds, on a slow machine.
const LONG: u32 = 1200;

const AT_WORK: &str = "
part postgres_image
part made
writing &
part cloned
echo CLONED
wait
";

#[test]
fn postgres_loses_no_committed_row_at_a_power_cut_and_a_clone_of_it_at_work_starts_clean() {
    let Some(lab) = Lab::new() else { return };
    let (volumes, engine) = (lab.disk("volumes.img"), lab.disk("engine.img"));
    let options = options(&volumes, &engine);
    let mut guest = lab.start_within(LONG, &options, &Engine::Postgres.script(AT_WORK));
    guest.wait_long_for("clone", |line| line == "CLONED");
    sleep(Duration::from_millis(500 + Random::new().below(2000)));
    let said = guest.cut(&lab);
    println!("{}", said.iter().filter(|line| !line.starts_with("ACK")).cloned().collect::<Vec<_>>().join("\n"));
    none_failed(&said.join("\n"));
    let acknowledged = last(&said, "ACK ").unwrap();

    let out = lab.ok_within(LONG, &options, &Engine::Postgres.script("part survived"));
    passed(&out);
    let there = last(&out.lines().map(str::to_owned).collect::<Vec<_>>(), "ROWS ").unwrap();
    println!("{acknowledged} rows were acknowledged when the plug was pulled, {there} are there");
    assert!(there >= acknowledged, "{there} rows are there, and {acknowledged} had been committed");
}
