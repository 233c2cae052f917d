//! The plug is pulled (the guest's process is killed), and the guest boots again on the same disks: what was acknowledged is there.
//! A killed guest keeps every write that its kernel had completed; lost and reordered writes are the simulator's subject.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::thread::sleep;
use std::time::Duration;
use vol_tests::Random;
use vol_tests::guest::Lab;

/// What precedes every script: stop at the first error.
const STRICT: &str = "set -eu -o pipefail\n";

fn script(text: &str) -> String {
    format!("{STRICT}{text}")
}

/// The JSON document that stands in a script's output between two lines with its name.
fn section(out: &str, name: &str) -> Value {
    let mark = format!("== {name}\n");
    let body = out.split(&mark).nth(1).unwrap_or_else(|| panic!("no {name} in\n{out}"));
    let body = body.split("\n== ").next().unwrap_or(body);
    serde_json::from_str(body).unwrap_or_else(|err| panic!("{name} is no JSON: {err}\n{body}"))
}

const MAIN_JOB: &str = "
volctl vg create data /dev/labdisk0 /dev/labdisk1
volctl pool create data/tank --size 80%FREE
volctl volume create data/pg --pool tank --size 10G --fs FS
volctl volume mount data/pg /srv/pg
for i in $(seq 20); do seq $((i * 1000)) > /srv/pg/old$i; done
sync -f /srv/pg
(cd /srv/pg && sha256sum old*) > /share/sums
volctl snapshot create data/pg@before
for i in $(seq 20); do echo new > /srv/pg/old$i; done
sync -f /srv/pg
volctl df
echo READY
# Each record, and each file of its own, is told of only when it is on the disk.
n=0
while :; do
    n=$((n + 1))
    echo \"record $n\" >> /srv/pg/log
    sync /srv/pg/log
    echo \"content $n\" > /srv/pg/file$n
    sync /srv/pg/file$n /srv/pg
    echo \"ACK $n\"
done
";

const AFTER: &str = "
echo '== status'; volctl status -o json
echo '== volume'; volctl volume show data/pg -o json
echo '== end'
volctl volume mount data/pg /srv/pg
volctl snapshot mount data/pg@before /srv/old
findmnt --noheadings --output OPTIONS /srv/old | grep -qw ro
(cd /srv/old && sha256sum --check --quiet /share/sums)
echo OLD IS THERE
for i in $(seq 20); do test \"$(cat /srv/pg/old$i)\" = new; done
echo NEW IS THERE
n=0
while read -r word number; do
    n=$((n + 1))
    test \"$word $number\" = \"record $n\" || { echo \"the log has '$word $number' for record $n\"; break; }
done < /srv/pg/log
echo \"RECORDS $(grep -c ^record /srv/pg/log)\"
n=0
while [ \"$(cat /srv/pg/file$((n + 1)) 2>/dev/null)\" = \"content $((n + 1))\" ]; do n=$((n + 1)); done
echo \"FILES $n\"
volctl snapshot unmount data/pg@before
volctl volume unmount data/pg
volctl volume create data/next --size 1G
volctl volume delete data/pg --now --yes
volctl snapshot delete data/pg@before --now --yes
volctl volume delete data/next --now --yes
echo '== df'; volctl df -o json
echo '== end'
";

fn number(out: &str, word: &str) -> u64 {
    let line = out.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("no {word} in\n{out}"));
    line.trim().parse().unwrap_or_else(|_| panic!("{word}: {line}"))
}

fn power_cut_while_writing(fs: &str) {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.disk("one.img"), lab.disk("two.img"));
    let share = lab.dir().to_str().unwrap();
    let options = ["--disk", &one, "--disk", &two, "--share", share, "--daemon"];
    let mut guest = lab.start(&options, &script(&MAIN_JOB.replace("FS", fs)));
    guest.wait_for("end of the main job", |line| line == "READY");
    let mut random = Random::new();
    guest.wait_for("record 5", |line| line == "ACK 5");
    sleep(Duration::from_millis(500 + random.below(1500)));
    let said = guest.cut(&lab);
    let acked = said.iter().filter_map(|line| line.strip_prefix("ACK ")?.parse::<u64>().ok()).max().unwrap();
    println!("{fs}: {acked} records and files acknowledged when the plug was pulled");

    let out = lab.ok(&options, &script(AFTER));
    let status = section(&out, "status");
    assert_eq!((&status["health"], &status["problems"]), (&"ok".into(), &serde_json::json!([])), "{status}");
    assert_eq!(section(&out, "volume")["state"], "ready");
    assert!(out.contains("OLD IS THERE") && out.contains("NEW IS THERE"), "{out}");
    assert!(number(&out, "RECORDS ") >= acked, "{fs}: record {acked} was acknowledged, and is lost:\n{out}");
    assert!(number(&out, "FILES ") >= acked, "{fs}: file {acked} was acknowledged, and is lost:\n{out}");
    assert_eq!(section(&out, "df")["pools"][0]["used_bytes"], 0, "{out}");
}

