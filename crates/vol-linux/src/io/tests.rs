//! One suite over both backends, on a temporary file.

mod seccomp;

use super::*;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

/// A file of 16 MiB, opened past the page cache where its file system can.
fn file() -> (tempfile::TempDir, Arc<File>) {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).or_else(|_| tempfile::tempdir()).unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, vec![0xee; 16 << 20]).unwrap();
    let open = |flags| OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path);
    let file = open(libc::O_DIRECT).or_else(|_| open(0)).unwrap();
    (dir, Arc::new(file))
}

/// Every path that I/O can take: registered memory, unregistered memory, plain system calls.
fn backends() -> Vec<(&'static str, Arc<dyn BlockIo>)> {
    let mut backends: Vec<(&'static str, Arc<dyn BlockIo>)> = vec![("pread/pwrite", Arc::new(plain::Plain))];
    for (name, register) in [("io_uring (registered buffers)", true), ("io_uring", false)] {
        match uring(register) {
            Ok((_, Some(reason))) if register => println!("skipped: {name}: {reason}"),
            Ok((uring, _)) => backends.push((name, Arc::new(uring))),
            Err(e) => println!("skipped: {name}: io_uring is refused: {e}"),
        }
    }
    backends
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at / 512 + at + seed) % 251).unwrap()).collect()
}

#[test]
fn what_is_written_is_read_back_at_every_size() {
    for (name, io) in backends() {
        let (_dir, file) = file();
        for (len, offset) in [(4096, 0), (8192, 4096), (1 << 20, 1 << 20), ((5 << 20) + 4096, 8192)] {
            let data = pattern(len, len);
            io.write(&file, offset, &data).unwrap();
            assert!(io.read(&file, offset, len).unwrap() == data, "{name}: {len} at {offset}");
        }
        assert_eq!(io.read(&file, 0, 0).unwrap(), Vec::<u8>::new(), "{name}");
        io.flush(&file).unwrap();
    }
}

#[test]
fn zeroing_clears_exactly_the_range() {
    for (name, io) in backends() {
        let (_dir, file) = file();
        io.zero(&file, 4096, (9 << 20) + 4096).unwrap();
        let all = io.read(&file, 0, 16 << 20).unwrap();
        let end = 4096 + (9 << 20) + 4096;
        assert!(all[..4096].iter().all(|byte| *byte == 0xee), "{name}");
        assert!(all[4096..end].iter().all(|byte| *byte == 0), "{name}");
        assert!(all[end..].iter().all(|byte| *byte == 0xee), "{name}");
    }
}

#[test]
fn zeroes_are_written_whatever_the_memory_held_before() {
    for (name, io) in backends() {
        let ((_a, from), (_b, to)) = (file(), file());
        for round in 0..4 {
            // Through all of the memory.
            io.write(&to, 0, &pattern(9 << 20, round)).unwrap();
            io.zero(&to, 4096, 9 << 20).unwrap();
            assert!(io.is_zero(&to, 4096, 9 << 20).unwrap(), "{name}: {round}, after a write");
            io.copy(&from, &to, 0, 9 << 20).unwrap();
            assert!(!io.is_zero(&to, 0, 9 << 20).unwrap(), "{name}");
            io.zero(&to, 0, (9 << 20) + 4096).unwrap();
            assert!(io.is_zero(&to, 0, (9 << 20) + 4096).unwrap(), "{name}: {round}, after a copy");
        }
    }
}

#[test]
fn blocks_here_and_there_are_zero_only_if_each_of_them_is() {
    for (name, io) in backends() {
        let (_dir, file) = file();
        io.zero(&file, 0, 15 << 20).unwrap();
        // More than a ring holds at a time, in entries and in memory.
        let mut places: Vec<u64> = (0..300).map(|at| at * 12288).collect();
        assert!(io.are_zero(&file, &places).unwrap() && io.are_zero(&file, &[]).unwrap(), "{name}");
        for (at, place) in [(0, 15 << 20), (150, (15 << 20) + 4096), (299, (16 << 20) - 4096)] {
            let before = std::mem::replace(&mut places[at], place);
            assert!(!io.are_zero(&file, &places).unwrap(), "{name}: {at}");
            places[at] = before;
        }
        places.push(16 << 20);
        assert!(io.are_zero(&file, &places).is_err(), "{name}: past the end");
    }
}

