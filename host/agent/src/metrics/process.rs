//! The process itself, under the names that every Prometheus client library uses.

use std::fs;

use witlet_ports::sink::{Family, MetricKind, Sample};

/// What the kernel counts CPU time in, for every program.
const TICKS_PER_SECOND: f64 = 100.0;

pub fn process() -> Vec<Family> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let field = |n: usize| field(&stat, n).unwrap_or(0);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|l| {
        l.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let seconds = (field(14) + field(15)) as f64 / TICKS_PER_SECOND;
    vec![
        one(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            MetricKind::Counter,
            seconds,
        ),
        gauge(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            limit.map_or(0.0, |l| l as f64),
        ),
        gauge("process_open_fds", "Number of open file descriptors.", open as f64),
        gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            (resident.unwrap_or(0) * 1024) as f64,
        ),
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            field(23) as f64,
        ),
        start_time(),
    ]
}

/// When the process began.
pub fn start_time() -> Family {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = boot
        .lines()
        .find_map(|l| l.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    let since = field(&stat, 22).unwrap_or(0) as f64 / TICKS_PER_SECOND;
    gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        boot.unwrap_or(0.0) + since,
    )
}

/// A field of `/proc/<pid>/stat`, counted from 1. The second is a name in parentheses that may hold blanks.
fn field(stat: &str, n: usize) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(n.checked_sub(3)?)?.parse().ok()
}

fn gauge(name: &str, help: &str, value: f64) -> Family {
    one(name, help, MetricKind::Gauge, value)
}

fn one(name: &str, help: &str, kind: MetricKind, value: f64) -> Family {
    Family {
        name: name.into(),
        help: help.into(),
        kind,
        samples: vec![Sample {
            name: name.into(),
            labels: Vec::new(),
            value,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen_as_it_is() {
        let families = process();
        let value = |name: &str| {
            families
                .iter()
                .find(|f| f.name == name)
                .map_or(0.0, |f| f.samples[0].value)
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0);
        let now = jiff::Timestamp::now().as_second() as f64;
        let started = value("process_start_time_seconds");
        assert!(started <= now + 2.0 && started > now - 3600.0, "{started} and {now}");
    }

    #[test]
    fn the_name_of_the_process_may_hold_anything() {
        assert_eq!(field("1 (a ) b (c) S 4 5", 4), Some(4));
    }
}
