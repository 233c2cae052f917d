//! Parameters of a StorageClass: what there is, what each takes. One that is not known is refused, for it would be believed to count.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use vol_types::label::LABEL_VALUE_MAX;
use vol_types::limit::STRIPES_MAX;
use vol_types::{Bytes, FsKind, MkfsOptions, MountOptions, Reserve, near, parse_bytes};

use crate::capability::fs_kind;
use crate::{Capability, Refused, limits, profile};

/// The label of a volume whose value is its name at the orchestrator. Whoever gives a volume this label shows it to the orchestrator.
pub const LABEL_NAME: &str = "csi.volume";
/// Of a volume that lives and dies with its pod the id that the kubelet gave it.
pub const LABEL_EPHEMERAL: &str = "csi.ephemeral";
/// The same of a snapshot.
pub const LABEL_SNAPSHOT: &str = "csi.snapshot";
/// Of a snapshot the name of its group at the orchestrator.
pub const LABEL_GROUP: &str = "csi.group";
/// Of a volume that is deleted for good when the orchestrator deletes it: `purge`.
pub const LABEL_ON_DELETE: &str = "csi.on-delete";
/// What it was asked for with, to tell a repetition from another request.
pub const LABEL_RECORD: &str = "csi.request";

/// Every parameter, with what it takes.
pub const KNOWN: &[(&str, &str)] = &[
    ("pool", "VG/POOL, POOL, or VG if it has one pool only"),
    ("fs", "ext4, xfs or btrfs"),
    ("mkfs-options", "KEY=VALUE with spaces between them, see docs/file-systems.md"),
    ("mount-options", "options with commas between them, for example noatime"),
    ("thin", "yes or no"),
    ("stripes", "how many disks a thick volume is striped over, 1 to 64"),
    ("stripe-size", "a power of two from 4K on, for example 64K"),
    ("reserve", "a size, full, or none"),
    ("profile", "a profile of the machine's configuration"),
    ("on-delete", "trash or purge"),
    ("size", "what a volume has that is asked for without a size, for example 10G"),
];

/// The least that goes to each disk in turn.
const STRIPE_SIZE_MIN: u64 = 4096;

/// What a pod may ask for of a volume that lives and dies with it: the rest is for whoever runs the cluster to say.
const OF_PODS: [&str; 2] = ["size", "fs"];
/// What the kubelet adds by itself, and the label that it becomes.
const OF_KUBELET: [(&str, &str); 2] = [
    ("csi.storage.k8s.io/pod.name", "kubernetes.io/pod"),
    ("csi.storage.k8s.io/pod.namespace", "kubernetes.io/namespace"),
];

/// What the provisioner adds by itself, and the label that it becomes; those without one are read otherwise.
const OF_PROVISIONER: [(&str, Option<&str>); 5] = [
    ("csi.storage.k8s.io/pvc/name", Some("kubernetes.io/pvc")),
    ("csi.storage.k8s.io/pvc/namespace", Some("kubernetes.io/namespace")),
    ("csi.storage.k8s.io/pv/name", Some("kubernetes.io/pv")),
    ("csi.storage.k8s.io/fstype", None),
    ("fstype", None),
];

/// The parameters of a request, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    pub pool: Option<String>,
    pub fs: Option<FsKind>,
    /// It was said which; a clone has that of its source otherwise.
    pub fs_given: bool,
    /// `KEY=VALUE`, as `CreateVolume` takes them.
    pub mkfs_options: Vec<String>,
    /// Of each mount.
    pub mount_options: MountOptions,
    pub thin: bool,
    /// Of a thick volume.
    pub stripes: Option<u16>,
    /// As it was given.
    pub stripe_size: Option<String>,
    /// Nothing can be taken back once it is deleted.
    pub purge: bool,
    pub reserve: Option<String>,
    pub size: Option<Bytes>,
    /// Whose volume it is, for people.
    pub labels: BTreeMap<String, String>,
    /// What was given, as it is recorded.
    pub record: String,
}

