//! The manifests in `deploy/kubernetes` are what Kubernetes knows, and speak of the driver as the daemon does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use volumed::config::Config;
use volumed::socket::HOST_LOCK;

/// The release whose schemas they are held against.
const VERSION: &str = "1.36";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes")
}

/// Of all forms.
fn manifests() -> Vec<PathBuf> {
    let (mut all, mut directories) = (Vec::new(), vec![root()]);
    while let Some(dir) = directories.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { directories.push(path) } else { all.push(path) }
        }
    }
    all.sort();
    all
}

/// What a directory is made of: its kustomization's resources, and those of directories among them.
fn made_of(dir: &Path) -> Vec<PathBuf> {
    let list = fs::read_to_string(dir.join("kustomization.yaml")).unwrap();
    let resources = list.split_once("\nresources:\n").unwrap().1;
    let mut all = Vec::new();
    for line in resources.lines().take_while(|line| line.starts_with("  - ") || line.starts_with('#')) {
        let Some(name) = line.strip_prefix("  - ") else { continue };
        let path = dir.join(name).canonicalize().unwrap_or_else(|error| panic!("{name} in {}: {error}", dir.display()));
        if path.is_dir() { all.extend(made_of(&path)) } else { all.push(path) }
    }
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
    assert!(said.matches("valid ").count() >= 13, "{said}");
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
}

#[test]
fn every_manifest_is_part_of_a_form_and_both_forms_have_the_sidecars() {
    let [usual, host, pod, snapshots] = ["", "host", "pod", "snapshots"].map(|form| made_of(&root().join(form)));
    assert_eq!(usual, host);
    let (with, without): (Vec<PathBuf>, Vec<PathBuf>) = pod.iter().cloned().partition(|path| host.contains(path));
    assert_eq!(with, host);
    assert!(without.len() == 1 && without[0].ends_with("pod/daemon.yaml"), "{without:?}");
    for path in manifests().iter().map(|path| path.canonicalize().unwrap()) {
        let listed = [&host, &pod, &snapshots].iter().any(|form| form.contains(&path));
        assert!(listed || path.ends_with("kustomization.yaml"), "{} is in no list of resources", path.display());
    }
}

#[test]
fn the_pod_has_what_the_daemon_needs_where_the_daemon_looks_for_it() {
    let text = fs::read_to_string(root().join("pod/daemon.yaml")).unwrap();
    let config = text.split_once("  config: |\n").unwrap().1.split_once("---").unwrap().0;
    let config = Config::parse(config).unwrap();
    let (usual, said) = (Config::default(), |line: &str| assert!(text.contains(line), "no {line}"));
    assert_eq!(config.csi, usual.csi);
    let (run, state) = (usual.run_dir.display().to_string(), usual.state_dir.display().to_string());
    for path in [&usual.csi.kubelet_dir, &run, &state, HOST_LOCK] {
        said(&format!("mountPath: {path}\n"));
        said(&format!("path: {path}\n"));
    }
    said(&format!("kubelet-dir: {}\n", usual.csi.kubelet_dir));
    said("mountPropagation: Bidirectional");
    said("hostPID: false");
    // A recovery that takes its time is not cut off, so none begins again and again.
    said("startupProbe:");
    // The name and the version are those of the image that cargo xtask image makes.
    let list = fs::read_to_string(root().join("pod/kustomization.yaml")).unwrap();
    assert!(text.contains("image: localhost/volumed\n") && list.contains("name: localhost/volumed\n"));
    assert!(list.contains(&format!("newTag: {}\n", env!("CARGO_PKG_VERSION"))), "{list}");
    // The first text between quotes is what is replaced.
    assert_eq!(text.split_once("  config: |\n").unwrap().1.split('"').nth(1), Some(usual.csi.kubelet_dir.as_str()));
}
