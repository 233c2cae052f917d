//! One suite over both backends, on a temporary file.

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

fn backends() -> Vec<(&'static str, Arc<dyn BlockIo>)> {
    let mut backends: Vec<(&'static str, Arc<dyn BlockIo>)> = vec![("plain", Arc::new(plain::Plain))];
    match uring() {
        Ok(uring) => backends.push(("uring", Arc::new(uring))),
        Err(e) => println!("skipped: io_uring is refused: {e}"),
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
fn every_durable_write_has_its_own_answer_in_order() {
    for (name, io) in backends() {
        let (_dir, good) = file();
        let (dir, _) = file();
        let read_only = Arc::new(File::open(dir.path().join("disk")).unwrap());
        let write = |file: &Arc<File>, index: usize| Durable {
            file: Arc::clone(file),
            offset: u64::try_from(index * 8192).unwrap(),
            data: Buffer::copy_of(&pattern(8192, index)).unwrap(),
        };
        // More than the ring holds at a time.
        let writes = (0..200).map(|index| write(if index % 3 == 1 { &read_only } else { &good }, index)).collect();
        let answers = io.write_durable(writes);
        assert_eq!(answers.len(), 200);
        for (index, answer) in answers.iter().enumerate() {
            assert_eq!(answer.is_err(), index % 3 == 1, "{name}: {index}: {answer:?}");
            if answer.is_ok() {
                let offset = u64::try_from(index * 8192).unwrap();
                assert!(io.read(&good, offset, 8192).unwrap() == pattern(8192, index), "{name}: {index}");
            }
        }
        assert!(io.write_durable(Vec::new()).is_empty());
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
                        let write = Durable { file: Arc::clone(file), offset, data: Buffer::copy_of(&data).unwrap() };
                        assert!(io.write_durable(vec![write]).iter().all(Result::is_ok), "{name}");
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
    let (_, auto) = choose(IoChoice::Auto).unwrap();
    assert_eq!(auto.name == "io_uring", auto.reason.is_none());
}
