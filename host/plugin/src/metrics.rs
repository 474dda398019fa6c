//! What the node's metrics say about plugins. Labels name plugins and functions, never pods.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use witlet_ports::sink::{Family, MetricKind, Sample};

const BUCKETS: [f64; 12] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0,
];

#[derive(Clone, Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        for (bucket, bound) in self.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum += seconds;
    }
}

#[derive(Default)]
struct Counts {
    /// By function and outcome.
    calls: BTreeMap<(&'static str, &'static str), u64>,
    durations: BTreeMap<&'static str, Histogram>,
    instantiate: Histogram,
    capability_calls: BTreeMap<(&'static str, &'static str), u64>,
    swaps: BTreeMap<&'static str, u64>,
    /// Policies: by decision and mode.
    decisions: BTreeMap<(&'static str, &'static str), u64>,
}

/// Of one plugin, over all its generations.
#[derive(Default)]
pub(crate) struct PluginMetrics {
    counts: Mutex<Counts>,
    cpu_nanos: AtomicU64,
    memory_peak: AtomicUsize,
    pub(crate) waiting: AtomicUsize,
    pub(crate) warm: AtomicUsize,
    pub(crate) breaker_opened: AtomicU64,
    pub(crate) log_dropped: AtomicU64,
}

/// How a plugin is now.
#[derive(Clone, Copy, Default)]
pub(crate) struct Condition {
    pub(crate) up: bool,
    pub(crate) broken: bool,
    pub(crate) blamed: usize,
}

impl PluginMetrics {
    /// A panic cannot leave counters in a state that is worse than wrong by one.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spent(&self, cpu: Duration) {
        self.cpu_nanos
            .fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn call(&self, func: &'static str, outcome: &'static str, time: Duration, cpu: Duration) {
        self.spent(cpu);
        let mut counts = self.counts();
        *counts.calls.entry((func, outcome)).or_default() += 1;
        counts.durations.entry(func).or_default().observe(time);
    }

    pub(crate) fn instantiated(&self, time: Duration) {
        self.counts().instantiate.observe(time);
    }

    pub(crate) fn memory(&self, bytes: usize) {
        self.memory_peak.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(crate) fn capability(&self, capability: &'static str, outcome: &'static str) {
        *self.counts().capability_calls.entry((capability, outcome)).or_default() += 1;
    }

    pub(crate) fn decision(&self, decision: &'static str, mode: &'static str) {
        *self.counts().decisions.entry((decision, mode)).or_default() += 1;
    }

    pub(crate) fn swap(&self, outcome: &'static str) {
        *self.counts().swaps.entry(outcome).or_default() += 1;
    }
}

/// Of the cache of compiled plugins.
#[derive(Default)]
pub(crate) struct CacheMetrics {
    pub(crate) hit: AtomicU64,
    pub(crate) miss: AtomicU64,
    pub(crate) corrupt: AtomicU64,
    pub(crate) compile_nanos: AtomicU64,
}

/// What a generation says of itself.
pub(crate) struct Info {
    pub(crate) plugin: String,
    pub(crate) kind: &'static str,
    pub(crate) version: String,
    pub(crate) digest: String,
    pub(crate) generation: u64,
    /// Empty if nobody had to sign it.
    pub(crate) signer: String,
}

type Labels = Vec<(String, String)>;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Collects samples of many plugins into families.
#[derive(Default)]
pub(crate) struct Collector {
    families: BTreeMap<&'static str, Family>,
}

impl Collector {
    fn add(&mut self, name: &'static str, help: &str, kind: MetricKind, suffix: &str, labels: Labels, value: f64) {
        let family = self.families.entry(name).or_insert_with(|| Family {
            name: name.to_owned(),
            help: help.to_owned(),
            kind,
            samples: Vec::new(),
        });
        family.samples.push(Sample {
            name: format!("{name}{suffix}"),
            labels,
            value,
        });
    }

    #[allow(clippy::cast_precision_loss)] // Counters of calls stay far below 2^53.
    fn histogram(&mut self, name: &'static str, help: &str, base: &Labels, histogram: &Histogram) {
        let with = |le: String| {
            let mut labels = base.clone();
            labels.push(("le".to_owned(), le));
            labels
        };
        for (bound, count) in BUCKETS.iter().zip(histogram.buckets) {
            self.add(
                name,
                help,
                MetricKind::Histogram,
                "_bucket",
                with(bound.to_string()),
                count as f64,
            );
        }
        let count = histogram.count as f64;
        self.add(
            name,
            help,
            MetricKind::Histogram,
            "_bucket",
            with("+Inf".to_owned()),
            count,
        );
        self.add(name, help, MetricKind::Histogram, "_sum", base.clone(), histogram.sum);
        self.add(name, help, MetricKind::Histogram, "_count", base.clone(), count);
    }

