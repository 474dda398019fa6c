//! What is said of a call that the node makes again and again: its first failure, the outage now and then, and its end.

use std::fmt;

use jiff::Timestamp;

use crate::backoff::go_duration;

/// Between two words about the same outage: often enough to be seen in a log, too seldom to fill it.
const AGAIN: u64 = 60;

#[derive(Default, Debug)]
pub struct Outage(Option<Since>);

#[derive(Debug)]
struct Since {
    first: Timestamp,
    told: Timestamp,
    failures: u32,
}

/// How long, and how often it was tried meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lasted {
    pub seconds: u64,
    pub failures: u32,
}

impl fmt::Display for Lasted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tries, plural) = (self.failures, if self.failures == 1 { "" } else { "s" });
        write!(f, "for {}, {tries} time{plural}", go_duration(self.seconds))
    }
}

impl Outage {
    /// Some if a person is to be told now.
    pub fn failed(&mut self, now: Timestamp) -> Option<Lasted> {
        let Some(since) = &mut self.0 else {
            self.0 = Some(Since {
                first: now,
                told: now,
                failures: 1,
            });
            return Some(Lasted {
                seconds: 0,
                failures: 1,
            });
        };
        since.failures = since.failures.saturating_add(1);
        // A clock that is set back makes nobody silent for long: the next word is counted from there.
        if now < since.told {
            since.told = now;
        }
        if seconds(since.told, now) < AGAIN {
            return None;
        }
        since.told = now;
        Some(since.lasted(now))
    }

    /// Some if that is news.
    pub fn worked(&mut self, now: Timestamp) -> Option<Lasted> {
        self.0.take().map(|since| since.lasted(now))
    }
}

impl Since {
    fn lasted(&self, now: Timestamp) -> Lasted {
        Lasted {
            seconds: seconds(self.first, now),
            failures: self.failures,
        }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn an_outage_is_told_at_once_then_now_and_then_and_at_its_end() {
        let mut outage = Outage::default();
        assert_eq!(outage.worked(at(0)), None, "what always worked is no news");
        // One try every seven seconds, for three minutes.
        let told: Vec<_> = (0..=25)
            .filter_map(|n| Some((n * 7, outage.failed(at(n * 7))?)))
            .map(|(second, lasted)| (second, lasted.to_string()))
            .collect();
        let expected = [
            (0, "for 0s, 1 time"),
            (63, "for 1m3s, 10 times"),
            (126, "for 2m6s, 19 times"),
        ];
        assert_eq!(told, expected.map(|(second, text)| (second, text.to_owned())));
        assert_eq!(outage.worked(at(180)).unwrap().to_string(), "for 3m0s, 26 times");
        assert_eq!(outage.worked(at(181)), None, "the end is told once");
        assert!(outage.failed(at(182)).is_some(), "the next outage is another");
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nobody() {
        let mut outage = Outage::default();
        outage.failed(at(1000));
        assert_eq!(outage.failed(at(0)), None);
        assert!(outage.failed(at(60)).is_some());
        assert_eq!(outage.worked(at(0)).unwrap().seconds, 0);
    }
}