#[test]
fn what_was_written_on_ext4_outlives_a_power_cut() {
    power_cut_while_writing("ext4");
}

#[test]
fn what_was_written_on_xfs_outlives_a_power_cut() {
    power_cut_while_writing("xfs");
}

/// Every finished command is told of, with what it did.
const CHURN: &str = "
n=ROUND000
while :; do
    n=$((n + 1))
    volctl -q volume create data/v$n --size 64M FSARG; echo \"ACK + data/v$n\"
    volctl -q snapshot create data/v$n@s; echo \"ACK + data/v$n@s\"
    volctl -q snapshot create data/base@s$n; echo \"ACK + data/base@s$n\"
    if [ $((n % 3)) != 0 ]; then
        echo \"TRY - data/v$n\"; volctl -q volume delete data/v$n --now --yes; echo \"ACK - data/v$n\"
        echo \"TRY - data/v$n@s\"; volctl -q snapshot delete data/v$n@s --now --yes; echo \"ACK - data/v$n@s\"
        echo \"TRY - data/base@s$n\"; volctl -q snapshot delete data/base@s$n --now --yes; echo \"ACK - data/base@s$n\"
    fi
done
";

const LISTS: &str = "
echo '== status'; volctl status -o json
echo '== volumes'; volctl volume list -o json
echo '== snapshots'; volctl snapshot list -o json
echo '== end'
dmsetup info -c --noheadings --separator '|' -o uuid,suspended,tables_loaded > /tmp/dm
if grep VOLUMED- /tmp/dm | grep -v '|Active|Live$'; then echo 'is not live' >&2; exit 1; fi
volctl -q volume mount data/base /srv/base
";

#[test]
fn power_cuts_while_objects_come_and_go_leave_none_half_done() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.disk("one.img"), lab.disk("two.img"));
    let options = ["--disk", &one, "--disk", &two, "--daemon"];
    let mut random = Random::new();
    // What must be there (true), must not be there (false); what was being deleted is neither.
    let mut must: BTreeMap<String, bool> = BTreeMap::new();
    let mut begin = "volctl -q init /dev/labdisk0 /dev/labdisk1
        volctl -q volume create data/base --size 1G
        volctl -q volume mount data/base /srv/base"
        .to_owned();
    for round in 1..=3 {
        let fs = if round == 2 { "--fs ext4" } else { "--fs none" };
        let churn = CHURN.replace("ROUND", &round.to_string()).replace("FSARG", fs);
        let mut guest = lab.start(&options, &script(&format!("{begin}\n{churn}")));
        let first = format!("ACK + data/base@s{round}001");
        guest.wait_for("the first changes", |line| line == first);
        sleep(Duration::from_millis(random.below(1500)));
        let mut done = 0;
        for line in guest.cut(&lab) {
            let (_, change) = line.split_at(line.len().min(4));
            match (&line.get(..4), change.split_once(' ')) {
                (Some("ACK "), Some((sign, name))) => {
                    done += 1;
                    must.insert(name.to_owned(), sign == "+");
                }
                (Some("TRY "), Some((_, name))) => _ = must.remove(name),
                _ => assert!(!line.starts_with("stderr: error"), "{line}"),
            }
        }
        println!("round {round}: {done} changes acknowledged when the plug was pulled");

        let all = script(LISTS);
        let out = lab.ok(&options, &all);
        let status = section(&out, "status");
        assert_eq!(status["health"], "ok", "{status}");
        let volumes = section(&out, "volumes");
        let mut there = Vec::new();
        for volume in volumes["volumes"].as_array().unwrap() {
            assert_eq!((&volume["state"], &volume["health"]), (&"ready".into(), &"ok".into()), "half done: {volume}");
            there.push(format!("data/{}", volume["name"].as_str().unwrap()));
        }
        let snapshots = section(&out, "snapshots");
        let names = snapshots["snapshots"].as_array().unwrap().iter();
        there.extend(names.map(|snapshot| snapshot["full_name"].as_str().unwrap().to_owned()));
        for (name, must) in &must {
            assert_eq!(
                there.contains(name),
                *must,
                "{name} after the cut of round {round}; acknowledged otherwise: {there:?}"
            );
        }
        begin = "volctl -q volume mount data/base /srv/base".to_owned();
    }
    // It can all be taken away again, and then the pool is empty.
    let out = lab.ok(
        &options,
        &script(
            "
        for s in $(volctl snapshot list -o name); do volctl -q snapshot delete $s --now --yes; done
        for v in $(volctl volume list -o name); do volctl -q volume delete $v --now --yes; done
        echo '== df'; volctl df -o json
        echo '== end'
        volctl pool delete data/pool --yes
        volctl vg delete data --yes
        if blkid -p /dev/labdisk0; then exit 1; fi",
        ),
    );
    assert_eq!(section(&out, "df")["pools"][0]["used_bytes"], 0, "{out}");
}

