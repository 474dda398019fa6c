//! One time for world and agent. It goes with the virtual time of the async runtime that is there at the moment, and stands
//! still between two of them.

use std::cell::Cell;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

#[derive(Clone, Copy)]
enum Clock {
    Stands(Timestamp),
    Runs(Timestamp, Instant),
}

thread_local! {
    /// Each simulation has its thread.
    static CLOCK: Cell<Clock> = const { Cell::new(Clock::Stands(Timestamp::UNIX_EPOCH)) };
}

pub fn now() -> Timestamp {
    match CLOCK.get() {
        Clock::Stands(at) => at,
        Clock::Runs(at, since) => later(at, since.elapsed()),
    }
}

pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| at.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

pub fn after_ms(ms: u64) -> Timestamp {
    later(now(), Duration::from_millis(ms))
}

/// When in the runtime's time that is.
pub fn instant(at: Timestamp) -> Instant {
    Instant::now() + Duration::try_from(at.duration_since(now())).unwrap_or_default()
}

/// Sets it to the beginning of a simulation.
pub fn begin(at: Timestamp) {
    CLOCK.set(Clock::Stands(at));
    witlet_agent::clock::replace(now);
}

/// Goes on with the runtime that this is called in.
pub fn run() {
    CLOCK.set(Clock::Runs(now(), Instant::now()));
}

/// To be called in the runtime, before its end.
pub fn stop() {
    CLOCK.set(Clock::Stands(now()));
}
