//! The node's metrics to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! Everything worth reading is in [`logic`]; here it is given a real host.

use std::time::Duration;

use witlet_sdk::http::Egress;
use witlet_sdk::metric_sink::{self, Family, MetricSink};
use witlet_sdk::{Result, config};

pub mod logic;

#[derive(Default)]
struct Otlp;

#[metric_sink::plugin(name = "sink-metric", capabilities = ["egress-http"])]
impl MetricSink for Otlp {
    fn push(&self, time: Duration, families: Vec<Family>) -> Result<()> {
        logic::push(&Egress, &config::get()?, time, &families)
    }
}
