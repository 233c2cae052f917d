//! Faults under the metadata, by dm-flakey, dm-error and dm-dust: what a majority of the copies takes goes on, what none takes is
//! refused, reads go on in any case, `status` says it, and when the disk is well again so are all copies.

use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vol_tests::dying::{End, Hand, Side};
use vol_tests::kill::Site;
use vol_tests::{Machine, disk, kernel, skip, tool};

/// Sectors of a PV before its first extent.
const METADATA: u64 = 32_768;
/// Where the PVs begin on their disks, so that what is on them is not seen on the disks as well.
const START: u64 = 2048;
const NAMES: [&str; 3] = ["vt-f0", "vt-f1", "vt-f2"];

/// Three PVs, each a dm device of the test's over a disk, with a VG, a pool and a mounted volume.
struct Rig {
    m: Machine,
}

impl Rig {
    fn new(modules: &[&str]) -> Option<Rig> {
        let m = Machine::start()?;
        for module in modules {
            tool::try_run("modprobe", &[&format!("dm-{module}")]);
            if !tool::run("dmsetup", &["targets"]).contains(module) {
                skip(&format!("the kernel has no dm-{module}"));
                return None;
            }
        }
        let rig = Rig { m };
        for (index, name) in NAMES.iter().enumerate() {
            disk::blank_pv(rig.m.disk(index), START * 512, rig.sectors(index) * 512);
            tool::run("dmsetup", &["create", name, "--table", &rig.well(index)]);
        }
        tool::settle();
        let nodes = NAMES.map(|name| format!("/dev/mapper/{name}"));
        rig.m.ok(&["vg", "create", &rig.m.vg, &nodes[0], &nodes[1], &nodes[2]]);
        rig.m.ok(&["pool", "create", &rig.m.of("tank"), "--size", "1G"]);
        rig.m.ok(&["volume", "create", &rig.m.of("base"), "--size", "64M"]);
        rig.m.ok(&["volume", "mount", &rig.m.of("base"), &rig.m.path("base")]);
        std::fs::write(rig.file(), "written before").unwrap();
        tool::run("sync", &["-f", &rig.file()]);
        Some(rig)
    }

    fn file(&self) -> String {
        self.m.path("base/file")
    }

    /// The PVs that carry nothing of the pool: a flush that fails there is none of the pool's.
    fn spare(&self) -> Vec<usize> {
        let layers =
            kernel::our_uuids().into_iter().filter(|uuid| uuid.ends_with("-tmeta") || uuid.ends_with("-tdata"));
        let tables: Vec<String> = layers.map(|uuid| kernel::table(&kernel::number_of(&uuid))).collect();
        let used = |index: &usize| {
            let args = ["info", "-c", "--noheadings", "--separator", ":", "-o", "major,minor", NAMES[*index]];
            let number = tool::run("dmsetup", &args).trim().to_owned();
            tables.iter().flat_map(|table| table.split_whitespace()).any(|word| word == number)
        };
        (0..3).filter(|index| !used(index)).collect()
    }

    fn sectors(&self, index: usize) -> u64 {
        disk::size(self.m.disk(index)) / 512 - 2 * START
    }

    fn well(&self, index: usize) -> String {
        format!("0 {} linear {} {START}", self.sectors(index), self.m.disk(index))
    }

    /// Other lines for the metadata, the rest as it was. `DISK` and `AT` are filled in.
    fn ill(&self, index: usize, target: &str) {
        let (node, rest) = (self.m.disk(index), self.sectors(index) - METADATA);
        let target = target.replace("DISK", node).replace("AT", &START.to_string());
        self.swap(index, &format!("0 {METADATA} {target}\n{METADATA} {rest} linear {node} {}", START + METADATA));
    }

    fn heal(&self, index: usize) {
        self.swap(index, &self.well(index));
    }

    fn swap(&self, index: usize, table: &str) {
        tool::run("dmsetup", &["reload", NAMES[index], "--table", table]);
        tool::run("dmsetup", &["suspend", "--noflush", "--nolockfs", NAMES[index]]);
        tool::run("dmsetup", &["resume", NAMES[index]]);
    }

    fn create(&self, name: &str) -> vol_tests::Ran {
        self.m.run(&["volume", "create", &self.m.of(name), "--size", "16M", "--fs", "none"])
    }

