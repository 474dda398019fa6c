//! Scenarios by hand, one idea each.
#![allow(clippy::unwrap_used)]

mod common;

use common::{all_kinds, job, paused, run, server};
use witlet_sim::pods::{Kind, PodPlan};
use witlet_sim::scenario::{Scenario, Step};
use witlet_sim::world::{Faults, Port};

const QUIET: Faults = Faults {
    latency_ms: 20,
    error: 0,
    lost_reply: 0,
    late_effect: 0,
    hint_lost: 0,
    hint_twice: 0,
    hint_late_ms: 5,
    no_hints: false,
};

fn quiet(pods: Vec<PodPlan>) -> Scenario {
    Scenario {
        faults: QUIET,
        calm_ms: 60_000,
        ..Scenario::new(pods)
    }
}

fn delete_all(count: usize, from_ms: u64) -> Vec<(u64, Step)> {
    (0..count)
        .map(|pod| (from_ms + 10 * pod as u64, Step::Delete { pod, grace: None }))
        .collect()
}

#[test]
fn every_kind_of_pod_reaches_its_goal() {
    run(&quiet(all_kinds()));
}

#[test]
fn every_kind_of_pod_goes_when_it_is_deleted() {
    let pods = all_kinds();
    let steps = delete_all(pods.len(), 30_000);
    run(&Scenario { steps, ..quiet(pods) });
}

#[test]
fn pods_that_are_deleted_while_they_start_begin_nothing_more() {
    for ms in (0..1500).step_by(75) {
        let plan = PodPlan::new("three", Kind::Server { crashes: vec![0, 0, 0] });
        let steps = vec![(ms, Step::Delete { pod: 0, grace: None })];
        run(&Scenario {
            steps,
            seed: ms,
            ..quiet(vec![plan])
        });
    }
}

#[test]
fn a_runtime_without_events_is_listed() {
    let pods = all_kinds();
    let faults = Faults {
        no_hints: true,
        ..QUIET
    };
    run(&Scenario { faults, ..quiet(pods) });
}

#[test]
fn lost_hints_only_delay() {
    let faults = Faults {
        hint_lost: 1000,
        ..QUIET
    };
    run(&Scenario {
        faults,
        calm_ms: 600_000,
        ..quiet(all_kinds())
    });
}

#[test]
fn repeated_and_late_hints_do_nothing() {
    let faults = Faults {
        hint_twice: 1000,
        hint_late_ms: 8000,
        ..QUIET
    };
    run(&Scenario {
        faults,
        calm_ms: 600_000,
        ..quiet(all_kinds())
    });
}

#[test]
fn sixty_pods_at_once_come_and_go_through_a_restart() {
    let pods: Vec<PodPlan> = (0..60).map(|i| server(&format!("web{i}"))).collect();
    let mut steps = delete_all(40, 40_000);
    steps.push((3_000, Step::Kill));
    steps.push((40_500, Step::Kill));
    run(&Scenario { steps, ..quiet(pods) });
}

#[test]
fn the_agent_may_be_killed_at_any_call_of_a_start() {
    for calls in 0..70 {
        let pods = vec![PodPlan::new("web", Kind::Init { failures: vec![0] }), job("job", 0)];
        let steps = vec![(0, Step::KillAtCall(calls))];
        run(&Scenario {
            steps,
            seed: calls,
            ..quiet(pods)
        });
    }
}

#[test]
fn the_agent_may_be_killed_at_any_call_of_an_end() {
    for calls in 0..40 {
        let pods = vec![PodPlan::new("web", Kind::Sidecar { job: false })];
        let steps = vec![
            (20_000, Step::KillAtCall(calls)),
            (20_000, Step::Delete { pod: 0, grace: None }),
        ];
        run(&Scenario {
            steps,
            seed: calls,
            ..quiet(pods)
        });
    }
}

