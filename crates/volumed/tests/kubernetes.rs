//! The manifests in `deploy/kubernetes` are what Kubernetes knows, and speak of the driver as the daemon does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use volumed::config::Config;

/// The release whose schemas they are held against.
const VERSION: &str = "1.36";

fn manifests() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes");
    let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn every_manifest_fits_the_schemas_of_kubernetes() {
    let target = option_env!("CARGO_TARGET_DIR").unwrap_or("target");
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(target).join("tools/venv/bin/python");
    let there = Command::new(&python).args(["-c", "import kubernetes_validate"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        return println!("skipped: kubernetes-validate is not installed; cargo xtask test does it");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/validate.py");
    let output = Command::new(&python).arg(script).arg(VERSION).args(manifests()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.matches("valid ").count() >= 9, "{said}");
}

#[test]
fn manifests_speak_of_the_driver_as_the_daemon_does() {
    let config = Config::default();
    let (mut drivers, mut sockets) = (0, 0);
    for path in manifests() {
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().map(str::trim) {
            let named = ["provisioner: ", "driver: "].into_iter().find_map(|key| line.strip_prefix(key));
            if let Some(named) = named {
                assert_eq!(named, config.csi.driver, "{}: {line}", path.display());
                drivers += 1;
            }
            if let Some(socket) = line.strip_prefix("- --csi-address=") {
                assert_eq!(Some(Path::new(socket)), config.csi.socket.as_deref(), "{}: {line}", path.display());
                sockets += 1;
            }
        }
    }
    assert!(drivers >= 3 && sockets >= 3);
    let list = manifests().into_iter().find(|path| path.ends_with("kustomization.yaml")).unwrap();
    let list = fs::read_to_string(list).unwrap();
    for path in manifests() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let listed = list.contains(&format!("- {name}"));
        assert!(listed || name == "kustomization.yaml", "{name} is in no list of resources");
    }
}
