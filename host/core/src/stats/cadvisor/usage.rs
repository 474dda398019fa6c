//! Processors and memory.

use super::{Counter, Gauge, Series, each};
use crate::stats::reading::{Cgroup, Memory};
use crate::stats::text::{Text, seconds};

pub(super) fn cpu(text: &mut Text, all: &[Series<'_>]) {
    {
        let mut family = text.counter(
            "container_cpu_usage_seconds_total",
            "Cumulative cpu time consumed in seconds.",
        );
        for series in all {
            if let Some(cpu) = series.cgroup.cpu {
                let labels = series.labels.with("cpu", "total");
                family.sample(&labels, seconds(cpu.usage), Some(series.cgroup.at));
            }
        }
    }
    let mut add = |name, help, value: &dyn Fn(&Cgroup) -> Option<f64>| each(text, all, (Counter, name, help), value);
    add(
        "container_cpu_user_seconds_total",
        "Cumulative user cpu time consumed in seconds.",
        &|c| Some(seconds(c.cpu?.user?)),
    );
    add(
        "container_cpu_system_seconds_total",
        "Cumulative system cpu time consumed in seconds.",
        &|c| Some(seconds(c.cpu?.system?)),
    );
    // Only where there is a quota: without one nothing is throttled.
    let throttling = |c: &Cgroup| c.limits.cpu_quota.and(c.cpu?.throttling);
    add(
        "container_cpu_cfs_periods_total",
        "Number of elapsed enforcement period intervals.",
        &|c| Some(throttling(c)?.periods as f64),
    );
    add(
        "container_cpu_cfs_throttled_periods_total",
        "Number of throttled period intervals.",
        &|c| Some(throttling(c)?.throttled_periods as f64),
    );
    add(
        "container_cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled.",
        &|c| Some(seconds(throttling(c)?.throttled)),
    );
    add(
        "container_cpu_cfs_burst_periods_total",
        "Number of periods when burst occurs.",
        &|c| Some(throttling(c)?.burst_periods as f64),
    );
    add(
        "container_cpu_cfs_burst_seconds_total",
        "Total time duration the container has been bursted.",
        &|c| Some(seconds(throttling(c)?.burst)),
    );
}

pub(super) fn memory(text: &mut Text, all: &[Series<'_>]) {
    let mut gauge = |name, help, value: fn(&Memory) -> Option<u64>| {
        each(text, all, (Gauge, name, help), |c| {
            Some(value(c.memory.as_ref()?)? as f64)
        });
    };
    gauge("container_memory_cache", "Number of bytes of page cache memory.", |m| {
        m.cache
    });
    gauge("container_memory_rss", "Size of RSS in bytes.", |m| m.rss);
    gauge(
        "container_memory_kernel_usage",
        "Size of kernel memory allocated in bytes.",
        |m| m.kernel,
    );
    gauge(
        "container_memory_mapped_file",
        "Size of memory mapped files in bytes.",
        |m| m.mapped_file,
    );
    gauge("container_memory_swap", "Container swap usage in bytes.", |m| m.swap);
    gauge(
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |m| Some(m.usage),
    );
    gauge(
        "container_memory_max_usage_bytes",
        "Maximum memory usage recorded in bytes",
        |m| m.max_usage,
    );
    gauge(
        "container_memory_working_set_bytes",
        "Current working set in bytes.",
        |m| Some(m.working_set),
    );
    gauge(
        "container_memory_total_active_file_bytes",
        "Current total active file in bytes.",
        |m| m.active_file,
    );
    gauge(
        "container_memory_total_inactive_file_bytes",
        "Current total inactive file in bytes.",
        |m| m.inactive_file,
    );
    let mut counter = |name, help, value: fn(&Memory) -> Option<u64>| {
        each(text, all, (Counter, name, help), |c| {
            Some(value(c.memory.as_ref()?)? as f64)
        });
    };
    counter("container_memory_failcnt", "Number of memory usage hits limits", |m| {
        m.limit_hits
    });
    counter(
        "container_oom_events_total",
        "Count of out of memory events observed for the container",
        |m| m.oom_kills,
    );

    let mut family = text.counter(
        "container_memory_failures_total",
        "Cumulative count of memory allocation failures.",
    );
    for series in all {
        let Some(memory) = series.cgroup.memory else { continue };
        for (kind, value) in [
            ("pgfault", memory.page_faults),
            ("pgmajfault", memory.major_page_faults),
        ] {
            let Some(value) = value else { continue };
            for scope in ["container", "hierarchy"] {
                let labels = series.labels.with("failure_type", kind).with("scope", scope);
                family.sample(&labels, value as f64, Some(series.cgroup.at));
            }
        }
    }
}
