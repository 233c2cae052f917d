use vol_api::{DmTarget, Problem};

use super::*;

fn levels(found: &[Finding]) -> Vec<(&str, Level)> {
    found.iter().map(|one| (one.check.as_str(), one.level)).collect()
}

fn with_targets(names: &[&str]) -> KernelInfo {
    let target = |name: &&str| DmTarget { name: (*name).to_owned(), version: "1.2.3".to_owned() };
    KernelInfo {
        release: "6.12".into(),
        dm_version: Some("4.48.0".into()),
        targets: names.iter().map(target).collect(),
    }
}

#[test]
fn a_kernel_without_device_mapper_or_a_target_is_a_problem_with_the_module_to_load() {
    let none = kernel(&KernelInfo::default());
    assert_eq!(levels(&none), [("kernel_device_mapper", Level::Problem)]);
    let no_thin = kernel(&with_targets(&["linear", "striped", "error"]));
    assert_eq!(no_thin.iter().filter(|one| one.level == Level::Problem).count(), 2, "{no_thin:?}");
    assert!(no_thin.iter().any(|one| one.hint.contains("modprobe dm-thin-pool")));
    let all = kernel(&with_targets(&["linear", "striped", "thin-pool", "thin"]));
    assert!(all.iter().all(|one| one.level == Level::Ok), "{all:?}");
    assert!(all[1].message.contains("thin-pool 1.2.3"));
}

#[test]
fn io_without_io_uring_is_a_note_that_says_why() {
    assert_eq!(io("io_uring (registered buffers)", "").level, Level::Ok);
    assert_eq!(io("io_uring", "memory").level, Level::Note);
    let plain = io("pread/pwrite", "io_uring is switched off");
    assert_eq!(plain.level, Level::Note);
    assert!(plain.message.contains("io_uring is switched off") && plain.hint.contains("kernel.io_uring_disabled"));
}

#[test]
fn limits_that_are_too_low_name_the_line_for_the_unit() {
    assert!(limits(None, None).iter().all(|one| one.level == Level::Ok));
    assert!(limits(Some(65536), Some(1 << 30)).iter().all(|one| one.level == Level::Ok));
    let low = limits(Some(1024), Some(8 << 20));
    assert_eq!(levels(&low), [("limit_files", Level::Warning), ("limit_locked_memory", Level::Warning)]);
    assert!(low[0].hint.contains("LimitNOFILE=65536") && low[1].hint.contains("LimitMEMLOCK=infinity"));
}

#[test]
fn a_mount_namespace_of_its_own_is_a_problem() {
    assert_eq!(namespace(Ok(None)).level, Level::Ok);
    let own = namespace(Ok(Some("a slave of the host's".to_owned())));
    assert!(own.level == Level::Problem && own.hint.contains("PrivateTmp="), "{own:?}");
    assert_eq!(namespace(Err(std::io::ErrorKind::PermissionDenied.into())).level, Level::Note);
}

#[test]
fn the_configuration_is_read_as_a_start_would() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("volumed.toml");
    std::fs::write(&file, "").unwrap();
    let args = Args { config: Some(file.clone()), ..Args::default() };
    let settings = Settings::new(args.clone(), Config::load(&args).unwrap());
    assert_eq!(levels(&configuration(&settings)), [("configuration", Level::Ok)]);
    std::fs::write(&file, "move_share = 20\nio = \"plain\"").unwrap();
    let changed = configuration(&settings);
    assert_eq!(
        levels(&changed),
        [("configuration", Level::Ok), ("configuration_changed", Level::Note), ("configuration_restart", Level::Note)]
    );
    assert!(changed[1].message.ends_with(": move_share") && changed[2].message.ends_with(": io"), "{changed:?}");
    std::fs::write(&file, "move_shar = 20").unwrap();
    let wrong = configuration(&settings);
    assert_eq!(levels(&wrong), [("configuration", Level::Problem)]);
    assert!(wrong[0].message.contains("did you mean \"move_share\"?"), "{wrong:?}");
}

#[test]
fn a_group_that_is_not_there_is_a_note() {
    let config = Config { observe_group: Some("monitoring".into()), ..Config::default() };
    let found = groups(&Access::new(&config, |name| (name == "volumed").then_some(7)));
    assert_eq!(levels(&found), [("role_groups", Level::Note)]);
    assert!(found[0].hint.starts_with("groupadd --system monitoring"));
}

#[test]
fn what_the_daemon_complains_about_is_there_and_its_health_decides_how_bad_it_is() {
    let one = Problem { code: "pv_missing".into(), message: "a disk".into(), hint: "plug it in".into() };
    let mut status = Status { health: Health::Degraded, problems: vec![one], ..Status::default() };
    let settings = Settings::from(Config::default());
    let all = |status: &Status| of_daemon(status, &settings, &Access::default(), vec![]);
    let of_status = |doctor: &Doctor| doctor.findings.iter().find(|one| one.check == "status").cloned().unwrap();
    let found = of_status(&all(&status));
    assert_eq!((found.level, found.message.as_str()), (Level::Warning, "a disk (pv_missing)"));
    status.health = Health::Failed;
    assert_eq!(of_status(&all(&status)).level, Level::Problem);
    status.problems.clear();
    assert_eq!(of_status(&all(&status)).level, Level::Ok);
}
