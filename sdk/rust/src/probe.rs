//! Probes: is this container alive, ready, started?

use std::time::Duration;

pub use witlet_sdk_macros::probe_plugin as plugin;

use self::bindings::exports::witlet::probe::probe::Guest;
pub use self::bindings::exports::witlet::probe::probe::{Outcome, Verdict};
pub use self::bindings::witlet::probe::container_exec::Output;
pub use self::bindings::witlet::probe::pod_net::{GrpcReply, GrpcRequest, HttpReply, HttpRequest, Scheme};
use self::bindings::witlet::probe::{container_exec, pod_net};
use crate::registration::{Exported, Registered, enter};
use crate::time::millis;
pub use crate::{Container, Pod};
use crate::{Error, Result};

pub trait Probe {
    /// One attempt. Thresholds, periods and retries belong to the host.
    ///
    /// `params` is a JSON object: the v1 Probe for a probe of the pod spec, what stands under `params` for an annotated one.
    fn check(&self, pod: &Pod, container: &Container, params: &str, timeout: Duration) -> Result<Outcome>;
}

/// Capability `pod-net`: network access to the pod under test, from the node's network namespace.
pub trait PodNet {
    type Connection: Connection;

    /// One GET exchange on a fresh connection: no redirects followed, no proxy, server certificates not verified.
    fn http_get(&self, request: &HttpRequest) -> Result<HttpReply>;
    /// To the pod's primary address if no host is given. The connection is closed when it is dropped.
    fn tcp_connect(&self, host: Option<&str>, port: u16, timeout: Duration) -> Result<Self::Connection>;
    /// One unary gRPC call to the pod's primary address, without TLS. `Unavailable` or `Timeout` if no connection was made.
    fn grpc_unary(&self, request: &GrpcRequest) -> Result<GrpcReply>;
}

/// A TCP connection to the pod under test.
pub trait Connection {
    /// Writes everything or fails.
    fn write(&self, data: &[u8], timeout: Duration) -> Result<()>;
    /// Up to `max` bytes; nothing is the end of the stream.
    fn read(&self, max: u32, timeout: Duration) -> Result<Vec<u8>>;
}

/// Capability `container-exec`: run a command in the container under test.
pub trait ContainerExec {
    /// `Timeout` when the command did not end in time; the runtime then kills it.
    fn run(&self, argv: &[String], timeout: Duration) -> Result<Output>;
}

impl PodNet for Pod {
    type Connection = pod_net::Connection;

    fn http_get(&self, request: &HttpRequest) -> Result<HttpReply> {
        pod_net::http_get(self, request)
    }

    fn tcp_connect(&self, host: Option<&str>, port: u16, timeout: Duration) -> Result<Self::Connection> {
        pod_net::tcp_connect(self, host, port, millis(timeout))
    }

    fn grpc_unary(&self, request: &GrpcRequest) -> Result<GrpcReply> {
        pod_net::grpc_unary(self, request)
    }
}

impl Connection for pod_net::Connection {
    fn write(&self, data: &[u8], timeout: Duration) -> Result<()> {
        pod_net::Connection::write(self, data, millis(timeout))
    }

    fn read(&self, max: u32, timeout: Duration) -> Result<Vec<u8>> {
        pod_net::Connection::read(self, max, millis(timeout))
    }
}

impl ContainerExec for Container {
    fn run(&self, argv: &[String], timeout: Duration) -> Result<Output> {
        container_exec::run(self, argv, millis(timeout))
    }
}

impl Outcome {
    pub fn pass(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Pass,
            message: message.into(),
        }
    }

    pub fn warn(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warn,
            message: message.into(),
        }
    }

    pub fn fail(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            message: message.into(),
        }
    }
}

impl<T: Probe + Registered> Guest for Exported<T> {
    fn check(pod: &Pod, container: &Container, params: String, timeout_ms: u32) -> Result<Outcome, Error> {
        enter();
        T::get().check(pod, container, &params, Duration::from_millis(timeout_ms.into()))
    }
}

#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/probe/0.1"],
        world: "witlet:probe/probe-plugin@0.1.0",
        with: {
            "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
            "witlet:base/objects@0.1.0": crate::base::bindings::witlet::base::objects,
            "witlet:base/log@0.1.0": crate::base::bindings::witlet::base::log,
            "witlet:base/clock@0.1.0": crate::base::bindings::witlet::base::clock,
            "witlet:base/random@0.1.0": crate::base::bindings::witlet::base::random,
            "witlet:base/config@0.1.0": crate::base::bindings::witlet::base::config,
            "witlet:base/kv@0.1.0": crate::base::bindings::witlet::base::kv,
        },
        generate_all,
        additional_derives: [PartialEq, Clone],
        pub_export_macro: true,
        default_bindings_module: "::witlet_sdk::probe::bindings",
    });
}
