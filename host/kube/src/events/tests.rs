#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicUsize;

use serde_json::Value;

use super::*;
use crate::mock::{Mock, failure};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_764_000_000 + second).unwrap()
}

fn told(object: &str, message: &str, second: i64) -> Told {
    Told {
        object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(object.into()),
            namespace: Some("ns".into()),
            uid: Some(format!("uid-{object}")),
            resource_version: Some("7".into()),
            field_path: Some("spec.containers{a}".into()),
        },
        warning: false,
        reason: "Pulled".into(),
        message: message.into(),
        at: at(second),
    }
}

#[test]
fn an_event_has_the_kubelets_shape() {
    let Some(Send::New(event)) = Correlator::new("lab-node").take(&told("be", "m", 0)) else {
        panic!("not new")
    };
    let value = serde_json::to_value(event).unwrap();
    assert_eq!(
        value,
        json!({
            "apiVersion": "v1", "kind": "Event", "count": 1, "type": "Normal", "reason": "Pulled", "message": "m",
            "firstTimestamp": "2025-11-24T16:00:00Z", "lastTimestamp": "2025-11-24T16:00:00Z",
            "involvedObject": {"apiVersion": "v1", "fieldPath": "spec.containers{a}", "kind": "Pod", "name": "be",
                "namespace": "ns", "resourceVersion": "7", "uid": "uid-be"},
            "metadata": {"name": "be.187afca767ca0000", "namespace": "ns"},
            "reportingComponent": "kubelet", "reportingInstance": "lab-node",
            "source": {"component": "kubelet", "host": "lab-node"},
        })
    );
}

#[test]
fn repeats_are_counted() {
    let mut correlator = Correlator::new("n");
    let Some(Send::New(first)) = correlator.take(&told("a", "m", 0)) else {
        panic!("not new")
    };
    let Some(Send::Again { event }) = correlator.take(&told("a", "m", 5)) else {
        panic!("not again")
    };
    assert_eq!(event.metadata.name, first.metadata.name);
    assert_eq!(
        (event.count, event.first_timestamp.clone()),
        (Some(2), first.first_timestamp)
    );
    assert_eq!(event.last_timestamp.as_ref().unwrap().0, at(5));
    assert!(
        matches!(correlator.take(&told("b", "m", 5)), Some(Send::New(_))),
        "another object is another event"
    );
    let warning = Told {
        warning: true,
        ..told("a", "m", 6)
    };
    assert!(matches!(correlator.take(&warning), Some(Send::New(_))));
}

#[test]
fn many_similar_ones_become_one() {
    let mut correlator = Correlator::new("n");
    let sent: Vec<_> = (0..12)
        .map(|i| correlator.take(&told("a", &format!("m{i}"), i)).unwrap())
        .collect();
    let news = sent.iter().filter(|s| matches!(s, Send::New(_))).count();
    assert_eq!(news, 10, "nine of their own, and the combined one");
    assert_eq!(
        sent[9].event().message.as_deref(),
        Some("(combined from similar events): m9")
    );
    assert_eq!(
        sent[11].event().message.as_deref(),
        Some("(combined from similar events): m11")
    );
    assert_eq!(sent[11].event().count, Some(3));
    let later = correlator.take(&told("a", "x", 1000)).unwrap();
    assert_eq!(
        later.event().message.as_deref(),
        Some("x"),
        "after ten quiet minutes they stand for themselves"
    );
}

#[test]
fn one_object_cannot_flood_the_api() {
    let mut correlator = Correlator::new("n");
    let passed = (0..100)
        .filter(|_| correlator.take(&told("a", "m", 0)).is_some())
        .count();
    assert_eq!(passed, 25);
    assert!(correlator.take(&told("b", "m", 0)).is_some());
    assert!(correlator.take(&told("a", "m", 299)).is_none());
    assert!(correlator.take(&told("a", "m", 300 + 299)).is_some());
}

#[test]
fn memory_is_bounded() {
    let mut correlator = Correlator::new("n");
    for i in 0..10_000 {
        correlator.take(&told(&format!("o{i}"), "m", 0));
    }
    assert!(
        matches!(correlator.take(&told("o9999", "m", 1)), Some(Send::Again { .. })),
        "the latest are remembered"
    );
    assert!(matches!(correlator.take(&told("o0", "m", 1)), Some(Send::New(_))));
}

fn note(message: &str) -> Note {
    Note {
        warning: true,
        reason: "BackOff".into(),
        message: message.into(),
        field_path: None,
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

fn pod() -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"}})).unwrap()
}

#[tokio::test]
async fn events_are_created_and_then_counted_up() {
    let mock = Mock::new(|request| {
        (
            200,
            if request.body.is_object() {
                json!({"metadata": {"name": "x"}, "involvedObject": {}})
            } else {
                Value::Null
            },
        )
    });
    let events = mock.client().events(CancellationToken::new());
    events.pod(&pod(), note("m"));
    events.pod(&pod(), note("m"));
    events.node(false, "Starting", "Starting kubelet.");
    until("three requests", || mock.requests().len() == 3).await;
    let requests = mock.requests();
    assert_eq!(requests[0].line(), "POST /api/v1/namespaces/default/events");
    assert_eq!(requests[0].body["involvedObject"]["uid"], "u");
    assert!(
        requests[1]
            .line()
            .starts_with("PATCH /api/v1/namespaces/default/events/web."),
        "{}",
        requests[1].line()
    );
    assert_eq!(requests[1].body["count"], 2);
    assert_eq!(requests[2].body["involvedObject"]["kind"], "Node");
    assert_eq!(requests[2].body["metadata"]["namespace"], "default");
}

#[tokio::test]
async fn an_outage_delays_events_and_a_forgotten_one_begins_anew() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let mock = Mock::new(move |request| {
        let n = counter.fetch_add(1, Ordering::SeqCst);
        match (n, request.method.as_str()) {
            (0 | 1, _) => failure(503, "ServiceUnavailable", "away"),
            (_, "PATCH") => failure(404, "NotFound", "gone"),
            _ => (201, json!({"metadata": {"name": "x"}, "involvedObject": {}})),
        }
    });
    let events = mock.client().events(CancellationToken::new());
    events.pod(&pod(), note("m"));
    events.pod(&pod(), note("m"));
    until("five requests", || mock.requests().len() == 5).await;
    let methods: Vec<_> = mock.requests().iter().map(|r| r.method.clone()).collect();
    assert_eq!(methods, ["POST", "POST", "POST", "PATCH", "POST"]);
}

#[tokio::test]
async fn nobody_waits_for_a_full_queue() {
    let mock = Mock::new(|_| failure(503, "ServiceUnavailable", "away"));
    let events = mock.client().events(CancellationToken::new());
    for i in 0..QUEUE + 500 {
        events.node(false, "R", &i.to_string());
    }
    assert!(events.dropped() >= 499, "{}", events.dropped());
}
