//! Scenarios by chance. The choices of a scenario are seeded; the agent's own jitter is not, so a failure shows all that
//! happened.
#![allow(clippy::unwrap_used)]

mod common;

use common::paused;
use proptest::prelude::*;
use witlet_sim::pods::{Kind, PodPlan};
use witlet_sim::scenario::{Scenario, Step};
use witlet_sim::world::{Faults, Port};

const CALM_MS: u64 = 45_000;

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => prop::collection::vec(0u32..3, 1..4).prop_map(|crashes| Kind::Server { crashes }),
        1 => Just(Kind::Probed),
        2 => (0i32..2, 0u64..5000).prop_map(|(code, after_ms)| Kind::Job { code, after_ms }),
        1 => (0u32..3).prop_map(|failures| Kind::Retried { failures }),
        2 => prop::collection::vec(0u32..2, 1..3).prop_map(|failures| Kind::Init { failures }),
        1 => Just(Kind::InitFails),
        2 => any::<bool>().prop_map(|job| Kind::Sidecar { job }),
        1 => Just(Kind::Deadline),
        1 => Just(Kind::Denied),
    ]
}

fn pod() -> impl Strategy<Value = (u64, PodPlan)> {
    let flags = (
        prop::bool::weighted(0.2),
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    );
    (0u64..20_000, kind(), flags, 1i64..20).prop_map(
        |(ms, kind, (is_static, volumes, stubborn, host_network), grace)| {
            let may_be_static = matches!(kind, Kind::Server { .. } | Kind::Job { .. } | Kind::Probed);
            let plan = PodPlan {
                is_static: is_static && may_be_static,
                grace,
                volumes,
                stubborn,
                host_network,
                ..PodPlan::new("", kind)
            };
            (ms, plan)
        },
    )
}

fn pods() -> impl Strategy<Value = Vec<(u64, PodPlan)>> {
    prop::collection::vec(pod(), 1..6).prop_map(|mut pods| {
        for (index, (_, pod)) in pods.iter_mut().enumerate() {
            pod.name = format!("pod{index}");
        }
        pods
    })
}

fn faults() -> impl Strategy<Value = Faults> {
    let calls = (0u64..200, 0u32..120, 0u32..80, 0u32..50);
    let hints = (0u32..1000, 0u32..500, 0u64..3000, prop::bool::weighted(0.2));
    (calls, hints).prop_map(|((latency_ms, error, lost_reply, late_effect), hints)| Faults {
        latency_ms,
        error,
        lost_reply,
        late_effect,
        hint_lost: hints.0,
        hint_twice: hints.1,
        hint_late_ms: hints.2,
        no_hints: hints.3,
    })
}

fn user() -> impl Strategy<Value = Step> {
    let grace = prop_oneof![4 => Just(None), 1 => Just(Some(0)), 2 => (1i64..10).prop_map(Some)];
    prop_oneof![
        5 => (0usize..6, grace).prop_map(|(pod, grace)| Step::Delete { pod, grace }),
        1 => (0usize..6).prop_map(|pod| Step::Replace { pod }),
        2 => (0usize..6).prop_map(|pod| Step::ChangeImage { pod }),
    ]
}

fn machine() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0usize..6, 0usize..3).prop_map(|(pod, nth)| Step::KillContainer { pod, nth }),
        2 => (0usize..6).prop_map(|pod| Step::KillSandbox { pod }),
        2 => Just(Step::BreakHints),
        1 => (0u64..15_000).prop_map(|ms| Step::Outage { port: Port::Runtime, ms }),
        1 => (0u64..15_000).prop_map(|ms| Step::Outage { port: Port::Api, ms }),
        1 => (0u64..15_000).prop_map(|ms| Step::Outage { port: Port::Node, ms }),
    ]
}

fn restart() -> impl Strategy<Value = Step> {
    prop_oneof![1 => Just(Step::Kill), 3 => (0u64..60).prop_map(Step::KillAtCall)]
}

fn steps(step: impl Strategy<Value = Step>, most: usize) -> impl Strategy<Value = Vec<(u64, Step)>> {
    prop::collection::vec((0..CALM_MS, step), 0..=most)
}

fn scenario(
    faults: impl Strategy<Value = Faults>,
    steps: impl Strategy<Value = Vec<(u64, Step)>>,
) -> impl Strategy<Value = Scenario> {
    (any::<u64>(), faults, pods(), steps).prop_map(|(seed, faults, pods, steps)| Scenario {
        seed,
        faults,
        pods,
        steps,
        calm_ms: CALM_MS,
    })
}

fn gentle() -> impl Strategy<Value = Faults> {
    (0u64..100, 0u32..1000).prop_map(|(latency_ms, hint_lost)| Faults {
        latency_ms,
        hint_lost,
        ..Faults::default()
    })
}

fn holds(scenario: &Scenario) -> Result<(), TestCaseError> {
    scenario.run(paused).map_err(TestCaseError::fail)
}

fn cases(cases: u32) -> ProptestConfig {
    // What happened is long, and the search for a smaller scenario is in vain where jitter decides.
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn pods_come_and_go(scenario in scenario(gentle(), steps(user(), 6))) {
        holds(&scenario)?;
    }

    #[test]
    fn restarts_of_the_agent_touch_nothing(
        scenario in scenario(gentle(), steps(prop_oneof![user(), restart()], 8))
    ) {
        holds(&scenario)?;
    }

    #[test]
    fn errors_of_calls_only_delay(scenario in scenario(faults(), steps(user(), 4))) {
        holds(&scenario)?;
    }

    #[test]
    fn everything_at_once(
        scenario in scenario(faults(), steps(prop_oneof![user(), machine(), restart()], 10))
    ) {
        holds(&scenario)?;
    }
}
