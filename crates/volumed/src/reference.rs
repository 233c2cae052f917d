//! Every key of the configuration with what it means: the one source of `packaging/volumed.toml`, of volumed.toml(5), and of what can
//! be changed while the daemon runs. `docs/configuration.md` says more; a test compares the keys.

use std::fmt::Write as _;

/// A key of `/etc/volumed/volumed.toml`.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    /// The default, or for a key without one an example, as TOML.
    pub value: &'static str,
    /// Whether `value` is what counts where the key is not given.
    pub is_default: bool,
    /// Whether a reload takes it over; if not, it counts from the next start on.
    pub live: bool,
    /// Sentences of plain text.
    pub meaning: &'static str,
}

const fn key(name: &'static str, value: &'static str, live: bool, meaning: &'static str) -> Key {
    Key { name, value, is_default: true, live, meaning }
}

/// In the order in which they are shown.
pub const REFERENCE: &[Key] = &[
    key(
        "socket",
        "\"/run/volumed/control.sock\"",
        false,
        "Control socket; absolute path. The default is control.sock in run_dir. volctl has to be told of another one with --socket \
         or VOLUMED_SOCKET.",
    ),
    key(
        "metrics_listen",
        "\"127.0.0.1:9709\"",
        false,
        "Where /metrics answers: \"ADDRESS:PORT\", or \"off\". It has no password: everybody who reaches the address may read it. \
         The unit allows loopback only (IPAddressAllow=).",
    ),
    key(
        "volume_metrics",
        "\"top\"",
        false,
        "Which volumes have metrics of their own: \"top\" (the 10 that take most), \"off\", or \"all\" (at most 1,000).",
    ),
    Key {
        name: "admin_group",
        value: "\"wheel\"",
        is_default: false,
        live: true,
        meaning: "Its members may do everything, which amounts to root: they take disks and mount anywhere. Without it, root alone.",
    },
    key(
        "provision_group",
        "\"volumed\"",
        true,
        "Its members may create, unmount, attach, detach and delete volumes and snapshots. \"\" for none.",
    ),
    Key {
        name: "observe_group",
        value: "\"monitoring\"",
        is_default: false,
        live: true,
        meaning: "Its members may look. Nobody besides those above unless given.",
    },
    key(
        "state_dir",
        "\"/var/lib/volumed\"",
        false,
        "The list of backing files to attach at start, what is remembered of requests, and the volume groups that were open; absolute \
         path. Nothing in it is needed to bring a volume group back.",
    ),
    key("run_dir", "\"/run/volumed\"", false, "Lock and control socket; absolute path."),
    key(
        "io",
        "\"auto\"",
        false,
        "How the daemon reads and writes labels and metadata: \"auto\" is io_uring where the kernel allows it, else pread/pwrite; \
         \"uring\" refuses to start without io_uring; \"plain\" does without. The I/O of volumes is the kernel's and not concerned.",
    ),
    key(
        "undelete_window",
        "\"24h\"",
        true,
        "For how long a deleted volume or snapshot can be taken back (volctl volume undelete): a number with s, m, h or d, up to \
         365d, or \"off\".",
    ),
    key(
        "move_share",
        "50",
        true,
        "Share of the time, in percent (1 to 100), in which the daemon may keep disks busy with moving blocks in the background.",
    ),
    key(
        "move_rate",
        "\"off\"",
        true,
        "The most that is wiped or copied in a second, for each move: a size such as \"100M\", at least \"1M\", or \"off\".",
    ),
    Key {
        name: "activate_at_boot",
        value: "[\"data/pg\", \"scratch/*\"]",
        is_default: false,
        live: false,
        meaning: "Volumes that are attached when the machine or the daemon starts, besides those that /etc/fstab names: \"VG/NAME\", \
                  \"VG/VOLUME@SNAPSHOT\", or \"VG/*\" for all volumes of a group. They get their device, and are not mounted.",
    },
    key("activate_wait", "\"10s\"", false, "How long `volumed activate` waits at boot for disks that are missing."),
    key(
        "log",
        "\"info\"",
        true,
        "\"error\", \"warn\", \"info\", \"debug\", \"trace\", or filters such as \"warn,volumed=debug\". The log goes to standard \
         error, and so to the journal.",
    ),
    key(
        "runtimes.docker_socket",
        "\"/run/docker/plugins/volumed.sock\"",
        false,
        "Where Docker finds the volume driver, by the name of the file: absolute path, or \"off\". volumed-docker.socket decides instead \
         where systemd hands the socket over.",
    ),
    key(
        "runtimes.podman_socket",
        "\"/run/volumed/podman.sock\"",
        false,
        "Where Podman asks, which has to be told of it in containers.conf: absolute path, or \"off\". The default is podman.sock in \
         run_dir. volumed-podman.socket decides instead where systemd hands the socket over.",
    ),
    Key {
        name: "runtimes.pool",
        value: "\"data/pool\"",
        is_default: false,
        live: true,
        meaning: "Where volumes of containers are made that name no pool: VG/POOL, POOL, or VG. Needed only where there are several pools.",
    },
    key("runtimes.size", "\"10G\"", true, "The size of volumes of containers that name none."),
    Key {
        name: "runtimes.profile",
        value: "\"db\"",
        is_default: false,
        live: true,
        meaning: "The profile of volumes of containers that name none.",
    },
    Key {
        name: "profiles",
        value: "{ db = { fs = \"xfs\", size = \"20G\", uid = 999 } }",
        is_default: false,
        live: true,
        meaning: "Named sets of options for volumes of containers (-o profile=NAME) and of an orchestrator (profile: NAME in a \
                  StorageClass). What a volume is given itself wins. Each may be a table of its own, [profiles.NAME]; docs/docker.md and \
                  docs/csi.md have the options.",
    },
    key(
        "csi.socket",
        "\"/run/volumed/csi.sock\"",
        false,
        "Where the Container Storage Interface is served to Kubernetes and other orchestrators: absolute path that ends with .sock, or \
         \"off\". The default is csi.sock in run_dir. volumed-csi.socket decides instead where systemd hands the socket over.",
    ),
    key(
        "csi.driver",
        "\"csi.volumed.io\"",
        false,
        "What the driver is called: a domain name in small letters, of at most 63 bytes, that begins and ends with a letter. It stands in each \
         PersistentVolume, so it is to stay as it is once there are any.",
    ),
    Key {
        name: "csi.node",
        value: "\"worker-3\"",
        is_default: false,
        live: false,
        meaning: "What this machine is called in the cluster's topology: at most 63 letters, digits, -, _ and ., the first and the \
                  last one a letter or digit. The host name that it had when volumed began unless given.",
    },
    key(
        "csi.kubelet_dir",
        "\"/var/lib/kubelet\"",
        false,
        "The kubelet's directory: volumes are mounted for pods below it and nowhere else. The real path, without symbolic links. \
         Other places are usual in some distributions: /var/snap/microk8s/common/var/lib/kubelet, /var/lib/k0s/kubelet.",
    ),
    key(
        "csi.register",
        "true",
        false,
        "Whether the kubelet is told of the driver, by a socket in plugins_registry of its directory, once there is one. With a registrar \
         of Kubernetes' own beside it: false.",
    ),
    Key {
        name: "csi.pool",
        value: "\"data/pool\"",
        is_default: false,
        live: true,
        meaning: "Where volumes are made whose StorageClass names no pool: VG/POOL, POOL, or VG. Needed only where there are several pools.",
    },
    key("csi.size", "\"10G\"", true, "The size of volumes that are asked for without one."),
    key(
        "csi.max_volumes",
        "0",
        true,
        "How many volumes the orchestrator may have in use on this machine at once: pods with more are scheduled elsewhere. 0: no limit \
         of volumed's.",
    ),
    key(
        "csi.version",
        "\"1.12\"",
        false,
        "The version of the Container Storage Interface that is served. \"1.13\" adds what is alpha there: the health of volumes and \
         storage, and where snapshots can be used. Programs that check a driver against 1.12 take that for wrong.",
    ),
];

