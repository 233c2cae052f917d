//! `cargo xtask image`: an image of volumed for the pod form of `deploy/kubernetes`, as an OCI layout, without a registry. What is in it
//! stands in [`PROGRAMS`]; each file is copied with the libraries that it asks for, from the lab's root, so nothing else is in it
//! (docs/adr/0031-the-image-is-a-list-of-files.md).

use crate::cmd::{cmd, output, run_quiet};
use crate::{build_release, lab, setup, target_dir, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Options {
    /// Take volumed and volctl as they are in target/release
    #[arg(long)]
    no_build: bool,
    /// Where the layout is written: a directory, which is replaced [default: target/image]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What the image is called
    #[arg(long, default_value = "localhost/volumed", value_name = "NAME")]
    name: String,
}

/// What volumed starts: makers, growers and checkers of file systems, and the tools of thin pools.
const PROGRAMS: &[&str] = &[
    "/usr/bin/btrfs",
    "/usr/sbin/e2fsck",
    "/usr/sbin/mkfs.btrfs",
    "/usr/sbin/mkfs.ext4",
    "/usr/sbin/mkfs.xfs",
    "/usr/sbin/resize2fs",
    "/usr/sbin/thin_check",
    "/usr/sbin/thin_repair",
    "/usr/sbin/xfs_growfs",
    "/usr/sbin/xfs_repair",
];
/// What these read.
const FILES: &[&str] = &["/etc/mke2fs.conf"];
/// Where the interpreter of every program is expected, and where the image's own libraries are.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Directories that are mounted over, or found.
const DIRECTORIES: &[&str] = &["dev", "etc/volumed", "proc", "run", "sys", "tmp", "var/lib/volumed", "var/lib/kubelet"];
/// As in Debian since directories were merged.
const LINKS: &[(&str, &str)] = &[("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")];

/// Prints the path of the layout's archive.
pub fn main(options: &Options) -> Result<i32> {
    setup::packaging()?;
    if !options.no_build {
        build_release()?;
    }
    let (lab, _in_use, _) = lab::prepare(lab::spec::Runner::Uml)?;
    let out = options.out.clone().unwrap_or_else(|| target_dir().join("image"));
    let made = Image { root: lab.join("root"), release: target_dir().join("release"), out };
    println!("{}", made.make(&options.name, &crate::deb::workspace_version()?, &crate::deb::epoch())?.display());
    Ok(0)
}

/// What an image is made from, and where it goes.
struct Image {
    /// A Debian root with the programs in it.
    root: PathBuf,
    /// Where volumed and volctl are.
    release: PathBuf,
    out: PathBuf,
}

impl Image {
    /// The path of the archive. The same input makes the same bytes.
    fn make(&self, name: &str, version: &str, epoch: &str) -> Result<PathBuf> {
        if !cfg!(target_arch = "x86_64") {
            bail!("an image is made for x86-64 alone so far: its libraries are looked for in {LIBRARIES}");
        }
        let (tree, layout) = (self.out.join("tree"), self.out.join("oci"));
        for old in [&tree, &layout] {
            if old.exists() {
                fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
            }
        }
        self.lay_out(&tree)?;
        fs::create_dir_all(layout.join("blobs/sha256"))?;
        let layer = self.out.join("layer.tar");
        archive(&tree, &layer, epoch)?;
        let (digest, size) = store(&layout, &fs::read(&layer)?)?;
        fs::remove_file(&layer)?;
        let described =
            |media: &str, (digest, size): (String, usize)| json!({"mediaType": media, "digest": digest, "size": size});
        let created = output(&mut cmd("date", ["--utc", &format!("--date=@{epoch}"), "+%Y-%m-%dT%H:%M:%SZ"]))?;
        let config = json!({
            "created": created.trim(),
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": ["/usr/sbin/volumed"],
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Labels": {
                    "org.opencontainers.image.title": "volumed",
                    "org.opencontainers.image.version": version,
                    "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
                },
            },
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        });
        let config = store(&layout, config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described("application/vnd.oci.image.config.v1+json", config),
            "layers": [described("application/vnd.oci.image.layer.v1.tar", (digest, size))],
        });
        let manifest = store(&layout, manifest.to_string().as_bytes())?;
        let mut entry = described("application/vnd.oci.image.manifest.v1+json", manifest);
        let reference = format!("{name}:{version}");
        entry["annotations"] =
            json!({"org.opencontainers.image.ref.name": version, "io.containerd.image.name": reference});
        let index =
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let file = self.out.join(format!("volumed_{version}_amd64.oci.tar"));
        archive(&layout, &file, epoch)?;
        fs::remove_dir_all(&tree)?;
        Ok(file)
    }

    /// The files of the image.
    fn lay_out(&self, tree: &Path) -> Result<()> {
        let directory = |path: &str| -> Result<()> {
            fs::create_dir_all(tree.join(path)).with_context(|| format!("cannot make {path}"))
        };
        for path in ["usr/bin", "usr/sbin", "usr/lib64", LIBRARIES].iter().chain(DIRECTORIES) {
            directory(path)?;
        }
        for (link, to) in LINKS {
            std::os::unix::fs::symlink(to, tree.join(link))?;
        }
        let mut needed = BTreeSet::new();
        for (name, to) in [("volumed", "usr/sbin/volumed"), ("volctl", "usr/bin/volctl")] {
            let from = self.release.join(name);
            fs::copy(&from, tree.join(to)).with_context(|| format!("cannot take {}", from.display()))?;
            run_quiet(cmd("strip", ["--strip-unneeded"]).arg(tree.join(to)))?;
            needed.extend(asks_for(&tree.join(to))?);
        }
        for path in PROGRAMS.iter().chain(FILES) {
            let from = self.root.join(path.trim_start_matches('/'));
            let to = tree.join(path.trim_start_matches('/'));
            fs::copy(&from, &to).with_context(|| format!("cannot take {}", from.display()))?;
            if PROGRAMS.contains(path) {
                needed.extend(asks_for(&to)?);
            }
        }
        // Libraries ask for others.
        let mut had = BTreeSet::new();
        while let Some(library) = needed.pop_first() {
            if !had.insert(library.clone()) {
                continue;
            }
            let from = self.root.join(LIBRARIES).join(&library);
            let to = tree.join(LIBRARIES).join(&library);
            fs::copy(&from, &to).with_context(|| format!("cannot take the library {}", from.display()))?;
            needed.extend(asks_for(&to)?);
        }
        let interpreter = "ld-linux-x86-64.so.2";
        let from = self.root.join(LIBRARIES).join(interpreter);
        fs::copy(&from, tree.join("usr/lib64").join(interpreter))
            .with_context(|| format!("cannot take {interpreter}"))?;
        fs::copy(workspace().join("packaging/volumed.toml"), tree.join("etc/volumed/volumed.toml"))?;
        modes(tree)
    }
}

