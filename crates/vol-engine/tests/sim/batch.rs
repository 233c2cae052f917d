//! Changes that wait for each other share a transaction.

use vol_engine::host::HostErrorKind;
use vol_engine::{CreateVolume, Engine};
use vol_sim::{CrashMode, EffectKind, Fault, SimHost};
use vol_types::*;

use super::bench::*;

fn requests(count: usize, fs: Option<FsKind>) -> Vec<CreateVolume> {
    (0..count).map(|n| CreateVolume { size: Bytes::mib(512), ..volume_request(&format!("v{n}"), fs) }).collect()
}

fn volumes(engine: &Engine<SimHost>) -> usize {
    inventory(engine).iter().filter(|line| line.starts_with("volume ") && line.contains(" Ready ")).count()
}

#[test]
fn many_creations_share_one_commit_and_one_transaction_id() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    let before = engine.vgs()[0].view().counters;
    host.reset_counters();
    let answers = engine.create_volumes(&name("data"), &requests(32, None)).unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Ok((true, _)))), "{answers:?}");
    let after = engine.vgs()[0].view().counters;
    assert_eq!(after.commits - before.commits, 1);
    assert!(after.commit_bytes - before.commit_bytes <= 16 * 1024, "{} bytes", after.commit_bytes);
    assert_eq!(host.counters().messages, 32 + 1, "one swap for all");
    assert_eq!(host.counters().flushes, 2, "one commit on two copies");
    let id = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().transaction_id);
    assert_eq!(id, 1);
    assert_eq!(volumes(&engine), 32);
    sound(&host, &engine, "a batch");
}

#[test]
fn requests_from_many_threads_are_all_answered_and_share_commits() {
    let host = Op::CreateRaw.before();
    host.keep_trace(false);
    let engine = start(&host);
    let before = engine.vgs()[0].view().counters.commits;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let engine = &engine;
            scope.spawn(move || {
                for n in 0..25 {
                    let request =
                        CreateVolume { size: Bytes::mib(64), ..volume_request(&format!("t{thread}-{n}"), None) };
                    engine.create_volume(&request, false).unwrap();
                    if n % 5 == 0 {
                        engine.delete_volume(&name("data"), &volume(&format!("t{thread}-{n}")), false).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(volumes(&engine), 8 * 20);
    let commits = engine.vgs()[0].view().counters.commits - before;
    assert!(commits <= 8 * 30, "{commits} commits");
    sound(&host, &engine, "many threads");
    assert_eq!(inventory(&start(&host)), inventory(&engine));
}

#[test]
fn one_that_cannot_be_made_does_not_take_the_others_with_it() {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    let mut wanted = requests(6, Some(FsKind::Ext4));
    // Twice the same: the second is the first; another size under a name that is taken: refused.
    wanted.push(wanted[2].clone());
    wanted.push(CreateVolume { size: Bytes::gib(2), ..wanted[3].clone() });
    host.fail_next(EffectKind::Mkfs, Fault::Error(HostErrorKind::Tool));
    let answers = engine.create_volumes(&name("data"), &wanted).unwrap();
    let failed: Vec<_> = answers.iter().map(Result::is_err).collect();
    assert_eq!(failed, [true, false, false, false, false, false, false, true], "{answers:?}");
    assert!(matches!(answers[6], Ok((false, _))), "{:?}", answers[6]);
    assert_eq!(volumes(&engine), 5);
    sound(&host, &engine, "one mkfs failed");
}

#[test]
fn a_batch_whose_message_fails_is_made_one_by_one() {
    for fault in [Fault::Error(HostErrorKind::Io), Fault::ErrorAfter(HostErrorKind::TimedOut)] {
        let host = Op::CreateRaw.before();
        let engine = start(&host);
        host.fail_next(EffectKind::DmMessage, fault);
        let answers = engine.create_volumes(&name("data"), &requests(5, None)).unwrap();
        assert!(answers.iter().all(Result::is_ok), "{fault:?}: {answers:?}");
        assert_eq!(volumes(&engine), 5);
        sound(&host, &engine, "after a failed message");
    }
}

#[test]
fn what_depends_on_a_change_of_the_batch_comes_after_it() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    engine.create_volumes(&name("data"), &requests(3, None)).unwrap();
    let vg = engine.vgs()[0].clone();
    use vol_core::plan::snapshot::CreateSnapshot;
    use vol_engine::ThinRequest;
    use vol_engine::host::HostMut as _;
    let uuid = || host.new_uuid();
    let delete = |of: &str| ThinRequest::Delete { name: volume(of), intent: IntentId::from_uuid(uuid()) };
    let snapshot = |of: &str, as_: &str| {
        ThinRequest::Snapshot(vec![CreateSnapshot {
            id: VolumeId::from_uuid(uuid()),
            intent: IntentId::from_uuid(uuid()),
            of: name(of),
            name: name(as_),
            labels: Labels::default(),
            now: 0,
        }])
    };
    let answers = vg.submit_all(
        &host,
        vec![snapshot("v0", "a"), delete("v0"), snapshot("v0", "b"), delete("v0@a"), delete("v1"), delete("v1")],
    );
    let done: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(done, [true, true, false, true, true, false], "{answers:?}");
    assert_eq!(volumes(&engine), 1);
    sound(&host, &engine, "dependent changes");
}

#[test]
fn a_batch_cut_short_anywhere_leaves_each_volume_wholly_there_or_not_at_all() {
    let before = Op::CreateFormatted.before();
    before.keep_trace(false);
    let probe = before.fork();
    let engine = start(&probe);
    let first = probe.effects() + 1;
    let mut wanted = requests(3, None);
    wanted.extend(requests(5, Some(FsKind::Ext4)).into_iter().skip(3));
    engine.create_volumes(&name("data"), &wanted).unwrap();
    for number in first..=probe.effects() {
        for death in [Fault::KillDaemonBefore, Fault::KillDaemonAfter, Fault::PowerCutBefore, Fault::PowerCutAfter] {
            let host = before.fork();
            let engine = start(&host);
            host.fail_effect(number, death);
            let answers = engine.create_volumes(&name("data"), &wanted);
            let acknowledged = answers.map_or(0, |answers| answers.iter().filter(|answer| answer.is_ok()).count());
            drop(engine);
            if death.cuts_power() {
                host.settle(CrashMode::Random);
            }
            host.restart();
            let engine = start(&host);
            let story = format!("{death:?} at {number}");
            sound(&host, &engine, &story);
            assert!(volumes(&engine) >= acknowledged, "{story}: {acknowledged} were acknowledged");
            let again = engine.create_volumes(&name("data"), &wanted).unwrap();
            assert!(again.iter().all(Result::is_ok), "{story}: {again:?}");
            assert_eq!(volumes(&engine), 5, "{story}");
        }
    }
}
