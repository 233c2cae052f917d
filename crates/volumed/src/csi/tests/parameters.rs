//! Parameters of a StorageClass, as they come out at the volume.

use vol_api::CreatePool;

use super::*;

fn class(name: &str, parameters: &[(&str, &str)]) -> CreateVolumeRequest {
    let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    CreateVolumeRequest { parameters, ..asked(name, GIB / 2) }
}

const PROFILES: &str = "[profiles.log]\nthin = false\nstripes = 2\nstripe-size = \"128K\"\n\
                        [profiles.db]\nfs = \"xfs\"\nreserve = \"64M\"\nuid = 999\n";

/// With profiles, and space on both disks beside the pool.
fn with_profiles() -> Driver {
    let driver = Driver::configured(tempfile::tempdir().unwrap(), machine(), PROFILES);
    done(driver.backend.create_vg(vg_request(), false));
    let pool = CreatePool { size: "25%FREE".into(), ..pool_request() };
    done(driver.backend.create_pool(pool, false));
    driver.ready();
    driver
}

#[tokio::test]
async fn a_class_names_a_profile_of_the_machine_and_what_it_says_itself_counts_before_it() {
    let driver = with_profiles();
    for _ in 0..2 {
        driver.create(class("log", &[("profile", "log")])).await.unwrap();
        driver.create(class("db", &[("profile", "db")])).await.unwrap();
        driver.create(class("ext4", &[("profile", "db"), ("fs", "ext4"), ("reserve", "none")])).await.unwrap();
    }
    let log = driver.backend.volume(&volume("data/log")).unwrap();
    let layout = log.thick.unwrap();
    assert_eq!((layout.stripes, layout.stripe_size_bytes), (2, Some(128 << 10)));
    let db = driver.backend.volume(&volume("data/db")).unwrap();
    assert_eq!((db.fs.as_deref(), db.reserve_bytes), (Some("xfs"), 64 << 20));
    let ext4 = driver.backend.volume(&volume("data/ext4")).unwrap();
    assert_eq!((ext4.fs.as_deref(), ext4.reserve_bytes), (Some("ext4"), 0));
    assert_eq!(code(driver.create(class("log", &[("profile", "db")])).await), Code::AlreadyExists);
    let unknown = driver.create(class("x", &[("profile", "dbs")])).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    assert!(unknown.message().contains("did you mean db?"), "{}", unknown.message());
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_striped_volume_is_as_large_as_its_disks_allow() {
    let driver = with_profiles();
    let capacity = async |stripes: &str| {
        let parameters = [("thin", "no"), ("stripes", stripes)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let request = GetCapacityRequest { parameters: parameters.into(), ..Default::default() };
        driver.wire().await.controller().get_capacity(request).await.unwrap().into_inner().maximum_volume_size.unwrap()
    };
    let (one, two) = (capacity("1").await, capacity("2").await);
    assert!(0 < two && two <= one, "{two} of {one}");
    assert_eq!(capacity("3").await, 0, "there are two disks");
    let striped = |name: &str, size: i64, stripes: &str| CreateVolumeRequest {
        capacity_range: Some(CapacityRange { required_bytes: size, limit_bytes: 0 }),
        ..class(name, &[("thin", "no"), ("stripes", stripes)])
    };
    assert_eq!(code(driver.create(striped("three", 1, "3")).await), Code::ResourceExhausted);
    let made = driver.create(striped("two", 100 << 20, "2")).await.unwrap();
    assert!(made.capacity_bytes >= 100 << 20);
    assert_eq!(driver.create(striped("two", 100 << 20, "2")).await.unwrap(), made);
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

/// What `GetCapacity` says with these parameters.
async fn capacity(driver: &Driver, parameters: &[(&str, &str)]) -> i64 {
    let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let request = GetCapacityRequest { parameters, ..Default::default() };
    let told = driver.wire().await.controller().get_capacity(request).await.unwrap().into_inner();
    told.maximum_volume_size.unwrap()
}

/// That a volume of the size that is told can be made, and none that is larger by `grain`.
async fn is_the_largest(driver: &Driver, parameters: &[(&str, &str)], grain: i64) {
    let largest = capacity(driver, parameters).await;
    assert!(largest > 0, "{parameters:?}");
    let of = |name: &str, size| CreateVolumeRequest {
        capacity_range: Some(CapacityRange { required_bytes: size, limit_bytes: 0 }),
        ..class(name, parameters)
    };
    assert_eq!(code(driver.create(of("larger", largest + grain)).await), Code::ResourceExhausted, "{parameters:?}");
    let id = driver.create(of("largest", largest)).await.unwrap().volume_id;
    driver.delete(&id).await.unwrap();
}

#[tokio::test]
async fn capacity_counts_what_would_be_set_aside() {
    let driver = Driver::start();
    let plain = capacity(&driver, &[]).await;
    assert!(capacity(&driver, &[("reserve", "full")]).await < plain, "of the pool's own space alone");
    is_the_largest(&driver, &[("reserve", "full")], 64 << 10).await;
    assert_eq!(capacity(&driver, &[("reserve", "64M")]).await, plain);
    assert_eq!(capacity(&driver, &[("reserve", "1T")]).await, 0, "so much is not there");
    driver.create(class("kept", &[("reserve", "256M")])).await.unwrap();
    is_the_largest(&driver, &[("reserve", "full")], 64 << 10).await;
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn capacity_of_thick_volumes_is_without_what_is_kept_for_pools_and_without_disks_that_are_missing() {
    let driver = with_profiles();
    let extent =
        i64::try_from(driver.backend.vg(&crate::backend::tests::name("data")).unwrap().extent_size_bytes).unwrap();
    is_the_largest(&driver, &[("thin", "no")], extent).await;
    is_the_largest(&driver, &[("thin", "no"), ("stripes", "2")], 2 * extent).await;
    let both = capacity(&driver, &[("thin", "no")]).await;
    let pvs = driver.backend.pvs(None).unwrap();
    let away = pvs.iter().map(|pv| pv.free_extents).min().unwrap();
    driver.host.remove_disk("/dev/sdb");
    crate::backend::tests::refresh(&driver.backend);
    let one = capacity(&driver, &[("thin", "no")]).await;
    assert!(0 < one && one <= both - i64::try_from(away).unwrap() * extent, "{one} of {both}");
    assert_eq!(capacity(&driver, &[("thin", "no"), ("stripes", "2")]).await, 0);
}

#[tokio::test]
async fn thick_volumes_that_are_wiped_leave_turns_to_others() {
    let driver = with_profiles();
    let thick = class("thick", &[("thin", "no")]);
    let held: Vec<_> = std::iter::from_fn(|| driver.shared.fills.try_acquire().ok()).collect();
    assert!(!held.is_empty() && held.len() < 64, "fewer than all changes together: {}", held.len());
    assert_eq!(code(driver.create(thick.clone()).await), Code::Aborted, "it is asked for again");
    let thin = driver.made("thin").await;
    driver.expand(&thin, Some((2 * GIB, 0))).await.unwrap();
    drop(held);
    let id = driver.create(thick.clone()).await.unwrap().volume_id;
    let held: Vec<_> = std::iter::from_fn(|| driver.shared.fills.try_acquire().ok()).collect();
    assert_eq!(driver.create(thick).await.unwrap().volume_id, id, "it is there");
    assert_eq!(code(driver.expand(&id, Some((GIB, 0))).await), Code::Aborted);
    driver.delete(&id).await.unwrap();
    drop(held);
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_to_be_purged_cannot_be_taken_back_and_its_space_is_free_at_once() {
    let driver = Driver::start();
    driver.backend.keep_deleted(Some(std::time::Duration::from_secs(3600)));
    for (thin, pool_or_group) in [("yes", "pool"), ("no", "group")] {
        let (kept, gone) = (format!("kept-{pool_or_group}"), format!("gone-{pool_or_group}"));
        let keep = driver.create(class(&kept, &[("thin", thin)])).await.unwrap().volume_id;
        let purge = class(&gone, &[("thin", thin), ("on-delete", "purge")]);
        let purge = driver.create(purge).await.unwrap().volume_id;
        for _ in 0..5 {
            driver.delete(&keep).await.unwrap();
            driver.delete(&purge).await.unwrap();
        }
        let deleted: Vec<_> = driver.backend.deleted(None).unwrap().into_iter().map(|one| one.full_name).collect();
        assert!(deleted.contains(&format!("data/{kept}")) && !deleted.contains(&format!("data/{gone}")), "{deleted:?}");
    }
    assert_eq!(driver.host.violations(), Vec::<String>::new());
}
