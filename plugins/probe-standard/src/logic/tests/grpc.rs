#![allow(clippy::unwrap_used)]

use super::*;

fn checked(answer: Result<GrpcReply>, action: &serde_json::Value) -> (Result<Outcome>, FakePodNet) {
    let net = FakePodNet {
        grpc: Script::new([answer]),
        ..FakePodNet::default()
    };
    let outcome = run(&net, &FakeExec::default(), &json!({"grpc": action}));
    (outcome, net)
}

fn reply(code: u32, status_message: &str, message: &[u8]) -> Result<GrpcReply> {
    Ok(GrpcReply {
        code,
        status_message: status_message.to_owned(),
        message: message.to_vec(),
    })
}

#[test]
fn asks_for_the_service() {
    let long = "s".repeat(200);
    for (action, message) in [
        (json!({"port": 9000}), vec![]),
        (json!({"port": 9000, "service": ""}), vec![]),
        (json!({"port": 9000, "service": "db"}), vec![10, 2, b'd', b'b']),
        (
            json!({"port": 9000, "service": long}),
            [&[10, 200, 1][..], long.as_bytes()].concat(),
        ),
    ] {
        let (outcome, net) = checked(reply(0, "", &[8, 1]), &action);
        assert_eq!(outcome, Ok(Outcome::pass("service healthy")));
        let asked = net.grpc.asked().remove(0);
        assert_eq!((asked.port, asked.timeout_ms), (9000, 1000));
        assert_eq!(asked.method, "/grpc.health.v1.Health/Check");
        assert_eq!(
            asked.metadata,
            [("user-agent".to_owned(), "kube-probe/1.36".to_owned())]
        );
        assert_eq!(asked.message, message);
    }
}

#[test]
fn everything_but_serving_fails() {
    let dial = "timeout: failed to connect service \"10.0.0.1:9000\" within 1s: context deadline exceeded";
    for (answer, message) in [
        (reply(0, "", &[8, 2]), "service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
        (reply(0, "", &[]), "service unhealthy (responded with \"UNKNOWN\")".to_owned()),
        // A field that nobody knows comes first.
        (reply(0, "", &[18, 1, 0, 8, 3]), "service unhealthy (responded with \"SERVICE_UNKNOWN\")".to_owned()),
        (reply(0, "", &[8, 9]), "service unhealthy (responded with \"9\")".to_owned()),
        (
            reply(0, "", &[8]),
            "error: health rpc probe failed: rpc error: code = Internal desc = grpc: failed to unmarshal the received message"
                .to_owned(),
        ),
        (
            reply(12, "unknown service", &[]),
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service".to_owned(),
        ),
        (reply(4, "late", &[]), "timeout: health rpc did not complete within 1s".to_owned()),
        (
            reply(5, "unknown service", &[]),
            "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service".to_owned(),
        ),
        (reply(99, "?", &[]), "error: health rpc probe failed: rpc error: code = Code(99) desc = ?".to_owned()),
        (Err(Error::Timeout("no answer".into())), "timeout: health rpc did not complete within 1s".to_owned()),
        (Err(Error::Timeout("dial tcp 10.0.0.1:9000: i/o timeout".into())), dial.to_owned()),
        (
            Err(Error::Unavailable("connection refused".into())),
            format!(
                "{dial}: connection error: desc = \"transport: Error while dialing: dial tcp 10.0.0.1:9000: connect: connection refused\""
            ),
        ),
        (Err(Error::Failed("broken frame".into())), "error: health rpc probe failed: broken frame".to_owned()),
    ] {
        assert_eq!(checked(answer, &json!({"port": 9000})).0, Ok(Outcome::fail(message)));
    }
}

#[test]
fn a_missing_grant_is_not_the_containers_fault() {
    let error = Error::Denied("port 9000".to_owned());
    assert_eq!(checked(Err(error.clone()), &json!({"port": 9000})).0, Err(error));
}
