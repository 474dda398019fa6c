//! From Prometheus families to an OTLP request.
//!
//! A histogram's and a summary's samples are gathered into one data point per set of labels; OTLP counts each bucket for
//! itself, where Prometheus counts everything below its bound.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use witlet_sdk::Result;
use witlet_sdk::http::Client;
use witlet_sdk::metric_sink::{Family, Kind, Sample};
use witlet_sdk::otlp::{self, Exporter, attribute, double};

#[cfg(test)]
mod tests;

const PATH: &str = "/v1/metrics";
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`: Prometheus counts since the start.
const CUMULATIVE: u8 = 2;

/// Sends all families, if there are any samples.
pub fn push(client: &impl Client, exporter: &Exporter, time: Duration, families: &[Family]) -> Result<()> {
    let metrics: Vec<Value> = families
        .iter()
        .filter(|f| !f.samples.is_empty())
        .map(|family| metric(family, time))
        .collect();
    if metrics.is_empty() {
        return Ok(());
    }
    let mut attributes: Vec<Value> = exporter
        .resource
        .iter()
        .map(|(key, value)| attribute(key, value))
        .collect();
    // The protocol wants every resource to say what service it is.
    if !exporter.resource.contains_key("service.name") {
        attributes.push(attribute("service.name", "witlet"));
    }
    let body = json!({ "resourceMetrics": [{
        "resource": { "attributes": attributes },
        "scopeMetrics": [{
            "scope": otlp::scope(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            "metrics": metrics,
        }],
    }] });
    exporter.send(client, PATH, &body)
}

fn metric(family: &Family, time: Duration) -> Value {
    let time = time.as_nanos().to_string();
    let mut metric = json!({ "name": family.name, "description": family.help });
    let (kind, data) = match family.kind {
        Kind::Counter => {
            let points = numbers(family, &time);
            (
                "sum",
                json!({ "dataPoints": points, "aggregationTemporality": CUMULATIVE, "isMonotonic": true }),
            )
        }
        Kind::Gauge | Kind::Unknown => ("gauge", json!({ "dataPoints": numbers(family, &time) })),
        Kind::Histogram => {
            let points: Vec<_> = gathered(family, "le")
                .iter()
                .map(|point| histogram(point, &time))
                .collect();
            (
                "histogram",
                json!({ "dataPoints": points, "aggregationTemporality": CUMULATIVE }),
            )
        }
        Kind::Summary => {
            let points: Vec<_> = gathered(family, "quantile")
                .iter()
                .map(|point| summary(point, &time))
                .collect();
            ("summary", json!({ "dataPoints": points }))
        }
    };
    metric[kind] = data;
    metric
}

fn numbers(family: &Family, time: &str) -> Vec<Value> {
    let point = |sample: &Sample| {
        json!({
            "attributes": attributes(&sample.labels),
            "timeUnixNano": time,
            "asDouble": double(sample.value),
        })
    };
    family.samples.iter().map(point).collect()
}

type Labels = Vec<(String, String)>;

fn attributes(labels: &Labels) -> Vec<Value> {
    labels.iter().map(|(key, value)| attribute(key, value)).collect()
}

/// The samples of one set of labels.
#[derive(Default)]
struct Point {
    labels: Labels,
    sum: f64,
    count: Option<f64>,
    /// By the value of the label that tells them apart: a bucket's bound, or a quantile.
    parts: Vec<(f64, f64)>,
}

fn gathered(family: &Family, part: &str) -> Vec<Point> {
    let mut points: BTreeMap<Labels, Point> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.retain(|(key, _)| key != part);
        let point = points.entry(labels.clone()).or_insert_with(|| Point {
            labels,
            ..Point::default()
        });
        match sample.name.strip_prefix(&family.name) {
            Some("_sum") => point.sum = sample.value,
            Some("_count") => point.count = Some(sample.value),
            _ => {
                let of_part = sample.labels.iter().find(|(key, _)| key == part);
                if let Some(bound) = of_part.and_then(|(_, text)| number(text)) {
                    point.parts.push((bound, sample.value));
                }
            }
        }
    }
    let mut points: Vec<_> = points.into_values().collect();
    for point in &mut points {
        point.parts.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    points
}

/// As Prometheus writes numbers.
fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        text => text.parse().ok(),
    }
}

fn histogram(point: &Point, time: &str) -> Value {
    let all = point.parts.last().map_or(0.0, |(_, count)| *count);
    let total = point.count.unwrap_or(all);
    let mut below = 0.0;
    let mut counts = Vec::new();
    let mut bounds = Vec::new();
    for (bound, count) in point.parts.iter().filter(|(bound, _)| bound.is_finite()) {
        bounds.push(double(*bound));
        counts.push(whole(count - below));
        below = *count;
    }
    // What lies above the last bound.
    counts.push(whole(total - below));
    json!({
        "attributes": attributes(&point.labels),
        "timeUnixNano": time,
        "count": whole(total),
        "sum": double(point.sum),
        "bucketCounts": counts,
        "explicitBounds": bounds,
    })
}

fn summary(point: &Point, time: &str) -> Value {
    let quantiles: Vec<_> = point
        .parts
        .iter()
        .map(|(quantile, value)| json!({ "quantile": double(*quantile), "value": double(*value) }))
        .collect();
    json!({
        "attributes": attributes(&point.labels),
        "timeUnixNano": time,
        "count": whole(point.count.unwrap_or_default()),
        "sum": double(point.sum),
        "quantileValues": quantiles,
    })
}

/// A count, which the protocol writes as a string; none is negative.
fn whole(count: f64) -> String {
    // Saturates, and is 0 for what is no number.
    (count as u64).to_string()
}