    /// Codes of all problems; the exit code agrees with them.
    fn problems(&self) -> Vec<String> {
        let ran = self.m.run(&["status", "-o", "json"]);
        let status: Value = serde_json::from_str(&ran.out).unwrap_or_else(|err| panic!("{err}: {ran:?}"));
        let problems = status["problems"].as_array().unwrap();
        assert_eq!(ran.code, if problems.is_empty() { 0 } else { 10 }, "{status}");
        problems.iter().map(|problem| problem["code"].as_str().unwrap().to_owned()).collect()
    }

    /// Reading goes on: of the metadata and of the data.
    fn reads_go_on(&self, at: &str) {
        assert_eq!(self.m.json(&["volume", "show", &self.m.of("base")])["state"], "ready", "{at}{}", self.m.log());
        assert_eq!(std::fs::read_to_string(self.file()).unwrap(), "written before", "{at}");
        std::fs::write(self.m.path("base/other"), at).unwrap();
        assert_eq!(kernel::not_live(), Vec::<String>::new(), "{at}");
    }

    /// After the disk is well again and was looked at: no problem, now and after a restart, each copy as good as the others.
    fn all_is_well(&mut self, at: &str, volumes: &[&str]) {
        self.m.ok(&["pv", "scan"]);
        assert_eq!(self.problems(), Vec::<String>::new(), "{at}: healed{}", self.m.log());
        self.m.restart();
        assert_eq!(self.problems(), Vec::<String>::new(), "{at}: healed, and started again{}", self.m.log());
        for pv in self.m.json(&["pv", "list"])["pvs"].as_array().unwrap() {
            assert_eq!((&pv["metadata_copy"], &pv["health"]), (&true.into(), &"ok".into()), "{at}: {pv}");
        }
        for name in volumes {
            assert_eq!(self.m.json(&["volume", "show", &self.m.of(name)])["state"], "ready", "{at}{}", self.m.log());
        }
        // What is left without one of the others is a majority that knows everything.
        for index in self.spare() {
            self.ill(index, "error");
            self.m.restart();
            for name in volumes {
                assert_eq!(
                    self.m.json(&["volume", "show", &self.m.of(name)])["state"],
                    "ready",
                    "{at}: without {index}{}",
                    self.m.log()
                );
            }
            self.heal(index);
        }
        self.m.ok(&["pv", "scan"]);
        self.m.restart();
        assert_eq!(self.problems(), Vec::<String>::new(), "{at}: at the end{}", self.m.log());
        self.reads_go_on(at);
    }
}

/// Faults of one disk: name, lines of its table, whether the daemon is told of it by an error.
const FAULTS: [(&str, &str, bool); 4] = [
    ("error", "error", true),
    ("error_writes", "flakey DISK AT 0 3600 1 error_writes", true),
    ("drop_writes", "flakey DISK AT 0 3600 1 drop_writes", false),
    ("random_read_corrupt", "flakey DISK AT 0 3600 2 random_read_corrupt 1000000000", false),
];

#[test]
fn f3_f7_one_bad_copy_of_three_stops_nothing_and_is_made_good_again() {
    let Some(mut rig) = Rig::new(&["flakey"]) else { return };
    let mut made: Vec<String> = Vec::new();
    let spare = rig.spare();
    assert!(!spare.is_empty(), "the pool is on all disks");
    for (index, (name, target, told)) in FAULTS.iter().enumerate() {
        let begin = Instant::now();
        let bad = spare[index % spare.len()];
        rig.ill(bad, target);
        for count in 0..2 {
            let volume = format!("v{index}{count}");
            let ran = rig.create(&volume);
            assert!(matches!(ran.code, 0 | 10), "{name}: a majority is well: {ran:?}{}", rig.m.log());
            made.push(volume);
        }
        let said = rig.problems();
        assert!(!told || said.contains(&"metadata_copy_failed".to_owned()), "{name}: {said:?}");
        rig.reads_go_on(name);
        // A start while the disk is ill: everything is known all the same, and now the fault shows.
        rig.m.restart();
        let said = rig.problems();
        println!("{name}: after a start while the disk is ill: {said:?}");
        // What reads well and is old is brought up to date, and a disk that loses that too has said yes: then the log alone tells.
        let log = std::fs::read_to_string(rig.m.path("log")).unwrap();
        let logged = log.rsplit("listening").next().is_some_and(|log| log.contains("metadata copy"));
        assert!(!said.is_empty() || logged, "{name}: nothing is said after a start{}", rig.m.log());
        for volume in &made {
            assert_eq!(rig.m.json(&["volume", "show", &rig.m.of(volume)])["state"], "ready", "{name}{}", rig.m.log());
        }
        rig.reads_go_on(name);
        rig.heal(bad);
        let names: Vec<&str> = made.iter().map(String::as_str).collect();
        rig.all_is_well(name, &names);
        println!("{name}: {:.1} s", begin.elapsed().as_secs_f32());
    }
}

