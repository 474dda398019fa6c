//! Metrics in the Prometheus text format, with the time of their reading.

use std::fmt::Write;

use jiff::Timestamp;

/// Writes families one after the other.
#[derive(Default)]
pub struct Text(String);

/// Labels, escaped and ready to write: `a="b",c="d"`. One set stands in many families.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Labels(String);

impl Labels {
    pub fn new(pairs: &[(&str, &str)]) -> Self {
        pairs
            .iter()
            .fold(Self::default(), |labels, (key, value)| labels.with(key, value))
    }

    /// These, and one more.
    #[must_use]
    pub fn with(&self, key: &str, value: &str) -> Self {
        let mut all = self.0.clone();
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(key);
        all.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => all.push_str("\\\\"),
                '"' => all.push_str("\\\""),
                '\n' => all.push_str("\\n"),
                c => all.push(c),
            }
        }
        all.push('"');
        Self(all)
    }
}

/// One family in the making. Its header is written with the first sample: a family without any is left out.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
    help: &'a str,
    kind: &'static str,
    begun: bool,
}

impl Text {
    pub fn counter<'a>(&'a mut self, name: &'a str, help: &'a str) -> Family<'a> {
        self.family(name, help, "counter")
    }

    pub fn gauge<'a>(&'a mut self, name: &'a str, help: &'a str) -> Family<'a> {
        self.family(name, help, "gauge")
    }

    fn family<'a>(&'a mut self, name: &'a str, help: &'a str, kind: &'static str) -> Family<'a> {
        Family {
            text: &mut self.0,
            name,
            help,
            kind,
            begun: false,
        }
    }

    pub fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// `at` is left out for what has no time of its own.
    pub fn sample(&mut self, labels: &Labels, value: f64, at: Option<Timestamp>) {
        // Writing to a String cannot fail.
        if !self.begun {
            let _ = writeln!(self.text, "# HELP {} {}", self.name, self.help);
            let _ = writeln!(self.text, "# TYPE {} {}", self.name, self.kind);
            self.begun = true;
        }
        self.text.push_str(self.name);
        if !labels.0.is_empty() {
            let _ = write!(self.text, "{{{}}}", labels.0);
        }
        let _ = write!(self.text, " {value}");
        if let Some(at) = at {
            let _ = write!(self.text, " {}", at.as_millisecond());
        }
        self.text.push('\n');
    }
}

/// Nanoseconds as seconds.
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

pub fn unix_seconds(at: Timestamp) -> f64 {
    at.as_nanosecond() as f64 / 1e9
}
