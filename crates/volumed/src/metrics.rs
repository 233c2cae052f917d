//! `/metrics` in Prometheus' text format, on a TCP listener of its own, answered from memory.
//!
//! The families are built anew with each scrape from [`crate::api::Backend::df`], so a pool that was deleted leaves no
//! sample behind and two scrapes at once do not meet. What is not known has no sample.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::core::Collector as _;
use prometheus::{GaugeVec, Opts, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use vol_api::{Df, DfPool, Health};

use crate::server::{Front, Limits, serve_http, stopped};

/// Scrapers at once: Prometheus in a pair, and people with curl.
const CONNECTIONS: usize = 16;

/// A sample's labels and value.
type Sample<'a> = (Vec<&'a str>, f64);

/// One family as text; nothing when it has no sample.
fn family(
    text: &mut String,
    name: &str,
    help: &str,
    labels: &[&str],
    samples: Vec<Sample<'_>>,
) -> prometheus::Result<()> {
    if samples.is_empty() {
        return Ok(());
    }
    let family = GaugeVec::new(Opts::new(name, help), labels)?;
    for (values, value) in samples {
        family.get_metric_with_label_values(&values)?.set(value);
    }
    TextEncoder::new().encode_utf8(&family.collect(), text)
}

/// The whole page; `df` is `None` while the backend cannot answer.
///
/// # Errors
/// None that can be met with: names and labels are fixed.
pub fn page(df: Option<&Df>) -> prometheus::Result<String> {
    let mut text = String::new();
    let up = f64::from(u8::from(df.is_some()));
    let version = env!("CARGO_PKG_VERSION");
    family(&mut text, "volumed_up", "1 if the daemon answers requests, 0 while it recovers", &[], vec![(vec![], up)])?;
    family(
        &mut text,
        "volumed_build_info",
        "Always 1; the label tells the version",
        &["version"],
        vec![(vec![version], 1.0)],
    )?;
    let Some(df) = df else { return Ok(text) };

    let healthy = |health: Health| f64::from(u8::from(health == Health::Ok));
    let mut vg = |name, help, value: &dyn Fn(&vol_api::DfVg) -> f64| {
        family(&mut text, name, help, &["vg"], df.vgs.iter().map(|vg| (vec![vg.vg.as_str()], value(vg))).collect())
    };
    vg("volumed_vg_size_bytes", "Size of all extents of the volume group", &|vg| vg.size_bytes as f64)?;
    vg("volumed_vg_free_bytes", "Size of the extents that nothing uses", &|vg| vg.free_bytes as f64)?;
    vg("volumed_vg_healthy", "1 if the volume group is as it should be, else 0", &|vg| healthy(vg.health))?;

    let mut pool = |name, help, value: &dyn Fn(&vol_api::DfPool) -> Option<f64>| {
        let sample = |pool| Some((vec![vg_of(pool), pool_of(pool)], value(pool)?));
        family(&mut text, name, help, &["vg", "pool"], df.pools.iter().filter_map(sample).collect())
    };
    pool("volumed_pool_size_bytes", "Size of the pool's data", &|pool| Some(pool.size_bytes as f64))?;
    pool("volumed_pool_used_bytes", "Data that is in use", &|pool| pool.used_bytes.map(|used| used as f64))?;
    pool("volumed_pool_metadata_size_bytes", "Size of the pool's metadata", &|pool| {
        Some(pool.metadata_size_bytes as f64)
    })?;
    pool("volumed_pool_metadata_used_bytes", "Metadata that is in use", &|pool| {
        pool.metadata_used_bytes.map(|used| used as f64)
    })?;
    pool("volumed_pool_virtual_bytes", "Sum of the sizes of the pool's volumes", &|pool| {
        Some(pool.virtual_bytes as f64)
    })?;
    pool("volumed_pool_snapshot_clock", "Snapshots made in the pool's life; 16,000,000 are allowed", &|pool| {
        Some(pool.snapshot_clock as f64)
    })?;
    pool("volumed_pool_growable_bytes", "What the pool may still grow by without being asked", &|pool| {
        Some(pool.growable_bytes as f64)
    })?;
    pool("volumed_pool_fill_bytes_per_second", "How fast the pool fills; negative when it empties", &|pool| {
        pool.fill_bytes_per_second.map(|rate| rate as f64)
    })?;
    pool("volumed_pool_healthy", "1 if the pool is as it should be, else 0", &|pool| Some(healthy(pool.health)))?;
    let time = |pool: &'_ DfPool| Some((pool.time_to_full_seconds?, pool.time_to_full_confidence.clone()?));
    let times: Vec<_> = df.pools.iter().filter_map(|pool| Some((pool, time(pool)?))).collect();
    family(
        &mut text,
        "volumed_pool_time_to_full_seconds",
        "When the pool will be full if it goes on like this, and how sure that is",
        &["vg", "pool", "confidence"],
        times
            .iter()
            .map(|(pool, (seconds, how))| (vec![vg_of(pool), pool_of(pool), how.as_str()], *seconds as f64))
            .collect(),
    )?;
    let mut problems = Vec::new();
    for pool in &df.pools {
        problems.extend(pool.problem_codes.iter().map(|code| (vec![vg_of(pool), pool_of(pool), code.as_str()], 1.0)));
    }
    family(
        &mut text,
        "volumed_pool_problem",
        "1 for each problem of the pool that volctl status tells",
        &["vg", "pool", "code"],
        problems,
    )?;
    Ok(text)
}

fn vg_of(pool: &vol_api::DfPool) -> &str {
    &pool.vg
}

fn pool_of(pool: &vol_api::DfPool) -> &str {
    &pool.pool
}

