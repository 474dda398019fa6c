//! `/metrics/resource`: what autoscalers read.

use super::reading::{Cgroup, Container, Pod, Readings};
use super::text::{Labels, Text, seconds, unix_seconds};

/// None: the readings could not be taken.
pub fn render(readings: Option<&Readings>) -> String {
    let mut text = Text::default();
    if let Some(readings) = readings {
        containers(&mut text, readings);
        node(&mut text, readings);
        pods(&mut text, &readings.pods);
    }
    text.gauge(
        "resource_scrape_error",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    )
    .sample(&Labels::default(), if readings.is_some() { 0.0 } else { 1.0 }, None);
    text.finish()
}

type Value = (f64, Option<jiff::Timestamp>);

fn cpu(cgroup: &Cgroup) -> Option<Value> {
    Some((seconds(cgroup.cpu?.usage), Some(cgroup.at)))
}

fn working_set(cgroup: &Cgroup) -> Option<Value> {
    Some((cgroup.memory?.working_set as f64, Some(cgroup.at)))
}

fn swap(cgroup: &Cgroup) -> Option<Value> {
    Some((cgroup.memory?.swap? as f64, Some(cgroup.at)))
}

fn containers(text: &mut Text, readings: &Readings) {
    let machine = readings.node.swap_bytes;
    let all: Vec<(Labels, &Container)> = readings
        .pods
        .iter()
        .flat_map(|pod| {
            pod.containers.iter().map(|c| {
                let labels = Labels::new(&[
                    ("container", &c.name),
                    ("namespace", &pod.key.namespace),
                    ("pod", &pod.key.name),
                ]);
                (labels, c)
            })
        })
        .collect();
    let of = |f: fn(&Cgroup) -> Option<Value>| move |c: &Container| f(c.cgroup.as_ref()?);
    let mut counter = text.counter(
        "container_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
    );
    each(&mut counter, &all, of(cpu));
    let mut gauge = |name, help, value: &dyn Fn(&Container) -> Option<Value>| {
        each(&mut text.gauge(name, help), &all, value);
    };
    gauge(
        "container_memory_working_set_bytes",
        "[STABLE] Current working set of the container in bytes",
        &of(working_set),
    );
    gauge(
        "container_start_time_seconds",
        "[STABLE] Start time of the container since unix epoch in seconds",
        &|c| Some((unix_seconds(c.started_at), None)),
    );
    gauge(
        "container_swap_limit_bytes",
        "[ALPHA] Current amount of the container swap limit in bytes. Reported only on non-windows systems",
        &|c| {
            let cgroup = c.cgroup.as_ref()?;
            cgroup.memory?.swap?;
            let limit = cgroup.limits.swap.map_or(machine, |limit| limit.min(machine));
            Some((limit as f64, Some(cgroup.at)))
        },
    );
    gauge(
        "container_swap_usage_bytes",
        "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
        &of(swap),
    );
}

fn node(text: &mut Text, readings: &Readings) {
    let Some(root) = &readings.node.root else { return };
    let none = [(Labels::default(), root)];
    each(
        &mut text.counter(
            "node_cpu_usage_seconds_total",
            "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        ),
        &none,
        cpu,
    );
    each(
        &mut text.gauge(
            "node_memory_working_set_bytes",
            "[STABLE] Current working set of the node in bytes",
        ),
        &none,
        working_set,
    );
    each(
        &mut text.gauge(
            "node_swap_usage_bytes",
            "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
        ),
        &none,
        swap,
    );
}

fn pods(text: &mut Text, pods: &[Pod]) {
    let all: Vec<(Labels, &Cgroup)> = pods
        .iter()
        .filter_map(|pod| {
            let labels = Labels::new(&[("namespace", &pod.key.namespace), ("pod", &pod.key.name)]);
            Some((labels, pod.cgroup.as_ref()?))
        })
        .collect();
    each(
        &mut text.counter(
            "pod_cpu_usage_seconds_total",
            "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        ),
        &all,
        cpu,
    );
    each(
        &mut text.gauge(
            "pod_memory_working_set_bytes",
            "[STABLE] Current working set of the pod in bytes",
        ),
        &all,
        working_set,
    );
    each(
        &mut text.gauge(
            "pod_swap_usage_bytes",
            "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
        ),
        &all,
        swap,
    );
}

fn each<T>(family: &mut super::text::Family<'_>, all: &[(Labels, &T)], value: impl Fn(&T) -> Option<Value>) {
    for (labels, item) in all {
        if let Some((value, at)) = value(item) {
            family.sample(labels, value, at);
        }
    }
}
