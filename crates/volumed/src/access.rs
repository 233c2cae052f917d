//! Who may do what: roles from the peer's credentials.
//!
//! The kernel vouches for uid, gid and supplementary groups as they were when the peer connected (`unix(7)`,
//! `SO_PEERCRED`, `SO_PEERGROUPS`); nothing is read from the peer's `/proc`. Root is admin, members of the configured
//! groups have their group's role, nobody else has any. The socket's mode is a first fence, this is the second.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use tokio::net::UnixStream;
use vol_api::{ApiError, ErrorCode};

use crate::config::Config;

/// What a peer may do; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Observe,
    /// Create, unmount and delete volumes and snapshots.
    Provision,
    /// Everything. Amounts to root: it mounts anywhere and takes disks.
    Admin,
}

impl Role {
    /// The word in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Provision => "provision",
            Self::Admin => "admin",
        }
    }
}

/// A process at the other end, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// For the log only: a pid may be another process by now.
    pub pid: Option<i32>,
    pub groups: Vec<u32>,
}

/// A peer and its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub credentials: Credentials,
    pub role: Option<Role>,
}

/// Asks the kernel who is at the other end of a connection.
pub type PeerLookup = Arc<dyn Fn(&UnixStream) -> io::Result<Credentials> + Send + Sync>;

/// The lookup of the real daemon.
pub fn system_lookup() -> PeerLookup {
    Arc::new(|stream| {
        let peer = stream.peer_cred()?;
        let groups = vol_linux::peer_groups(stream.as_fd())?;
        Ok(Credentials { uid: peer.uid(), gid: peer.gid(), pid: peer.pid(), groups })
    })
}

/// A group that carries a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleGroup {
    pub role: Role,
    pub name: String,
    /// `None` if this host has no such group.
    pub gid: Option<u32>,
}

/// The rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    groups: Vec<RoleGroup>,
}

impl Access {
    /// The rules of `config`, with `gid_of` to look groups up.
    pub fn new(config: &Config, gid_of: impl Fn(&str) -> Option<u32>) -> Self {
        let named = [
            (Role::Admin, &config.admin_group),
            (Role::Provision, &config.provision_group),
            (Role::Observe, &config.observe_group),
        ];
        let group = |(role, name): (Role, &Option<String>)| {
            name.as_ref().map(|name| RoleGroup { role, name: name.clone(), gid: gid_of(name) })
        };
        Self { groups: named.into_iter().filter_map(group).collect() }
    }

    /// Groups that are configured and do not exist on this host.
    pub fn missing(&self) -> impl Iterator<Item = &RoleGroup> {
        self.groups.iter().filter(|group| group.gid.is_none())
    }

    /// The distinct groups whose members must be able to open the socket.
    pub fn gids(&self) -> Vec<u32> {
        let mut gids: Vec<u32> = self.groups.iter().filter_map(|group| group.gid).collect();
        gids.sort_unstable();
        gids.dedup();
        gids
    }

    /// The highest role these credentials carry.
    pub fn role_of(&self, credentials: &Credentials) -> Option<Role> {
        if credentials.uid == 0 {
            return Some(Role::Admin);
        }
        let member = |gid: u32| credentials.gid == gid || credentials.groups.contains(&gid);
        self.groups.iter().filter(|group| group.gid.is_some_and(member)).map(|group| group.role).max()
    }

