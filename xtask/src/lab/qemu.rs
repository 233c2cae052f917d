//! The QEMU runner: Debian's stock cloud kernel on two virtual processors, for what needs SMP or a distribution's own kernel. The root
//! is an ext4 image that all guests read; /lab and /share come by virtiofs (the cloud kernel has no 9p).

use super::launch::{inherit, stage};
use super::root::{self, InUse};
use super::spec::Spec;
use crate::cmd::{cmd, run_quiet};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// In the image: the first program after the initramfs. It finds /lab and leaves the rest to what is in there.
const FIRST: &str = "#!/bin/sh
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
modprobe -a overlay virtiofs virtio_console
mount -t virtiofs lab /lab || echo 'lab: no /lab'
exec /lab/init
";
/// What the initramfs needs to find the image; a small one unpacks fast under emulation.
const INITRAMFS_MODULES: &str = "virtio_pci\nvirtio_blk\next4\n";
/// With a KVM that works a boot takes a few seconds.
const PROBE: Duration = Duration::from_secs(25);

/// Makes sure that image, kernel and initramfs are there and current.
pub fn ensure(lab: &Path) -> Result<InUse> {
    let mut packages: Vec<&str> = root::PACKAGES.iter().copied().filter(|name| *name != "user-mode-linux").collect();
    packages.extend(["initramfs-tools", "linux-image-cloud-amd64"]);
    let stamp = format!("{}{FIRST}{INITRAMFS_MODULES}", root::stamp(&packages));
    root::ensure_made(lab, "qemu", &stamp, |dir| make(dir, &packages))
}

fn make(dir: &Path, packages: &[&str]) -> Result<()> {
    let tree = dir.join("tree");
    fs::create_dir_all(&tree)?;
    root::build(&tree, packages)?;
    let first = tree.join("usr/sbin/lab-first");
    fs::write(&first, FIRST)?;
    fs::set_permissions(&first, fs::Permissions::from_mode(0o755))?;
    let tools = tree.join("etc/initramfs-tools");
    fs::write(tools.join("modules"), INITRAMFS_MODULES)?;
    fs::write(tools.join("conf.d/lab"), "MODULES=list\n")?;
    run_quiet(cmd("chroot", [&tree]).args(["update-initramfs", "-u"]))?;
    for (file, prefix) in [("vmlinuz", "vmlinuz-"), ("initrd", "initrd.img-")] {
        let found = fs::read_dir(tree.join("boot"))?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .with_context(|| format!("the kernel package brought no {prefix}*"))?;
        fs::copy(found.path(), dir.join(file))?;
    }
    let image = dir.join("root.ext4");
    run_quiet(
        cmd("mke2fs", ["-q", "-t", "ext4", "-O", "^has_journal", "-L", "lab", "-d"]).arg(&tree).arg(&image).arg("3G"),
    )?;
    Ok(fs::remove_dir_all(&tree)?)
}

/// Whether KVM boots a guest here: `/dev/kvm` being there proves nothing. Asked once for each boot of this machine.
pub fn kvm(lab: &Path, probe: impl FnOnce(Duration) -> bool) -> Result<bool> {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(false);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let file = lab.join("kvm.probe");
    for (answer, known) in [(true, format!("yes {boot}")), (false, format!("no {boot}"))] {
        if fs::read_to_string(&file).is_ok_and(|text| text == known) {
            return Ok(answer);
        }
    }
    eprintln!("lab: trying whether KVM boots a guest here (once)");
    let answer = probe(PROBE);
    eprintln!("lab: KVM {}", if answer { "works" } else { "does not boot a guest here: emulating" });
    fs::write(&file, format!("{} {boot}", if answer { "yes" } else { "no" }))?;
    Ok(answer)
}

/// The kernel's name of disk `index`; vda is the root.
pub fn disk_name(index: usize) -> String {
    format!("vd{}", (b'b' + index as u8) as char)
}

/// Where /lab is laid out on the host, in the launcher's own mount namespace.
fn stage_dir(spec: &Spec) -> PathBuf {
    spec.lab.join("stage")
}

