#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use witlet_sdk::Error;
use witlet_sdk::config::parse;
use witlet_sdk::http::Reply;
use witlet_sdk_testing::Script;

use super::*;

fn sample(name: &str, labels: &[(&str, &str)], value: f64) -> Sample {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Sample {
        name: name.to_owned(),
        labels,
        value,
    }
}

fn family(kind: Kind, samples: Vec<Sample>) -> Family {
    Family {
        name: "m".to_owned(),
        help: "What it is.".to_owned(),
        kind,
        samples,
    }
}

fn body(config: &str, families: &[Family]) -> Value {
    let client = Script::new([Ok(Reply {
        status: 200,
        headers: Vec::new(),
        body: b"{}".to_vec(),
    })]);
    let exporter = parse(config).unwrap();
    push(
        &client,
        &exporter,
        Duration::from_nanos(1_700_000_000_000_000_001),
        families,
    )
    .unwrap();
    let request = client.asked().remove(0);
    assert_eq!(request.url, "http://collector:4318/v1/metrics");
    serde_json::from_slice(&request.body).unwrap()
}

fn sent(kind: Kind, samples: Vec<Sample>) -> Value {
    let body = body(r#"{"endpoint": "http://collector:4318"}"#, &[family(kind, samples)]);
    body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0].clone()
}

fn attributes_of(labels: &[(&str, &str)]) -> Value {
    labels
        .iter()
        .map(|(k, v)| json!({"key": k, "value": {"stringValue": v}}))
        .collect()
}

const TIME: &str = "1700000000000000001";

#[test]
fn counters_are_monotonic_sums() {
    let metric = sent(
        Kind::Counter,
        vec![sample("m", &[("a", "1")], 2.5), sample("m", &[], 3.0)],
    );
    assert_eq!(
        metric,
        json!({
            "name": "m", "description": "What it is.",
            "sum": {
                "aggregationTemporality": 2, "isMonotonic": true,
                "dataPoints": [
                    {"attributes": attributes_of(&[("a", "1")]), "timeUnixNano": TIME, "asDouble": 2.5},
                    {"attributes": [], "timeUnixNano": TIME, "asDouble": 3.0},
                ],
            },
        })
    );
}

#[test]
fn gauges_may_be_no_numbers() {
    for kind in [Kind::Gauge, Kind::Unknown] {
        let samples = [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
            .map(|v| sample("m", &[], v))
            .to_vec();
        let metric = sent(kind, samples);
        let values: Vec<_> = metric["gauge"]["dataPoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["asDouble"].clone())
            .collect();
        assert_eq!(
            values,
            [json!(1.0), json!("NaN"), json!("Infinity"), json!("-Infinity")]
        );
    }
}

#[test]
fn histograms_count_each_bucket_for_itself() {
    let bucket = |path: &str, le: &str, value: f64| sample("m_bucket", &[("path", path), ("le", le)], value);
    let metric = sent(
        Kind::Histogram,
        vec![
            bucket("/", "10", 5.0),
            bucket("/", "0.5", 2.0),
            bucket("/", "+Inf", 6.0),
            sample("m_sum", &[("path", "/")], 31.5),
            sample("m_count", &[("path", "/")], 6.0),
            bucket("/b", "+Inf", 1.0),
        ],
    );
    assert_eq!(
        metric["histogram"],
        json!({
            "aggregationTemporality": 2,
            "dataPoints": [
                {
                    "attributes": attributes_of(&[("path", "/")]), "timeUnixNano": TIME, "count": "6", "sum": 31.5,
                    "explicitBounds": [0.5, 10.0], "bucketCounts": ["2", "3", "1"],
                },
                {
                    "attributes": attributes_of(&[("path", "/b")]), "timeUnixNano": TIME, "count": "1", "sum": 0.0,
                    "explicitBounds": [], "bucketCounts": ["1"],
                },
            ],
        })
    );
}

#[test]
fn counts_that_make_no_sense_do_no_harm() {
    let metric = sent(
        Kind::Histogram,
        vec![
            sample("m_bucket", &[("le", "1")], 5.0),
            sample("m_bucket", &[("le", "2")], 3.0),
            sample("m_bucket", &[("le", "what")], 3.0),
            sample("m_count", &[], f64::NAN),
        ],
    );
    let point = &metric["histogram"]["dataPoints"][0];
    assert_eq!(
        (&point["bucketCounts"], &point["count"]),
        (&json!(["5", "0", "0"]), &json!("0"))
    );
}

#[test]
fn summaries_keep_their_quantiles() {
    let metric = sent(
        Kind::Summary,
        vec![
            sample("m", &[("quantile", "0.99")], 9.0),
            sample("m", &[("quantile", "0.5")], 4.0),
            sample("m_sum", &[], 100.0),
            sample("m_count", &[], 20.0),
        ],
    );
    assert_eq!(
        metric["summary"]["dataPoints"],
        json!([{
            "attributes": [], "timeUnixNano": TIME, "count": "20", "sum": 100.0,
            "quantileValues": [{"quantile": 0.5, "value": 4.0}, {"quantile": 0.99, "value": 9.0}],
        }])
    );
}

#[test]
fn the_source_is_named() {
    let families = [family(Kind::Gauge, vec![sample("m", &[], 1.0)])];
    let of = |config: &str| body(config, &families)["resourceMetrics"][0]["resource"]["attributes"].clone();
    assert_eq!(
        of(r#"{"endpoint": "http://collector:4318"}"#),
        attributes_of(&[("service.name", "witlet")])
    );
    let config = r#"{"endpoint": "http://collector:4318", "resource": {"service.name": "me", "k8s.node.name": "n"}}"#;
    assert_eq!(
        of(config),
        attributes_of(&[("k8s.node.name", "n"), ("service.name", "me")])
    );
}

#[test]
fn nothing_is_not_sent() {
    let exporter = parse(r#"{"endpoint": "http://collector:4318"}"#).unwrap();
    let client = Script::new([]);
    push(&client, &exporter, Duration::ZERO, &[]).unwrap();
    push(&client, &exporter, Duration::ZERO, &[family(Kind::Gauge, Vec::new())]).unwrap();
    assert!(client.asked().is_empty());
}

#[test]
fn a_busy_collector_is_asked_again() {
    let exporter = parse(r#"{"endpoint": "http://collector:4318"}"#).unwrap();
    let client = Script::new([Ok(Reply {
        status: 503,
        headers: Vec::new(),
        body: Vec::new(),
    })]);
    let error = push(
        &client,
        &exporter,
        Duration::ZERO,
        &[family(Kind::Gauge, vec![sample("m", &[], 1.0)])],
    );
    assert_eq!(
        error,
        Err(Error::Unavailable(
            "http://collector:4318/v1/metrics: status 503".to_owned()
        ))
    );
}
