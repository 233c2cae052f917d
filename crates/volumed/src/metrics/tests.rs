use std::sync::Mutex;
use vol_api::{ApiError, ErrorCode};

use crate::server::operation::{Operations, Outcome, Who};

use super::families::{FAMILIES, IDS};
use super::*;

/// Shows what it is given.
struct Fixed(Mutex<Vec<(Id, Vec<&'static str>, f64)>>);

impl Source for Fixed {
    fn write(&self, page: &mut Page) {
        for (id, labels, value) in self.0.lock().unwrap().iter() {
            page.put(*id, labels, *value);
        }
    }
}

fn shown(samples: Vec<(Id, Vec<&'static str>, f64)>, requests: &Requests) -> String {
    text(&registry(Arc::new(Fixed(Mutex::new(samples))), requests).unwrap()).unwrap()
}

#[test]
fn a_page_has_help_type_and_samples_and_nothing_of_families_without_one() {
    let samples = vec![
        (Id::Up, vec![], 1.0),
        (Id::PoolUsed, vec!["data", "tank"], 8.0),
        (Id::PoolUsed, vec!["data", "fast"], 5.0),
        (Id::Commits, vec!["data"], 3.0),
    ];
    let expected = "\
# HELP volumed_metadata_commits_total Commits of the metadata since the daemon was started
# TYPE volumed_metadata_commits_total counter
volumed_metadata_commits_total{vg=\"data\"} 3
# HELP volumed_pool_used_bytes Data that is in use
# TYPE volumed_pool_used_bytes gauge
volumed_pool_used_bytes{pool=\"fast\",vg=\"data\"} 5
volumed_pool_used_bytes{pool=\"tank\",vg=\"data\"} 8
# HELP volumed_up 1 if the daemon answers requests, 0 while it recovers at start
# TYPE volumed_up gauge
volumed_up 1
";
    assert_eq!(shown(samples, &Requests::default()), expected);
}

#[test]
fn label_values_are_escaped_and_numbers_that_are_none_are_left_out() {
    let samples = vec![
        (Id::PvInfo, vec!["data", "id", "/dev/\"a\\b\nc\""], 1.0),
        (Id::PoolFill, vec!["data", "tank"], f64::NAN),
        (Id::PoolUsed, vec!["data", "tank"], f64::INFINITY),
    ];
    let page = shown(samples, &Requests::default());
    assert!(page.contains(r#"volumed_pv_info{device="/dev/\"a\\b\nc\"",pv="id",vg="data"} 1"#), "{page}");
    assert!(!page.contains("volumed_pool"), "{page}");
}

#[test]
fn requests_are_counted_by_operation_and_failures_by_code() {
    let requests = Requests::default();
    let operations: Arc<Operations> = Arc::default();
    operations.watch(Arc::new(requests.clone()));
    let who = Who { uid: 0, role: None, pid: None };
    let begin = |what, is_change| operations.begin(what, is_change, who);
    begin("volume.create", true).end(Outcome::Changed { warnings: 0 });
    begin("volume.create", true).refused(&ApiError::new(ErrorCode::NoSpace, "full"));
    begin("volume.show", false).end(Outcome::Answered);
    begin("volume.show", false).refused(&ApiError::not_found("no such volume"));
    let mut dry_run = begin("volume.delete", true);
    dry_run.set_dry_run(true);
    dry_run.end(Outcome::Planned);
    drop(begin("volume.mount", true));
    let page = shown(vec![], &requests);
    for line in [
        "volumed_operation_duration_seconds_bucket{operation=\"volume.create\",le=\"0.5\"} 2",
        "volumed_operation_duration_seconds_bucket{operation=\"volume.create\",le=\"300\"} 2",
        "volumed_operation_duration_seconds_bucket{operation=\"volume.create\",le=\"+Inf\"} 2",
        "volumed_operation_duration_seconds_count{operation=\"volume.create\"} 2",
        "volumed_operation_errors_total{code=\"no_space\",operation=\"volume.create\"} 1",
        "volumed_operation_errors_total{code=\"not_found\",operation=\"volume.show\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    for none in ["volume.delete", "volume.mount", "seconds_count{operation=\"volume.show"] {
        assert!(!page.contains(none), "{none}: a dry run, nothing that was begun, or a read");
    }
}

#[test]
fn every_family_can_be_on_one_page() {
    let samples = IDS.iter().zip(FAMILIES).map(|(id, family)| (*id, family.labels.to_vec(), 1.0)).collect();
    let requests = Requests::default();
    let operations: Arc<Operations> = Arc::default();
    operations.watch(Arc::new(requests.clone()));
    operations.begin("x", true, Who { uid: 0, role: None, pid: None }).refused(&ApiError::internal("x"));
    let page = shown(
        // Counted where it happens, not collected.
        Vec::into_iter(samples).filter(|(id, _, _)| *id != Id::OperationErrors).collect(),
        &requests,
    );
    for family in FAMILIES {
        let line = format!("# TYPE {} {}", family.name, family.kind.as_str());
        assert_eq!(page.lines().filter(|found| **found == line).count(), 1, "{line}");
    }
}