    /// Fails unless `peer` has `needed` or more; the error says how to get it.
    pub fn check(&self, peer: &Peer, needed: Role) -> Result<(), ApiError> {
        if peer.role >= Some(needed) {
            return Ok(());
        }
        let (uid, word) = (peer.credentials.uid, needed.as_str());
        let has = peer.role.map_or("none".to_owned(), |role| role.as_str().to_owned());
        let message = format!("this needs the role {word:?}, and user {uid} has {has}");
        let fit = |exists: bool| {
            let fits = move |group: &&RoleGroup| group.role >= needed && group.gid.is_some() == exists;
            self.groups.iter().filter(fits).map(|group| group.name.as_str()).collect::<Vec<_>>().join(" or ")
        };
        let hint = match (fit(true), fit(false)) {
            (groups, _) if !groups.is_empty() => {
                format!("do it as root, or become a member of the group {groups} and log in again")
            }
            (_, groups) if !groups.is_empty() => {
                format!("do it as root, or make the group {groups}, become a member and restart volumed")
            }
            _ => format!("do it as root, or name a group for it in /etc/volumed/volumed.toml ({word}_group)"),
        };
        Err(ApiError::new(ErrorCode::Denied, message).with_hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_says_who_is_at_the_other_end() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let credentials = system_lookup()(&stream).unwrap();
        assert_eq!(credentials.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(credentials.pid, i32::try_from(std::process::id()).ok());
        assert_eq!(credentials.groups.len(), nix::unistd::getgroups().unwrap().len());
    }

    fn access() -> Access {
        let config =
            Config { admin_group: Some("wheel".into()), observe_group: Some("monitoring".into()), ..Config::default() };
        Access::new(&config, |name| match name {
            "wheel" => Some(10),
            "volumed" => Some(20),
            _ => None,
        })
    }

    fn user(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        Credentials { uid, gid, pid: None, groups: groups.to_vec() }
    }

    #[test]
    fn the_highest_group_decides_and_strangers_have_no_role() {
        let access = access();
        assert_eq!(access.role_of(&user(0, 0, &[])), Some(Role::Admin));
        assert_eq!(access.role_of(&user(1000, 10, &[])), Some(Role::Admin));
        assert_eq!(access.role_of(&user(1000, 100, &[20, 10])), Some(Role::Admin));
        assert_eq!(access.role_of(&user(1000, 100, &[20])), Some(Role::Provision));
        assert_eq!(access.role_of(&user(1000, 0, &[0])), None);
        assert_eq!(access.missing().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["monitoring"]);
        assert_eq!(access.gids(), [10, 20]);
    }

    #[test]
    fn a_group_may_carry_several_roles_and_who_is_not_known_here_has_none() {
        let wheel = || Some("wheel".to_owned());
        let config =
            Config { admin_group: wheel(), provision_group: wheel(), observe_group: wheel(), ..Config::default() };
        let access = Access::new(&config, |_| Some(10));
        assert_eq!(access.role_of(&user(1000, 100, &[10])), Some(Role::Admin));
        assert_eq!(access.gids(), [10]);
        // What the kernel shows of a user or group that this user namespace does not map, and the number that is nobody's.
        for (uid, gid) in [(65_534, 65_534), (u32::MAX, u32::MAX)] {
            assert_eq!(access.role_of(&user(uid, gid, &[gid])), None);
        }
        // A group that is configured and not on this host: a role for no number at all.
        let nowhere = Access::new(&config, |_| None);
        assert_eq!(nowhere.role_of(&user(1000, 10, &[0, 10])), None);
        assert_eq!(nowhere.role_of(&user(0, 10, &[])), Some(Role::Admin));
    }

    #[test]
    fn a_denial_says_which_role_and_how_to_get_it() {
        let access = access();
        let peer = |role| Peer { credentials: user(1000, 100, &[]), role };
        assert_eq!(access.check(&peer(Some(Role::Admin)), Role::Provision), Ok(()));
        let error = access.check(&peer(Some(Role::Observe)), Role::Provision).unwrap_err();
        assert_eq!(error.code, ErrorCode::Denied);
        assert_eq!(error.message, "this needs the role \"provision\", and user 1000 has observe");
        assert_eq!(
            error.hint.as_deref(),
            Some("do it as root, or become a member of the group wheel or volumed and log in again")
        );
        assert!(access.check(&peer(None), Role::Observe).is_err());
        let alone = Access::default().check(&peer(None), Role::Observe).unwrap_err();
        assert!(alone.hint.unwrap_or_default().ends_with("in /etc/volumed/volumed.toml (observe_group)"));
        let nowhere = Access::new(&Config::default(), |_| None).check(&peer(None), Role::Observe).unwrap_err();
        assert!(nowhere.hint.unwrap_or_default().contains("make the group volumed"));
    }
}