#[test]
fn every_durable_write_has_its_own_answer_in_order() {
    for (name, io) in backends() {
        let (_dir, good) = file();
        let (dir, _) = file();
        let read_only = Arc::new(File::open(dir.path().join("disk")).unwrap());
        // More than a ring holds at a time, in entries and in memory.
        let data: Vec<Vec<u8>> = (0..200).map(|index| pattern(8192, index)).collect();
        let writes: Vec<Durable<'_>> = data
            .iter()
            .enumerate()
            .map(|(index, data)| {
                let file: &File = if index % 3 == 1 { &read_only } else { &good };
                Durable { file, offset: u64::try_from(index * 8192).unwrap(), data }
            })
            .collect();
        let answers = io.write_durable(&writes);
        assert_eq!(answers.len(), 200);
        for (index, answer) in answers.iter().enumerate() {
            assert_eq!(answer.is_err(), index % 3 == 1, "{name}: {index}: {answer:?}");
            if answer.is_ok() {
                let offset = u64::try_from(index * 8192).unwrap();
                assert!(io.read(&good, offset, 8192).unwrap() == pattern(8192, index), "{name}: {index}");
            }
        }
        assert!(io.write_durable(&[]).is_empty());
    }
}

#[test]
fn many_threads_can_use_one_backend() {
    for (name, io) in backends() {
        let (_dir, file) = file();
        std::thread::scope(|scope| {
            for thread in 0..8usize {
                let (io, file) = (&io, &file);
                scope.spawn(move || {
                    let offset = u64::try_from(thread << 21).unwrap();
                    for round in 0..10 {
                        let data = pattern(1 << 16, thread * 100 + round);
                        let answers = io.write_durable(&[Durable { file, offset, data: &data }]);
                        assert!(answers.len() == 1 && answers[0].is_ok(), "{name}: {answers:?}");
                        assert!(io.read(file, offset, 1 << 16).unwrap() == data, "{name}");
                        io.zero(file, offset + (1 << 20), 1 << 16).unwrap();
                    }
                });
            }
        });
    }
}

#[test]
fn reading_past_the_end_is_an_error() {
    for (name, io) in backends() {
        let (_dir, file) = file();
        let error = io.read(&file, (16 << 20) - 4096, 8192).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{name}");
    }
}

#[test]
fn the_backend_that_was_chosen_is_told_with_its_reason() {
    let (_, plain) = choose(IoChoice::Plain).unwrap();
    assert_eq!(plain.name, "pread/pwrite");
    assert!(plain.reason.is_some());
    for choice in [IoChoice::Auto, IoChoice::Uring, IoChoice::Unregistered] {
        match choose(choice) {
            Ok((_, told)) => match told.name.as_str() {
                "io_uring (registered buffers)" => {
                    assert_eq!((choice == IoChoice::Unregistered, told.reason), (false, None))
                }
                "io_uring" => assert!(told.reason.unwrap().contains("not registered")),
                _ => assert!(choice == IoChoice::Auto && told.reason.unwrap().contains("refused")),
            },
            Err(e) => assert!(choice != IoChoice::Auto && e.kind == HostErrorKind::Unsupported, "{e}"),
        }
    }
}

#[test]
fn a_write_larger_than_the_registered_memory_is_written_all_the_same() {
    for (name, io) in backends() {
        let (_dir, file) = file();
        // The first fills the ring's memory, the second finds no room in it, the third would have fit beside neither.
        let lens = [ring::ARENA, 512 << 10, ring::ARENA * 3 + 4096, 4096];
        let data: Vec<Vec<u8>> = lens.iter().enumerate().map(|(at, len)| pattern(*len, at * 7)).collect();
        let writes: Vec<Durable<'_>> =
            data.iter().zip(0u64..).map(|(data, at)| Durable { file: &file, offset: at << 21, data }).collect();
        for round in 0..3 {
            let answers = io.write_durable(&writes);
            assert!(answers.len() == 4 && answers.iter().all(Result::is_ok), "{name}, {round}: {answers:?}");
        }
        for write in &writes {
            assert!(io.read(&file, write.offset, write.data.len()).unwrap() == write.data, "{name}: {}", write.offset);
        }
    }
}

#[test]
fn the_same_memory_used_again_carries_the_new_content() {
    for (name, io) in backends() {
        let (_dir, file) = file();
        for round in 0..200usize {
            let data = [pattern(8192, round), pattern(4096, round + 50)];
            let offset = u64::try_from(round % 8 * 16384).unwrap();
            let writes = [
                Durable { file: &file, offset, data: &data[0] },
                Durable { file: &file, offset: offset + 8192, data: &data[1] },
            ];
            assert!(io.write_durable(&writes).iter().all(Result::is_ok), "{name}");
            assert!(io.read(&file, offset, 12288).unwrap() == data.concat(), "{name}: {round}");
        }
    }
}

