#![allow(clippy::unwrap_used)]

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateRunning, ContainerStateTerminated};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn timing() -> Timing {
    Timing::of(&Probe {
        failure_threshold: Some(2),
        success_threshold: Some(1),
        ..Probe::default()
    })
}

fn running(id: &str, since: i64, started: bool) -> PodStatus {
    let state = ContainerState {
        running: Some(ContainerStateRunning {
            started_at: Some(Time(at(since))),
        }),
        ..ContainerState::default()
    };
    status(id, state, started)
}

fn exited(id: &str) -> PodStatus {
    let state = ContainerState {
        terminated: Some(ContainerStateTerminated::default()),
        ..ContainerState::default()
    };
    status(id, state, false)
}

fn status(id: &str, state: ContainerState, started: bool) -> PodStatus {
    let container = ContainerStatus {
        name: "c".into(),
        container_id: (!id.is_empty()).then(|| format!("containerd://{id}")),
        state: Some(state),
        started: Some(started),
        ..ContainerStatus::default()
    };
    PodStatus {
        phase: Some("Running".into()),
        container_statuses: Some(vec![container]),
        ..PodStatus::default()
    }
}

/// The agent started at second 0, and it is second 100 unless a test says otherwise.
fn facts(status: &PodStatus) -> Facts<'_> {
    Facts {
        now: at(100),
        agent_started: at(0),
        status: Some(status),
        deleting: false,
        restarts: true,
    }
}

fn decision(publish: Option<(&str, Option<bool>)>, step: Step) -> Decision {
    let publish = publish.map(|(id, result)| Publication {
        container_id: id.into(),
        result,
    });
    Decision { publish, step }
}

const KINDS: [Kind; 3] = [Kind::Startup, Kind::Readiness, Kind::Liveness];

#[test]
fn a_first_tick_publishes_the_initial_value_and_goes_on() {
    let cases = [
        // kind, started, initial, step
        (Kind::Startup, false, None, Step::Run),
        (Kind::Startup, true, None, Step::Wait),
        (Kind::Readiness, false, Some(false), Step::Wait),
        (Kind::Readiness, true, Some(false), Step::Run),
        (Kind::Liveness, false, Some(true), Step::Wait),
        (Kind::Liveness, true, Some(true), Step::Run),
    ];
    for (kind, started, initial, step) in cases {
        let mut state = ProbeState::new(kind, "c", timing());
        let pod = running("a", 50, started);
        assert_eq!(
            state.due(facts(&pod)),
            decision(Some(("a", initial)), step),
            "{kind:?} {started}"
        );
        // Once.
        assert_eq!(state.due(facts(&pod)), decision(None, step), "{kind:?} {started}");
    }
}

#[test]
fn nothing_to_probe() {
    for kind in KINDS {
        let mut state = ProbeState::new(kind, "c", timing());
        let none = PodStatus::default();
        assert_eq!(
            state.due(Facts {
                status: None,
                ..facts(&none)
            }),
            decision(None, Step::Wait)
        );
        assert_eq!(state.due(facts(&none)), decision(None, Step::Wait));
        assert_eq!(state.due(facts(&running("", 50, true))), decision(None, Step::Wait));
        for phase in ["Failed", "Succeeded"] {
            let over = PodStatus {
                phase: Some(phase.into()),
                ..running("a", 50, true)
            };
            assert_eq!(state.due(facts(&over)), decision(None, Step::Exit));
        }
    }
}

#[test]
fn a_container_that_does_not_run_fails_and_ends_the_worker_if_it_stays_so() {
    for kind in KINDS {
        for (restarts, step) in [(true, Step::Wait), (false, Step::Exit)] {
            let mut state = ProbeState::new(kind, "c", timing());
            let pod = exited("a");
            let tick = state.due(Facts {
                restarts,
                ..facts(&pod)
            });
            assert_eq!(tick, decision(Some(("a", Some(false))), step), "{kind:?}");
        }
    }
}

#[test]
fn deletion_silences_liveness_and_startup_only() {
    for kind in KINDS {
        let mut state = ProbeState::new(kind, "c", timing());
        let pod = running("a", 50, true);
        let tick = state.due(Facts {
            deleting: true,
            ..facts(&pod)
        });
        let expected = match kind {
            Kind::Readiness => decision(Some(("a", Some(false))), Step::Run),
            _ => decision(Some(("a", Some(true))), Step::Exit),
        };
        assert_eq!(tick, expected, "{kind:?}");
    }
}

#[test]
fn the_initial_delay_counts_whole_seconds_of_the_container() {
    let timing = Timing {
        initial_delay: Duration::from_secs(5),
        ..timing()
    };
    let pod = running("a", 50, true);
    for (millis, step) in [(54_999, Step::Wait), (55_000, Step::Run)] {
        let mut state = ProbeState::new(Kind::Liveness, "c", timing);
        let now = at(0) + jiff::SignedDuration::from_millis(millis);
        assert_eq!(state.due(Facts { now, ..facts(&pod) }).step, step, "{millis}");
    }
}

