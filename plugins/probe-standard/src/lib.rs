//! The probes of the pod spec: `exec`, `httpGet`, `tcpSocket` and `grpc`.
//!
//! Everything worth reading is in [`logic`]; here it is given a real host.

use std::time::Duration;

use witlet_sdk::probe::{self, Container, Outcome, Pod, Probe};
use witlet_sdk::{Result, time};

pub mod logic;

#[derive(Default)]
struct Standard;

#[probe::plugin(name = "probe-standard", capabilities = ["pod-net", "container-exec"])]
impl Probe for Standard {
    fn check(&self, pod: &Pod, container: &Container, params: &str, timeout: Duration) -> Result<Outcome> {
        let target = logic::Target {
            net: pod,
            exec: container,
            pod_ip: pod.ips().into_iter().next(),
            container: &|| container.json(),
            clock: time::monotonic,
        };
        logic::check(&target, params, timeout)
    }
}
