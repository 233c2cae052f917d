//! How the allocator of the C library keeps what was freed. With another one than glibc's nothing is done here.

/// Memory from this size on is a mapping of its own, which goes back to the kernel when it is freed. Said once, glibc no longer raises it
/// by itself to the largest block that was ever freed, up to 32 MiB.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 128 << 10;
/// Without a bound there are eight for each processor, and each keeps what its threads freed.
#[cfg(target_env = "gnu")]
const ARENAS_MAX: libc::c_int = 2;

/// Bounds what the process keeps of freed memory. To be called before it has threads: there are never less arenas than now.
pub fn bound_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt(3)` takes numbers; both are in range, and what it refuses stays as it was.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
    }
}

/// Gives whole pages that were freed back to the kernel, which the allocator does by itself at the end of its heap only. Takes as long as
/// looking through all that is free: some milliseconds after a large burst.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim(3)` may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    fn what_was_freed_between_things_that_stay_is_given_back() {
        bound_memory();
        let all: Vec<Box<[u8; 8192]>> = (0..8192).map(|_| Box::new([1; 8192])).collect();
        let mut at = 0;
        // One of eight stays, so that the heap cannot become shorter.
        let stays: Vec<_> = all
            .into_iter()
            .filter(|_| {
                at += 1;
                at % 8 == 0
            })
            .collect();
        let before = resident();
        give_memory_back();
        let after = resident();
        assert!(before > after + (32 << 20), "{before} bytes before, {after} after, {} stay", stays.len() * 8192);
    }
}
