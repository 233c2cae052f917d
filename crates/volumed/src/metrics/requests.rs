//! How long requests took, and what became of them.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::server::operation::{Finished, Observer, Outcome};

use super::families::{FAMILIES, Family, Id};

/// Upper bounds in seconds: a creation takes milliseconds, mkfs or a growth some hundred, a wipe minutes.
const BUCKETS: [f64; 8] = [0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0];

/// Hears of each request that is over.
#[derive(Clone, Debug)]
pub struct Requests {
    seconds: HistogramVec,
    errors: IntCounterVec,
}

impl Default for Requests {
    fn default() -> Self {
        // Names and labels stand in our own table, which a test looks at.
        Self::new().expect("names and labels that Prometheus takes")
    }
}

fn family(id: Id) -> &'static Family {
    &FAMILIES[id as usize]
}

impl Requests {
    fn new() -> prometheus::Result<Self> {
        let (seconds, errors) = (family(Id::OperationSeconds), family(Id::OperationErrors));
        let options = HistogramOpts::new(seconds.name, seconds.help).buckets(BUCKETS.to_vec());
        Ok(Self {
            seconds: HistogramVec::new(options, seconds.labels)?,
            errors: IntCounterVec::new(Opts::new(errors.name, errors.help), errors.labels)?,
        })
    }

    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.seconds.clone()))?;
        registry.register(Box::new(self.errors.clone()))
    }
}

impl Observer for Requests {
    /// What is asked has names of a closed set, and so has what can go wrong: the number of series is bounded.
    fn finished(&self, operation: &Finished) {
        if operation.is_change && !operation.dry_run && operation.outcome != Outcome::Abandoned {
            self.seconds.with_label_values(&[operation.what]).observe(operation.took.as_secs_f64());
        }
        if let Some(code) = operation.outcome.error() {
            self.errors.with_label_values(&[operation.what, code.as_str()]).inc();
        }
    }
}
