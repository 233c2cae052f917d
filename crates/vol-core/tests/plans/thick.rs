//! Thick volumes: what is formatted, and what is never formatted again.

use vol_core::RefusalCode;
use vol_core::plan::Kernel;
use vol_core::plan::thick::{self, CreateThick, Layout};
use vol_types::*;

use super::fixture::*;

#[test]
fn a_volume_whose_mkfs_was_cut_short_is_neither_formatted_again_nor_handed_out() {
    let mut catalog = empty_vg();
    let id = VolumeId::from_uuid(uuid(30));
    let request = CreateThick {
        id,
        name: name("pg"),
        size: Bytes::gib(1),
        layout: Layout::default(),
        placement: Placement::default(),
        fs: Some(FsKind::Ext4),
        subdir: None,
        labels: Labels::default(),
        protect: false,
        now: 0,
    };
    let (plan, begun) = thick::create(&catalog, &[], &request).unwrap();
    assert!(begun.fill);
    apply(&mut catalog, &plan);
    let options = MkfsOptions::default();
    let finish = |catalog: &_| thick::finish(catalog, &Kernel::default(), id, Some(([7; 16], &options)));
    let format = finish(&catalog).unwrap();
    assert!(text(&format).iter().any(|step| step.contains("mkfs")), "{:?}", text(&format));
    // The first commit says that it is being formatted; the machine dies.
    catalog.commit(catalog.sequence() + 1, format.commits().next().unwrap().clone());
    assert!(matches!(catalog.volume(id).unwrap().content, Content::Formatting { .. }));
    assert_eq!(finish(&catalog).unwrap_err().code, RefusalCode::Refused);
}