/// Lays out /lab, starts its file server and gives QEMU's command line.
pub fn prepare(spec: &Spec, disks: &[RawFd], line: (RawFd, RawFd)) -> Result<Command> {
    let dir = stage_dir(spec);
    fs::create_dir_all(&dir)?;
    stage(spec, &dir)?;
    let socket = serve_files(spec, &dir)?;
    let files = spec.lab.join("qemu");

    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-smp", "2"]);
    let accelerator = if spec.kvm { ["kvm", "host"] } else { ["tcg,thread=multi", "max,-cx16"] };
    qemu.args(["-accel", accelerator[0], "-cpu", accelerator[1]]);
    let mem = spec.mem >> 20;
    qemu.args(["-m", &format!("{mem}M"), "-machine", "q35,memory-backend=mem"]);
    qemu.args(["-object", &format!("memory-backend-memfd,id=mem,size={mem}M,share=on")]);
    qemu.arg("-kernel").arg(files.join("vmlinuz")).arg("-initrd").arg(files.join("initrd"));
    let mut words = "root=/dev/vda ro init=/usr/sbin/lab-first console=ttyS0 panic=-1 net.ifnames=0".to_owned();
    for word in &spec.kernel_args {
        words.push(' ');
        words.push_str(word);
    }
    qemu.args(["-append", &words]);
    qemu.args(["-chardev", &format!("file,id=console,append=on,path={}", escape(&spec.console)?)]);
    qemu.args(["-serial", "chardev:console"]);
    // QEMU's own standard input and output are the agent's line.
    let fd = |number: RawFd| File::options().read(true).write(true).open(format!("/proc/self/fd/{number}"));
    qemu.stdin(fd(line.0)?).stdout(fd(line.1)?);
    qemu.args(["-chardev", "stdio,id=line,signal=off", "-device", "virtio-serial-pci"]);
    qemu.args(["-device", "virtserialport,chardev=line,name=lab"]);
    qemu.args(["-device", "virtio-rng-pci"]);
    qemu.args(["-chardev", &format!("socket,id=files,path={}", escape(&socket)?)]);
    qemu.args(["-device", "vhost-user-fs-pci,chardev=files,tag=lab"]);
    let root = escape(&files.join("root.ext4"))?;
    qemu.args(["-drive", &format!("if=none,id=root,format=raw,readonly=on,file.locking=off,file={root}")]);
    qemu.args(["-device", "virtio-blk-pci,drive=root"]);
    for (index, fd) in disks.iter().enumerate() {
        let drive = format!("if=none,id=d{index},format=raw,cache=writeback,discard=unmap,file=/proc/self/fd/{fd}");
        qemu.args(["-drive", &drive, "-device", &format!("virtio-blk-pci,drive=d{index},serial=labdisk{index}")]);
    }
    Ok(qemu)
}

/// In QEMU's options a comma separates, and is doubled to stand for itself.
fn escape(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.replace(',', ",,"))
}

fn serve_files(spec: &Spec, dir: &Path) -> Result<PathBuf> {
    let program = virtiofsd().context("virtiofsd is missing (Debian: in qemu-system-common, later in virtiofsd)")?;
    let socket = dir.join("virtiofsd.sock");
    // A listening socket of ours: with a path of its own virtiofsd takes a lock in /run that outlives this namespace.
    let listener = UnixListener::bind(&socket).context("a socket for virtiofsd")?;
    let listener = inherit(OwnedFd::from(listener))?;
    let log = File::options().append(true).create(true).open(&spec.console)?;
    let mut server = Command::new(program);
    server.arg(format!("--fd={listener}")).arg("-o").arg(format!("source={}", dir.display()));
    server.args(["-o", "sandbox=chroot", "-o", "cache=auto"]);
    server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    server.spawn().context("cannot start virtiofsd")?;
    Ok(socket)
}

fn virtiofsd() -> Option<&'static str> {
    ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"].into_iter().find(|path| Path::new(path).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_commas() {
        assert_eq!(disk_name(0), "vdb");
        assert_eq!(escape(Path::new("/a,b")).unwrap(), "/a,,b");
    }
}