#[test]
fn a_group_in_files_is_found_again_after_a_power_cut() {
    let Some(lab) = Lab::new() else { return };
    let one = lab.disk("one.img");
    let options = ["--disk", one.as_str(), "--daemon"];
    let mut guest = lab.start(
        &options,
        &script(
            "
        mkfs.ext4 -q /dev/labdisk0
        mkdir /store; mount /dev/labdisk0 /store
        volctl vg create demo --file /store/demo.img:2G
        volctl pool create demo/pool --size 80%FREE
        volctl volume create demo/v --size 1G
        volctl volume mount demo/v /srv/v
        seq 100000 > /srv/v/file
        sync /srv/v/file /srv/v
        echo READY
        while :; do date >> /srv/v/more; done",
        ),
    );
    guest.wait_for("the file", |line| line == "READY");
    sleep(Duration::from_millis(300));
    guest.cut(&lab);
    // The guest's own root is in memory: the daemon's list of files is gone, and is not needed.
    let out = lab.ok(
        &options,
        &script(
            "
        mkdir /store; mount /dev/labdisk0 /store
        volctl pv scan --file /store/demo.img
        volctl volume mount demo/v /srv/v
        seq 100000 | cmp - /srv/v/file
        echo '== status'; volctl status -o json
        echo '== end'",
        ),
    );
    assert_eq!(section(&out, "status")["health"], "ok");
}

/// Two wipes side by side, slow ones: of a volume that is new, and of what is added to one that is there.
const WIPE: &str = "
echo 'move_rate = \"4M\"' > slow.toml
volumed --config slow.toml 2> log &
daemon=$!
until volctl status > /dev/null 2>&1; do sleep 0.05; done
volctl vg create data /dev/labdisk0
volctl volume create data/grown --thick --size 4M --fs none
grown=$(volctl volume attach data/grown -o json | jq -r .object.device)
{ yes GROWN || true; } | dd of=$grown bs=1M count=4 iflag=fullblock oflag=direct
volctl volume detach data/grown
volctl volume create data/new --thick --size 64M --fs none &
volctl volume resize data/grown 68M &
for volume in new grown; do
    until volctl volume show data/$volume -o json | jq -e \".thick.filling.done_bytes >= $((24 << 20))\"; do sleep 0.05; done
done
# What is left takes longer than who pulls the plug may sleep.
sed -i s/4M/1M/ slow.toml; kill -HUP $daemon
echo WIPING
wait
echo WIPED
";

const WIPED: &str = "
echo 'move_rate = \"1M\"' > slow.toml
volumed --config slow.toml 2> log &
daemon=$!
until volctl vg show data > /dev/null 2>&1; do sleep 0.05; done
for volume in new grown; do echo \"== $volume\"; volctl volume show data/$volume -o json; done
echo '== end'
if volctl volume attach data/new 2> said; then exit 1; fi
grep 'just being made' said
echo 'move_rate = \"off\"' > slow.toml; kill -HUP $daemon
for volume in new grown; do
    while volctl volume show data/$volume -o json | jq -e .thick.filling > /dev/null; do sleep 0.1; done
done
new=$(volctl volume attach data/new -o json | jq -r .object.device)
cmp -n $((64 << 20)) $new /dev/zero
grown=$(volctl volume attach data/grown -o json | jq -r .object.device)
{ yes GROWN || true; } | cmp -n $((4 << 20)) $grown -
cmp -n $((64 << 20)) -i $((4 << 20)):0 $grown /dev/zero
volctl status -o json | jq -e '.health == \"ok\"'
";

#[test]
fn a_wipe_goes_on_after_a_power_cut_where_it_was_and_no_byte_of_before_is_shown() {
    let Some(lab) = Lab::new() else { return };
    // There is nothing else on the disk than what somebody else wrote.
    let file = lab.dir().join("used.img");
    let (mut disk, theirs) = (File::create(&file).unwrap(), b"OF SOMEBODY ELSE".repeat(1 << 16));
    (0..160).for_each(|_| disk.write_all(&theirs).unwrap());
    drop(disk);
    let options = ["--disk", file.to_str().unwrap()];
    let mut guest = lab.start(&options, &script(WIPE));
    guest.wait_for("wipe", |line| line == "WIPING");
    sleep(Duration::from_millis(200 + Random::new().below(1000)));
    let said = guest.cut(&lab);
    assert!(!said.iter().any(|line| line == "WIPED"), "it was too fast: {said:#?}");

    let out = lab.ok(&options, &script(WIPED));
    // They begin a second after the start, where they were noted to be: every two seconds.
    for name in ["new", "grown"] {
        let filling = &section(&out, name)["thick"]["filling"];
        let done = filling["done_bytes"].as_u64().unwrap_or_else(|| panic!("{name} is not being wiped:\n{out}"));
        println!("{name}: {} MiB of {} were noted", done >> 20, filling["total_bytes"].as_u64().unwrap() >> 20);
        assert!(done >= 12 << 20, "{name} begins anew, at {done}:\n{out}");
    }
}