#[test]
fn f7_without_a_majority_changes_are_refused_and_reads_go_on() {
    let Some(mut rig) = Rig::new(&["flakey"]) else { return };
    let spare = rig.spare();
    let [one, two] = spare[..] else { panic!("the pool is on more than one disk: {spare:?} are free of it") };
    for (name, target, _) in FAULTS.iter().filter(|fault| fault.2) {
        rig.ill(one, target);
        rig.ill(two, target);
        let ran = rig.create("no");
        println!("{name}: {}{}", ran.out, ran.err.trim());
        assert!(!matches!(ran.code, 0 | 10), "{name}: acknowledged by one copy of three: {ran:?}");
        let ran = rig.create("neither");
        println!("{name}: {}{}", ran.out, ran.err.trim());
        assert!(!matches!(ran.code, 0 | 10), "{name}: {ran:?}");
        let said = rig.problems();
        assert!(said.contains(&"metadata_frozen".to_owned()), "{name}: {said:?}{}", rig.m.log());
        rig.reads_go_on(name);
        rig.heal(one);
        rig.heal(two);
        rig.m.ok(&["pv", "scan"]);
        // Wholly or not at all: both are asked for again.
        for volume in ["no", "neither"] {
            let ran = rig.create(volume);
            assert!(matches!(ran.code, 0 | 5 | 10), "{name}: healed: {ran:?}{}", rig.m.log());
        }
        rig.all_is_well(name, &["base", "no", "neither"]);
        for volume in ["no", "neither"] {
            rig.m.ok(&["volume", "delete", &rig.m.of(volume), "--yes"]);
        }
    }
}

#[test]
fn f3_f7_blocks_that_cannot_be_read_hide_nothing() {
    let Some(mut rig) = Rig::new(&["dust"]) else { return };
    let bad = rig.spare()[0];
    rig.ill(bad, "dust DISK AT 512");
    // Both label copies; the log; the checkpoints; in sectors of the PV.
    let zones = [(2048, 512), (4096, 64), (12_288, 64), (24_576, 64)];
    for (from, count) in zones {
        let at = format!("sectors {from}+{count}");
        tool::run("dmsetup", &["message", NAMES[bad], "0", "quiet"]);
        for sector in (from..from + count).step_by(8) {
            tool::run("dmsetup", &["message", NAMES[bad], "0", "addbadblock", &sector.to_string()]);
        }
        tool::run("dmsetup", &["message", NAMES[bad], "0", "enable"]);
        rig.m.restart();
        println!("{at}: {:?}", rig.problems());
        rig.reads_go_on(&at);
        let name = format!("v{from}");
        let ran = rig.create(&name);
        assert!(matches!(ran.code, 0 | 10), "{at}: {ran:?}{}", rig.m.log());
        tool::run("dmsetup", &["message", NAMES[bad], "0", "clearbadblocks"]);
        tool::run("dmsetup", &["message", NAMES[bad], "0", "disable"]);
        tool::run("dmsetup", &["message", NAMES[bad], "0", "quiet"]);
        rig.m.ok(&["pv", "scan"]);
        assert_eq!(rig.problems(), Vec::<String>::new(), "{at}: healed{}", rig.m.log());
        rig.m.restart();
        assert_eq!(rig.problems(), Vec::<String>::new(), "{at}: healed, started again{}", rig.m.log());
        assert_eq!(rig.m.json(&["volume", "show", &rig.m.of(&name)])["state"], "ready");
    }
    rig.heal(bad);
    rig.all_is_well("dust", &["base"]);
}

