#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use witlet_sdk::Error;
use witlet_sdk::config::parse;
use witlet_sdk::http::{Reply, Request as Sent};
use witlet_sdk_testing::Script;

use super::*;

const NOW: Duration = Duration::from_secs(2);

fn entry(pod: &str, restart_count: u32, line: &str) -> Entry {
    Entry {
        time: 1_700_000_000_123_456_789,
        namespace: "shop".to_owned(),
        pod: pod.to_owned(),
        pod_uid: format!("uid-{pod}"),
        container: "app".to_owned(),
        restart_count,
        output_stream: if line.starts_with('!') {
            OutputStream::Stderr
        } else {
            OutputStream::Stdout
        },
        line: line.to_owned(),
    }
}

fn exporter(extra: &str) -> Exporter {
    parse(&format!(r#"{{"endpoint": "http://collector:4318"{extra}}}"#)).unwrap()
}

fn reply(status: u16, body: &str) -> Result<Reply> {
    Ok(Reply {
        status,
        headers: Vec::new(),
        body: body.into(),
    })
}

fn pushed(exporter: &Exporter, answer: Result<Reply>, batch: &[Entry]) -> (Result<()>, Vec<Sent>) {
    let client = Script::new([answer]);
    let result = push(&client, exporter, NOW, batch);
    (result, client.asked())
}

#[test]
fn lines_become_records_of_their_run() {
    let batch = [
        entry("b", 0, "one"),
        entry("a", 1, "x"),
        entry("b", 0, "!two"),
        entry("a", 0, "y"),
    ];
    let (result, asked) = pushed(
        &exporter(r#", "resource": {"k8s.cluster.name": "c"}"#),
        reply(200, "{}"),
        &batch,
    );
    result.unwrap();
    let body: Value = serde_json::from_slice(&asked[0].body).unwrap();
    let runs = body["resourceLogs"].as_array().unwrap();
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    assert_eq!(
        runs[2],
        json!({
            "resource": {"attributes": [
                text("k8s.cluster.name", "c"),
                text("k8s.namespace.name", "shop"),
                text("k8s.pod.name", "b"),
                text("k8s.pod.uid", "uid-b"),
                text("k8s.container.name", "app"),
                {"key": "k8s.container.restart_count", "value": {"intValue": "0"}},
            ]},
            "scopeLogs": [{
                "scope": {"name": "witlet-plugin-sink-log", "version": env!("CARGO_PKG_VERSION")},
                "logRecords": [
                    {
                        "timeUnixNano": "1700000000123456789", "observedTimeUnixNano": "2000000000",
                        "body": {"stringValue": "one"}, "attributes": [text("log.iostream", "stdout")],
                    },
                    {
                        "timeUnixNano": "1700000000123456789", "observedTimeUnixNano": "2000000000",
                        "body": {"stringValue": "!two"}, "attributes": [text("log.iostream", "stderr")],
                    },
                ],
            }],
        })
    );
    assert_eq!(runs.len(), 3, "a restart is another run");
}

#[test]
fn requests_go_where_the_configuration_says() {
    for (endpoint, url) in [
        ("http://collector:4318", "http://collector:4318/v1/logs"),
        ("https://collector/otlp/", "https://collector/otlp/v1/logs"),
        ("http://collector:4318/v1/logs", "http://collector:4318/v1/logs"),
    ] {
        let exporter =
            parse(&json!({"endpoint": endpoint, "headers": {"x-key": "k"}, "timeout": "1500ms"}).to_string());
        let (result, asked) = pushed(&exporter.unwrap(), reply(200, ""), &[entry("a", 0, "x")]);
        result.unwrap();
        assert_eq!(
            (asked[0].method.as_str(), asked[0].url.as_str(), asked[0].timeout_ms),
            ("POST", url, 1500)
        );
        let headers = [("Content-Type", "application/json"), ("x-key", "k")];
        assert_eq!(asked[0].headers, headers.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}

#[test]
fn nothing_is_not_sent() {
    let client = Script::new([]);
    push(&client, &exporter(""), NOW, &[]).unwrap();
    assert!(client.asked().is_empty());
}

#[test]
fn only_some_failures_are_worth_another_attempt() {
    const URL: &str = "http://collector:4318/v1/logs";
    let text = |status: u16| format!("{URL}: status {status}");
    for (answer, expected) in [
        (reply(200, ""), Ok(())),
        (reply(202, "accepted"), Ok(())),
        (
            reply(
                200,
                r#"{"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "too old"}}"#,
            ),
            Ok(()),
        ),
        (reply(429, ""), Err(Error::Unavailable(text(429)))),
        (reply(502, "<html>"), Err(Error::Unavailable(text(502)))),
        (
            reply(503, r#"{"code": 14, "message": "busy"}"#),
            Err(Error::Unavailable(text(503) + ": busy")),
        ),
        (reply(504, ""), Err(Error::Unavailable(text(504)))),
        (reply(400, ""), Err(Error::Failed(text(400)))),
        (reply(301, ""), Err(Error::Failed(text(301)))),
        (reply(500, ""), Err(Error::Failed(text(500)))),
        (reply(401, ""), Err(Error::Denied(text(401)))),
        (
            Err(Error::Timeout("late".into())),
            Err(Error::Timeout(format!("{URL}: late"))),
        ),
        (
            Err(Error::Denied("no grant".into())),
            Err(Error::Denied(format!("{URL}: no grant"))),
        ),
    ] {
        assert_eq!(pushed(&exporter(""), answer, &[entry("a", 0, "x")]).0, expected);
    }
}

#[test]
fn mistakes_in_the_configuration_are_told() {
    for (config, text) in [
        ("{}", "missing field `endpoint`"),
        (r#"{"endpoint": "http://x", "url": ""}"#, "unknown field `url`"),
        (
            r#"{"endpoint": "http://x", "timeout": "10"}"#,
            "write a duration as \"250ms\"",
        ),
        (
            r#"{"endpoint": "http://x", "timeout": "9 days"}"#,
            "write a duration as \"250ms\"",
        ),
    ] {
        let message = parse::<Exporter>(config).unwrap_err().message().to_owned();
        assert!(message.contains(text), "{message}");
    }
    let exporter = parse(r#"{"endpoint": "collector:4318"}"#).unwrap();
    let error = push(&Script::new([]), &exporter, NOW, &[entry("a", 0, "x")]).unwrap_err();
    assert_eq!(
        error.message(),
        "config: endpoint: \"collector:4318\" is no http or https URL"
    );
}
