#![allow(clippy::unwrap_used)]

use serde_json::json;
use witlet_sdk::probe::{GrpcReply, HttpReply, HttpRequest, Output, Scheme, Verdict};
use witlet_sdk_testing::{FakePodNet, Script};

use super::*;

mod exec;
mod grpc;
mod http;
mod tcp;

type FakeExec = Script<Vec<String>, Output>;

const CONTAINER: &str = r#"{
    "name": "app",
    "env": [{"name": "A", "value": "one"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    "ports": [{"name": "web", "containerPort": 8080}]
}"#;

/// Checks against a pod at 10.0.0.1, with a clock that stands still.
fn run(net: &FakePodNet, exec: &FakeExec, params: &serde_json::Value) -> Result<Outcome> {
    let target = Target {
        net,
        exec,
        pod_ip: Some("10.0.0.1".to_owned()),
        container: &|| CONTAINER.to_owned(),
        clock: || Duration::ZERO,
    };
    check(&target, &params.to_string(), Duration::from_secs(1))
}

#[test]
fn a_probe_needs_a_handler() {
    let error = run(
        &FakePodNet::default(),
        &FakeExec::default(),
        &json!({"periodSeconds": 3}),
    )
    .unwrap_err();
    assert_eq!(error, Error::Invalid("missing probe handler".to_owned()));
}

#[test]
fn ports_are_numbers_or_names() {
    let container = || Ok(serde_json::from_str(CONTAINER).unwrap());
    let text = |t: &str| IntOrString::String(t.to_owned());
    for (given, expected) in [
        (IntOrString::Int(1), Ok(1)),
        (IntOrString::Int(65535), Ok(65535)),
        (IntOrString::Int(0), Err("invalid port number: 0")),
        (IntOrString::Int(65536), Err("invalid port number: 65536")),
        (IntOrString::Int(-1), Err("invalid port number: -1")),
        (text("web"), Ok(8080)),
        (text("9090"), Ok(9090)),
        (text("70000"), Err("invalid port number: 70000")),
        (text("admin"), Err("strconv.Atoi: parsing \"admin\": invalid syntax")),
    ] {
        assert_eq!(
            port(&given, container).map_err(|e| e.message().to_owned()),
            expected.map_err(str::to_owned)
        );
    }
}

#[test]
fn durations_as_go_prints_them() {
    for (millis, text) in [
        (0, "0s"),
        (250, "250ms"),
        (1000, "1s"),
        (1500, "1.5s"),
        (60_000, "1m0s"),
        (90_010, "1m30.01s"),
        (3_600_000, "1h0m0s"),
    ] {
        assert_eq!(go::duration(Duration::from_millis(millis)), text);
    }
    assert_eq!(go::duration(Duration::from_micros(1500)), "1.5ms");
    assert_eq!(go::duration(Duration::from_nanos(1500)), "1.5µs");
}

#[test]
fn quotes_as_go_prints_them() {
    assert_eq!(go::quote("a \"b\" \\ \n\u{1}\u{85}é"), r#""a \"b\" \\ \n\x01\u0085é""#);
}