#[test]
fn f12_a_message_that_succeeds_and_whose_commit_fails_is_not_acknowledged() {
    let Some(mut rig) = Rig::new(&[]) else { return };
    let site = Site {
        socket: PathBuf::from(rig.m.path("run/control.sock")),
        vg: rig.m.vg.clone(),
        disks: Vec::new(),
        dir: rig.m.dir().to_owned(),
    };
    // Where the pool's metadata are: on which PV, from where on.
    let uuid = kernel::our_uuids().into_iter().find(|uuid| uuid.ends_with("-tmeta")).unwrap();
    let table = kernel::table(&kernel::number_of(&uuid));
    let words: Vec<&str> = table.split(' ').collect();
    let (len, from): (u64, u64) = (words[1].parse().unwrap(), words[4].parse().unwrap());
    let number = |name: &str| {
        let args = ["info", "-c", "--noheadings", "--separator", ":", "-o", "major,minor", name];
        tool::run("dmsetup", &args).trim().to_owned()
    };
    let bad = NAMES.iter().position(|name| number(name) == words[3]).expect("the PV of the pool's metadata");
    let mut hand = Hand::new(rig.m.dir().join("orders"));
    rig.m.kill9();
    rig.m.start_dying(hand.dir());
    let known = site.view();
    hand.order_at("dm message create_thin", Side::After, End::Hang);
    let answer = std::thread::scope(|scope| {
        let request = scope.spawn(|| site.send(r#"POST volumes {"vg":"VG","name":"v","size":"16M","fs":"none"}"#));
        let begin = Instant::now();
        while !hand.reached() {
            assert!(begin.elapsed() < Duration::from_secs(180), "{:?}", hand.effects());
            std::thread::sleep(Duration::from_millis(5));
        }
        let (node, all) = (rig.m.disk(bad), rig.sectors(bad));
        let table = format!(
            "0 {from} linear {node} {START}\n{from} {len} error\n{} {} linear {node} {}",
            from + len,
            all - from - len,
            START + from + len
        );
        rig.swap(bad, &table);
        hand.go_on();
        request.join().unwrap()
    });
    let effects = hand.effects();
    assert!(effects.iter().any(|effect| effect.contains("create_thin")), "{effects:?}");
    let (code, said) = answer.expect("an answer");
    assert!(code >= 400, "it was acknowledged, and the pool could not commit: {said}");
    println!("refused: {said}");
    let said = rig.problems();
    assert!(said.contains(&"pool_refused".to_owned()), "{said:?}{}", rig.m.log());
    rig.reads_go_on_without_writing();
    // Well again. The pool in the kernel has given up: it comes up anew when nobody uses it.
    rig.heal(bad);
    rig.m.kill9();
    tool::run("umount", &[&rig.m.path("base")]);
    let mut uuids = kernel::our_uuids();
    uuids.sort_by_key(|uuid| (uuid.ends_with("-tmeta") || uuid.ends_with("-tdata"), uuid.ends_with("-tpool")));
    for uuid in uuids {
        assert!(tool::remove_dm(&uuid.replace("VOLUMED-", "volumed-")), "{uuid}");
    }
    rig.m.start_daemon();
    assert_eq!(rig.problems(), Vec::<String>::new(), "{}", rig.m.log());
    rig.m.ok(&["volume", "mount", &rig.m.of("base"), &rig.m.path("base")]);
    site.settled(&[&known]).unwrap_or_else(|what| panic!("half done: {what}{}", rig.m.log()));
    site.transactions_agree().unwrap_or_else(|what| panic!("{what}{}", rig.m.log()));
    rig.reads_go_on("healed");
    site.ok(r#"POST volumes {"vg":"VG","name":"v","size":"16M","fs":"none"}"#);
}

impl Rig {
    /// A pool that has failed takes no new blocks, and reads go on.
    fn reads_go_on_without_writing(&self) {
        assert_eq!(self.m.json(&["volume", "show", &self.m.of("base")])["state"], "ready", "{}", self.m.log());
        assert_eq!(std::fs::read_to_string(self.file()).unwrap(), "written before");
        assert_eq!(kernel::not_live(), Vec::<String>::new());
    }
}