impl Params {
    /// Reads them, beside what the capabilities ask for. `profiles` are those of the configuration.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`: one is not known (the nearest is named), has a value that makes no sense, or fits with no other one.
    pub fn read(
        given: &BTreeMap<String, String>,
        capabilities: &[Capability],
        profiles: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<Self, Refused> {
        limits::map("parameters", given)?;
        let known = |key: &str| KNOWN.iter().any(|(known, _)| *known == key);
        if let Some(key) = given.keys().find(|key| !known(key) && !OF_PROVISIONER.iter().any(|(own, _)| own == key)) {
            return Err(unknown(key));
        }
        let asked = ["fs", "csi.storage.k8s.io/fstype", "fstype"].into_iter().find_map(|key| given.get(key));
        let asked = asked.map(|fs| fs.trim()).filter(|fs| !fs.is_empty());
        let asked = asked.or_else(|| capabilities.iter().find_map(|one| one.fs).map(FsKind::as_str));
        let all = profile::with(given, asked, profiles)?;
        let get = |key: &str| all.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
        let of_class = get("fs").or_else(|| get("csi.storage.k8s.io/fstype")).or_else(|| get("fstype"));
        let of_class = of_class.map_or(Ok(None), |text| fs_kind("parameter fs", text))?;
        let block = capabilities.iter().any(|one| one.block);
        let mut fs = of_class.filter(|_| !block);
        for asked in capabilities.iter().filter_map(|one| one.fs) {
            match fs {
                Some(other) if other != asked => {
                    return Err(Refused::invalid(format!(
                        "one volume is asked for with {} and with {}",
                        other.as_str(),
                        asked.as_str()
                    ))
                    .with_hint("say it once: as csi.storage.k8s.io/fstype in the StorageClass"));
                }
                _ => fs = Some(asked),
            }
        }
        let made = fs.unwrap_or(FsKind::Ext4);
        let mkfs_options: Vec<String> =
            get("mkfs-options").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let mount_options = MountOptions::parse(Some(made), get("mount-options").unwrap_or_default());
        let mount_options =
            mount_options.map_err(|error| Refused::invalid(format!("parameter mount-options: {error}")))?;
        if mount_options.has("ro") {
            return Err(Refused::invalid("parameter mount-options: ro is not of a class to say")
                .with_hint("ask for the access mode ReadOnlyMany, or mount it with readOnly: true"));
        }
        if !block {
            MkfsOptions::parse(made, &mkfs_options)
                .map_err(|error| Refused::invalid(format!("parameter mkfs-options: {error}")))?;
        }
        let thin = match get("thin") {
            None | Some("yes" | "true") => true,
            Some("no" | "false") => false,
            Some(other) => return Err(wrong("thin", other)),
        };
        let stripes = match get("stripes") {
            None => None,
            Some(_) if thin => return Err(thick_only("stripes")),
            Some(text) => {
                let number = text.parse().ok().filter(|number| (1..=STRIPES_MAX).contains(number));
                Some(number.ok_or_else(|| wrong("stripes", text))?)
            }
        };
        let stripe_size = match get("stripe-size") {
            None => None,
            Some(_) if thin => return Err(thick_only("stripe-size")),
            Some(text) => {
                let good = |size: &Bytes| size.get().is_power_of_two() && size.get() >= STRIPE_SIZE_MIN;
                parse_bytes(text).ok().filter(good).ok_or_else(|| wrong("stripe-size", text))?;
                Some(text.to_owned())
            }
        };
        let purge = match get("on-delete") {
            None | Some("trash") => false,
            Some("purge") => true,
            Some(other) => return Err(wrong("on-delete", other)),
        };
        let reserve = match get("reserve") {
            None => None,
            Some(_) if !thin => {
                return Err(Refused::invalid(
                    "parameter reserve: all space of a thick volume (thin=no) is its own already",
                ));
            }
            Some(text) => Reserve::from_str(text).map(|_| Some(text.to_owned())).map_err(|_| wrong("reserve", text))?,
        };
        let size = get("size").map(parse_bytes).transpose();
        let mut labels = BTreeMap::new();
        for (key, label) in OF_PROVISIONER {
            if let (Some(text), Some(label)) = (get(key), label) {
                labels.insert(label.to_owned(), text.to_owned());
            }
        }
        Ok(Self {
            pool: get("pool").map(str::to_owned),
            fs: (!block).then_some(made),
            fs_given: fs.is_some(),
            mkfs_options: if block { Vec::new() } else { mkfs_options },
            mount_options: if block { MountOptions::default() } else { mount_options },
            thin,
            stripes,
            stripe_size,
            purge,
            reserve,
            size: size.map_err(|error| Refused::invalid(format!("parameter size: {error}")))?,
            labels,
            record: record(given, asked, block),
        })
    }
}

impl Params {
    /// The same with what else a volume is asked for with, as it is recorded.
    #[must_use]
    pub fn recording(self, more: &[(&str, &str)]) -> Self {
        let mut counts: BTreeMap<String, String> = serde_json::from_str(&self.record).unwrap_or_default();
        counts.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let record = bounded(serde_json::to_string(&counts).unwrap_or_default(), &self.record);
        Self { record, ..self }
    }
}

/// What a label can hold; too long: its hash, with that of what it begins from.
fn bounded(text: String, from: &str) -> String {
    if text.len() <= LABEL_VALUE_MAX && !text.chars().any(char::is_control) && !from.starts_with("blake3:") {
        return text;
    }
    format!("blake3:{}", blake3::hash(format!("{from}{text}").as_bytes()).to_hex())
}

impl Params {
    /// Reads what a pod says of a volume that lives and dies with it.
    ///
    /// # Errors
    /// As [`Params::read`]; it may ask for a size and a file system alone.
    pub fn of_pod(context: &BTreeMap<String, String>, capability: &Capability) -> Result<Self, Refused> {
        limits::map("volume_context", context)?;
        let own: BTreeMap<String, String> = context
            .iter()
            .filter(|(key, _)| !key.starts_with("csi.storage.k8s.io/"))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if let Some(key) = own.keys().find(|key| !OF_PODS.contains(&key.as_str())) {
            let key: String = key.chars().take(60).collect();
            return Err(Refused::invalid(format!("volumeAttributes: {key:?} is not for pods to say"))
                .with_hint(format!("a volume that lives and dies with its pod takes {}", OF_PODS.join(" and "))));
        }
        let mut params = Self::read(&own, std::slice::from_ref(capability), &BTreeMap::new())?;
        for (key, label) in OF_KUBELET {
            if let Some(text) = context.get(key) {
                params.labels.insert(label.to_owned(), text.clone());
            }
        }
        Ok(params)
    }
}

/// JSON of what counts; too long for a label: its hash.
fn record(given: &BTreeMap<String, String>, fs: Option<&str>, block: bool) -> String {
    let mut counts: BTreeMap<&str, &str> = given
        .iter()
        .filter(|(key, _)| KNOWN.iter().any(|(known, _)| known == key))
        .map(|(key, value)| (key.as_str(), value.trim()))
        .collect();
    let fs = if block { Some("none") } else { fs };
    counts.remove("fs");
    counts.extend(fs.map(|fs| ("fs", fs)));
    let text = serde_json::to_string(&counts).unwrap_or_default();
    if text.len() <= LABEL_VALUE_MAX && !text.chars().any(char::is_control) {
        return text;
    }
    format!("blake3:{}", blake3::hash(text.as_bytes()).to_hex())
}

fn wrong(key: &str, text: &str) -> Refused {
    let text: String = text.chars().take(60).collect();
    let takes = KNOWN.iter().find(|(known, _)| *known == key).map_or("", |(_, takes)| takes);
    Refused::invalid(format!("parameter {key}: {text:?} is not understood")).with_hint(format!("{key} takes {takes}"))
}

fn thick_only(key: &str) -> Refused {
    Refused::invalid(format!("parameter {key}: only a thick volume (thin=no) has extents of its own"))
        .with_hint("where a thin volume lies is the business of its pool")
}

fn unknown(key: &str) -> Refused {
    // What people bring along from other drivers.
    let other = match key {
        "device-class" | "topolvm.io/device-class" | "volgroup" | "vgname" | "vg" | "thinpool" => Some("pool"),
        "thinProvision" => Some("thin"),
        "filesystem" | "fsType" => Some("fs"),
        _ => near::nearest(key, KNOWN.iter().map(|(known, _)| *known)),
    };
    let near = other.map_or(String::new(), |near| format!("; did you mean {near}?"));
    let key: String = key.chars().take(60).collect();
    let known: Vec<_> = KNOWN.iter().map(|(known, _)| *known).collect();
    Refused::invalid(format!("parameter {key:?} is not known{near}"))
        .with_hint(format!("the parameters are {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;

    fn mount(fs: Option<FsKind>) -> Vec<Capability> {
        vec![Capability { block: false, fs, flags: MountOptions::default(), mode: Mode::SingleNodeWriter }]
    }

    fn read(given: &[(&str, &str)], capabilities: &[Capability]) -> Result<Params, Refused> {
        let given = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Params::read(&given, capabilities, &BTreeMap::new())
    }

    #[test]
    fn without_any_parameter_there_is_a_volume() {
        let params = read(&[], &mount(None)).unwrap();
        assert_eq!((params.fs, params.thin, params.record.as_str()), (Some(FsKind::Ext4), true, "{}"));
        let block = vec![Capability { block: true, ..mount(None).remove(0) }];
        assert_eq!(read(&[], &block).unwrap().fs, None);
        assert_eq!(read(&[("fs", "xfs")], &block).unwrap().fs, None, "a class for both kinds");
    }

    #[test]
    fn every_parameter_is_read() {
        let given = [
            ("pool", "data/tank"),
            ("csi.storage.k8s.io/fstype", "xfs"),
            ("mkfs-options", ""),
            ("mount-options", "noatime"),
            ("reserve", "1G"),
            ("size", "5G"),
            ("csi.storage.k8s.io/pvc/name", "db"),
            ("csi.storage.k8s.io/pvc/namespace", "prod"),
            ("csi.storage.k8s.io/pv/name", "pvc-1"),
        ];
        let params = read(&given, &mount(None)).unwrap();
        assert_eq!((params.pool.as_deref(), params.fs), (Some("data/tank"), Some(FsKind::Xfs)));
        assert!(params.mount_options.has("noatime") && params.size == Some(Bytes::gib(5)));
        assert_eq!(params.labels["kubernetes.io/pvc"], "db");
        assert!(!params.record.contains("pvc-1"), "who asks is no part of what is asked: {}", params.record);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (given, fs, why) in [
            (&[("pol", "x")][..], None, "did you mean pool?"),
            (&[("topolvm.io/device-class", "ssd")], None, "did you mean pool?"),
            (&[("thin", "maybe")], None, "parameter thin"),
            (&[("fs", "zfs")], None, "ext4, xfs, btrfs"),
            (&[("fs", "xfs")], Some(FsKind::Ext4), "with xfs and with ext4"),
            (&[("reserve", "lots")], None, "reserve takes"),
            (&[("reserve", "1G"), ("thin", "no")], None, "its own already"),
            (&[("mount-options", "loop")], None, "mount-options"),
            (&[("mount-options", "ro")], None, "ReadOnlyMany"),
            (&[("mkfs-options", "-d")], None, "mkfs-options"),
            (&[("size", "ten")], None, "parameter size"),
            (&[("stripes", "2")], None, "only a thick volume"),
            (&[("stripe-size", "64K"), ("thin", "yes")], None, "only a thick volume"),
            (&[("stripes", "65"), ("thin", "no")], None, "1 to 64"),
            (&[("stripes", "0"), ("thin", "no")], None, "1 to 64"),
            (&[("stripe-size", "96K"), ("thin", "no")], None, "power of two"),
            (&[("on-delete", "wipe")], None, "on-delete takes trash or purge"),
            (&[("stripe", "2")], None, "did you mean stripes?"),
        ] {
            let refused = read(given, &mount(fs)).unwrap_err();
            assert_eq!(refused.code, tonic::Code::InvalidArgument);
            let text = tonic::Status::from(refused).message().to_owned();
            assert!(text.contains(why), "{given:?}: {text}");
        }
    }
}
