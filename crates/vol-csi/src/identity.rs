//! The service Identity.

use std::collections::BTreeMap;

use crate::csi::plugin_capability::{Service, Type, VolumeExpansion, service, volume_expansion};
use crate::csi::{GetPluginCapabilitiesResponse, GetPluginInfoResponse, PluginCapability, ProbeResponse};
use crate::{Refused, Settings};

/// Answers `GetPluginInfo`.
pub fn info(settings: &Settings) -> GetPluginInfoResponse {
    GetPluginInfoResponse {
        name: settings.driver.clone(),
        vendor_version: settings.version.to_owned(),
        manifest: BTreeMap::new(),
    }
}

/// Answers `GetPluginCapabilities`.
pub fn capabilities(settings: &Settings) -> GetPluginCapabilitiesResponse {
    let services = [
        service::Type::ControllerService,
        service::Type::VolumeAccessibilityConstraints,
        service::Type::GroupControllerService,
    ];
    let topology = settings.v1_13.then_some(service::Type::SnapshotAccessibilityConstraints);
    let capability =
        |one: service::Type| PluginCapability { r#type: Some(Type::Service(Service { r#type: one.into() })) };
    let online = VolumeExpansion { r#type: volume_expansion::Type::Online.into() };
    let online = PluginCapability { r#type: Some(Type::VolumeExpansion(online)) };
    GetPluginCapabilitiesResponse {
        capabilities: services.into_iter().chain(topology).map(capability).chain([online]).collect(),
    }
}

/// Answers `Probe`. A daemon that is not done with recovery is no error.
///
/// # Errors
/// None now.
pub fn probe(ready: bool) -> Result<ProbeResponse, Refused> {
    Ok(ProbeResponse { ready: Some(ready) })
}
