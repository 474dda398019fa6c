// The sandbox container: holds the pod's namespaces, reaps what is left to process 1, ends when told to.
// Compiled by itself and linked statically; see `images.rs`.

use std::ffi::c_int;
use std::ptr::null_mut;

const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;
const SIGCHLD: c_int = 17;
const WNOHANG: c_int = 1;

unsafe extern "C" {
    fn _exit(status: c_int) -> !;
    fn pause() -> c_int;
    fn signal(signal: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
}

extern "C" fn end(_: c_int) {
    // SAFETY: async-signal-safe.
    unsafe { _exit(0) }
}

extern "C" fn reap(_: c_int) {
    // SAFETY: async-signal-safe; the status is not asked for.
    while unsafe { waitpid(-1, null_mut(), WNOHANG) } > 0 {}
}

fn main() {
    // SAFETY: both handlers call async-signal-safe functions only.
    unsafe {
        signal(SIGINT, end);
        signal(SIGTERM, end);
        signal(SIGCHLD, reap);
    }
    loop {
        // SAFETY: has no arguments.
        unsafe { pause() };
    }
}
