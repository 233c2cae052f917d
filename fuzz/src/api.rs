//! Bodies of the control API.

use vol_api::{
    ApiError, CloneVolume, CreatePool, CreateSnapshot, CreateVg, CreateVolume, Df, Doctor, ErrorBody, Init, InitInfo,
    Mount, Outcome, Plan, PoolList, PvList, RefList, ReleaseRefs, ReleasedRefs, RuntimeDf, ScanInfo, ScanRequest,
    SnapshotList, Status, VgInfo, VgList, VolumeInfo, VolumeList, parse_field,
};
use vol_types::{Name, SizeSpec, parse_bytes};

use crate::json::round_trip;
use crate::words;

/// The bytes as the body of each request, and of each answer, which `volctl` reads.
///
/// Claims: no panic; what is read is written and read again as the same value; each text field that stands for a name or a
/// size is a valid one, with the claims of [`words::words`], or an error that names the field.
pub fn api_body(data: &[u8]) -> bool {
    let requests = [
        round_trip::<CreateVg>(data).map(|it| {
            name(&it.name);
            it.extent_size.iter().for_each(|text| size(text));
            it.files.iter().for_each(|file| size(&file.size));
        }),
        round_trip::<CreatePool>(data).map(|it| {
            name(&it.vg);
            name(&it.name);
            size(&it.size);
            it.chunk_size.iter().for_each(|text| size(text));
        }),
        round_trip::<CreateVolume>(data).map(|it| {
            name(&it.vg);
            name(&it.name);
            it.pool.iter().for_each(|text| name(text));
            size(&it.size);
        }),
        round_trip::<CloneVolume>(data).map(|it| {
            [&it.vg, &it.volume, &it.name].into_iter().chain(&it.snapshot).for_each(|text| name(text));
            it.size.iter().for_each(|text| size(text));
        }),
        round_trip::<CreateSnapshot>(data).map(|it| [it.vg, it.volume, it.name].iter().for_each(|text| name(text))),
        round_trip::<Init>(data).map(|it| {
            it.vg.iter().chain(&it.pool).for_each(|text| name(text));
            it.files.iter().for_each(|file| size(&file.size));
        }),
        round_trip::<Mount>(data).map(drop),
        round_trip::<ScanRequest>(data).map(drop),
        round_trip::<ReleaseRefs>(data).map(drop),
    ];
    let answers = [
        round_trip::<VgList>(data).map(drop),
        round_trip::<PvList>(data).map(drop),
        round_trip::<PoolList>(data).map(drop),
        round_trip::<VolumeList>(data).map(drop),
        round_trip::<SnapshotList>(data).map(drop),
        round_trip::<Status>(data).map(drop),
        round_trip::<Doctor>(data).map(drop),
        round_trip::<Df>(data).map(drop),
        round_trip::<InitInfo>(data).map(drop),
        round_trip::<ScanInfo>(data).map(drop),
        round_trip::<ErrorBody>(data).map(drop),
        round_trip::<Outcome<VgInfo>>(data).map(drop),
        round_trip::<Outcome<VolumeInfo>>(data).map(drop),
        round_trip::<Plan>(data).map(drop),
        round_trip::<RefList>(data).map(drop),
        round_trip::<RuntimeDf>(data).map(drop),
        round_trip::<Outcome<ReleasedRefs>>(data).map(drop),
    ];
    requests.iter().chain(&answers).any(Option::is_some)
}

fn name(text: &str) {
    match parse_field::<Name>("name", text) {
        Ok(name) => words::name(text, &name),
        Err(error) => named(&error),
    }
}

fn size(text: &str) {
    match parse_field::<SizeSpec>("size", text) {
        Ok(size) => words::size(size),
        Err(error) => named(&error),
    }
    if let Ok(bytes) = parse_bytes(text) {
        words::size(SizeSpec::Bytes(bytes));
    }
}

fn named(error: &ApiError) {
    assert!(error.message.starts_with("name: ") || error.message.starts_with("size: "), "{error}");
}