/// The libraries that a program or library names (`DT_NEEDED`).
fn asks_for(file: &Path) -> Result<Vec<String>> {
    let said = output(cmd("objdump", ["--private-headers", "--"]).arg(file))?;
    Ok(said.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(|name| name.trim().to_owned()).collect())
}

/// Whatever the umask is, and whatever the files had: programs may be run, the rest may be read.
fn modes(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?;
        if kind.is_symlink() {
            continue;
        }
        let runs = kind.is_dir() || kind.permissions().mode() & 0o100 != 0;
        fs::set_permissions(&path, fs::Permissions::from_mode(if runs { 0o755 } else { 0o644 }))?;
        if kind.is_dir() {
            modes(&path)?;
        }
    }
    Ok(())
}

/// A tar of a directory that depends on nothing but names, modes and contents.
fn archive(dir: &Path, to: &Path, epoch: &str) -> Result<()> {
    let options = ["--create", "--sort=name", "--format=ustar", "--owner=0", "--group=0", "--numeric-owner"];
    let mut tar = cmd("tar", options);
    tar.arg(format!("--mtime=@{epoch}")).arg("--file").arg(to).arg("--directory").arg(dir);
    run_quiet(tar.args(names(dir)?).env("LC_ALL", "C"))
}

/// What is in a directory, in order; a layer has no entry for its own root.
fn names(dir: &Path) -> Result<BTreeSet<String>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Puts a blob into the layout; its digest and size.
fn store(layout: &Path, bytes: &[u8]) -> Result<(String, usize)> {
    let new = layout.join("blobs/sha256/new");
    fs::write(&new, bytes)?;
    let said = output(cmd("sha256sum", ["--"]).arg(&new))?;
    let digest = said.split_whitespace().next().context("sha256sum says nothing")?.to_owned();
    fs::rename(&new, layout.join("blobs/sha256").join(&digest))?;
    Ok((format!("sha256:{digest}"), bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// What describes a blob says what is there.
    fn blob(layout: &Path, described: &Value) -> Vec<u8> {
        let digest = described["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = fs::read(layout.join("blobs/sha256").join(digest)).unwrap();
        assert_eq!(described["size"], bytes.len());
        let said = output(cmd("sha256sum", ["--"]).arg(layout.join("blobs/sha256").join(digest))).unwrap();
        assert!(said.starts_with(digest));
        bytes
    }

    #[test]
    fn the_same_input_makes_the_same_bytes_and_every_description_is_true() {
        let dir = std::env::temp_dir().join(format!("xtask-image-{}", std::process::id()));
        let (root, release) = (dir.join("root"), dir.join("release"));
        // Programs of this machine stand for those of the image.
        let program = std::env::current_exe().unwrap();
        for path in PROGRAMS.iter().chain(FILES).map(|path| path.trim_start_matches('/')) {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            if path.starts_with("etc") {
                fs::write(root.join(path), "[defaults]\n").unwrap()
            } else {
                _ = fs::copy("/bin/true", root.join(path)).unwrap()
            }
        }
        fs::create_dir_all(&release).unwrap();
        fs::create_dir_all(root.join(LIBRARIES)).unwrap();
        for name in ["volumed", "volctl"] {
            fs::copy(&program, release.join(name)).unwrap();
        }
        for library in
            asks_for(&program).unwrap().iter().map(String::as_str).chain(["ld-linux-x86-64.so.2", "libc.so.6"])
        {
            let of_host = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64"]
                .map(|dir| Path::new(dir).join(library));
            let found = of_host.iter().find(|path| path.exists()).unwrap();
            fs::copy(found, root.join(LIBRARIES).join(library)).unwrap();
        }
        let make = |out: &str| {
            let image = Image { root: root.clone(), release: release.clone(), out: dir.join(out) };
            let file = image.make("localhost/volumed", "1.2.3", "1700000000").unwrap();
            (dir.join(out).join("oci"), fs::read(file).unwrap())
        };
        let (layout, one) = make("one");
        let (_, two) = make("two");
        assert!(one == two, "the archives differ");
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let manifest: Value = serde_json::from_slice(&blob(&layout, &index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&layout, &manifest["config"])).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"], "the layer is not compressed");
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        let layer = blob(&layout, &manifest["layers"][0]);
        fs::write(dir.join("layer.tar"), layer).unwrap();
        let list = output(cmd("tar", ["--list", "--verbose", "--numeric-owner", "--file"]).arg(dir.join("layer.tar")))
            .unwrap();
        for part in
            ["usr/sbin/volumed", "usr/bin/volctl", "usr/sbin/mkfs.xfs", "bin -> usr/bin", "etc/volumed/volumed.toml"]
        {
            assert!(list.contains(part), "no {part}: {list}");
        }
        assert!(list.lines().all(|line| line.contains(" 0/0 ")), "{list}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