#[test]
fn a_runtime_that_is_away_is_waited_for() {
    let mut steps = vec![
        (
            10_000,
            Step::Outage {
                port: Port::Runtime,
                ms: 40_000,
            },
        ),
        (10_000, Step::BreakHints),
    ];
    steps.push((20_000, Step::Delete { pod: 0, grace: None }));
    steps.push((25_000, Step::KillContainer { pod: 1, nth: 0 }));
    run(&Scenario {
        steps,
        ..quiet(all_kinds())
    });
}

#[test]
fn an_api_that_is_away_is_waited_for() {
    let steps = vec![
        (
            500,
            Step::Outage {
                port: Port::Api,
                ms: 60_000,
            },
        ),
        (20_000, Step::Delete { pod: 0, grace: None }),
        (30_000, Step::Kill),
    ];
    run(&Scenario {
        steps,
        ..quiet(all_kinds())
    });
}

#[test]
fn a_forced_deletion_leaves_nothing() {
    let steps = vec![(15_000, Step::Delete { pod: 0, grace: Some(0) }), (15_010, Step::Kill)];
    run(&Scenario {
        steps,
        ..quiet(vec![server("a"), server("b")])
    });
}

/// Garbage is collected once a minute after the start, so not at these moments.
#[test]
fn what_is_dead_of_an_evicted_pod_goes_at_once() {
    let crashing = PodPlan::new("web", Kind::Server { crashes: vec![2, 0] });
    let evict = (70_000, Step::Evict { pod: 0 });
    for steps in [vec![evict.clone()], vec![evict, (70_000, Step::Kill)]] {
        run(&Scenario {
            steps,
            calm_ms: 120_000,
            ..quiet(vec![crashing.clone()])
        });
    }
}

#[test]
fn a_cgroup_that_nobody_knows_goes_after_its_volumes() {
    let steps = vec![(20_000, Step::Leave { stuck_ms: 30_000 })];
    run(&Scenario {
        steps,
        calm_ms: 80_000,
        ..quiet(vec![server("web")])
    });
}

#[test]
fn an_object_that_stays_is_deleted_again() {
    let plan = PodPlan::new("one", Kind::Server { crashes: vec![0] });
    let steps = vec![
        (10_000, Step::LoseDelete),
        (20_000, Step::Delete { pod: 0, grace: None }),
    ];
    run(&Scenario {
        steps,
        ..quiet(vec![plan])
    });
}

#[test]
fn a_pod_that_is_replaced_gives_way() {
    let pods = vec![
        PodPlan {
            is_static: true,
            ..server("static")
        },
        server("web"),
    ];
    let steps = vec![(15_000, Step::Replace { pod: 0 }), (15_000, Step::Replace { pod: 1 })];
    run(&Scenario { steps, ..quiet(pods) });
}

#[test]
fn a_manifest_that_comes_back_runs_again() {
    // While the agent has not noticed, while the pod ends, while it is cleaned up, and long after.
    for ms in [5, 500, 2_000, 5_200, 5_600, 6_500, 20_000] {
        let pods = vec![
            PodPlan {
                is_static: true,
                stubborn: true,
                ..server("static")
            },
            PodPlan {
                is_static: true,
                ..server("quick")
            },
        ];
        let steps = vec![
            (15_000, Step::TakeAway { pod: 0, ms }),
            (15_000, Step::TakeAway { pod: 1, ms }),
        ];
        run(&Scenario {
            steps,
            calm_ms: 60_000,
            ..quiet(pods)
        });
    }
}

#[test]
fn a_lost_sandbox_is_made_anew() {
    let pods = vec![server("web"), PodPlan::new("init", Kind::Init { failures: vec![0] })];
    let steps = vec![
        (15_000, Step::KillSandbox { pod: 0 }),
        (15_000, Step::KillSandbox { pod: 1 }),
    ];
    run(&Scenario { steps, ..quiet(pods) });
}

/// The simulation can fail: a world in which containers always crash must not pass as one in which they run.
#[test]
fn a_goal_that_is_missed_is_noticed() {
    let plan = PodPlan::new("web", Kind::Server { crashes: vec![1000] });
    let why = quiet(vec![plan]).run(paused).unwrap_err();
    assert!(why.contains("not reached"), "{why}");
}
