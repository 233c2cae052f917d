//! What the kernel and udev say of devices that come and go.

use std::path::{Component, Path};

use vol_linux::uevents::{Source, Uevent, parse};

/// The bytes as one message; and as the properties of one of udev's.
///
/// Claims: no panic; a node that is named lies below `/dev`, and nothing in its path leads out of there; a message made of what was read
/// reads the same, whatever is behind it.
pub fn uevent(data: &[u8]) -> bool {
    let mut accepted = false;
    for message in [data.to_vec(), from_udev(data)] {
        let Some(event) = parse(&message) else { continue };
        accepted = true;
        let below = event.node.strip_prefix("/dev").expect("a node below /dev");
        assert!(
            below != Path::new("") && below.components().all(|part| matches!(part, Component::Normal(_))),
            "{event:?}"
        );
        let mut again = written(&event);
        assert_eq!(parse(&again).as_ref(), Some(&event));
        again.extend(b"SUBSYSTEM=net\0DEVNAME=other\0");
        assert_eq!(parse(&again).as_ref(), Some(&event), "what comes later changes nothing");
    }
    accepted
}

fn written(event: &Uevent) -> Vec<u8> {
    let node = event.node.strip_prefix("/dev").expect("a node below /dev").to_str().expect("text");
    let action = if event.removed { "remove" } else { "add" };
    let path = u8::from(event.path_of_multipath);
    let properties =
        format!("ACTION={action}\0SUBSYSTEM=block\0DEVNAME={node}\0DM_MULTIPATH_DEVICE_PATH={path}\0").into_bytes();
    match event.source {
        Source::Kernel => [format!("{action}@/devices/block\0").into_bytes(), properties].concat(),
        Source::Udev => from_udev(&properties),
    }
}

/// A message of udev: `struct monitor_netlink_header`, 40 bytes, and the properties.
pub(crate) fn from_udev(properties: &[u8]) -> Vec<u8> {
    let mut message = b"libudev\0".to_vec();
    message.extend(0xfeed_cafe_u32.to_be_bytes());
    for number in [40, 40, u32::try_from(properties.len()).unwrap_or(u32::MAX), 0, 0, 0, 0] {
        message.extend(number.to_ne_bytes());
    }
    message.extend(properties);
    message
}