#[test]
fn a_restart_of_the_agent_resets_nothing() {
    // The container ran for 11 seconds when the agent started: no initial value. At 10 it is as new.
    for (since, readiness) in [(-11, None), (-10, Some(("a", Some(false))))] {
        let pod = running("a", since, true);
        let mut state = ProbeState::new(Kind::Readiness, "c", timing());
        assert_eq!(state.due(facts(&pod)), decision(readiness, Step::Run), "{since}");
    }
    // One that had started stays so, one that had not is probed.
    let mut state = ProbeState::new(Kind::Startup, "c", timing());
    assert_eq!(
        state.due(facts(&running("a", -11, true))),
        decision(Some(("a", Some(true))), Step::Wait)
    );
    let mut state = ProbeState::new(Kind::Startup, "c", timing());
    assert_eq!(state.due(facts(&running("a", -11, false))), decision(None, Step::Run));
}

#[test]
fn results_count_when_they_repeat() {
    use Outcome::{Failure, Fault, Success};
    let timing = Timing {
        success_threshold: 2,
        failure_threshold: 3,
        ..timing()
    };
    type Case<'a> = (Kind, &'a [(Outcome, Option<bool>)]);
    let cases: &[Case<'_>] = &[
        (
            Kind::Readiness,
            &[
                (Failure, None),
                (Failure, None),
                (Success, None),
                (Failure, None),
                (Failure, None),
                (Fault, None),
                (Failure, Some(false)),
                (Failure, Some(false)),
                (Success, None),
                (Success, Some(true)),
                (Success, Some(true)),
            ],
        ),
        (
            Kind::Liveness,
            &[
                (Success, None),
                (Success, Some(true)),
                (Failure, None),
                (Failure, None),
                (Failure, Some(false)),
            ],
        ),
        (
            Kind::Startup,
            &[(Failure, None), (Failure, None), (Failure, Some(false))],
        ),
        (
            Kind::Startup,
            &[(Failure, None), (Success, None), (Success, Some(true))],
        ),
    ];
    for (kind, outcomes) in cases {
        let mut state = ProbeState::new(*kind, "c", timing);
        state.due(facts(&running("a", 50, *kind != Kind::Startup)));
        for (i, (outcome, expected)) in outcomes.iter().enumerate() {
            let published = state.record(*outcome).map(|p| p.result.unwrap());
            assert_eq!(published, *expected, "{kind:?} {i}");
        }
    }
}

#[test]
fn what_is_said_of_an_instance_for_good_holds_until_the_next() {
    let ends: [(Kind, Outcome, bool); 4] = [
        (Kind::Liveness, Outcome::Failure, true),
        (Kind::Startup, Outcome::Failure, true),
        (Kind::Startup, Outcome::Success, true),
        (Kind::Readiness, Outcome::Failure, false),
    ];
    for (kind, outcome, holds) in ends {
        let mut state = ProbeState::new(kind, "c", timing());
        let started = kind != Kind::Startup;
        let pod = running("a", 50, started);
        state.due(facts(&pod));
        while state.record(outcome).is_none() {}
        let step = if holds { Step::Wait } else { Step::Run };
        assert_eq!(state.due(facts(&pod)), decision(None, step), "{kind:?} {outcome:?}");
        // A new container is probed anew, from its first result.
        let next = running("b", 60, started);
        assert_eq!(
            state.due(facts(&next)),
            decision(Some(("b", kind.initial())), Step::Run),
            "{kind:?}"
        );
        assert_eq!(state.record(Outcome::Failure), None);
    }
}

#[test]
fn a_worker_on_hold_does_not_look_at_how_its_container_ended() {
    let mut state = ProbeState::new(Kind::Liveness, "c", timing());
    state.due(facts(&running("a", 50, true)));
    while state.record(Outcome::Failure).is_none() {}
    assert_eq!(
        state.due(Facts {
            restarts: false,
            ..facts(&exited("a"))
        }),
        decision(None, Step::Wait)
    );
}

#[test]
fn only_a_young_agent_spreads_its_first_tries() {
    let timing = Timing {
        period: Duration::from_secs(10),
        ..timing()
    };
    assert_eq!(timing.first_wait(Duration::from_secs(9)), Duration::from_secs(10));
    assert_eq!(timing.first_wait(Duration::from_secs(10)), Duration::ZERO);
}

#[test]
fn missing_and_absurd_numbers_are_the_defaults() {
    let expected = Timing {
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    };
    assert_eq!(Timing::of(&Probe::default()), expected);
    let absurd = Probe {
        initial_delay_seconds: Some(-1),
        period_seconds: Some(0),
        timeout_seconds: Some(-5),
        success_threshold: Some(0),
        failure_threshold: Some(i32::MIN),
        ..Probe::default()
    };
    assert_eq!(Timing::of(&absurd), expected);
}
