use clap::{CommandFactory, Parser};

use super::*;

fn exit_of(line: &str) -> i32 {
    match Cli::try_parse_from(line.split(' ')) {
        Ok(_) => 0,
        Err(error) => error.exit_code(),
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_line_of_the_main_job_is_understood() {
    for line in [
        "volctl vg create data /dev/labdisk0 /dev/labdisk1",
        "volctl vg create demo --file /var/lib/volumed/demo.img:20G",
        "volctl vg create demo --file /a.img:20G --file /b.img:1.5T --extent-size 8M --metadata-copies 3",
        "volctl vg create data /dev/sdb --wipe --yes",
        "volctl vg create data /dev/sdb --dry-run -o json",
        "volctl pool create data/tank --size 80%FREE",
        "volctl pool create data/tank --size 10G --chunk-size 128K --overcommit-limit 300",
        "volctl pool create data/tank --size 10G --grow-to 40G --reserve 10 --when-full error",
        "volctl pool extend data/tank --size +10G",
        "volctl pool extend data/tank --size 40G --metadata +256M --dry-run",
        "volctl pool extend data/tank --size 50%FREE",
        "volctl pool extend data/tank --metadata 1G",
        "volctl pool set data/tank --on /dev/sdb --on /dev/sdc --not-on /dev/sdd --on-label tier=fast",
        "volctl pool set data/tank --anywhere --reserve 3",
        "volctl volume resize data/log +4G --on /dev/sdb --contiguous",
        "volctl volume clone data/log data/copy --on-label tier=fast --not-on /dev/sdb",
        "volctl pool set data/tank --grow-to off --reserve 0 --when-full queue --overcommit-limit 300",
        "volctl pool check data/tank --online",
        "volctl pool repair data/tank --accept-loss --dry-run",
        "volctl pool repair data/tank --discard-original --yes",
        "volctl pool set data/tank --grow-to vg",
        "volctl volume create data/pg --pool tank --size 10G --fs ext4",
        "volctl volume create data/pg --size 10G",
        "volctl volume create data/vm --size 10G --fs none",
        "volctl volume mount data/pg /srv/pg",
        "volctl volume mount data/pg srv/pg --read-only",
        "volctl snapshot create data/pg@before",
        "volctl snapshot mount data/pg@before /mnt",
        "volctl snapshot unmount data/pg@before",
        "volctl snapshot delete data/pg@before --yes",
        "volctl df",
        "volctl df --runtime podman -o json",
        "volctl refs list --runtime docker",
        "volctl refs release data/pg --yes",
        "volctl refs release 0191d6e0-0000-7000-8000-000000000001 --runtime docker --id 2f73 --dry-run",
        "volctl events --follow --since 7 -o json",
        "volctl job list",
        "volctl job wait wipe-0191d6e0-0000-7000-8000-000000000001",
        "volctl job cancel grow-0191d6e0-0000-7000-8000-000000000001-8388608 --yes",
        "volctl map",
        "volctl map data --width 120",
        "volctl pool usage data/tank --bytes",
        "volctl volume usage data/pg -o json",
        "volctl volume unmount data/pg",
        "volctl volume umount data/pg",
        "volctl volume attach data/raw",
        "volctl volume create data/raw --size 10G --fs none --attach",
        "volctl volume attach data/raw --dry-run -o json",
        "volctl volume detach data/raw",
        "volctl volume resize data/pg 40G",
        "volctl volume resize data/pg +10G --dry-run",
        "volctl volume check data/pg --repair -y",
        "volctl volume trim data/pg",
        "volctl volume create data/pg --size 10G --owner 999:999 --mode 0700 --empty-root",
        "volctl volume create data/pg --size 10G --subdir data --owner 999:999",
        "volctl volume mount data/pg /srv/pg --whole",
        "volctl snapshot mount data/pg@before /mnt --whole",
        "volctl volume create data/pg --size 10G --mkfs-option label=pg --mkfs-option features=quota",
        "volctl volume delete data/pg --yes",
        "volctl pool delete data/tank --yes",
        "volctl vg delete data -y",
        "volctl vg extend data /dev/sdd --wipe -y",
        "volctl vg extend data --file /a.img:20G --dry-run",
        "volctl vg reduce data /dev/sdd 0191d6e0-0000-7000-8000-000000000001",
        "volctl vg reduce data --missing --force --yes",
        "volctl vg rename data big",
        "volctl vg export data",
        "volctl vg import data",
        "volctl vg backup data",
        "volctl vg backup data --file -",
        "volctl vg restore data.json --disk 0191d6e0-0000-7000-8000-000000000001=/dev/sdd --older --wipe -y",
        "volctl vg import-clone /dev/sdd /dev/sde --name copy",
        "volctl pv wipe /dev/sdd --force --yes",
        "volctl pool delete data/tank --lost --yes",
        "volctl pv list",
        "volctl pv ls data",
        "volctl volume clone data/pg@before data/copy --reserve 5G",
        "volctl volume clone data/pg data/copy --reserve full",
        "volctl pv list data -l tier=fast,!old --selector rack",
        "volctl pv show /dev/sdb",
        "volctl pv inspect 0191d6e0-0000-7000-8000-000000000001",
        "volctl pv scan --file /var/lib/volumed/demo.img",
        "volctl pv check",
        "volctl pv check /dev/sdb 0191d6e0-0000-7000-8000-000000000001 -o json",
        "volctl pv check --offline /srv/a.img",
        "volctl debug dump /dev/sdb /srv/a.img --records --objects --raw-offsets",
        "volctl vg rm data",
        "volctl snapshot list data/pg",
        "volctl --socket /tmp/s -o name volume list",
        "volctl volume list -o json --no-headers --bytes -q",
        "volctl init /dev/sdb /dev/sdc --wipe",
        "volctl init --file /var/lib/volumed/a.img:20G --vg data --pool pool",
        "volctl status",
        "volctl completion bash",
        "volctl man /tmp/man",
        "volctl --help",
        "volctl --version",
        "volctl vg create --help",
    ] {
        assert_eq!(exit_of(line), 0, "{line}");
    }
}

#[test]
fn every_malformed_argument_is_wrong_usage() {
    for line in [
        "volctl",
        "volctl frobnicate",
        "volctl vg",
        "volctl vg create",
        "volctl vg create data",
        "volctl vg create -rf /dev/sdb",
        "volctl vg create -- -rf /dev/sdb",
        "volctl vg create .. /dev/sdb",
        "volctl vg create a/b /dev/sdb",
        "volctl vg create ä /dev/sdb",
        "volctl vg create data --file /a.img",
        "volctl vg create data --file /a.img:0",
        "volctl vg create data --file /a.img:-1G",
        "volctl vg create data --file :20G",
        "volctl vg create data /dev/sdb --metadata-copies 0",
        "volctl vg create data /dev/sdb --metadata-copies -1",
        "volctl vg create data /dev/sdb --extent-size 80%FREE",
        "volctl vg show data/pg",
        "volctl map data/pg",
        "volctl map --width 10",
        "volctl pool usage data",
        "volctl volume usage data/pg@before",
        "volctl vg extend data",
        "volctl vg reduce data",
        "volctl vg reduce data /dev/sdd --force",
        "volctl vg rename data",
        "volctl vg rename data a/b",
        "volctl vg export",
        "volctl vg import data other",
        "volctl vg restore",
        "volctl vg restore data.json --disk /dev/sdd",
        "volctl vg restore data.json --disk x=/dev/sdd",
        "volctl vg import-clone /dev/sdd",
        "volctl vg import-clone --name copy",
        "volctl pv wipe",
        "volctl pool create tank --size 10G",
        "volctl pool create data/tank",
        "volctl pool create data/tank --size 0",
        "volctl pool create data/tank --size -10G",
        "volctl pool create data/tank --size ten",
        "volctl pool create data/tank --size 0%FREE",
        "volctl pool create data/tank --size 101%FREE",
        "volctl pool create data/tank --size 80%VG",
        "volctl pool create data/tank --size 99999999999G",
        "volctl pool create data/tank --size 10G --overcommit-limit 0",
        "volctl pool repair data/tank --accept-loss --discard-original",
        "volctl pool repair data/tank --force",
        "volctl pool check",
        "volctl pool create data/tank --size 10G --overcommit-limit -5",
        "volctl pool create data/tank --size +10G",
        "volctl pool create data/tank --size 10G --grow-to on",
        "volctl pool create data/tank --size 10G --reserve 91",
        "volctl pool extend data/tank",
        "volctl pool extend data/tank --size -1G",
        "volctl pool extend data/tank --size 0",
        "volctl pool extend data/tank --size 101%FREE",
        "volctl pool set data/tank --grow-to 0",
        "volctl pool set data/tank --when-full never",
        "volctl pool set data/tank --reserve -1",
        "volctl pool set data/tank --anywhere --on /dev/sdb",
        "volctl pool set data/tank --contiguous",
        "volctl pool set data",
        "volctl volume create data/pg",
        "volctl volume create data/pg --size 50%FREE",
        "volctl volume create data/pg --size 10G --fs ntfs",
        "volctl volume create data/pg@x --size 10G",
        "volctl volume create data/pg --size 10G --pool a/b",
        "volctl volume mount data/pg",
        "volctl volume mount data/pg /a /b",
        "volctl volume attach data",
        "volctl volume resize data/pg",
        "volctl volume create data/pg --size 10G --owner postgres",
        "volctl volume create data/pg --size 10G --mode u+w",
        "volctl volume resize data/pg -1G",
        "volctl volume resize data/pg +",
        "volctl volume resize data/pg ++1G",
        "volctl volume resize data/pg +-1G",
        "volctl volume resize data/pg 80%FREE",
        "volctl volume resize data/pg@before 40G",
        "volctl volume attach data/pg /dev/x",
        "volctl volume detach data/pg@before",
        "volctl volume delete data",
        "volctl volume create data/pg --size 1G --label tier",
        "volctl volume clone data/pg",
        "volctl volume clone data/pg copy",
        "volctl volume clone pg data/copy",
        "volctl volume rename data/pg db",
        "volctl volume label data/pg",
        "volctl volume label data/pg tier",
        "volctl volume list -l a,,b",
        "volctl volume protect data/pg@before",
        "volctl snapshot rollback data/pg",
        "volctl snapshot rename data/pg@before data/pg@then",
        "volctl snapshot create",
        "volctl snapshot create data/pg",
        "volctl snapshot create data@before",
        "volctl snapshot create data/pg@",
        "volctl snapshot create data/pg@a@b",
        "volctl snapshot mount data/pg@a",
        "volctl snapshot list data/pg@a",
        "volctl init",
        "volctl init /dev/sdb --vg -x",
        "volctl debug",
        "volctl debug dump",
        "volctl status extra",
        "volctl df -o yaml",
        "volctl volume list --dry-run",
        "volctl completion tcsh",
    ] {
        assert_eq!(exit_of(line), 2, "{line}");
    }
}

#[test]
fn a_malformed_value_names_the_accepted_form() {
    let message = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
    assert!(message("volctl pool create data/tank --size -5G").contains(
        "invalid value '-5G' for '--size <SIZE>': \"-5G\" is negative; a size is above zero \
         (a size: 512M, 10G, 1.5T, or a share of the free space: 80%FREE)"
    ));
    assert!(message("volctl vg create a/b /dev/sdb").contains("a name: 1 to 128 letters, digits"));
    assert!(message("volctl volume show data").contains("\"data\" is not of the form VG/VOLUME"));
    assert!(message("volctl vg create demo --file /a.img").contains("write PATH:SIZE, for example"));
}

#[test]
fn where_something_lies_and_where_a_pool_grows_are_told_apart_in_the_help() {
    let help = |command: &str| {
        let mut all = Cli::command();
        all.build();
        let mut at = &mut all;
        for word in command.split(' ') {
            at = at.find_subcommand_mut(word).unwrap_or_else(|| panic!("{command}"));
        }
        at.render_long_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for command in ["pool create", "pool extend", "volume create", "volume clone", "volume resize"] {
        let help = help(command);
        assert!(help.contains("--on <PATH|ID> Only on this physical volume"), "{command}: {help}");
        assert!(help.contains("--not-on <PATH|ID> Not on this physical volume"), "{command}: {help}");
        assert!(help.contains("--on-label <KEY=VALUE> Only on physical volumes"), "{command}: {help}");
        assert!(help.contains("--contiguous") && !help.contains("From now on"), "{command}: {help}");
    }
    let help = help("pool set");
    assert!(help.contains("--on <PATH|ID> From now on it grows only on this physical volume"), "{help}");
    assert!(help.contains("--not-on <PATH|ID> From now on it does not grow on this physical volume"), "{help}");
    assert!(help.contains("--on-label <KEY=VALUE> From now on it grows only on physical volumes"), "{help}");
}
