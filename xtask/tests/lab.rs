//! The lab's promises, tried on real guests. `cargo xtask test` runs these (it names itself in VOLUMED_XTASK); elsewhere they skip.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// `xtask lab run`, or the reason for a skip.
fn lab() -> Option<Command> {
    let Some(xtask) = std::env::var_os("VOLUMED_XTASK") else {
        println!("skipped: VOLUMED_XTASK is not set; `cargo xtask test` sets it");
        return None;
    };
    let mut lab = Command::new(xtask);
    lab.args(["lab", "run", "--no-build", "--mem", "512M"]).stdin(Stdio::null());
    Some(lab)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code(out: &Output, expected: i32) {
    assert_eq!(out.status.code(), Some(expected), "stdout {:?}\nstderr {}", text(&out.stdout), text(&out.stderr));
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("lab-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn arguments_streams_and_the_exit_code_come_through_exactly() {
    let Some(mut lab) = lab() else { return };
    let script = r#"printf '[%s]' "$@"; printf 'to stderr\n' >&2; pwd >&2; exit 7"#;
    let out = lab.args(["--", "sh", "-c", script, "sh", "a b", "q'\"$(x)\\", "", "new\nline", "ü"]).output().unwrap();
    code(&out, 7);
    assert_eq!(text(&out.stdout), "[a b][q'\"$(x)\\][][new\nline][ü]");
    // Before it there may be a word about the root being made.
    assert!(text(&out.stderr).ends_with("to stderr\n/root\n"), "{}", text(&out.stderr));
}

#[test]
fn a_megabyte_goes_in_and_comes_out() {
    let Some(mut lab) = lab() else { return };
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut child = lab.args(["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    code(&out, 0);
    assert!(out.stdout == sent, "{} bytes came back", out.stdout.len());
}

#[test]
fn device_mapper_works_and_disks_are_where_they_should_be() {
    let Some(mut lab) = lab() else { return };
    let script =
        "set -e; dmsetup create t --table '0 2048 linear /dev/labdisk1 0'; udevadm settle; test -b /dev/mapper/t
        dmsetup targets | cut -d' ' -f1; blockdev --getsize64 /dev/labdisk0 /dev/labdisk1";
    let out = lab.args(["--disk", "64M", "--disk", "1G", "--", "sh", "-c", script]).output().unwrap();
    code(&out, 0);
    let text = text(&out.stdout);
    assert!(text.contains("thin-pool") && text.ends_with("67108864\n1073741824\n"), "{text}");
}

#[test]
fn killed_with_sigkill_the_guest_is_gone_and_its_file_disk_keeps_what_was_written() {
    let Some(mut lab) = lab() else { return };
    let folder = Folder::new("kill");
    let disk = folder.0.join("disk.img");
    let mark = format!("labtest.{}", std::process::id());
    let script = "printf precious | dd of=/dev/labdisk0 conv=fsync status=none; echo written; sleep 600";
    lab.arg("--disk").arg(format!("{}:16M", disk.display())).args(["--kernel-arg", &mark, "--", "sh", "-c", script]);
    let mut child = lab.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0u8; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(text(&said), "written\n");
    assert!(processes_with(&mark) > 1, "the guest's kernel carries the mark");
    child.kill().unwrap();
    child.wait().unwrap();
    let begin = Instant::now();
    while processes_with(&mark) > 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "the guest outlives its xtask");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut kept = [0u8; 8];
    fs::File::open(&disk).unwrap().read_exact(&mut kept).unwrap();
    assert_eq!(text(&kept), "precious");
}

fn processes_with(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| text(&line).contains(mark)))
        .count()
}

#[test]
fn the_shared_folder_is_shared_and_nothing_else_of_this_machine_is() {
    let Some(mut lab) = lab() else { return };
    let folder = Folder::new("share");
    fs::write(folder.0.join("in"), "from outside").unwrap();
    let script =
        "cat /share/in; echo from inside > /share/out; touch /usr/bin/mine /etc/mine; ls /dev | grep -c '^vda' || true";
    let out = lab.arg("--share").arg(&folder.0).args(["--", "sh", "-c", script]).output().unwrap();
    code(&out, 0);
    assert_eq!(text(&out.stdout), "from outside0\n");
    assert_eq!(fs::read_to_string(folder.0.join("out")).unwrap(), "from inside\n");
    let Some(mut lab) = self::lab() else { return };
    code(&lab.args(["--", "test", "-e", "/usr/bin/mine"]).output().unwrap(), 1);
}

#[test]
fn what_goes_wrong_has_its_own_exit_codes() {
    let Some(mut missing) = lab() else { return };
    let out = missing.args(["--", "no-such-program"]).output().unwrap();
    code(&out, 127);
    assert!(text(&out.stderr).contains("no-such-program"));
    let Some(mut late) = lab() else { return };
    code(&late.args(["--timeout", "1", "--", "sleep", "100"]).output().unwrap(), 124);
    let Some(mut panic) = lab() else { return };
    let out = panic.args(["--", "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 100"]).output().unwrap();
    code(&out, 125);
    assert!(text(&out.stderr).contains("the guest died"), "{}", text(&out.stderr));
    let Some(mut device) = lab() else { return };
    let out = device.args(["--disk", "/dev/null", "--", "true"]).output().unwrap();
    assert_ne!(out.status.code(), Some(0));
}
