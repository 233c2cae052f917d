//! `cargo xtask deb`: the Debian package, from what is built, `systemd/` and `packaging/`. A tree that `dpkg-deb` packs: what stands in
//! the package is what is laid out here, and nothing has to be built for it (docs/adr/0022-the-package-is-laid-out-here.md).

use crate::cmd::{cmd, output, run, run_quiet};
use crate::{build_release, setup, target_dir, units, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Options {
    /// Pack volumed and volctl as they are in target/release
    #[arg(long)]
    no_build: bool,
    /// Where the package is written [default: target/debian]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Another version than the workspace's
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Pack quickly instead of small, for trying out
    #[arg(long)]
    fast: bool,
}

/// Prints the path of the package.
pub fn main(options: &Options) -> Result<i32> {
    setup::packaging()?;
    if !options.no_build {
        build_release()?;
    }
    let version = match &options.version {
        Some(version) => version.clone(),
        None => workspace_version()?,
    };
    if !version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+~-".contains(&byte))
        || !version.starts_with(|c: char| c.is_ascii_digit())
    {
        bail!("--version {version}: a Debian version begins with a digit and is made of letters, digits and .+~-");
    }
    let out = options.out.clone().unwrap_or_else(|| target_dir().join("debian"));
    let tree = out.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    let package = Package { tree, release: target_dir().join("release") };
    let arch = output(&mut cmd("dpkg", ["--print-architecture"]))?.trim().to_owned();
    let units = Units::read(&workspace().join("systemd"))?;
    package.programs()?;
    package.documents(&version)?;
    for (path, file) in &units.files {
        package.copy(file, path, 0o644)?;
    }
    package.copy(&workspace().join("packaging/volumed.toml"), "etc/volumed/volumed.toml", 0o644)?;
    package.control(&version, &arch, &units)?;
    let file = out.join(format!("volumed_{version}_{arch}.deb"));
    let mut pack = cmd("dpkg-deb", ["--root-owner-group"]);
    pack.env("SOURCE_DATE_EPOCH", epoch());
    pack.args(if options.fast { ["-Zgzip", "-z1"] } else { ["-Zxz", "-z6"] });
    run_quiet(pack.arg("--build").args([&package.tree, &file]))?;
    println!("{}", file.display());
    Ok(0)
}

/// The time of the last commit, so that the same commit makes the same package.
pub fn epoch() -> String {
    output(cmd("git", ["log", "-1", "--format=%ct"]).current_dir(workspace()))
        .map_or_else(|_| "0".to_owned(), |time| time.trim().to_owned())
}

pub fn workspace_version() -> Result<String> {
    let text = fs::read_to_string(workspace().join("Cargo.toml"))?;
    let section = text.split("[workspace.package]").nth(1).unwrap_or_default();
    let version = section.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    Ok(version.context("Cargo.toml names no version")?.to_owned())
}

/// What the repository's systemd folder holds, and where each file goes.
#[derive(Debug, Default)]
struct Units {
    /// Path in the package and file.
    files: BTreeMap<String, PathBuf>,
    /// Units with an `[Install]` section.
    enabled: Vec<String>,
    sockets: Vec<String>,
    sysusers: Vec<String>,
    tmpfiles: Vec<String>,
}

impl Units {
    fn read(dir: &Path) -> Result<Units> {
        let mut units = Units::default();
        let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let mut names: Vec<String> =
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
        names.sort();
        for name in names {
            let Some(folder) = units::folder(&name) else { continue };
            let file = dir.join(&name);
            let text = fs::read_to_string(&file)?;
            if folder == "systemd/system" && text.lines().any(|line| line.trim() == "[Install]") {
                units.enabled.push(name.clone());
            }
            match folder {
                "sysusers.d" => units.sysusers.push(name.clone()),
                "tmpfiles.d" => units.tmpfiles.push(name.clone()),
                _ if name.ends_with(".socket") => units.sockets.push(name.clone()),
                _ => {}
            }
            units.files.insert(format!("usr/lib/{folder}/{name}"), file);
        }
        Ok(units)
    }

    /// A maintainer script or control file with everything filled in.
    fn fill(&self, text: &str) -> String {
        text.replace("@ENABLED@", &self.enabled.join(" "))
            .replace("@SOCKETS@", &self.sockets.join(" "))
            .replace("@SYSUSERS@", &self.sysusers.join(" "))
            .replace("@TMPFILES@", &self.tmpfiles.join(" "))
    }
}

/// The package as a tree.
struct Package {
    tree: PathBuf,
    /// Where the programs are.
    release: PathBuf,
}

impl Package {
    fn directory(&self, path: &str, mode: u32) -> Result<PathBuf> {
        let dir = self.tree.join(path);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        // Whatever the umask is.
        for dir in dir.ancestors().take_while(|dir| dir.starts_with(&self.tree)) {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode))?;
        Ok(dir)
    }

    fn write(&self, path: &str, bytes: &[u8], mode: u32) -> Result<PathBuf> {
        let to = self.tree.join(path);
        self.directory(path.rsplit_once('/').map_or("", |(dir, _)| dir), 0o755)?;
        fs::write(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
        Ok(to)
    }

    fn copy(&self, from: &Path, path: &str, mode: u32) -> Result<PathBuf> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(path, &bytes, mode)
    }

    /// Compressed without a time or a name in it.
    fn gzip(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.write(path, bytes, 0o644)?;
        run_quiet(cmd("gzip", ["-9", "-n", "--force"]).arg(file))
    }

    fn programs(&self) -> Result<()> {
        for (name, path) in [("volumed", "usr/sbin/volumed"), ("volctl", "usr/bin/volctl")] {
            let from = self.release.join(name);
            let to = self.copy(&from, path, 0o755).context("build it first, or leave out --no-build")?;
            run_quiet(cmd("strip", ["--strip-unneeded"]).arg(to))?;
        }
        Ok(())
    }

    /// Man pages, completions, and what belongs below /usr/share/doc.
    fn documents(&self, version: &str) -> Result<()> {
        let volctl = self.tree.join("usr/bin/volctl");
        let pages = self.directory("usr/share/man/man1", 0o755)?;
        run(cmd(&volctl.to_string_lossy(), ["man"]).arg(&pages))?;
        for page in fs::read_dir(&pages)? {
            let page = page?.path();
            fs::set_permissions(&page, fs::Permissions::from_mode(0o644))?;
            run_quiet(cmd("gzip", ["-9", "-n", "--force"]).arg(page))?;
        }
        let packaging = workspace().join("packaging");
        self.gzip("usr/share/man/man8/volumed.8", &fs::read(packaging.join("volumed.8"))?)?;
        self.gzip("usr/share/man/man5/volumed.toml.5", &fs::read(packaging.join("volumed.toml.5"))?)?;
        for (shell, path) in [
            ("bash", "usr/share/bash-completion/completions/volctl"),
            ("zsh", "usr/share/zsh/vendor-completions/_volctl"),
            ("fish", "usr/share/fish/vendor_completions.d/volctl.fish"),
        ] {
            let script = output(&mut cmd(&volctl.to_string_lossy(), ["completion", shell]))?;
            self.write(path, script.as_bytes(), 0o644)?;
        }
        let doc = "usr/share/doc/volumed";
        self.copy(&packaging.join("debian/copyright"), &format!("{doc}/copyright"), 0o644)?;
        let date = output(cmd("date", ["-u", "-R", "-d"]).arg(format!("@{}", epoch())))?;
        let changelog = format!(
            "volumed ({version}) unstable; urgency=medium\n\n  * See NEWS.gz.\n\n -- The volumed developers \
             <noreply@volumed.invalid>  {date}"
        );
        self.gzip(&format!("{doc}/changelog"), changelog.as_bytes())?;
        self.gzip(&format!("{doc}/NEWS"), &fs::read(workspace().join("CHANGELOG.md"))?)?;
        self.copy(&workspace().join("README.md"), &format!("{doc}/README.md"), 0o644)?;
        for entry in fs::read_dir(workspace().join("docs"))? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".md"))
            else {
                continue;
            };
            self.copy(&path, &format!("{doc}/docs/{name}"), 0o644)?;
        }
        // Alert rules, a dashboard.
        let deploy = workspace().join("deploy");
        for file in files(&deploy)? {
            let name = file.strip_prefix(&deploy)?.display();
            self.copy(&file, &format!("{doc}/deploy/{name}"), 0o644)?;
        }
        Ok(())
    }

    /// What dpkg reads.
    fn control(&self, version: &str, arch: &str, units: &Units) -> Result<()> {
        let sources = workspace().join("packaging/debian");
        let kib = size(&self.tree)?.div_ceil(1024);
        let sums = sums(&self.tree)?;
        let control = fs::read_to_string(sources.join("control.in"))?
            .replace("@VERSION@", version)
            .replace("@ARCH@", arch)
            .replace("@SIZE@", &kib.to_string())
            .replace("@SHLIBS@", &self.libraries()?);
        self.write("DEBIAN/control", control.as_bytes(), 0o644)?;
        self.write("DEBIAN/conffiles", b"/etc/volumed/volumed.toml\n", 0o644)?;
        self.write("DEBIAN/md5sums", sums.as_bytes(), 0o644)?;
        for script in ["postinst", "prerm", "postrm"] {
            let text = units.fill(&fs::read_to_string(sources.join(format!("{script}.in")))?);
            self.write(&format!("DEBIAN/{script}"), text.as_bytes(), 0o755)?;
        }
        Ok(())
    }

    /// The packages with the libraries that the programs are linked with.
    fn libraries(&self) -> Result<String> {
        // It wants to be called where a source package is.
        let dir = self.tree.with_file_name("shlibdeps");
        fs::create_dir_all(dir.join("debian"))?;
        fs::write(dir.join("debian/control"), "Source: volumed\n\nPackage: volumed\nArchitecture: any\n")?;
        let programs = ["usr/sbin/volumed", "usr/bin/volctl"].map(|path| self.tree.join(path));
        let mut command = cmd("dpkg-shlibdeps", ["-O", "--warnings=0"]);
        // What it says on standard error is how it would like a source package to be.
        let out = command.args(&programs).current_dir(&dir).output().context("cannot start dpkg-shlibdeps")?;
        let said = String::from_utf8_lossy(&out.stdout);
        if !out.status.success() {
            bail!("dpkg-shlibdeps failed: {}", String::from_utf8_lossy(&out.stderr));
        }
        let line = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
        Ok(line.context("dpkg-shlibdeps names no libraries")?.to_owned())
    }
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { all.extend(files(&path)?) } else { all.push(path) }
    }
    all.sort();
    Ok(all)
}

