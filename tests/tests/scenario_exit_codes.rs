//! `xtask lab run` is a tool for people and scripts: exit codes, output, arguments.

use vol_tests::guest::Lab;

#[test]
fn the_exit_code_is_the_commands() {
    let Some(lab) = Lab::new() else { return };
    let ran = lab.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!((ran.code, ran.out.as_str()), (42, "out\n"), "{ran:?}");
    assert!(ran.err.lines().any(|line| line == "err"), "{ran:?}");
    let odd = ["printf", "%s|", "a b", "'$HOME'", "\"", "--disk", "", "\\"];
    let ran = lab.run(&[], &odd);
    assert_eq!((ran.code, ran.out.as_str()), (0, "a b|'$HOME'|\"|--disk||\\|"), "{ran:?}");
}

#[test]
fn output_comes_while_the_command_runs() {
    let Some(lab) = Lab::new() else { return };
    let mut guest = lab.start(&["--disk", "64M"], "test -b /dev/labdisk0 && echo early; sleep 600; echo late");
    // Four minutes at most.
    guest.wait_for("output", |line| line == "early");
    let said = guest.cut(&lab);
    assert!(!said.iter().any(|line| line == "late"), "{said:?}");
}

#[test]
fn a_disk_of_the_machine_itself_is_never_given_away() {
    let Some(lab) = Lab::new() else { return };
    for disk in ["/dev/null", "/dev/sda", "/nowhere/at/all.img"] {
        let ran = lab.run(&["--disk", disk], &["true"]);
        assert_ne!(ran.code, 0, "{ran:?}");
        assert!(ran.err.contains(disk), "{ran:?}");
    }
}

#[test]
fn two_programs_of_one_name_are_both_left_whole() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.dir().join("one"), lab.dir().join("two"));
    let program = |dir: &std::path::Path, says: &str| {
        std::fs::create_dir(dir).unwrap();
        let text = format!("#!/bin/sh\necho {says}\n");
        std::fs::write(dir.join("tool"), &text).unwrap();
        std::fs::set_permissions(dir.join("tool"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        (dir.join("tool"), text)
    };
    let (one, two) = (program(&one, "one"), program(&two, "two"));
    let ran = lab.run(&["--bin", one.0.to_str().unwrap(), "--bin", two.0.to_str().unwrap()], &["tool"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "two\n"), "{ran:?}");
    for (file, text) in [one, two] {
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "{} was changed", file.display());
    }
}
