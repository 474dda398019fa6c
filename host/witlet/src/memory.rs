//! The C library's allocator, set up for a process of small things that come in bursts and go again.
//!
//! Left alone, it opens an arena for each thread that finds the others busy and moves the sizes that it maps and gives back
//! one by one up to 32 MiB; after a burst of pods both leave holes that nobody fills.

#[cfg(target_env = "gnu")]
pub(crate) fn settle_allocator() {
    const KIB: libc::c_int = 1024;
    let options = [
        (libc::M_ARENA_MAX, 2),
        (libc::M_MMAP_THRESHOLD, 128 * KIB),
        (libc::M_TRIM_THRESHOLD, 128 * KIB),
    ];
    for (option, value) in options {
        // SAFETY: it takes two numbers and no memory of ours, and `main` calls it before there is another thread. A value
        // that it refuses changes nothing.
        unsafe { libc::mallopt(option, value) };
    }
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn settle_allocator() {}