/// Whether a reload takes over this key.
pub fn is_live(key: &str) -> bool {
    REFERENCE.iter().any(|one| one.name == key && one.live)
}

const RELOADED: &str = "Changes count after `systemctl reload volumed`.";
const RESTARTED: &str = "Changes count after `systemctl restart volumed`, which interrupts no I/O.";

/// A configuration file with every key, each commented out.
pub fn example() -> String {
    let mut text = "# Configuration of volumed(8). Every key is optional, and what stands here are the defaults unless it says example.\n\
                    # volumed.toml(5) and docs/configuration.md tell more; `volumed --check-config` tells whether the file is good.\n"
        .to_owned();
    for key in REFERENCE {
        text.push('\n');
        for line in wrap(&format!("{} {}", key.meaning, if key.live { RELOADED } else { RESTARTED }), 110) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "#{} = {}{}", key.name, key.value, if key.is_default { "" } else { " # example" });
    }
    text
}

/// volumed.toml(5), as roff.
pub fn man_page() -> String {
    let mut text = format!(
        ".TH VOLUMED.TOML 5 \"\" \"volumed {}\" \"File formats\"\n\
         .SH NAME\n\
         volumed.toml \\- configuration of the volume manager daemon\n\
         .SH SYNOPSIS\n\
         .I /etc/volumed/volumed.toml\n\
         .SH DESCRIPTION\n\
         Read by\n\
         .BR volumed (8)\n\
         when it starts, and again when it is asked to with\n\
         .BR \"systemctl reload volumed\" .\n\
         The file is TOML. It need not exist, and every key is optional. A key that is not known and a value that makes no sense are\n\
         refused: at a start the daemon ends with 78, and a reload changes nothing at all.\n\
         .B volumed \\-\\-check\\-config\n\
         tells whether a file would be accepted.\n\
         .SH KEYS\n",
        env!("CARGO_PKG_VERSION")
    );
    for key in REFERENCE {
        let kind = if key.is_default { "default" } else { "no default; for example" };
        let change = if key.live { RELOADED } else { RESTARTED };
        let _ = writeln!(
            text,
            ".TP\n.BR {} \" ({kind} {})\"\n{}\n{}",
            key.name,
            key.value.replace('"', "\\(dq"),
            roff(key.meaning),
            roff(change)
        );
    }
    text.push_str(
        ".SH FILES\n.TP\n.I /etc/volumed/volumed.toml\nThe file that is read unless another is named with \\-\\-config.\n\
         .SH SEE ALSO\n.BR volumed (8),\n.BR volctl (1),\n.BR volctl\\-doctor (1)\n",
    );
    text
}