fn size(tree: &Path) -> Result<u64> {
    files(tree)?.iter().map(|file| Ok(fs::metadata(file)?.len())).sum()
}

fn sums(tree: &Path) -> Result<String> {
    let mut text = String::new();
    for file in files(tree)? {
        let path = file.strip_prefix(tree)?;
        // Configuration belongs to the administrator.
        if path.starts_with("etc") {
            continue;
        }
        let sum = output(cmd("md5sum", ["--"]).arg(&file))?;
        writeln!(text, "{}  {}", sum.split(' ').next().unwrap_or_default(), path.display())?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_systemd_folder_goes_where_it_belongs() {
        let units = Units::read(&workspace().join("systemd")).unwrap();
        assert!(units.files.contains_key("usr/lib/systemd/system/volumed.service"), "{units:?}");
        assert!(units.enabled.contains(&"volumed.service".to_owned()), "{units:?}");
    }

    #[test]
    fn a_systemd_that_does_not_know_what_the_units_say_is_not_beside_it() {
        let service = fs::read_to_string(workspace().join("systemd/volumed.service")).unwrap();
        let control = fs::read_to_string(workspace().join("packaging/debian/control.in")).unwrap();
        assert!(service.lines().any(|line| line.starts_with("RestartSteps=")), "since systemd 254");
        assert!(control.lines().any(|line| line == "Breaks: systemd (<< 254~)"), "{control}");
    }

    #[test]
    fn maintainer_scripts_are_whole_and_the_shell_reads_them_with_and_without_units() {
        let some = Units {
            enabled: vec!["volumed.service".into(), "volumed.socket".into()],
            sockets: vec!["volumed.socket".into()],
            sysusers: vec!["volumed.conf".into()],
            tmpfiles: vec!["volumed.conf".into()],
            ..Units::default()
        };
        for units in [Units::default(), some] {
            for script in ["postinst", "prerm", "postrm"] {
                let file = workspace().join(format!("packaging/debian/{script}.in"));
                let text = units.fill(&fs::read_to_string(file).unwrap());
                assert!(!text.contains('@'), "{script} has something that is not filled in:\n{text}");
                run_quiet(&mut cmd("sh", ["-n", "-c", &text])).unwrap();
            }
        }
    }

    #[test]
    fn a_purge_removes_no_backing_file_and_says_what_was_left() {
        let text = fs::read_to_string(workspace().join("packaging/debian/postrm.in")).unwrap();
        let dir = std::env::temp_dir().join(format!("volumed-postrm-{}", std::process::id()));
        let state = dir.join("state");
        let elsewhere = dir.join("else where.img");
        let script = Units::default().fill(&text).replace("/var/lib/volumed", state.to_str().unwrap());
        let script = script.replace("/etc/volumed", dir.join("etc").to_str().unwrap());
        let purge = || {
            let out = cmd("sh", ["-c", &script, "postrm", "purge"]).output().unwrap();
            assert!(out.status.success(), "{out:?}");
            String::from_utf8(out.stderr).unwrap()
        };
        fs::create_dir_all(&state).unwrap();
        fs::create_dir_all(dir.join("etc")).unwrap();
        fs::write(&elsewhere, "data").unwrap();
        fs::write(state.join("demo.img"), "data").unwrap();
        fs::write(state.join("unlisted.img"), "data").unwrap();
        let list = format!("{}\n{}\n", state.join("demo.img").display(), elsewhere.display());
        fs::write(state.join("backing-files"), list).unwrap();
        let records =
            ["idempotency-keys.jsonl", "idempotency-keys.new", "mount-references.jsonl", "mount-references.new"];
        for name in records {
            fs::write(state.join(name), "{}\n").unwrap();
        }
        fs::create_dir(state.join("volume-groups")).unwrap();
        fs::write(state.join("volume-groups/6c7e5d3a-0000-4000-8000-000000000000"), "data").unwrap();
        let said = purge();
        for name in records.into_iter().chain(["volume-groups"]) {
            assert!(!state.join(name).exists() && !said.contains(name), "{name}: {said}");
        }
        for file in [state.join("demo.img"), state.join("unlisted.img"), elsewhere.clone(), state.join("backing-files")]
        {
            assert!(file.exists(), "{} is gone", file.display());
            assert!(said.contains(&format!("\n  {}\n", file.display())), "{} is not told: {said}", file.display());
        }
        assert!(!dir.join("etc").exists());
        // Nothing that holds data is left: nothing of ours is either.
        for file in [state.join("demo.img"), state.join("unlisted.img"), elsewhere] {
            fs::remove_file(file).unwrap();
        }
        assert_eq!(purge(), "");
        assert!(!state.exists());
        assert_eq!(purge(), "", "and again");
        fs::remove_dir_all(dir).unwrap();
    }
}
