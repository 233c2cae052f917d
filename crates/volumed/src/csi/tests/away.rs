//! Volume groups whose disks are away: what is in them is not gone.

use vol_sim::CrashMode;

use super::*;

impl Driver {
    /// The machine begins anew without its disks.
    fn unplug(&self) {
        self.host.crash(CrashMode::LoseAll);
        self.host.restart();
        self.host.remove_disk("/dev/sda");
        self.host.remove_disk("/dev/sdb");
    }
    /// And with them.
    fn plug(&self) {
        self.host.crash(CrashMode::LoseAll);
        self.host.restart();
        self.host.reattach("/dev/sda");
        self.host.reattach("/dev/sdb");
    }
    /// What is asked to be deleted, or staged, answers so.
    async fn each(&self, id: &str, snapshot: &str, group: &str) -> [Option<Code>; 4] {
        let code = |answer: Result<(), Status>| answer.err().map(|status| status.code());
        [
            code(self.delete(id).await),
            code(self.unsnap(snapshot).await),
            code(self.ungroup(group, vec![]).await),
            code(self.stage(to_stage(id, usual())).await),
        ]
    }
    fn remembered(&self) -> Vec<std::path::PathBuf> {
        let files = std::fs::read_dir(self.dir.path().join("volume-groups")).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }
}

#[tokio::test]
async fn what_is_on_disks_that_are_away_is_not_said_to_be_deleted_until_they_are_back() {
    let driver = Driver::start();
    let (id, kept) = (driver.made("pvc-1").await, driver.made("pvc-2").await);
    let snapshot = driver.snap(&id, "s").await.unwrap().snapshot_id;
    let group = driver.group("g", &[&kept]).await.unwrap().group_snapshot_id;
    driver.unplug();
    let driver = driver.again();
    for _ in 0..2 {
        let answers = driver.each(&id, &snapshot, &group).await;
        assert_eq!(answers, [Some(Code::Unavailable); 4]);
    }
    let refused = driver.delete(&id).await.unwrap_err();
    for word in ["volume group data", "none of its disks is there", "volctl pv scan", "rm /"] {
        assert!(refused.message().contains(word), "{word}: {}", refused.message());
    }
    assert_eq!(code(driver.delete("data/pvc-1").await), Code::Unavailable);
    assert_eq!(code(driver.snap(&id, "t").await), Code::Unavailable);
    let source = volume_content_source::SnapshotSource { snapshot_id: snapshot.clone() };
    let source = VolumeContentSource { r#type: Some(volume_content_source::Type::Snapshot(source)) };
    let from = CreateVolumeRequest { volume_content_source: Some(source), ..asked("from", GIB) };
    assert_eq!(code(driver.create(from).await), Code::Unavailable);
    // Nothing of that group can be called so.
    driver.delete("other/pvc-1").await.unwrap();
    driver.delete("no such id").await.unwrap();
    driver.plug();
    let driver = driver.again();
    driver.unsnap(&snapshot).await.unwrap();
    driver.ungroup(&group, vec![]).await.unwrap();
    for _ in 0..2 {
        driver.delete(&id).await.unwrap();
    }
    assert_eq!(driver.listed().await, [kept]);
}

#[tokio::test]
async fn a_group_that_cannot_be_opened_is_told_of_with_the_reason() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    // Each disk is there twice: nobody knows which are meant.
    driver.host.clone_disk("/dev/sda", "/dev/sdc", "copy-1");
    driver.host.clone_disk("/dev/sdb", "/dev/sdd", "copy-2");
    driver.host.crash(CrashMode::LoseAll);
    driver.host.restart();
    let driver = driver.again();
    assert!(driver.backend.vgs().unwrap().is_empty());
    let refused = driver.delete(&id).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    for word in ["data", "cannot be opened", "more than once", "import-clone"] {
        assert!(refused.message().contains(word), "{word}: {}", refused.message());
    }
}

