//! What a change looks at, and what it leaves as it was seen last.

use std::path::Path;
use std::time::Duration;

use vol_core::dm::Device;
use vol_engine::Engine;
use vol_sim::SimHost;
use vol_types::{Bytes, FsKind};

use super::bench::*;

fn device(engine: &Engine<SimHost>, text: &str) -> Device {
    Device::Volume(engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(text)).unwrap().id))
}

#[test]
fn what_a_change_did_not_look_at_is_no_news_of_how_a_pool_fills() {
    let ours = |quiet: bool| {
        let host = Op::CreateRaw.before();
        let engine = start(&host);
        for text in ["filled", "other"] {
            let request = vol_engine::CreateVolume { size: Bytes::gib(1), ..volume_request(text, None) };
            engine.create_volume(&request, false).unwrap();
        }
        engine.attach(&name("data"), &volume("filled"), false).unwrap();
        let mut trends = Vec::new();
        for _ in 0..60 {
            host.fill(&device(&engine, "filled").uuid(), 10).unwrap();
            host.pass(Duration::from_secs(5));
            if !quiet {
                // They look at nothing of the pool but whether it works.
                engine.attach(&name("data"), &volume("other"), false).unwrap();
                engine.detach(&name("data"), &volume("other"), false).unwrap();
            }
            engine.refresh();
            trends.push(engine.vgs()[0].view().space.values().next().unwrap().trend);
        }
        trends
    };
    let trends = ours(true);
    assert!(trends.last().unwrap().is_some());
    assert_eq!(ours(false), trends);
}

#[test]
fn a_device_that_got_the_number_of_another_is_not_shown_as_mounted() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    let data = name("data");
    engine.create_volume(&volume_request("mounted", Some(FsKind::Ext4)), false).unwrap();
    engine.create_volume(&volume_request("next", None), false).unwrap();
    engine.mount(&data, &volume("mounted"), Path::new("/srv/x"), false, false).unwrap();
    let view = || engine.vgs()[0].view();
    let number = view().kernel.dm[&device(&engine, "mounted")].dev;
    assert_eq!(view().kernel.mounts_of(device(&engine, "mounted")).len(), 1);
    // Somebody unmounts it by hand; what is left is taken down, and has nothing to unmount.
    host.foreign_unmount("/srv/x");
    engine.unmount(&data, &volume("mounted"), None, false).unwrap();
    engine.attach(&data, &volume("next"), false).unwrap();
    let next = device(&engine, "next");
    assert_eq!(view().kernel.dm[&next].dev, number, "the number was not given again");
    assert!(view().kernel.mounts_of(next).is_empty(), "{:?}", view().kernel.mounts);
}

#[test]
fn after_a_change_readers_see_what_it_did_and_the_rest_as_it_was_seen_last() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    let data = name("data");
    for text in ["a", "b"] {
        engine.create_volume(&volume_request(text, None), false).unwrap();
        engine.attach(&data, &volume(text), false).unwrap();
    }
    let [a, b] = ["a", "b"].map(|text| device(&engine, text));
    let view = || engine.vgs()[0].view();
    host.fill(&b.uuid(), 3).unwrap();
    host.foreign_suspend(&b.uuid());
    engine.detach(&data, &volume("a"), false).unwrap();
    assert!(!view().kernel.dm.contains_key(&a), "it was taken down by this very change");
    assert!(!view().kernel.dm[&b].suspended, "nobody looked at it");
    engine.refresh();
    assert!(view().kernel.dm[&b].suspended);
}
