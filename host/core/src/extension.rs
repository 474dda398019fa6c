//! Decisions about plugins: when one is not asked for a while, and when a new version of one goes back.
//!
//! Time is a [`Duration`] since any fixed moment, the same for all calls on one value.

pub mod breaker;
pub mod probation;

#[cfg(test)]
mod tests;

use std::time::Duration;

/// Whom a call was about, such as a pod: any number that is the same for the same one.
pub type Subject = u64;

/// How one call ended, as far as the plugin's health is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It answered, be it with an error of its own.
    Answered,
    /// It broke: a trap, no processor time left, an answer that makes no sense.
    Broke,
    /// It did not answer in time. What it waited for may be to blame as well as the plugin.
    Late,
}

impl Ending {
    fn is_fault(self) -> bool {
        self != Self::Answered
    }
}

/// Moments of the last so many faults, oldest first.
fn forget_before(faults: &mut std::collections::VecDeque<(Duration, Option<Subject>)>, moment: Duration) {
    while faults.front().is_some_and(|(at, _)| *at < moment) {
        faults.pop_front();
    }
}
