//! The daemon dies at each effect of each request of a volume's life; the one after it is asked the same again.

use vol_sim::Fault;
use volume_content_source::{SnapshotSource, Type};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Stage,
    Publish,
    Snapshot,
    Restore,
    Expand,
    Ephemeral,
    EphemeralGone,
    Unpublish,
    Unstage,
    DeleteSnapshot,
    DeleteRestored,
    Delete,
    RawCreate,
    RawStage,
    RawPublish,
    RawExpand,
}

const LIFE: [Step; 13] = [
    Step::Create,
    Step::Stage,
    Step::Publish,
    Step::Snapshot,
    Step::Restore,
    Step::Expand,
    Step::Ephemeral,
    Step::EphemeralGone,
    Step::Unpublish,
    Step::Unstage,
    Step::DeleteSnapshot,
    Step::DeleteRestored,
    Step::Delete,
];

/// Of a device that is handed out.
const RAW: [Step; 7] =
    [Step::RawCreate, Step::RawStage, Step::RawPublish, Step::RawExpand, Step::Unpublish, Step::Unstage, Step::Delete];

/// What the orchestrator has heard.
#[derive(Clone, Debug, Default)]
struct Known {
    volume: String,
    snapshot: String,
    restored: String,
}

async fn ask(driver: &Driver, known: &mut Known, step: Step) -> Result<(), Status> {
    let id = known.volume.clone();
    match step {
        Step::Create => known.volume = driver.create(asked("pvc-1", GIB)).await?.volume_id,
        Step::Stage => driver.stage(to_stage(&id, usual())).await?,
        Step::Publish => driver.publish(to_publish(&id, "a", usual())).await?,
        Step::Snapshot => {
            let request = CreateSnapshotRequest { source_volume_id: id, name: "snap".into(), ..Default::default() };
            let answer = driver.wire().await.controller().create_snapshot(request).await?.into_inner();
            known.snapshot = answer.snapshot.unwrap().snapshot_id;
        }
        Step::Restore => {
            let of = Type::Snapshot(SnapshotSource { snapshot_id: known.snapshot.clone() });
            let source = VolumeContentSource { r#type: Some(of) };
            let request = CreateVolumeRequest { volume_content_source: Some(source), ..asked("restored", 2 * GIB) };
            let made = driver.create(request).await?;
            assert_eq!(made.capacity_bytes, 2 * GIB);
            known.restored = made.volume_id;
        }
        Step::Expand => {
            let capacity_range = Some(CapacityRange { required_bytes: 2 * GIB, limit_bytes: 0 });
            let request = ControllerExpandVolumeRequest { volume_id: id, capacity_range, ..Default::default() };
            driver.wire().await.controller().controller_expand_volume(request).await?;
        }
        Step::Ephemeral => driver.publish(kubelet::inline("csi-1", "b", &[])).await?,
        Step::EphemeralGone => driver.unpublish("csi-1", &target("b")).await?,
        Step::Unpublish => driver.unpublish(&id, &target("a")).await?,
        Step::Unstage => driver.unstage(&id, &staging(&id)).await?,
        Step::DeleteSnapshot => {
            let request = DeleteSnapshotRequest { snapshot_id: known.snapshot.clone() };
            driver.wire().await.controller().delete_snapshot(request).await?;
        }
        Step::DeleteRestored => driver.delete(&known.restored).await?,
        Step::Delete => driver.delete(&id).await?,
        Step::RawCreate => known.volume = driver.create(block::raw("raw-1")).await?.volume_id,
        Step::RawStage => driver.stage(to_stage(&id, block::block(Mode::SingleNodeMultiWriter))).await?,
        Step::RawPublish => driver.publish(to_publish(&id, "a", block::block(Mode::SingleNodeMultiWriter))).await?,
        Step::RawExpand => {
            let capacity_range = Some(CapacityRange { required_bytes: 2 * GIB, limit_bytes: 0 });
            let request = NodeExpandVolumeRequest {
                volume_id: id,
                volume_path: target("a"),
                capacity_range,
                ..Default::default()
            };
            driver.wire().await.node().node_expand_volume(request).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn killed_at_every_effect_of_every_request_a_volumes_life_goes_on() {
    goes_on(&LIFE).await;
}

#[tokio::test]
async fn killed_at_every_effect_of_every_request_a_raw_volumes_life_goes_on() {
    goes_on(&RAW).await;
}

async fn goes_on(life: &[Step]) {
    let driver = Driver::start();
    let mut known = Known::default();
    let mut deaths = 0;
    for (at, step) in life.iter().copied().enumerate() {
        for number in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let _ = std::fs::copy(driver.dir.path().join("csi-places.json"), dir.path().join("csi-places.json"));
            let dying = Driver::recovering(dir, driver.host.fork());
            dying.ready();
            // Before the first, and after each.
            let effects = dying.host.effects();
            match number {
                0 => dying.host.fail_effect(effects + 1, Fault::KillDaemonBefore),
                n => dying.host.fail_effect(effects + n, Fault::KillDaemonAfter),
            }
            let mut known = known.clone();
            let answer = ask(&dying, &mut known, step).await;
            if !dying.host.is_dead() {
                answer.unwrap();
                break;
            }
            deaths += 1;
            dying.host.restart();
            let next = dying.again();
            // What it left is no hindrance: to the same, and now and then to all that comes after it.
            let whole = number % 5 == 0;
            let rest = if whole { &life[at + 1..] } else { &[] };
            for step in [&[step, step][..], rest].concat() {
                ask(&next, &mut known, step)
                    .await
                    .unwrap_or_else(|status| panic!("{step:?} after {number}: {status:?}"));
            }
            assert!(!whole || next.backend.volumes(None).unwrap().is_empty(), "{step:?} after {number}");
            assert_eq!(next.host.violations(), Vec::<String>::new(), "{step:?} after {number}");
        }
        ask(&driver, &mut known, step).await.unwrap();
    }
    println!("{deaths} deaths");
    assert!(deaths > 2 * life.len(), "{deaths}");
}
