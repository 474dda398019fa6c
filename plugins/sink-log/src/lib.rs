//! Container logs to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! Everything worth reading is in [`logic`]; here it is given a real host.

use witlet_sdk::http::Egress;
use witlet_sdk::log_sink::{self, Entry, LogSink};
use witlet_sdk::{Result, config, time};

pub mod logic;

#[derive(Default)]
struct Otlp;

#[log_sink::plugin(name = "sink-log", capabilities = ["egress-http"])]
impl LogSink for Otlp {
    fn push(&self, batch: Vec<Entry>) -> Result<()> {
        logic::push(&Egress, &config::get()?, time::now(), &batch)
    }
}
