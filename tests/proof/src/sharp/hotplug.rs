//! Directed scenarios about disks that go and come while the daemon runs.

use std::path::PathBuf;

use vol_engine::Engine;
use vol_engine::host::DiskNews;
use vol_sim::{SimDisk, SimHost};
use vol_types::Bytes;

use super::scenarios::{Scenario, Told, create, group, must, not_told, problems};

pub const ALL: &[Scenario] = &[
    ("a disk goes and comes back", goes_and_comes),
    ("another disk comes in the place of one", another_in_its_place),
    ("a blank disk comes before it is heard that one went", blank_in_its_place),
    ("news of disks are lost", news_lost),
];

/// What the daemon's thread does, until there is nothing left to do.
fn follow(host: &SimHost, engine: &Engine<SimHost>) -> Told {
    for _ in 0..8 {
        let news = host.disk_news();
        match engine.follow(&news) {
            None if news == DiskNews::Nothing => return Ok(()),
            again => host.pass(again.unwrap_or_default()),
        }
    }
    Err("it does not come to rest".to_owned())
}

/// Three disks, all of them in use, and all that was said heard.
fn in_use() -> Result<(SimHost, Engine<SimHost>), String> {
    let (host, engine) = group(3)?;
    follow(&host, &engine)?;
    must(problems(&engine).is_empty(), || problems(&engine))?;
    Ok((host, engine))
}

/// A disk on which the pool stands.
fn disk_of_pool(engine: &Engine<SimHost>) -> Option<String> {
    engine.vgs().first()?.read(|catalog| {
        let segment = catalog.pools().next()?.data.first()?;
        Some(catalog.pv(segment.pv)?.path_hint.clone())
    })
}

fn goes_and_comes() -> Told {
    let (host, engine) = in_use()?;
    let disk = disk_of_pool(&engine).ok_or("the pool stands on no disk")?;
    host.remove_disk(&disk);
    follow(&host, &engine)?;
    must(problems(&engine).contains("is missing"), || not_told(&engine))?;
    let effects = host.effects();
    must(create(&engine, "x").is_err(), || "a pool without its disk takes a change".to_owned())?;
    must(host.effects() == effects, || "something is sent to a pool without its disk".to_owned())?;
    host.reattach(&disk);
    follow(&host, &engine)?;
    must(problems(&engine).is_empty(), || format!("it is back: {}", problems(&engine)))?;
    create(&engine, "x")
}

fn another_in_its_place() -> Told {
    let (host, engine) = in_use()?;
    host.forget_disk("/dev/sda");
    host.add_disk(SimDisk::new("/dev/sda", Bytes::gib(4)));
    follow(&host, &engine)?;
    must(problems(&engine).contains("is missing"), || not_told(&engine))
}

/// The group waits for another disk, so that it would be opened anew.
fn blank_in_its_place() -> Told {
    let (host, engine) = in_use()?;
    engine.scan(&[], false).map_err(|error| error.to_string())?;
    host.forget_disk("/dev/sda");
    host.add_disk(SimDisk::new("/dev/sda", Bytes::gib(4)));
    let written = || host.counters().bytes_written.get(&PathBuf::from("/dev/sda")).copied().unwrap_or_default();
    let before = written();
    follow(&host, &engine)?;
    let _ = create(&engine, "x");
    must(written() == before, || "a disk is written to that was blank".to_owned())?;
    must(problems(&engine).contains("is missing"), || not_told(&engine))
}

/// What is called as before is found by no comparison of names.
fn news_lost() -> Told {
    let (host, engine) = in_use()?;
    host.add_disk(SimDisk::new("/dev/sdz", Bytes::gib(4)));
    follow(&host, &engine)?;
    host.forget_disk("/dev/sdz");
    host.clone_disk("/dev/sda", "/dev/sdz", "another serial number");
    host.lose_disk_news();
    follow(&host, &engine)?;
    must(problems(&engine).contains("it is a copy"), || not_told(&engine))
}