/// `GET /metrics`; any other path is not found.
pub fn router(front: Arc<Front>) -> Router {
    Router::new().route("/metrics", get(answer)).with_state(front)
}

async fn answer(State(front): State<Arc<Front>>) -> impl IntoResponse {
    let job = tokio::task::spawn_blocking(move || {
        let df = front.backend().and_then(|backend| backend.df());
        page(df.as_ref().ok())
    });
    match tokio::time::timeout(Duration::from_secs(10), job).await {
        Ok(Ok(Ok(text))) => {
            (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
        }
        _ => {
            let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (StatusCode::INTERNAL_SERVER_ERROR, plain, "the metrics could not be collected\n".to_owned())
        }
    }
}

/// Serves the metrics until `stop` turns true.
pub async fn run(listener: TcpListener, front: Arc<Front>, mut stop: watch::Receiver<bool>) {
    let router = router(front);
    let limits = Limits { connection: Duration::from_secs(60), ..Limits::default() };
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for metrics");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        // Over the limit the connection is closed: a scraper comes again.
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            let (router, stop) = (router.clone(), stop.clone());
            connections.spawn(async move {
                serve_http(stream, router, (), &limits, stop).await;
                drop(slot);
            });
        }
    }
    while connections.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use vol_api::DfVg;

    #[test]
    fn the_page_has_every_family_with_its_help() {
        let vg = DfVg { vg: "data".into(), size_bytes: 100, free_bytes: 20, ..DfVg::default() };
        let pool = DfPool {
            vg: "data".into(),
            pool: "tank".into(),
            health: Health::Degraded,
            size_bytes: 80,
            used_bytes: Some(8),
            metadata_size_bytes: 4,
            virtual_bytes: 160,
            snapshot_clock: 7,
            growable_bytes: 12,
            fill_bytes_per_second: Some(-3),
            time_to_full_seconds: Some(60),
            time_to_full_confidence: Some("low".into()),
            problem_codes: vec!["pool_filling".into()],
            ..DfPool::default()
        };
        let text = page(Some(&Df { vgs: vec![vg], pools: vec![pool] })).unwrap();
        let expected = "\
# HELP volumed_up 1 if the daemon answers requests, 0 while it recovers
# TYPE volumed_up gauge
volumed_up 1
# HELP volumed_build_info Always 1; the label tells the version
# TYPE volumed_build_info gauge
volumed_build_info{version=\"0.1.0\"} 1
# HELP volumed_vg_size_bytes Size of all extents of the volume group
# TYPE volumed_vg_size_bytes gauge
volumed_vg_size_bytes{vg=\"data\"} 100
# HELP volumed_vg_free_bytes Size of the extents that nothing uses
# TYPE volumed_vg_free_bytes gauge
volumed_vg_free_bytes{vg=\"data\"} 20
# HELP volumed_vg_healthy 1 if the volume group is as it should be, else 0
# TYPE volumed_vg_healthy gauge
volumed_vg_healthy{vg=\"data\"} 1
# HELP volumed_pool_size_bytes Size of the pool's data
# TYPE volumed_pool_size_bytes gauge
volumed_pool_size_bytes{pool=\"tank\",vg=\"data\"} 80
# HELP volumed_pool_used_bytes Data that is in use
# TYPE volumed_pool_used_bytes gauge
volumed_pool_used_bytes{pool=\"tank\",vg=\"data\"} 8
# HELP volumed_pool_metadata_size_bytes Size of the pool's metadata
# TYPE volumed_pool_metadata_size_bytes gauge
volumed_pool_metadata_size_bytes{pool=\"tank\",vg=\"data\"} 4
# HELP volumed_pool_virtual_bytes Sum of the sizes of the pool's volumes
# TYPE volumed_pool_virtual_bytes gauge
volumed_pool_virtual_bytes{pool=\"tank\",vg=\"data\"} 160
# HELP volumed_pool_snapshot_clock Snapshots made in the pool's life; 16,000,000 are allowed
# TYPE volumed_pool_snapshot_clock gauge
volumed_pool_snapshot_clock{pool=\"tank\",vg=\"data\"} 7
# HELP volumed_pool_growable_bytes What the pool may still grow by without being asked
# TYPE volumed_pool_growable_bytes gauge
volumed_pool_growable_bytes{pool=\"tank\",vg=\"data\"} 12
# HELP volumed_pool_fill_bytes_per_second How fast the pool fills; negative when it empties
# TYPE volumed_pool_fill_bytes_per_second gauge
volumed_pool_fill_bytes_per_second{pool=\"tank\",vg=\"data\"} -3
# HELP volumed_pool_healthy 1 if the pool is as it should be, else 0
# TYPE volumed_pool_healthy gauge
volumed_pool_healthy{pool=\"tank\",vg=\"data\"} 0
# HELP volumed_pool_time_to_full_seconds When the pool will be full if it goes on like this, and how sure that is
# TYPE volumed_pool_time_to_full_seconds gauge
volumed_pool_time_to_full_seconds{confidence=\"low\",pool=\"tank\",vg=\"data\"} 60
# HELP volumed_pool_problem 1 for each problem of the pool that volctl status tells
# TYPE volumed_pool_problem gauge
volumed_pool_problem{code=\"pool_filling\",pool=\"tank\",vg=\"data\"} 1
";
        assert_eq!(text, expected);
    }

    #[test]
    fn without_a_backend_the_daemon_is_not_up() {
        let text = page(None).unwrap();
        assert!(text.contains("\nvolumed_up 0\n") && !text.contains("volumed_vg"));
        assert!(page(Some(&Df::default())).unwrap().contains("\nvolumed_up 1\n"));
    }
}