    pub(crate) fn info(&mut self, info: &Info) {
        let generation = info.generation.to_string();
        let labels = labels(&[
            ("plugin", &info.plugin),
            ("kind", info.kind),
            ("version", &info.version),
            ("digest", &info.digest),
            ("generation", &generation),
            ("signer", &info.signer),
        ]);
        self.add(
            "witlet_plugin_info",
            "What is active under a plugin's name.",
            MetricKind::Gauge,
            "",
            labels,
            1.0,
        );
    }

    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn plugin(&mut self, plugin: &str, metrics: &PluginMetrics) {
        use MetricKind::{Counter, Gauge};
        let one = labels(&[("plugin", plugin)]);
        let counts = metrics.counts();
        for ((func, outcome), n) in &counts.calls {
            let labels = labels(&[("plugin", plugin), ("func", func), ("outcome", outcome)]);
            self.add(
                "witlet_plugin_calls_total",
                "Calls of a plugin's functions.",
                Counter,
                "",
                labels,
                *n as f64,
            );
        }
        for (func, histogram) in &counts.durations {
            let labels = labels(&[("plugin", plugin), ("func", func)]);
            self.histogram(
                "witlet_plugin_call_duration_seconds",
                "How long calls took, without waiting for a place.",
                &labels,
                histogram,
            );
        }
        self.histogram(
            "witlet_plugin_instantiate_seconds",
            "How long making an instance took.",
            &one,
            &counts.instantiate,
        );
        for ((capability, outcome), n) in &counts.capability_calls {
            let labels = labels(&[("plugin", plugin), ("capability", capability), ("outcome", outcome)]);
            self.add(
                "witlet_plugin_capability_calls_total",
                "Calls of granted host functions.",
                Counter,
                "",
                labels,
                *n as f64,
            );
        }
        for (outcome, n) in &counts.swaps {
            let labels = labels(&[("plugin", plugin), ("outcome", outcome)]);
            self.add(
                "witlet_plugin_swaps_total",
                "Attempts to replace a plugin.",
                Counter,
                "",
                labels,
                *n as f64,
            );
        }
        for ((decision, mode), n) in &counts.decisions {
            let labels = labels(&[("plugin", plugin), ("decision", decision), ("mode", mode)]);
            self.add(
                "witlet_policy_decisions_total",
                "What policies decided, and whether it was carried out.",
                Counter,
                "",
                labels,
                *n as f64,
            );
        }
        drop(counts);
        for (name, help, value) in [
            (
                "witlet_plugin_breaker_opened_total",
                "How often a plugin, or one pod's way to it, was closed because it kept failing.",
                &metrics.breaker_opened,
            ),
            (
                "witlet_plugin_log_lines_dropped_total",
                "Log lines of a plugin that were too many.",
                &metrics.log_dropped,
            ),
        ] {
            let value = value.load(Ordering::Relaxed) as f64;
            self.add(name, help, Counter, "", one.clone(), value);
        }
        let cpu = Duration::from_nanos(metrics.cpu_nanos.load(Ordering::Relaxed)).as_secs_f64();
        self.add(
            "witlet_plugin_cpu_seconds_total",
            "Processor time of calls.",
            Counter,
            "",
            one.clone(),
            cpu,
        );
        let peak = metrics.memory_peak.load(Ordering::Relaxed) as f64;
        self.add(
            "witlet_plugin_memory_peak_bytes",
            "The most linear memory that an instance had.",
            Gauge,
            "",
            one.clone(),
            peak,
        );
        let waiting = metrics.waiting.load(Ordering::Relaxed) as f64;
        self.add(
            "witlet_plugin_queue_depth",
            "Calls that wait for a place.",
            Gauge,
            "",
            one,
            waiting,
        );
        let warm = metrics.warm.load(Ordering::Relaxed) as f64;
        let labels = labels(&[("plugin", plugin), ("state", "warm")]);
        self.add(
            "witlet_plugin_instances",
            "Instances that are kept between calls.",
            Gauge,
            "",
            labels,
            warm,
        );
    }

    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn condition(&mut self, plugin: &str, condition: Condition) {
        for (name, help, value) in [
            (
                "witlet_plugin_up",
                "Whether a version of the plugin is active.",
                f64::from(u8::from(condition.up)),
            ),
            (
                "witlet_plugin_breaker_open",
                "Whether the plugin is not asked because it kept failing.",
                f64::from(u8::from(condition.broken)),
            ),
            (
                "witlet_plugin_blamed_pods",
                "Pods that the plugin is not asked about because it kept failing over each of them.",
                condition.blamed as f64,
            ),
        ] {
            self.add(name, help, MetricKind::Gauge, "", labels(&[("plugin", plugin)]), value);
        }
    }

    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn cache(&mut self, cache: &CacheMetrics) {
        for (result, n) in [("hit", &cache.hit), ("miss", &cache.miss), ("corrupt", &cache.corrupt)] {
            let value = n.load(Ordering::Relaxed) as f64;
            let labels = labels(&[("result", result)]);
            self.add(
                "witlet_plugin_cache_total",
                "Look-ups of compiled plugins.",
                MetricKind::Counter,
                "",
                labels,
                value,
            );
        }
        let seconds = Duration::from_nanos(cache.compile_nanos.load(Ordering::Relaxed)).as_secs_f64();
        let help = "Time spent compiling plugins.";
        self.add(
            "witlet_plugin_compile_seconds_total",
            help,
            MetricKind::Counter,
            "",
            Vec::new(),
            seconds,
        );
    }

    pub(crate) fn slots(&mut self, (used, all): (usize, usize)) {
        for (state, n) in [("used", used), ("free", all.saturating_sub(used))] {
            self.add(
                "witlet_plugin_instance_slots",
                "Room for instances of all plugins together; idle instances that are kept take room too.",
                MetricKind::Gauge,
                "",
                labels(&[("state", state)]),
                n as f64,
            );
        }
    }

    pub(crate) fn finish(self) -> Vec<Family> {
        self.families.into_values().collect()
    }
}
