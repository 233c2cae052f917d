//! `pool check` and `pool repair`.

use vol_api::{IncompleteVolume, PoolCheckInfo, PoolRepairInfo};

use super::*;

fn repaired(how: &str) -> PoolRepairInfo {
    PoolRepairInfo { how: how.into(), ..PoolRepairInfo::default() }
}

#[test]
fn a_check_says_how_the_pool_was_looked_at() {
    let checked = |how: &str| Outcome::unchanged(Some(PoolCheckInfo { how: how.into(), ..PoolCheckInfo::default() }));
    let daemon = Daemon::start()
        .answer("POST /v1/pools/data/tank/check", &checked("stopped"))
        .answer("POST /v1/pools/data/busy/check", &checked("running"));
    let ran = daemon.volctl("pool check data/tank");
    assert_eq!((ran.exit, ran.out.as_str()), (0, "pool data/tank checked by thin_check: no errors were found.\n"));
    let ran = daemon.volctl("pool check data/busy --online");
    assert!(ran.exit == 0 && ran.out.contains("checked while it runs"), "{}", ran.out);
    assert_eq!(
        daemon.requests(),
        [r#"POST /v1/pools/data/tank/check {"online":false}"#, r#"POST /v1/pools/data/busy/check {"online":true}"#]
    );
}

#[test]
fn a_pool_is_not_taken_down_for_a_repair_without_a_question() {
    let daemon = Daemon::start().answer("POST /v1/pools/data/tank/repair?dry_run=true", &plan("repair pool data/tank"));
    for line in ["pool repair data/tank", "pool repair data/tank --accept-loss"] {
        let ran = daemon.volctl(line);
        assert!(ran.exit == 9 && ran.err.contains("--yes"), "{line}: {}", ran.err);
    }
    assert_eq!(
        daemon.requests(),
        [
            r#"POST /v1/pools/data/tank/repair?dry_run=true {"accept_loss":false,"discard_original":false}"#,
            r#"POST /v1/pools/data/tank/repair?dry_run=true {"accept_loss":true,"discard_original":false}"#,
        ]
    );
}

#[test]
fn what_a_repair_came_to_is_said_and_what_is_lost_is_named() {
    let lossy = PoolRepairInfo {
        lost: vec!["data/pg".into()],
        incomplete: vec![IncompleteVolume { full_name: "data/wal".into(), chunks: 3, chunks_before: 9 }],
        ..repaired("replaced")
    };
    let answer = Outcome { warnings: vec!["the repaired metadata lack something".into()], ..Outcome::changed(lossy) };
    let daemon = Daemon::start()
        .answer("POST /v1/pools/data/tank/repair", &answer)
        .answer("POST /v1/pools/data/sound/repair", &Outcome::changed(repaired("cleared")))
        .answer("POST /v1/pools/data/well/repair", &Outcome::unchanged(Some(repaired("nothing"))));
    let ran = daemon.volctl("pool repair data/tank --accept-loss --yes");
    assert_eq!(ran.exit, 10, "{}", ran.err);
    for word in ["lost: data/pg", "not whole: data/wal (3 of 9 chunks)", "--discard-original"] {
        assert!(ran.out.contains(word), "{word}: {}", ran.out);
    }
    let ran = daemon.volctl("pool repair data/sound --yes");
    assert!(ran.exit == 0 && ran.out.contains("its metadata are sound"), "{}", ran.out);
    let ran = daemon.volctl("pool repair data/well --yes");
    assert!(ran.exit == 0 && ran.out.contains("in order, nothing was repaired"), "{}", ran.out);
    assert!(!ran.out.contains("--discard-original"), "there is none: {}", ran.out);
}
