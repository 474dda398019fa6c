//! What sinks are given, as metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use witlet_ports::meter::{About, Counter};
use witlet_ports::sink::Family;

/// Of all sinks.
#[derive(Debug)]
pub struct Meters {
    batches: Counter,
    lines: Counter,
    gaps: Counter,
    waiting: Mutex<BTreeMap<String, u64>>,
}

impl Default for Meters {
    fn default() -> Self {
        let about = |name, help, labels| Counter::new(About::new(name, help, labels));
        Self {
            batches: about(
                "witlet_sink_batches_total",
                "Attempts to give a sink a batch: taken, retried (it comes again), refused (it is dropped).",
                &["sink", "outcome"],
            ),
            lines: about(
                "witlet_sink_lines_total",
                "Log lines that a sink took or refused.",
                &["sink", "outcome"],
            ),
            gaps: about(
                "witlet_sink_gaps_total",
                "Times that a log was removed before the sink was given all of it.",
                &["sink"],
            ),
            waiting: Mutex::default(),
        }
    }
}

impl Meters {
    pub fn families(&self) -> Vec<Family> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let about = About::new(
            "witlet_sink_waiting_bytes",
            "Bytes of logs on disk that the sink was not given yet.",
            &["sink"],
        );
        let values = waiting.iter().map(|(sink, bytes)| (vec![sink.as_str()], *bytes as f64));
        let all = [
            self.batches.family(),
            self.lines.family(),
            self.gaps.family(),
            about.gauge(values),
        ];
        all.into_iter().filter(|f| !f.samples.is_empty()).collect()
    }

    /// The sink is gone: its series end.
    pub fn forget(&self, sink: &str) {
        for counter in [&self.batches, &self.lines, &self.gaps] {
            counter.retain(|values| values.first().is_none_or(|v| v != sink));
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(sink);
    }
}

/// Of one sink.
#[derive(Clone, Debug)]
pub struct Meter {
    all: Arc<Meters>,
    sink: Arc<str>,
}

impl Meter {
    pub fn new(all: &Arc<Meters>, sink: &Arc<str>) -> Self {
        Self {
            all: all.clone(),
            sink: sink.clone(),
        }
    }

    pub(super) fn batch(&self, outcome: &str, lines: usize) {
        self.all.batches.add(&[&self.sink, outcome]);
        self.all.lines.add_many(&[&self.sink, outcome], lines as u64);
    }

    pub(super) fn gap(&self) {
        self.all.gaps.add(&[&self.sink]);
    }

    pub(super) fn waiting(&self, bytes: u64) {
        let mut waiting = self.all.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(self.sink.to_string(), bytes);
    }
}
