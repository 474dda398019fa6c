#![allow(clippy::unwrap_used)]

use super::*;

fn checked(net: &FakePodNet, action: &serde_json::Value) -> Result<Outcome> {
    run(net, &FakeExec::default(), &json!({"tcpSocket": action}))
}

fn answering(error: Option<Error>) -> FakePodNet {
    FakePodNet {
        tcp: Script::new([error.map_or_else(|| Ok(Default::default()), Err)]),
        ..FakePodNet::default()
    }
}

#[test]
fn a_connection_is_enough() {
    let net = answering(None);
    assert_eq!(checked(&net, &json!({"port": "web"})), Ok(Outcome::pass("")));
    assert_eq!(net.tcp.asked(), [(None, 8080)]);
}

#[test]
fn another_host_may_be_asked_for() {
    let net = answering(Some(Error::Unavailable("Connection refused (os error 111)".to_owned())));
    let outcome = checked(&net, &json!({"port": 80, "host": "fd00::2"}));
    assert_eq!(
        outcome,
        Ok(Outcome::fail("dial tcp [fd00::2]:80: connect: connection refused"))
    );
    assert_eq!(net.tcp.asked(), [(Some("fd00::2".to_owned()), 80)]);
}

#[test]
fn failures_read_as_go_prints_them() {
    for (error, message) in [
        (
            Error::Unavailable("connection refused".into()),
            "dial tcp 10.0.0.1:80: connect: connection refused",
        ),
        (
            Error::Failed("connect: No route to host".into()),
            "dial tcp 10.0.0.1:80: connect: no route to host",
        ),
        (Error::Timeout("deadline".into()), "dial tcp 10.0.0.1:80: i/o timeout"),
        (
            Error::Failed("lookup x: no such host".into()),
            "dial tcp 10.0.0.1:80: lookup x: no such host",
        ),
        (
            Error::Failed("dial tcp 1.2.3.4:5: odd".into()),
            "dial tcp 1.2.3.4:5: odd",
        ),
    ] {
        assert_eq!(
            checked(&answering(Some(error)), &json!({"port": 80})),
            Ok(Outcome::fail(message))
        );
    }
}

#[test]
fn a_missing_grant_is_not_the_containers_fault() {
    let error = Error::Denied("port 80".to_owned());
    assert_eq!(
        checked(&answering(Some(error.clone())), &json!({"port": 80})),
        Err(error)
    );
}

#[test]
fn a_pod_without_address_is_not_judged() {
    let net = FakePodNet::default();
    let exec = FakeExec::default();
    let target = Target {
        net: &net,
        exec: &exec,
        pod_ip: None,
        container: &|| CONTAINER.to_owned(),
        clock: || Duration::ZERO,
    };
    let error = check(&target, r#"{"tcpSocket": {"port": 80}}"#, Duration::from_secs(1)).unwrap_err();
    assert_eq!(error, Error::Unavailable("the pod has no address yet".to_owned()));
}
