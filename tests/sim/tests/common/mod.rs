//! What all simulations share.
#![allow(dead_code)]

use tokio::runtime::{Builder, Runtime};
use witlet_sim::pods::{Kind, PodPlan};
use witlet_sim::scenario::Scenario;

/// Time passes when nothing else is to be done. With `WITLET_SIM_LOG=debug` the agent tells what it does.
pub(crate) fn paused() -> Runtime {
    if let Ok(filter) = std::env::var("WITLET_SIM_LOG") {
        // Only the first one of a process counts.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .try_init();
    }
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

pub(crate) fn run(scenario: &Scenario) {
    if let Err(why) = scenario.run(paused) {
        panic!("{why}\n{scenario:#?}");
    }
}

pub(crate) fn server(name: &str) -> PodPlan {
    PodPlan::new(name, Kind::Server { crashes: vec![0] })
}

pub(crate) fn job(name: &str, code: i32) -> PodPlan {
    PodPlan::new(name, Kind::Job { code, after_ms: 2000 })
}

/// One of each.
pub(crate) fn all_kinds() -> Vec<PodPlan> {
    let kinds = [
        Kind::Server { crashes: vec![0, 2, 1] },
        Kind::Probed,
        Kind::Job {
            code: 0,
            after_ms: 1500,
        },
        Kind::Job {
            code: 7,
            after_ms: 1500,
        },
        Kind::Retried { failures: 2 },
        Kind::Init { failures: vec![0, 1] },
        Kind::InitFails,
        Kind::Sidecar { job: false },
        Kind::Sidecar { job: true },
        Kind::Deadline,
        Kind::Denied,
    ];
    let mut pods: Vec<PodPlan> = kinds
        .into_iter()
        .enumerate()
        .map(|(i, kind)| PodPlan::new(&format!("pod{i}"), kind))
        .collect();
    pods.push(PodPlan {
        is_static: true,
        ..server("static")
    });
    pods.push(PodPlan {
        is_static: true,
        ..job("static-job", 0)
    });
    pods.push(PodPlan {
        host_network: true,
        ..server("host")
    });
    pods.push(PodPlan {
        stubborn: true,
        volumes: false,
        ..server("stubborn")
    });
    pods
}
