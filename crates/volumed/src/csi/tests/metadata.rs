//! Which parts of a snapshot are in use, and which changed since an earlier one.

use std::time::Duration;

use vol_core::dm::Device;
use vol_engine::host::{HostMut as _, HostRead as _};
use vol_types::VolumeId;

use super::*;

const CHUNK: i64 = 64 << 10;

impl Driver {
    /// The device of a volume, which is attached.
    fn device(&self, id: &str) -> String {
        Device::Volume(VolumeId::from_uuid(vol_csi::ids::parse(id).unwrap().0.parse().unwrap())).uuid()
    }
    fn write(&self, id: &str, chunks: &[u64]) {
        let dev = self.host.dm_device(&self.device(id)).unwrap().unwrap().dev;
        chunks.iter().for_each(|chunk| self.host.write_bytes(dev, chunk * CHUNK as u64, b"data").unwrap());
    }
    fn discard(&self, id: &str, chunk: u64) {
        let uuid = self.device(id);
        let dev = self.host.dm_device(&uuid).unwrap().unwrap().dev;
        self.host.discard(dev, &uuid, chunk * CHUNK as u64, CHUNK as u64).unwrap();
    }
    /// A volume that is attached, with nothing on it.
    async fn attached(&self, name: &str) -> String {
        let id = self.create(block::raw(name)).await.unwrap().volume_id;
        done(self.backend.attach_volume(&volume(&format!("data/{name}")), false));
        id
    }
    async fn delta(&self, request: GetMetadataDeltaRequest) -> Result<Vec<GetMetadataDeltaResponse>, Status> {
        let mut answer = self.wire().await.snapshot_metadata().get_metadata_delta(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(message) = answer.message().await? {
            all.push(message);
        }
        Ok(all)
    }
    async fn allocated(
        &self,
        request: GetMetadataAllocatedRequest,
    ) -> Result<Vec<GetMetadataAllocatedResponse>, Status> {
        let mut answer = self.wire().await.snapshot_metadata().get_metadata_allocated(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(message) = answer.message().await? {
            all.push(message);
        }
        Ok(all)
    }
}

/// In chunks; they are told in order.
fn chunks(all: impl IntoIterator<Item = BlockMetadata>) -> Vec<(i64, i64)> {
    let all: Vec<_> = all.into_iter().map(|one| (one.byte_offset / CHUNK, one.size_bytes / CHUNK)).collect();
    assert!(all.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{all:?}");
    all
}

fn of(snapshot_id: &str, starting_offset: i64, max_results: i32) -> GetMetadataAllocatedRequest {
    GetMetadataAllocatedRequest { snapshot_id: snapshot_id.into(), starting_offset, max_results }
}

fn between(base: &str, target: &str, starting_offset: i64, max_results: i32) -> GetMetadataDeltaRequest {
    GetMetadataDeltaRequest {
        base_snapshot_id: base.into(),
        target_snapshot_id: target.into(),
        starting_offset,
        max_results,
    }
}

#[tokio::test]
async fn a_backup_hears_what_is_in_use_and_then_what_changed() {
    let driver = Driver::start();
    let id = driver.attached("pvc-1").await;
    driver.write(&id, &[0, 1, 4, 8, 9]);
    let one = driver.snap(&id, "one").await.unwrap().snapshot_id;
    driver.write(&id, &[1, 20]);
    driver.discard(&id, 8);
    let two = driver.snap(&id, "two").await.unwrap().snapshot_id;
    driver.write(&id, &[0, 30]);

    let all = driver.allocated(of(&one, 0, 0)).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].volume_capacity_bytes, all[0].block_metadata_type()), (GIB, BlockMetadataType::VariableLength));
    assert_eq!(chunks(all.into_iter().flat_map(|one| one.block_metadata)), [(0, 2), (4, 1), (8, 2)]);
    let delta = driver.delta(between(&one, &two, 0, 0)).await.unwrap();
    assert_eq!(chunks(delta.into_iter().flat_map(|one| one.block_metadata)), [(1, 1), (8, 1), (20, 1)]);

