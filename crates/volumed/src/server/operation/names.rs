//! What each endpoint is called, in the log, in events and in metrics: `OBJECT.VERB`, as `volctl` has it.

use axum::http::Method;

/// An endpoint and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub method: &'static str,
    /// With the names of its parameters, as the router has it.
    pub route: &'static str,
    pub name: &'static str,
}

impl Endpoint {
    /// Whether it is of those that change something.
    pub const fn is_change(&self) -> bool {
        !matches!(self.method.as_bytes(), b"GET")
    }
}

/// The name of what is no endpoint.
pub const UNKNOWN: &str = "unknown";

const fn at(method: &'static str, route: &'static str, name: &'static str) -> Endpoint {
    Endpoint { method, route, name }
}

/// Every endpoint. Names are unique, and never change: dashboards and searches in logs are made of them.
pub const ALL: [Endpoint; 73] = [
    at("GET", "/v1/status", "status.show"),
    at("GET", "/v1/doctor", "doctor.show"),
    at("GET", "/v1/df", "df.show"),
    at("POST", "/v1/init", "init"),
    at("POST", "/v1/scan", "pv.scan"),
    at("GET", "/v1/vgs", "vg.list"),
    at("POST", "/v1/vgs", "vg.create"),
    at("GET", "/v1/vgs/{vg}", "vg.show"),
    at("DELETE", "/v1/vgs/{vg}", "vg.delete"),
    at("POST", "/v1/vgs/{vg}/extend", "vg.extend"),
    at("POST", "/v1/vgs/{vg}/reduce", "vg.reduce"),
    at("POST", "/v1/vgs/{vg}/rename", "vg.rename"),
    at("POST", "/v1/vgs/{vg}/export", "vg.export"),
    at("POST", "/v1/vgs/{vg}/import", "vg.import"),
    at("GET", "/v1/vgs/{vg}/backup", "vg.backup"),
    at("GET", "/v1/vgs/{vg}/map", "vg.map"),
    at("POST", "/v1/restore", "vg.restore"),
    at("POST", "/v1/import-clone", "vg.import_clone"),
    at("GET", "/v1/pvs", "pv.list"),
    at("GET", "/v1/pvs/{id}", "pv.show"),
    at("GET", "/v1/pvs/{id}/check", "pv.check"),
    at("POST", "/v1/pvs/{id}/labels", "pv.label"),
    at("POST", "/v1/wipe", "pv.wipe"),
    at("GET", "/v1/pools", "pool.list"),
    at("POST", "/v1/pools", "pool.create"),
    at("GET", "/v1/pools/{vg}/{pool}", "pool.show"),
    at("DELETE", "/v1/pools/{vg}/{pool}", "pool.delete"),
    at("POST", "/v1/pools/{vg}/{pool}/extend", "pool.extend"),
    at("POST", "/v1/pools/{vg}/{pool}/set", "pool.set"),
    at("POST", "/v1/pools/{vg}/{pool}/give-up", "pool.give_up"),
    at("POST", "/v1/pools/{vg}/{pool}/purge", "pool.purge"),
    at("POST", "/v1/pools/{vg}/{pool}/check", "pool.check"),
    at("POST", "/v1/pools/{vg}/{pool}/repair", "pool.repair"),
    at("GET", "/v1/pools/{vg}/{pool}/usage", "pool.usage"),
    at("GET", "/v1/volumes", "volume.list"),
    at("POST", "/v1/volumes", "volume.create"),
    at("POST", "/v1/clones", "volume.clone"),
    at("GET", "/v1/volumes/{vg}/{volume}", "volume.show"),
    at("DELETE", "/v1/volumes/{vg}/{volume}", "volume.delete"),
    at("POST", "/v1/volumes/{vg}/{volume}/undelete", "volume.undelete"),
    at("POST", "/v1/volumes/{vg}/{volume}/mount", "volume.mount"),
    at("POST", "/v1/volumes/{vg}/{volume}/unmount", "volume.unmount"),
    at("POST", "/v1/volumes/{vg}/{volume}/attach", "volume.attach"),
    at("POST", "/v1/volumes/{vg}/{volume}/attach-read-only", "volume.attach_read_only"),
    at("POST", "/v1/volumes/{vg}/{volume}/detach", "volume.detach"),
    at("POST", "/v1/volumes/{vg}/{volume}/resize", "volume.resize"),
    at("POST", "/v1/volumes/{vg}/{volume}/check", "volume.check"),
    at("POST", "/v1/volumes/{vg}/{volume}/trim", "volume.trim"),
    at("POST", "/v1/volumes/{vg}/{volume}/rename", "volume.rename"),
    at("POST", "/v1/volumes/{vg}/{volume}/labels", "volume.label"),
    at("POST", "/v1/volumes/{vg}/{volume}/set", "volume.set"),
    at("POST", "/v1/volumes/{vg}/{volume}/protect", "volume.protect"),
    at("POST", "/v1/volumes/{vg}/{volume}/unprotect", "volume.unprotect"),
    at("GET", "/v1/volumes/{vg}/{volume}/usage", "volume.usage"),
    at("GET", "/v1/snapshots", "snapshot.list"),
    at("POST", "/v1/snapshots", "snapshot.create"),
    at("POST", "/v1/snapshot-groups", "snapshot.create_group"),
    at("GET", "/v1/snapshots/{vg}/{volume}/{snapshot}", "snapshot.show"),
    at("DELETE", "/v1/snapshots/{vg}/{volume}/{snapshot}", "snapshot.delete"),
    at("POST", "/v1/snapshots/{vg}/{volume}/{snapshot}/undelete", "snapshot.undelete"),
    at("POST", "/v1/snapshots/{vg}/{volume}/{snapshot}/mount", "snapshot.mount"),
    at("POST", "/v1/snapshots/{vg}/{volume}/{snapshot}/unmount", "snapshot.unmount"),
    at("POST", "/v1/snapshots/{vg}/{volume}/{snapshot}/rollback", "snapshot.rollback"),
    at("POST", "/v1/snapshots/{vg}/{volume}/{snapshot}/rename", "snapshot.rename"),
    at("POST", "/v1/snapshots/{vg}/{volume}/{snapshot}/labels", "snapshot.label"),
    at("POST", "/v1/snapshots/{vg}/{volume}/{snapshot}/protect", "snapshot.protect"),
    at("POST", "/v1/snapshots/{vg}/{volume}/{snapshot}/unprotect", "snapshot.unprotect"),
    at("GET", "/v1/deleted", "deleted.list"),
    at("GET", "/v1/events", "event.list"),
    at("GET", "/v1/jobs", "job.list"),
    at("GET", "/v1/jobs/{job}", "job.show"),
    at("GET", "/v1/jobs/{job}/follow", "job.follow"),
    at("POST", "/v1/jobs/{job}/cancel", "job.cancel"),
];

/// The endpoint of a method and a route of the router. `HEAD` is answered as `GET` is.
pub fn endpoint(method: &Method, route: &str) -> Option<&'static Endpoint> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    ALL.iter().find(|one| one.method == method && one.route == route)
}
