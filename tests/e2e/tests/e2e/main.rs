//! End to end: the built agent on a real containerd, runc and CNI, asked through its API as any cluster's user would.
//!
//! All scenarios share one node. Those that only make pods run a few at a time, each in a namespace of its own; those that kill or
//! reconfigure something run alone, after them.
//!
//! Needs root. `WITLET_BIN` and `WITLET_CNI_BIN` name the programs; without them those in `target/debug` are taken, which must be
//! built (`cargo xtask test` does).

mod guest;
mod harness;
mod scenarios;
mod spec;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    witlet_lab::run_guardian_if_asked();
    harness::main(scenarios::ALL)
}
