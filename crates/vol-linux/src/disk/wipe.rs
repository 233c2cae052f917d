//! Erases signatures: exactly those that were shown and agreed to.

use std::path::Path;

use vol_core::observed::{DiskIdentity, Signature};
use vol_engine::host::{HostError, HostErrorKind, HostResult};

use super::probe::{Prober, ROUNDS_MAX, signatures};
use super::{Access, open_expected};
use crate::{error, files};

pub(crate) fn wipe_signatures(node: &Path, identity: &DiskIdentity, expected: &[Signature]) -> HostResult<()> {
    let what = format!("wipe {}", node.display());
    // Exclusive: what is mounted, swapped to or mapped cannot be opened like this.
    let file = open_expected(node, Access::Exclusive, 0, identity)?;
    files::keep_udev_away(&file);
    let found = signatures(&what, &file)?;
    if keys(&found) != keys(expected) {
        let list = |signatures: &[Signature]| match signatures {
            [] => "nothing".to_owned(),
            some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        };
        return Err(error::changed(what, format!("found {}, expected {}", list(&found), list(expected))));
    }
    let mut prober = Prober::new(&what, &file)?;
    for _ in 0..ROUNDS_MAX {
        let Some(signature) = prober.next()? else { break };
        if !may_erase(&signature, expected) {
            return Err(error::changed(&*what, format!("found {signature}, which was not there before")));
        }
        prober.erase()?;
    }
    drop(prober);
    file.sync_all().map_err(|e| error::block(format!("{what}: flush"), &e))?;
    match signatures(&what, &file)?.first() {
        None => Ok(()),
        Some(left) => Err(HostError::new(HostErrorKind::Io, what, format!("still there afterwards: {left}"))),
    }
}

/// A signature has copies (a GPT its backup and its protective MBR) that show when the first is gone.
fn may_erase(found: &Signature, expected: &[Signature]) -> bool {
    let same = |signature: &Signature| signature.kind == found.kind && signature.uuid == found.uuid;
    let gpt = |signature: &Signature| signature.kind == "gpt";
    let leftover = found.usage == "partition table" && matches!(found.kind.as_str(), "gpt" | "PMBR" | "dos");
    expected.iter().any(same) || (leftover && expected.iter().any(gpt))
}

fn keys(signatures: &[Signature]) -> Vec<(&str, Option<&str>)> {
    let mut keys: Vec<_> = signatures.iter().map(|s| (s.kind.as_str(), s.uuid.as_deref())).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(usage: &str, kind: &str, uuid: Option<&str>) -> Signature {
        Signature { usage: usage.into(), kind: kind.into(), label: None, uuid: uuid.map(Into::into) }
    }

    #[test]
    fn only_what_was_expected_and_the_copies_of_a_gpt_may_be_erased() {
        let gpt = signature("partition table", "gpt", Some("1"));
        let ext4 = signature("filesystem", "ext4", Some("2"));
        assert!(may_erase(&ext4, std::slice::from_ref(&ext4)));
        assert!(!may_erase(&signature("filesystem", "ext4", Some("3")), std::slice::from_ref(&ext4)));
        assert!(may_erase(&signature("partition table", "PMBR", None), std::slice::from_ref(&gpt)));
        assert!(!may_erase(&signature("partition table", "PMBR", None), std::slice::from_ref(&ext4)));
        assert!(!may_erase(&ext4, &[gpt]));
    }

    #[test]
    fn the_order_of_signatures_does_not_matter() {
        let (a, b) = (signature("filesystem", "ext4", Some("2")), signature("raid", "LVM2_member", None));
        assert_eq!(keys(&[a.clone(), b.clone()]), keys(&[b, a]));
    }
}
