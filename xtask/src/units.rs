//! The one table of what the repository's systemd folder holds, for the package and for the lab's guests.

/// Where a file of the systemd folder belongs, below `/usr/lib` in the package and below `/etc` in a guest; `None`: nowhere.
pub fn folder(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "service" | "socket" | "target" | "mount" | "timer" | "path" | "slice" => Some("systemd/system"),
        "rules" => Some("udev/rules.d"),
        "conf" if name.contains("sysusers") => Some("sysusers.d"),
        "conf" if name.contains("modules") => Some("modules-load.d"),
        "conf" => Some("tmpfiles.d"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_systemd_folder_goes_where_it_belongs() {
        assert_eq!(folder("volumed.service"), Some("systemd/system"));
        assert_eq!(folder("volumed.socket"), Some("systemd/system"));
        assert_eq!(folder("60-volumed.rules"), Some("udev/rules.d"));
        assert_eq!(folder("volumed-sysusers.conf"), Some("sysusers.d"));
        assert_eq!(folder("volumed-modules.conf"), Some("modules-load.d"));
        assert_eq!(folder("volumed-tmpfiles.conf"), Some("tmpfiles.d"));
        assert_eq!(folder("README.md"), None);
    }
}
