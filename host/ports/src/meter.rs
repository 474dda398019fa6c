//! Counting and measuring, for metrics: by labels, from any task.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::sink::{Family, MetricKind, Sample};

/// What most durations are measured with, in seconds.
pub const DEFAULT_BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A metric's name, what it means, and the names of its labels.
#[derive(Clone, Copy, Debug)]
pub struct About {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

impl About {
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, help, labels }
    }

    fn family(self, kind: MetricKind, samples: Vec<Sample>) -> Family {
        Family {
            name: self.name.into(),
            help: self.help.into(),
            kind,
            samples,
        }
    }

    fn labels(self, values: &[String]) -> Vec<(String, String)> {
        let names = self.labels.iter().map(|name| (*name).to_owned());
        names.zip(values.iter().cloned()).collect()
    }

    /// A gauge with the values it has now.
    pub fn gauge<'a>(self, values: impl IntoIterator<Item = (Vec<&'a str>, f64)>) -> Family {
        let sample = |(values, value): (Vec<&str>, f64)| Sample {
            name: self.name.into(),
            labels: self.labels(&values.into_iter().map(str::to_owned).collect::<Vec<_>>()),
            value,
        };
        self.family(MetricKind::Gauge, values.into_iter().map(sample).collect())
    }
}

/// Something that is counted.
#[derive(Debug)]
pub struct Counter {
    about: About,
    values: Mutex<BTreeMap<Vec<String>, u64>>,
}

impl Counter {
    pub const fn new(about: About) -> Self {
        Self {
            about,
            values: Mutex::new(BTreeMap::new()),
        }
    }

    /// `values` in the order of the labels.
    pub fn add(&self, values: &[&str]) {
        self.add_many(values, 1);
    }

    /// None make no series.
    pub fn add_many(&self, values: &[&str], count: u64) {
        if count == 0 {
            return;
        }
        let key = values.iter().map(|v| (*v).to_owned()).collect();
        *self.lock().entry(key).or_default() += count;
    }

    /// Takes away the series that `keep` does not keep.
    pub fn retain(&self, keep: impl Fn(&[String]) -> bool) {
        self.lock().retain(|values, _| keep(values));
    }

    pub fn family(&self) -> Family {
        let mut samples: Vec<_> = self
            .lock()
            .iter()
            .map(|(values, count)| Sample {
                name: self.about.name.into(),
                labels: self.about.labels(values),
                value: *count as f64,
            })
            .collect();
        if samples.is_empty() && self.about.labels.is_empty() {
            samples.push(Sample {
                name: self.about.name.into(),
                labels: Vec::new(),
                value: 0.0,
            });
        }
        self.about.family(MetricKind::Counter, samples)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Vec<String>, u64>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that has a value, until it is given another.
#[derive(Debug)]
pub struct Gauge {
    about: About,
    values: Mutex<BTreeMap<Vec<String>, f64>>,
}

impl Gauge {
    pub const fn new(about: About) -> Self {
        Self {
            about,
            values: Mutex::new(BTreeMap::new()),
        }
    }

    /// `values` in the order of the labels.
    pub fn set(&self, values: &[&str], value: f64) {
        *self.entry(&mut self.lock(), values) = value;
    }

    pub fn add(&self, values: &[&str], by: f64) {
        *self.entry(&mut self.lock(), values) += by;
    }

    fn entry<'a>(&self, all: &'a mut BTreeMap<Vec<String>, f64>, values: &[&str]) -> &'a mut f64 {
        all.entry(values.iter().map(|v| (*v).to_owned()).collect()).or_default()
    }

