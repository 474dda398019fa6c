//! From Prometheus families to an OTLP request.
//!
//! A histogram's and a summary's samples are gathered into one data point per set of labels; OTLP counts each bucket for
//! itself, where Prometheus counts everything below its bound.

use std::time::Duration;

use serde::Serialize;
use witlet_sdk::Result;
use witlet_sdk::http::Client;
use witlet_sdk::metric_sink::{Family, Kind, Sample};
use witlet_sdk::otlp::{Attribute, Count, Double, Exporter, Resource, Scope};

mod gather;
#[cfg(test)]
mod tests;

use gather::{Point, gathered};

const PATH: &str = "/v1/metrics";
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`: Prometheus counts since the start.
const CUMULATIVE: u8 = 2;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_metrics: [ResourceMetrics<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics<'a> {
    resource: Resource<'a>,
    scope_metrics: [ScopeMetrics<'a>; 1],
}

#[derive(Serialize)]
struct ScopeMetrics<'a> {
    scope: Scope<'a>,
    metrics: Vec<Metric<'a>>,
}

#[derive(Serialize)]
struct Metric<'a> {
    name: &'a str,
    description: &'a str,
    #[serde(flatten)]
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase", rename_all_fields = "camelCase")]
enum Data<'a> {
    Sum {
        data_points: Vec<NumberPoint<'a>>,
        aggregation_temporality: u8,
        is_monotonic: bool,
    },
    Gauge {
        data_points: Vec<NumberPoint<'a>>,
    },
    Histogram {
        data_points: Vec<HistogramPoint<'a>>,
        aggregation_temporality: u8,
    },
    Summary {
        data_points: Vec<SummaryPoint<'a>>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NumberPoint<'a> {
    attributes: Vec<Attribute<'a>>,
    time_unix_nano: Count,
    as_double: Double,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HistogramPoint<'a> {
    attributes: Vec<Attribute<'a>>,
    time_unix_nano: Count,
    count: Count,
    sum: Double,
    bucket_counts: Vec<Count>,
    explicit_bounds: Vec<Double>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SummaryPoint<'a> {
    attributes: Vec<Attribute<'a>>,
    time_unix_nano: Count,
    count: Count,
    sum: Double,
    quantile_values: Vec<Quantile>,
}

#[derive(Serialize)]
struct Quantile {
    quantile: Double,
    value: Double,
}

/// Sends all families, if there are any samples.
pub fn push(client: &impl Client, exporter: &Exporter, time: Duration, families: &[Family]) -> Result<()> {
    let time = Count::nanos(time);
    let metrics: Vec<_> = families
        .iter()
        .filter(|f| !f.samples.is_empty())
        .map(|f| metric(f, time))
        .collect();
    if metrics.is_empty() {
        return Ok(());
    }
    let mut attributes: Vec<_> = exporter.attributes().collect();
    // The protocol wants every resource to say what service it is.
    if !exporter.resource.contains_key("service.name") {
        attributes.push(Attribute::new("service.name", "witlet"));
    }
    let scope = Scope {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
    };
    let scope_metrics = [ScopeMetrics { scope, metrics }];
    let request = Request {
        resource_metrics: [ResourceMetrics {
            resource: Resource { attributes },
            scope_metrics,
        }],
    };
    exporter.send(client, PATH, &request)
}

fn metric(family: &Family, time: Count) -> Metric<'_> {
    let numbers = || family.samples.iter().map(|sample| number(sample, time)).collect();
    let data = match family.kind {
        Kind::Counter => Data::Sum {
            data_points: numbers(),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        },
        Kind::Gauge | Kind::Unknown => Data::Gauge { data_points: numbers() },
        Kind::Histogram => Data::Histogram {
            data_points: gathered(family, "le")
                .iter()
                .map(|point| histogram(point, time))
                .collect(),
            aggregation_temporality: CUMULATIVE,
        },
        Kind::Summary => Data::Summary {
            data_points: gathered(family, "quantile")
                .iter()
                .map(|point| summary(point, time))
                .collect(),
        },
    };
    Metric {
        name: &family.name,
        description: &family.help,
        data,
    }
}

fn number(sample: &Sample, time: Count) -> NumberPoint<'_> {
    let attributes = sample
        .labels
        .iter()
        .map(|(key, value)| Attribute::new(key, value))
        .collect();
    NumberPoint {
        attributes,
        time_unix_nano: time,
        as_double: Double(sample.value),
    }
}

fn attributes<'a>(point: &Point<'a>) -> Vec<Attribute<'a>> {
    point
        .labels
        .iter()
        .map(|(key, value)| Attribute::new(key, value))
        .collect()
}

fn histogram<'a>(point: &Point<'a>, time: Count) -> HistogramPoint<'a> {
    let all = point.parts.last().map_or(0.0, |(_, count)| *count);
    let total = point.count.unwrap_or(all);
    let mut below = 0.0;
    let (mut bucket_counts, mut explicit_bounds) = (Vec::new(), Vec::new());
    for (bound, count) in point.parts.iter().filter(|(bound, _)| bound.is_finite()) {
        explicit_bounds.push(Double(*bound));
        bucket_counts.push(whole(count - below));
        below = *count;
    }
    // What lies above the last bound.
    bucket_counts.push(whole(total - below));
    HistogramPoint {
        attributes: attributes(point),
        time_unix_nano: time,
        count: whole(total),
        sum: Double(point.sum),
        bucket_counts,
        explicit_bounds,
    }
}

fn summary<'a>(point: &Point<'a>, time: Count) -> SummaryPoint<'a> {
    let quantile = |(quantile, value): &(f64, f64)| Quantile {
        quantile: Double(*quantile),
        value: Double(*value),
    };
    SummaryPoint {
        attributes: attributes(point),
        time_unix_nano: time,
        count: whole(point.count.unwrap_or_default()),
        sum: Double(point.sum),
        quantile_values: point.parts.iter().map(quantile).collect(),
    }
}

/// Saturates, and is 0 for what is negative or no number.
fn whole(count: f64) -> Count {
    Count(count as u64)
}