#[tokio::test]
async fn a_group_that_was_deleted_or_that_a_person_gave_up_is_forgotten() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    assert_eq!(driver.remembered().len(), 1);
    driver.unplug();
    let driver = driver.again();
    assert_eq!(code(driver.delete(&id).await), Code::Unavailable);
    for file in driver.remembered() {
        std::fs::remove_file(file).unwrap();
    }
    driver.delete(&id).await.unwrap();
    driver.plug();
    let driver = driver.again();
    assert_eq!(driver.remembered().len(), 1, "it is known again");
    driver.delete(&id).await.unwrap();
    done(driver.backend.delete_pool(&crate::backend::tests::pool("data/tank"), false));
    done(driver.backend.delete_vg(&crate::backend::tests::name("data"), false));
    assert_eq!(driver.remembered(), Vec::<std::path::PathBuf>::new());
    driver.delete(&id).await.unwrap();
}

#[tokio::test]
async fn what_is_kept_after_its_deletion_is_known_to_be_deleted_whatever_is_away() {
    let driver = Driver::start();
    driver.backend.keep_deleted(Some(std::time::Duration::from_secs(3600)));
    let id = driver.made("pvc-1").await;
    driver.delete(&id).await.unwrap();
    let strange = driver.dir.path().join("volume-groups/6c7e5d3a-0000-4000-8000-000000000000");
    std::fs::write(strange, "other").unwrap();
    driver.delete(&id).await.unwrap();
    let unknown = vol_csi::ids::told("6c7e5d3a-0000-4000-8000-000000000001", "n1");
    assert_eq!(code(driver.delete(&unknown).await), Code::Unavailable);
}

#[tokio::test]
async fn an_id_of_another_kind_is_nobodys_whatever_is_away() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    let snapshot = driver.snap(&id, "s").await.unwrap().snapshot_id;
    let group = driver.group("g", &[&id]).await.unwrap().group_snapshot_id;
    for other_group_is_away in [false, true] {
        if other_group_is_away {
            let file = driver.dir.path().join("volume-groups/0b0e5f0c-8c3f-4d2a-9a0f-1f2e3d4c5b6a");
            std::fs::write(file, "other").unwrap();
            assert_eq!(code(driver.delete("6c7e5f0c-8c3f-4d2a-9a0f-1f2e3d4c5b6a").await), Code::Unavailable);
        }
        driver.unsnap(&id).await.unwrap();
        driver.unsnap(&group).await.unwrap();
        driver.delete(&snapshot).await.unwrap();
        driver.delete(&group).await.unwrap();
        driver.ungroup(&id, vec![]).await.unwrap();
        driver.ungroup(&snapshot, vec![]).await.unwrap();
        assert_eq!(code(driver.snap(&snapshot, "t").await), Code::NotFound);
        assert_eq!(code(driver.stage(to_stage(&snapshot, usual())).await), Code::NotFound);
        assert_eq!(code(driver.expand(&snapshot, Some((2 * GIB, 0))).await), Code::NotFound);
        let source = volume_content_source::SnapshotSource { snapshot_id: id.clone() };
        let source = VolumeContentSource { r#type: Some(volume_content_source::Type::Snapshot(source)) };
        let from = CreateVolumeRequest { volume_content_source: Some(source), ..asked("from", GIB) };
        assert_eq!(code(driver.create(from).await), Code::NotFound);
    }
    assert_eq!(driver.listed().await, std::slice::from_ref(&id));
    driver.unsnap(&snapshot).await.unwrap();
    driver.ungroup(&group, vec![]).await.unwrap();
    driver.delete(&id).await.unwrap();
}

#[tokio::test]
async fn what_is_away_is_neither_grown_nor_taken_with_others_nor_given_up() {
    let driver = Driver::start();
    let id = driver.made("pvc-1").await;
    driver.unplug();
    let driver = driver.again();
    assert_eq!(code(driver.expand(&id, Some((2 * GIB, 0))).await), Code::Unavailable);
    assert_eq!(code(driver.group("g", &[&id]).await), Code::Unavailable);
}
