//! Where a volume is to be made: what is not said is found, if there is only one.

use vol_api::ApiError;
use vol_docker::PoolChoice;
use vol_types::Name;

use crate::api::Backend;

/// How whoever asks can say it, for the hints of errors.
pub struct Say {
    pub pool: &'static str,
    pub group: &'static str,
    /// What he said that made the volume a thick one.
    pub thick: &'static str,
}

/// The VG, and the pool of a thin volume.
///
/// # Errors
/// There is none such, or there are several, of which `say` tells how to choose.
pub fn of(
    backend: &dyn Backend,
    choice: Option<&PoolChoice>,
    thin: bool,
    say: &Say,
) -> Result<(Name, Option<Name>), ApiError> {
    let mut pools = Vec::new();
    for pool in backend.pools(None)? {
        pools.push((vol_api::parse_field::<Name>("vg", &pool.vg)?, vol_api::parse_field::<Name>("pool", &pool.name)?));
    }
    let vgs: Vec<Name> = backend.vgs()?.iter().filter_map(|vg| Name::new(&vg.name).ok()).collect();
    if !thin {
        return group(choice, &vgs, &pools, say).map(|vg| (vg, None));
    }
    match choice {
        None => {}
        Some(PoolChoice::Both(vg, pool)) => pools.retain(|one| (&one.0, &one.1) == (vg, pool)),
        Some(PoolChoice::Either(name)) if pools.iter().any(|(_, pool)| pool == name) => {
            pools.retain(|(_, pool)| pool == name);
        }
        Some(PoolChoice::Either(name)) => pools.retain(|(vg, _)| vg == name),
    }
    let shown = |pools: &[(Name, Name)]| {
        let all: Vec<_> = pools.iter().map(|(vg, pool)| format!("{vg}/{pool}")).collect();
        all.join(", ")
    };
    match (pools.as_slice(), choice) {
        ([(vg, pool)], _) => Ok((vg.clone(), Some(pool.clone()))),
        ([], None) => Err(ApiError::not_found("there is no pool yet to make the volume in")
            .with_hint("make one from a disk: volctl init /dev/DISK")),
        ([], Some(choice)) => {
            let said = match choice {
                PoolChoice::Both(vg, pool) => format!("{vg}/{pool}"),
                PoolChoice::Either(name) => name.to_string(),
            };
            Err(ApiError::not_found(format!("pool: there is no pool {said}"))
                .with_hint("`volctl pool list` shows the pools"))
        }
        (several, _) => {
            Err(ApiError::invalid(format!("there are several pools: {}", shown(several))).with_hint(say.pool))
        }
    }
}

/// The VG of a thick volume.
fn group(choice: Option<&PoolChoice>, vgs: &[Name], pools: &[(Name, Name)], say: &Say) -> Result<Name, ApiError> {
    let of_pool = |name: &Name| {
        let mut of = pools.iter().filter(|(_, pool)| pool == name).map(|(vg, _)| vg.clone());
        of.next().filter(|_| of.next().is_none())
    };
    let found = match (choice, vgs) {
        (None, [vg]) => Some(vg.clone()),
        (None, _) => None,
        (Some(PoolChoice::Both(vg, _)), _) => vgs.contains(vg).then(|| vg.clone()),
        (Some(PoolChoice::Either(name)), _) if vgs.contains(name) => Some(name.clone()),
        (Some(PoolChoice::Either(name)), _) => of_pool(name),
    };
    found.ok_or_else(|| {
        let all: Vec<_> = vgs.iter().map(Name::as_str).collect();
        let is_nowhere = match choice {
            Some(PoolChoice::Both(vg, _)) => !vgs.contains(vg),
            Some(PoolChoice::Either(name)) => !vgs.contains(name) && pools.iter().all(|(_, pool)| pool != name),
            None => false,
        };
        match (all.as_slice(), choice) {
            ([], _) => ApiError::not_found("there is no volume group yet to make the volume in")
                .with_hint("make one from a disk: volctl init /dev/DISK"),
            (_, Some(PoolChoice::Both(name, _) | PoolChoice::Either(name))) if is_nowhere => {
                ApiError::not_found(format!("pool: there is no volume group or pool {name}"))
                    .with_hint(format!("there are the groups {}", all.join(", ")))
            }
            _ => ApiError::invalid(format!("{}: which volume group the volume is to lie in is not clear", say.thick))
                .with_hint(format!("{}; there are {}", say.group, all.join(", "))),
        }
    })
}