    pub fn family(&self) -> Family {
        let all = self.lock();
        let mut shown: Vec<_> = all
            .iter()
            .map(|(values, value)| (values.iter().map(String::as_str).collect(), *value))
            .collect();
        if shown.is_empty() && self.about.labels.is_empty() {
            shown.push((Vec::new(), 0.0));
        }
        self.about.gauge(shown)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Vec<String>, f64>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is measured again and again.
#[derive(Debug)]
pub struct Histogram {
    about: About,
    bounds: &'static [f64],
    values: Mutex<BTreeMap<Vec<String>, Buckets>>,
}

#[derive(Debug)]
struct Buckets {
    /// One more than there are bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    pub const fn new(about: About, bounds: &'static [f64]) -> Self {
        Self {
            about,
            bounds,
            values: Mutex::new(BTreeMap::new()),
        }
    }

    /// `values` in the order of the labels.
    pub fn observe(&self, values: &[&str], value: f64) {
        let key: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        let mut all = self.lock();
        let buckets = all.entry(key).or_insert_with(|| self.empty());
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = buckets.counts.get_mut(at) {
            *count += 1;
        }
        buckets.sum += value;
    }

    fn empty(&self) -> Buckets {
        Buckets {
            counts: vec![0; self.bounds.len() + 1],
            sum: 0.0,
        }
    }

    pub fn took(&self, values: &[&str], duration: Duration) {
        self.observe(values, duration.as_secs_f64());
    }

    /// Takes away the series that `keep` does not keep.
    pub fn retain(&self, keep: impl Fn(&[String]) -> bool) {
        self.lock().retain(|values, _| keep(values));
    }

    pub fn family(&self) -> Family {
        let mut samples = Vec::new();
        let mut all = self.lock();
        if all.is_empty() && self.about.labels.is_empty() {
            all.insert(Vec::new(), self.empty());
        }
        for (values, buckets) in &*all {
            let labels = self.about.labels(values);
            let mut below = 0;
            let bounds = self.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(&buckets.counts) {
                below += count;
                let mut labels = labels.clone();
                labels.push(("le".into(), bound));
                samples.push(self.sample("_bucket", labels, below as f64));
            }
            samples.push(self.sample("_sum", labels.clone(), buckets.sum));
            samples.push(self.sample("_count", labels, below as f64));
        }
        self.about.family(MetricKind::Histogram, samples)
    }

    fn sample(&self, suffix: &str, labels: Vec<(String, String)>, value: f64) -> Sample {
        Sample {
            name: format!("{}{suffix}", self.about.name),
            labels,
            value,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Vec<String>, Buckets>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(family: &Family) -> Vec<String> {
        let line = |s: &Sample| {
            let labels: Vec<_> = s.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("{}{{{}}} {}", s.name, labels.join(","), s.value)
        };
        family.samples.iter().map(line).collect()
    }

    #[test]
    fn buckets_hold_what_is_not_above_their_bound() {
        let histogram = Histogram::new(About::new("h", "", &["a"]), &[1.0, 2.5]);
        for value in [0.5, 1.0, 2.0, 9.0] {
            histogram.observe(&["x"], value);
        }
        assert_eq!(
            lines(&histogram.family()),
            [
                "h_bucket{a=x,le=1} 2",
                "h_bucket{a=x,le=2.5} 3",
                "h_bucket{a=x,le=+Inf} 4",
                "h_sum{a=x} 12.5",
                "h_count{a=x} 4"
            ]
        );
        histogram.retain(|_| false);
        assert!(lines(&histogram.family()).is_empty());
    }

    #[test]
    fn gauges_keep_their_last_value() {
        let gauge = Gauge::new(About::new("g", "", &["a"]));
        assert!(lines(&gauge.family()).is_empty());
        gauge.set(&["x"], 2.5);
        gauge.add(&["x"], 1.0);
        gauge.add(&["y"], 1.0);
        gauge.add(&["y"], -1.0);
        assert_eq!(lines(&gauge.family()), ["g{a=x} 3.5", "g{a=y} 0"]);
    }

    #[test]
    fn what_has_no_labels_is_there_from_the_start() {
        assert_eq!(lines(&Gauge::new(About::new("g", "", &[])).family()), ["g{} 0"]);
        let histogram = Histogram::new(About::new("h", "", &[]), &[1.0]);
        assert_eq!(
            lines(&histogram.family()),
            ["h_bucket{le=1} 0", "h_bucket{le=+Inf} 0", "h_sum{} 0", "h_count{} 0"]
        );
        let counter = Counter::new(About::new("c", "", &[]));
        assert_eq!(lines(&counter.family()), ["c{} 0"]);
        counter.add(&[]);
        assert_eq!(lines(&counter.family()), ["c{} 1"]);
        let labelled = Counter::new(About::new("l", "", &["a"]));
        assert!(lines(&labelled.family()).is_empty());
    }
}
