//! A kernel that has io_uring, and a filter of system calls that does not let it through: container engines by default, systemd with
//! `SystemCallFilter=~io_uring_setup`. A filter holds for the thread that set it and those it starts, and for nobody else in this process.

use super::*;

/// Answers these system calls with an error, in this thread and in those that it starts.
fn refuse(calls: &[libc::c_long], errno: i32) {
    let operation = |code: u32, jump_if: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: jump_if,
        jf: 0,
        k,
    };
    // `struct seccomp_data` begins with the number of the call.
    let mut program = vec![operation(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (at, call) in calls.iter().enumerate() {
        let skip = u8::try_from(calls.len() - at).unwrap();
        program.push(operation(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, skip, u32::try_from(*call).unwrap()));
    }
    program.push(operation(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    program.push(operation(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap()));
    let filter = libc::sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_mut_ptr() };
    // SAFETY: `prctl(2)` with numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel copies the program, which lives through the call.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// In a thread of its own, under such a filter.
fn refused<T: Send>(calls: &[libc::c_long], errno: i32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            refuse(calls, errno);
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn io_uring_that_a_filter_of_system_calls_forbids_is_done_without_and_told() {
    const URING: [libc::c_long; 3] = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let [setup, enter, register] = URING;
    for calls in [&URING[..], &[setup], &[enter], &[register]] {
        for (errno, said) in [(libc::EPERM, "not permitted"), (libc::ENOSYS, "not implemented")] {
            refused(calls, errno, || {
                let (io, told) = choose(IoChoice::Auto).unwrap();
                assert_eq!(told.name, "pread/pwrite", "{calls:?}");
                let reason = told.reason.unwrap();
                assert!(reason.contains("io_uring is refused") && reason.contains(said), "{calls:?}: {reason}");
                let error = choose(IoChoice::Uring).err().unwrap();
                assert_eq!(error.kind, HostErrorKind::Unsupported, "{calls:?}");
                // And it works.
                let (_dir, file) = file();
                let data = pattern(8192, 5);
                assert!(io.write_durable(&[Durable { file: &file, offset: 4096, data: &data }])[0].is_ok());
                io.zero(&file, 1 << 20, 2 << 20).unwrap();
                assert!(io.is_zero(&file, 1 << 20, 2 << 20).unwrap());
                assert!(io.read(&file, 4096, 8192).unwrap() == data);
                io.flush(&file).unwrap();
            });
        }
    }
    // Who is under no filter is not touched by that.
    choose(IoChoice::Auto).unwrap();
}
