//! Endpoints for what container engines need.

use schemars::JsonSchema;
use serde::Deserialize;
use vol_api::{ReleaseRefs, schema};

use super::super::call::NoQuery;
use super::super::endpoint::{Api, get, post};
use super::super::target::RuntimeName;
use crate::access::Role::{Admin, Observe};
use crate::runtimes;

/// `?runtime=` of the list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RefQuery {
    /// Only those of this engine.
    #[schemars(with = "Option<schema::Runtime>")]
    runtime: Option<String>,
}

pub fn refs(api: &mut impl Api) {
    api.read(
        get("refs.list", Observe, "/v1/refs", "Which container engine needs which volume")
            .details("Asks the mount tables of all mount namespaces, and may take a second where many processes run."),
        |b, (), query: RefQuery| b.refs(query.runtime.as_deref().map(runtimes::named).transpose()?),
    );
    // For admin: what a container writes to may be unmounted for the next one.
    api.change_with(
        post("refs.release", Admin, "/v1/refs/release", "Forgets mount references whose container is gone")
            .example(r#"{"volume":"data/pg","runtime":"docker"}"#)
            .details(
                "The volume is unmounted if nobody needs it then. A container that runs keeps what it has mounted.",
            ),
        |b, (), r: ReleaseRefs, dry| b.release_refs(r, dry),
    );
    api.read(
        get(
            "runtime.df",
            Observe,
            "/v1/runtimes/{runtime}/df",
            "The volumes of a container engine, and what they take",
        )
        .details("Reads the pools that they are in, which may take seconds."),
        |b, RuntimeName(runtime), NoQuery {}| b.runtime_df(runtime),
    );
}
