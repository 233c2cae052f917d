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
        "volctl pool set data/tank --grow-to off --reserve 0 --when-full queue --overcommit-limit 300",
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
        "volctl volume unmount data/pg",
        "volctl volume umount data/pg",
        "volctl volume attach data/raw",
        "volctl volume attach data/raw --dry-run -o json",
        "volctl volume detach data/raw",
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
        "volctl pool set data",
        "volctl volume create data/pg",
        "volctl volume create data/pg --size 50%FREE",
        "volctl volume create data/pg --size 10G --fs ntfs",
        "volctl volume create data/pg@x --size 10G",
        "volctl volume create data/pg --size 10G --pool a/b",
        "volctl volume mount data/pg",
        "volctl volume mount data/pg /a /b",
        "volctl volume attach data",
        "volctl volume attach data/pg /dev/x",
        "volctl volume detach data/pg@before",
        "volctl volume delete data",
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
