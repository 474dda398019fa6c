#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::Ending::{Answered, Broke, Late};
use super::breaker::{Breaker, Change, Gate, Rules, State};
use super::probation::{self, Probation, Verdict};
use super::*;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const RULES: Rules = Rules {
    failures: 3,
    window: Duration::from_secs(10),
    open: Duration::from_secs(5),
};

#[test]
fn faults_over_several_pods_open_it_and_one_answer_closes_it() {
    let mut breaker = Breaker::new(RULES);
    assert_eq!(breaker.record(secs(0), Some(1), Broke), None);
    assert_eq!(breaker.record(secs(1), Some(1), Broke), None);
    assert_eq!(breaker.record(secs(2), Some(2), Broke), Some(Change::Opened));
    assert_eq!(breaker.gate(secs(3), Some(3)), Gate::Refuse { until: secs(7) });
    assert_eq!(breaker.state(secs(3)), State::Open { until: secs(7) });
    // One call tries, the others wait for what comes of it.
    assert_eq!(breaker.gate(secs(7), Some(3)), Gate::Trial);
    assert_eq!(breaker.gate(secs(7), Some(4)), Gate::Refuse { until: secs(12) });
    assert_eq!(breaker.record(secs(8), Some(3), Broke), None);
    assert_eq!(breaker.gate(secs(9), None), Gate::Refuse { until: secs(13) });
    assert_eq!(breaker.gate(secs(13), Some(3)), Gate::Trial);
    assert_eq!(breaker.record(secs(13), Some(3), Answered), Some(Change::Closed));
    assert_eq!(breaker.gate(secs(13), Some(4)), Gate::Pass);
    assert_eq!(breaker.state(secs(13)), State::Closed);
}

#[test]
fn a_trial_that_is_never_recorded_blocks_nobody_for_ever() {
    let mut breaker = Breaker::new(RULES);
    for n in 0..3 {
        breaker.record(secs(0), Some(n), Broke);
    }
    assert_eq!(breaker.gate(secs(5), None), Gate::Trial);
    assert_eq!(breaker.gate(secs(10), None), Gate::Trial);
}

#[test]
fn one_pod_alone_closes_only_its_own_way() {
    let mut breaker = Breaker::new(RULES);
    for _ in 0..2 {
        breaker.record(secs(0), Some(1), Broke);
    }
    assert_eq!(breaker.record(secs(0), Some(1), Broke), Some(Change::SubjectOpened));
    assert_eq!(breaker.gate(secs(1), Some(1)), Gate::Refuse { until: secs(5) });
    assert_eq!(breaker.gate(secs(1), Some(2)), Gate::Pass);
    assert_eq!(breaker.record(secs(1), Some(2), Answered), None);
    assert_eq!(breaker.blamed(), 1);
    assert_eq!(breaker.gate(secs(6), Some(1)), Gate::Trial);
    assert_eq!(breaker.record(secs(6), Some(1), Answered), Some(Change::SubjectClosed));
    assert_eq!(breaker.gate(secs(6), Some(1)), Gate::Pass);
}

#[test]
fn calls_about_nobody_count_for_the_plugin() {
    let mut breaker = Breaker::new(RULES);
    breaker.record(secs(0), None, Broke);
    breaker.record(secs(0), None, Broke);
    assert_eq!(breaker.record(secs(0), None, Broke), Some(Change::Opened));
}

#[test]
fn old_faults_and_late_answers_open_nothing() {
    let mut breaker = Breaker::new(RULES);
    for n in 0..20 {
        assert_eq!(breaker.record(secs(n * 6), Some(n), Broke), None, "{n}");
        assert_eq!(breaker.record(secs(n * 6), Some(n), Late), None);
    }
}

fn probation_rules() -> probation::Rules {
    probation::Rules {
        time: secs(60),
        calls: 100,
        faults: 3,
        percent: 5,
    }
}

#[test]
fn a_version_that_breaks_goes_back() {
    let mut probation = Probation::new(probation_rules(), secs(0));
    assert_eq!(probation.record(secs(1), Some(1), Broke), Verdict::Continue);
    assert_eq!(probation.record(secs(1), Some(2), Late), Verdict::Continue);
    let back = Verdict::RollBack { faults: 3, calls: 3 };
    assert_eq!(probation.record(secs(1), Some(1), Broke), back);
}

#[test]
fn few_faults_among_many_calls_pass() {
    let mut probation = Probation::new(probation_rules(), secs(0));
    for n in 0..99 {
        let ending = if n % 25 == 24 { Broke } else { Answered };
        assert_eq!(probation.record(secs(1), Some(n), ending), Verdict::Continue, "{n}");
    }
    assert_eq!(probation.record(secs(1), Some(1), Answered), Verdict::Passed);
}

#[test]
fn one_pod_does_not_take_a_version_back() {
    let mut probation = Probation::new(probation_rules(), secs(0));
    probation.record(secs(1), Some(1), Answered);
    for _ in 0..20 {
        assert_eq!(probation.record(secs(1), Some(2), Broke), Verdict::Continue);
    }
    // With a second one it is the version.
    assert!(matches!(
        probation.record(secs(1), Some(3), Broke),
        Verdict::RollBack { .. }
    ));
    // Nobody else to compare with: the version.
    let mut probation = Probation::new(probation_rules(), secs(0));
    for _ in 0..2 {
        probation.record(secs(1), Some(2), Broke);
    }
    assert!(matches!(
        probation.record(secs(1), Some(2), Broke),
        Verdict::RollBack { .. }
    ));
}

#[test]
fn time_ends_it() {
    let mut probation = Probation::new(probation_rules(), secs(0));
    assert_eq!(probation.record(secs(60), None, Answered), Verdict::Passed);
    assert!(probation.is_over(secs(60)) && !probation.is_over(secs(59)));
}

proptest! {
    /// Whatever happens: after the open time somebody may try, and a call that answers in the end closes everything.
    #[test]
    fn nothing_stays_open(calls in proptest::collection::vec((0u64..4, 0u8..3, 0u64..20), 0..200)) {
        let mut breaker = Breaker::new(RULES);
        let mut now = 0;
        for (subject, ending, pause) in calls {
            now += pause;
            if !matches!(breaker.gate(secs(now), Some(subject)), Gate::Refuse { .. }) {
                let ending = [Answered, Broke, Late][usize::from(ending)];
                breaker.record(secs(now), Some(subject), ending);
            }
        }
        now += 20;
        for subject in 0..4 {
            let refused = matches!(breaker.gate(secs(now), Some(subject)), Gate::Refuse { .. });
            prop_assert!(!refused);
            breaker.record(secs(now), Some(subject), Answered);
        }
        for subject in 0..4 {
            prop_assert_eq!(breaker.gate(secs(now), Some(subject)), Gate::Pass);
        }
        prop_assert_eq!(breaker.blamed(), 0);
    }
}