#[test]
fn a_child_that_is_alive_changes_nothing_about_what_is_written() {
    use std::os::unix::process::CommandExt;
    for (name, io) in backends() {
        let (_dir, file) = file();
        let write = |seed| {
            let data = pattern(8192, seed);
            assert!(io.write_durable(&[Durable { file: &file, offset: 0, data: &data }])[0].is_ok(), "{name}");
            io.write(&file, 65536, &data).unwrap();
            assert!(io.read(&file, 0, 8192).unwrap() == data && io.read(&file, 65536, 8192).unwrap() == data, "{name}");
        };
        write(1);
        let mut command = std::process::Command::new("/bin/true");
        // The child shares our pages as long as it has not become another program: it stays like that for a while.
        // SAFETY: sleeping is allowed between fork and exec (`nanosleep(2)`; nothing is allocated).
        unsafe {
            command.pre_exec(|| {
                std::thread::sleep(std::time::Duration::from_millis(300));
                Ok(())
            })
        };
        std::thread::scope(|scope| {
            let child = scope.spawn(|| command.status().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(100));
            (2..20).for_each(write);
            assert!(child.join().unwrap().success());
        });
        write(20);
    }
}

/// A ring's counters before and after.
fn counted(rings: &ring::Rings, work: impl FnOnce()) -> [u64; 3] {
    use std::sync::atomic::Ordering::SeqCst;
    let counters = rings.counters();
    let now = || [&counters.enters, &counters.entries, &counters.fixed].map(|counter| counter.load(SeqCst));
    let before = now();
    work();
    let after = now();
    std::array::from_fn(|at| after[at] - before[at])
}

#[test]
fn a_commit_to_n_copies_is_n_entries_and_one_call_of_the_kernel() {
    for register in [true, false] {
        let (rings, refused) = match ring::Rings::start(register) {
            Ok(started) => started,
            Err(e) => return println!("skipped: io_uring is refused: {e}"),
        };
        let files: Vec<_> = (0..8).map(|_| file()).collect();
        let data = pattern(8192, 1);
        for copies in 1..=8usize {
            let writes: Vec<Durable<'_>> =
                files[..copies].iter().map(|(_, file)| Durable { file, offset: 4096, data: &data }).collect();
            for _ in 0..20 {
                let [enters, entries, fixed] = counted(&rings, || {
                    assert!(rings.write(&writes).unwrap().iter().all(Result::is_ok));
                });
                let copies = u64::try_from(copies).unwrap();
                assert_eq!((enters, entries), (1, copies), "registered: {register}");
                assert_eq!(fixed, if register && refused.is_none() { copies } else { 0 });
            }
        }
        assert_eq!(rings.rings(), (1, 1), "commits one after the other use one ring");
    }
}

#[test]
fn rings_are_few_however_many_commit_at_once() {
    let rings = match ring::Rings::start(true) {
        Ok((rings, _)) => rings,
        Err(e) => return println!("skipped: io_uring is refused: {e}"),
    };
    let (_dir, file) = file();
    let without = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..48u64 {
            let (rings, file, without) = (&rings, &file, &without);
            scope.spawn(move || {
                let data = pattern(8192, 3);
                for _ in 0..20 {
                    match rings.write(&[Durable { file, offset: thread * 8192, data: &data }]) {
                        Some(answers) => assert!(answers[0].is_ok()),
                        None => drop(without.fetch_add(1, std::sync::atomic::Ordering::SeqCst)),
                    }
                    assert!(rings.rings().0 <= ring::RINGS_MAX);
                }
            });
        }
    });
    let (made, idle) = rings.rings();
    println!("{made} rings are left, {without:?} of 960 commits found none");
    assert!(made == idle && made <= 4, "{made} rings, {idle} idle");
}

#[test]
fn of_blocks_here_and_there_a_hundred_are_read_with_two_calls_of_the_kernel() {
    let (rings, _) = match ring::Rings::start(true) {
        Ok(started) => started,
        Err(e) => return println!("skipped: io_uring is refused: {e}"),
    };
    let (_dir, file) = file();
    let places: Vec<u64> = (0..100).map(|at| at << 16).collect();
    let [enters, entries, _] = counted(&rings, || assert!(!rings.are_zero(&file, &places).unwrap().unwrap()));
    assert_eq!((enters, entries), (2, 100));
}

#[test]
fn a_read_of_a_record_is_one_entry_and_one_call_of_the_kernel() {
    let (rings, refused) = match ring::Rings::start(true) {
        Ok(started) => started,
        Err(e) => return println!("skipped: io_uring is refused: {e}"),
    };
    let (_dir, file) = file();
    for (len, calls, most) in [(4096, 1, 1), (8192, 1, 1), (ring::ARENA, 1, 4), (ring::ARENA * 3 + 4096, 4, 13)] {
        let [enters, entries, fixed] = counted(&rings, || {
            assert!(rings.read(&file, 4096, len).unwrap().unwrap() == vec![0xee; len]);
        });
        assert_eq!((enters, entries), (calls, most), "{len}");
        assert_eq!(fixed, if refused.is_none() { most } else { 0 });
    }
}