    // One at a time, and from where another one was cut off.
    let delta = driver.delta(between(&one, &two, 0, 1)).await.unwrap();
    assert_eq!(delta.iter().map(|one| one.block_metadata.len()).collect::<Vec<_>>(), [1, 1, 1]);
    for (from, expected) in [(2 * CHUNK, vec![(8, 1), (20, 1)]), (8 * CHUNK + 1, vec![(8, 1), (20, 1)]), (GIB, vec![])]
    {
        let delta = driver.delta(between(&one, &two, from, 0)).await.unwrap();
        assert_eq!(chunks(delta.into_iter().flat_map(|one| one.block_metadata)), expected, "from {from}");
    }
    // Nothing changed is an answer too, with the size in it.
    let same = driver.delta(between(&two, &two, 0, 5)).await.unwrap();
    assert_eq!((same.len(), same[0].volume_capacity_bytes, same[0].block_metadata.len()), (1, GIB, 0));
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn more_than_a_reading_finds_at_once_is_told_all_the_same_and_who_goes_away_costs_nothing() {
    let driver = Driver::start();
    let id = driver.attached("pvc-1").await;
    let every_other: Vec<u64> = (0..200).map(|at| at * 2 + 1000).collect();
    driver.write(&id, &every_other);
    let snapshot = driver.snap(&id, "one").await.unwrap().snapshot_id;
    let all = driver.allocated(of(&snapshot, 0, 7)).await.unwrap();
    assert!(all.iter().all(|one| one.block_metadata.len() <= 7));
    let told = chunks(all.into_iter().flat_map(|one| one.block_metadata));
    assert_eq!(told, every_other.iter().map(|chunk| (*chunk as i64, 1)).collect::<Vec<_>>());

    // Twenty who take one message and go: there is room for sixteen.
    for _ in 0..20 {
        let wire = driver.wire().await;
        let mut answer =
            wire.snapshot_metadata().get_metadata_allocated(of(&snapshot, 0, 1)).await.unwrap().into_inner();
        assert!(answer.message().await.unwrap().is_some());
        drop((answer, wire));
        while driver.shared.streams.available_permits() < 16 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn an_answer_that_the_end_of_the_daemon_cuts_off_does_not_end_as_if_it_were_whole() {
    let driver = Driver::start();
    let id = driver.attached("pvc-1").await;
    driver.write(&id, &(0..200).map(|at| at * 2).collect::<Vec<_>>());
    let snapshot = driver.snap(&id, "one").await.unwrap().snapshot_id;
    let wire = driver.wire().await;
    let mut answer = wire.snapshot_metadata().get_metadata_allocated(of(&snapshot, 0, 1)).await.unwrap().into_inner();
    answer.message().await.unwrap().unwrap();
    driver.front.stop_changes();
    let error = loop {
        // Slower than the daemon tells, so that it has something left.
        tokio::time::sleep(Duration::from_millis(1)).await;
        match answer.message().await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(error) => break Some(error.code()),
        }
    };
    // Either the rest had been sent already, or it is told that it was not.
    assert!(matches!(error, None | Some(Code::Unavailable)), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_told_is_refused_by_its_code() {
    let driver = Driver::start();
    let (id, other) = (driver.made("pvc-1").await, driver.made("pvc-2").await);
    let one = driver.snap(&id, "one").await.unwrap().snapshot_id;
    let foreign = driver.snap(&other, "other").await.unwrap().snapshot_id;
    let elsewhere = vol_csi::ids::told("6c7e5d3a-0000-4000-8000-000000000000", "n2");
    for (request, expected) in [
        (of("", 0, 0), Code::InvalidArgument),
        (of("nobody's", 0, 0), Code::NotFound),
        (of(&elsewhere, 0, 0), Code::NotFound),
        (of(&id, 0, 0), Code::NotFound),
        (of(&one, -1, 0), Code::OutOfRange),
        (of(&one, GIB + 1, 0), Code::OutOfRange),
        (of(&one, 0, -1), Code::InvalidArgument),
    ] {
        assert_eq!(code(driver.allocated(request.clone()).await), expected, "{request:?}");
    }
    for (request, expected) in [
        (between("", &one, 0, 0), Code::InvalidArgument),
        (between(&one, "", 0, 0), Code::InvalidArgument),
        (between("nobody's", &one, 0, 0), Code::NotFound),
        (between(&one, "nobody's", 0, 0), Code::NotFound),
        (between(&foreign, &one, 0, 0), Code::InvalidArgument),
        (between(&one, &one, GIB + 1, 0), Code::OutOfRange),
        (between(&one, &one, -5, 0), Code::OutOfRange),
        (between(&one, &one, 0, -5), Code::InvalidArgument),
    ] {
        assert_eq!(code(driver.delta(request.clone()).await), expected, "{request:?}");
    }
    driver.unsnap(&one).await.unwrap();
    assert_eq!(code(driver.allocated(of(&one, 0, 0)).await), Code::NotFound, "it was deleted");
}