/// Text without anything that roff would take for its own.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq").replace('`', "")
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, KEYS};

    #[test]
    fn every_key_is_told_of_and_no_other() {
        let told: Vec<&str> = REFERENCE.iter().map(|key| key.name).collect();
        assert_eq!(told, KEYS, "each key of config.rs needs an entry in reference.rs, in the same order");
    }

    #[test]
    fn the_example_is_accepted_as_it_is_and_with_every_key_in_use() {
        assert_eq!(Config::parse(&example()).unwrap(), Config::default());
        let line_of_key = |line: &str| REFERENCE.iter().any(|key| line.starts_with(&format!("#{} = ", key.name)));
        let used: String =
            example().lines().map(|line| if line_of_key(line) { &line[1..] } else { line }.to_owned() + "\n").collect();
        let profile = [("fs", "xfs"), ("size", "20G"), ("uid", "999")].map(|(k, v): (&str, &str)| (k.into(), v.into()));
        let profiles = std::collections::BTreeMap::from([("db".to_owned(), profile.into())]);
        let expected = Config {
            admin_group: Some("wheel".into()),
            observe_group: Some("monitoring".into()),
            activate_at_boot: ["data/pg", "scratch/*"].map(|one| one.parse().unwrap()).into(),
            runtimes: crate::config::Runtimes {
                settings: vol_docker::Settings {
                    pool: Some(vol_docker::PoolChoice::parse("data/pool").unwrap()),
                    size: Some(vol_docker::options::SIZE_DEFAULT),
                    profile: Some("db".into()),
                    profiles: profiles.clone(),
                },
                profiles,
                ..Config::default().runtimes
            },
            csi: crate::config::Csi {
                node: Some("worker-3".into()),
                pool: Some(vol_docker::PoolChoice::parse("data/pool").unwrap()),
                size: Some(vol_csi::SIZE_DEFAULT),
                ..Config::default().csi
            },
            ..Config::default()
        };
        assert_eq!(Config::parse(&used).unwrap(), expected, "a default is not what it is said to be:\n{used}");
    }

    #[test]
    fn the_packaged_files_are_those_made_from_here() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
        for (name, text) in [("volumed.toml", example()), ("volumed.toml.5", man_page())] {
            let file = dir.join(name);
            if std::env::var_os("VOLUMED_WRITE_REFERENCE").is_some() {
                std::fs::write(&file, &text).unwrap();
            }
            let there = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(there, text, "run this test with VOLUMED_WRITE_REFERENCE=1 to write {} anew", file.display());
        }
    }

    #[test]
    fn the_man_page_has_every_key_and_no_line_that_roff_would_swallow() {
        let page = man_page();
        for key in REFERENCE {
            assert!(page.contains(&format!("\n.BR {} \"", key.name)), "{}", key.name);
        }
        for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
            let request = line.split([' ', '\n']).next().unwrap();
            assert!([".TH", ".SH", ".TP", ".B", ".BR", ".I"].contains(&request), "{line}");
        }
    }
}
