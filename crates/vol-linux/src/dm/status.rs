//! Status lines of the thin targets.
//!
//! Source: kernel `admin-guide/device-mapper/thin-provisioning.rst`, `drivers/md/dm-thin.c` (`pool_status`, `thin_status`).
//! (The parser of the `devicemapper` crate rejects a pool with `ignore_discard` and indexes past short fields.)

use vol_core::observed::{PoolMode, PoolStatus, PoolUsage, ThinStatus};
use vol_types::Sectors;

/// Reads the parameters of a `thin-pool` status line. `None` if the line is none of a thin pool's.
pub fn parse_pool(line: &str) -> Option<PoolStatus> {
    match line.trim() {
        "Fail" => return Some(PoolStatus::Fail),
        "Error" => return Some(PoolStatus::Error),
        _ => {}
    }
    let mut fields = line.split_ascii_whitespace();
    let transaction_id = fields.next()?.parse().ok()?;
    let (used_metadata, total_metadata) = fraction(fields.next()?)?;
    let (used_data, total_data) = fraction(fields.next()?)?;
    let metadata_snapshot = match fields.next()? {
        "-" => false,
        root => root.parse::<u64>().is_ok_and(|root| root != 0),
    };
    let mut mode = None;
    let mut needs_check = false;
    let mut error_when_full = false;
    // After the mode come features in an order and number that kernels have changed before: only what is known is read.
    for field in fields {
        match field {
            "rw" => mode = Some(PoolMode::ReadWrite),
            "ro" => mode = Some(PoolMode::ReadOnly),
            "out_of_data_space" => mode = Some(PoolMode::OutOfDataSpace),
            "needs_check" => needs_check = true,
            "error_if_no_space" => error_when_full = true,
            _ => {}
        }
    }
    Some(PoolStatus::Working(PoolUsage {
        transaction_id,
        used_metadata,
        total_metadata,
        used_data,
        total_data,
        mode: mode?,
        needs_check,
        error_when_full,
        metadata_snapshot,
    }))
}

/// Reads the parameters of a `thin` status line. `None` if the line is none of a thin volume's.
pub fn parse_thin(line: &str) -> Option<ThinStatus> {
    match line.trim() {
        "Fail" => return Some(ThinStatus::Fail),
        "Error" => return Some(ThinStatus::Error),
        _ => {}
    }
    let mut fields = line.split_ascii_whitespace();
    let mapped = fields.next()?.parse().ok()?;
    // The highest mapped sector, or `-` for none.
    let highest = fields.next()?;
    (highest == "-" || highest.parse::<u64>().is_ok()).then_some(ThinStatus::Working { mapped: Sectors(mapped) })
}

fn fraction(field: &str) -> Option<(u64, u64)> {
    let (used, total) = field.split_once('/')?;
    Some((used.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(line: &str) -> PoolUsage {
        match parse_pool(line) {
            Some(PoolStatus::Working(usage)) => usage,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_healthy_pool_is_read() {
        let pool = usage("0 11/2048 0/1024 - rw discard_passdown queue_if_no_space - 1024 ");
        assert_eq!(pool.transaction_id, 0);
        assert_eq!((pool.used_metadata, pool.total_metadata), (11, 2048));
        assert_eq!((pool.used_data, pool.total_data), (0, 1024));
        assert_eq!(pool.mode, PoolMode::ReadWrite);
        assert!(!pool.needs_check && !pool.metadata_snapshot);
    }

    #[test]
    fn every_mode_and_feature_of_a_pool_is_read() {
        assert_eq!(
            usage("7 12/2048 1024/1024 - out_of_data_space discard_passdown queue_if_no_space - 1024").mode,
            PoolMode::OutOfDataSpace
        );
        let sick = usage("7 12/2048 3/1024 - ro discard_passdown queue_if_no_space needs_check 1024");
        assert_eq!(sick.mode, PoolMode::ReadOnly);
        assert!(sick.needs_check);
        let strict = usage("7 12/2048 3/1024 42 rw no_discard_passdown error_if_no_space - 1024");
        assert!(strict.metadata_snapshot && strict.error_when_full && !sick.error_when_full);
        assert_eq!(usage("7 12/2048 3/1024 - rw ignore_discard queue_if_no_space - 1024").mode, PoolMode::ReadWrite);
    }

    #[test]
    fn a_failed_pool_or_volume_is_said_so() {
        assert_eq!(parse_pool("Fail"), Some(PoolStatus::Fail));
        assert_eq!(parse_pool("Error"), Some(PoolStatus::Error));
        assert_eq!(parse_thin("Fail"), Some(ThinStatus::Fail));
        assert_eq!(parse_thin("Error"), Some(ThinStatus::Error));
    }

    #[test]
    fn a_thin_volume_is_read() {
        assert_eq!(parse_thin("0 -"), Some(ThinStatus::Working { mapped: Sectors(0) }));
        assert_eq!(parse_thin("12288 2097151"), Some(ThinStatus::Working { mapped: Sectors(12288) }));
    }

    #[test]
    fn what_is_no_status_line_is_refused() {
        for line in ["", "7", "7 12 3/4 - rw", "7 12/ 3/4 - rw", "x 1/2 3/4 - rw", "7 1/2 3/4 -", "7 1/2 3/4 - odd"] {
            assert_eq!(parse_pool(line), None, "{line:?}");
        }
        for line in ["", "12", "-1 -", "12 x"] {
            assert_eq!(parse_thin(line), None, "{line:?}");
        }
    }
}
