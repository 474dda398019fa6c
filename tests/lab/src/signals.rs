//! Ctrl-C: the first one asks everything to end in order, the second ends this process and leaves the rest to the guardian.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    if INTERRUPTED.swap(true, Ordering::SeqCst) {
        // SAFETY: async-signal-safe by POSIX.
        unsafe { libc::_exit(130) }
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP only set [`interrupted`].
pub fn install() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler touches one atomic and calls `_exit`, both of which are async-signal-safe.
        unsafe { libc::signal(signal, note as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}
