//! `/metrics/cadvisor`: everything that the kernel counts for cgroups, under cAdvisor's names (the kubelet contract, node H 153).
//!
//! `tests/contract/node.md` lists the names that are left out, with the reason.

use jiff::Timestamp;

use super::reading::{Cgroup, Interface, Pressure, Readings};
use super::text::{Labels, Text, seconds};

mod devices;
mod usage;

use devices::{disks, networks, root_fs};
use usage::{cpu, memory};

/// What does not change while the machine runs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Machine {
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    pub os_image: String,
    pub cpus: u32,
    pub physical_cores: u32,
    pub sockets: u32,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    /// The device of the filesystem that holds the agent's root directory.
    pub root_device: String,
}

/// One cgroup with its labels.
struct Series<'a> {
    labels: Labels,
    cgroup: &'a Cgroup,
    started: Option<Timestamp>,
    interfaces: &'a [Interface],
    network_at: Option<Timestamp>,
}

/// What a series is named after; empty where it does not apply.
#[derive(Clone, Copy, Default)]
struct Names<'a> {
    container: &'a str,
    image: &'a str,
    name: &'a str,
    namespace: &'a str,
    pod: &'a str,
}

impl Names<'_> {
    fn labels(self, id: &str) -> Labels {
        Labels::new(&[
            ("container", self.container),
            ("id", id),
            ("image", self.image),
            ("name", self.name),
            ("namespace", self.namespace),
            ("pod", self.pod),
        ])
    }
}

/// None: the readings could not be taken.
pub fn render(readings: Option<&Readings>, machine: &Machine) -> String {
    let mut text = Text::default();
    if let Some(readings) = readings {
        let all = series(readings);
        cpu(&mut text, &all);
        memory(&mut text, &all);
        disks(&mut text, &all);
        root_fs(&mut text, readings, machine);
        networks(&mut text, &all);
        processes(&mut text, &all);
        limits(&mut text, &all);
        pressure(&mut text, &all);
    }
    let failed = if readings.is_some() { 0.0 } else { 1.0 };
    let none = Labels::default();
    text.gauge(
        "container_scrape_error",
        "1 if there was an error while getting container metrics, 0 otherwise",
    )
    .sample(&none, failed, None);
    self::machine(&mut text, machine);
    text.finish()
}

fn of<'a>(names: Names<'_>, cgroup: &'a Cgroup) -> Series<'a> {
    Series {
        labels: names.labels(&cgroup.path),
        cgroup,
        started: cgroup.created_at,
        interfaces: &[],
        network_at: None,
    }
}

fn series(readings: &Readings) -> Vec<Series<'_>> {
    let node = &readings.node;
    let mut all = Vec::new();
    all.extend(node.root.iter().map(|cgroup| Series {
        started: node.boot_time,
        interfaces: &node.interfaces,
        network_at: Some(cgroup.at),
        ..of(Names::default(), cgroup)
    }));
    all.extend(
        node.kubepods
            .iter()
            .chain(&node.classes)
            .map(|c| of(Names::default(), c)),
    );
    for pod in &readings.pods {
        let names = Names {
            namespace: &pod.key.namespace,
            pod: &pod.key.name,
            ..Names::default()
        };
        all.extend(pod.cgroup.iter().map(|cgroup| of(names, cgroup)));
        let sandbox = pod.sandbox.as_ref().and_then(|s| Some((s, s.cgroup.as_ref()?)));
        all.extend(sandbox.map(|(sandbox, cgroup)| {
            let names = Names {
                name: &sandbox.id,
                image: &sandbox.image,
                ..names
            };
            Series {
                started: Some(pod.created_at),
                interfaces: &pod.interfaces,
                network_at: pod.network_at,
                ..of(names, cgroup)
            }
        }));
        all.extend(pod.containers.iter().filter_map(|container| {
            let cgroup = container.cgroup.as_ref().filter(|c| !c.path.is_empty())?;
            let names = Names {
                container: &container.name,
                name: &container.id,
                image: &container.image,
                ..names
            };
            Some(Series {
                started: Some(container.started_at),
                ..of(names, cgroup)
            })
        }));
    }
    all
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}
use Kind::{Counter, Gauge};

/// A family with one sample for each cgroup that has the value.
fn each(
    text: &mut Text,
    all: &[Series<'_>],
    (kind, name, help): (Kind, &str, &str),
    value: impl Fn(&Cgroup) -> Option<f64>,
) {
    let mut family = match kind {
        Counter => text.counter(name, help),
        Gauge => text.gauge(name, help),
    };
    for series in all {
        if let Some(value) = value(series.cgroup) {
            family.sample(&series.labels, value, Some(series.cgroup.at));
        }
    }
}

fn processes(text: &mut Text, all: &[Series<'_>]) {
    let mut gauge = |name, help, value: fn(&Cgroup) -> Option<u64>| {
        each(text, all, (Gauge, name, help), |c| Some(value(c)? as f64));
    };
    gauge(
        "container_processes",
        "Number of processes running inside the container.",
        |c| c.processes,
    );
    gauge(
        "container_threads",
        "Number of threads running inside the container",
        |c| c.threads,
    );
    gauge(
        "container_threads_max",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        |c| c.threads_max,
    );
    gauge(
        "container_last_seen",
        "Last time a container was seen by the exporter",
        |c| u64::try_from(c.at.as_second()).ok(),
    );
    let mut family = text.gauge(
        "container_start_time_seconds",
        "Start time of the container since unix epoch in seconds.",
    );
    for series in all {
        if let Some(started) = series.started {
            family.sample(&series.labels, started.as_second() as f64, None);
        }
    }
}

fn limits(text: &mut Text, all: &[Series<'_>]) {
    let mut gauge = |name, help, value: fn(&Cgroup) -> Option<u64>| {
        let mut family = text.gauge(name, help);
        for series in all {
            if let Some(value) = value(series.cgroup) {
                family.sample(&series.labels, value as f64, None);
            }
        }
    };
    gauge("container_spec_cpu_period", "CPU period of the container.", |c| {
        c.limits.cpu_period
    });
    gauge("container_spec_cpu_quota", "CPU quota of the container.", |c| {
        c.limits.cpu_quota
    });
    gauge("container_spec_cpu_shares", "CPU share of the container.", |c| {
        c.limits.cpu_shares
    });
    // 0 says that there is no limit.
    gauge(
        "container_spec_memory_limit_bytes",
        "Memory limit for the container.",
        |c| c.memory.map(|_| c.limits.memory.unwrap_or(0)),
    );
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Memory reservation limit for the container.",
        |c| c.memory.map(|_| c.limits.memory_reservation.unwrap_or(0)),
    );
    gauge(
        "container_spec_memory_swap_limit_bytes",
        "Memory swap limit for the container.",
        |c| c.memory.map(|_| c.limits.memory_swap.unwrap_or(0)),
    );
}

type Find = fn(&Cgroup) -> Option<Pressure>;

fn pressure(text: &mut Text, all: &[Series<'_>]) {
    let of: [(&str, Find); 3] = [
        ("cpu", |c| c.cpu?.pressure),
        ("io", |c| c.io),
        ("memory", |c| c.memory?.pressure),
    ];
    for (what, pressure) in of {
        let micros = |total: u64| seconds(total.saturating_mul(1000));
        let name = format!("container_pressure_{what}_stalled_seconds_total");
        let help =
            format!("Total time duration no tasks in the container could make progress due to {what} congestion.");
        each(text, all, (Counter, &name, &help), |c| {
            Some(micros(pressure(c)?.full.total))
        });
        let name = format!("container_pressure_{what}_waiting_seconds_total");
        let help = format!("Total time duration tasks in the container have waited due to {what} congestion.");
        each(text, all, (Counter, &name, &help), |c| {
            Some(micros(pressure(c)?.some.total))
        });
    }
}

fn machine(text: &mut Text, machine: &Machine) {
    let labels = Labels::new(&[
        ("boot_id", &machine.boot_id),
        ("machine_id", &machine.machine_id),
        ("system_uuid", &machine.system_uuid),
    ]);
    for (name, help, value) in [
        (
            "machine_cpu_cores",
            "Number of logical CPU cores.",
            u64::from(machine.cpus),
        ),
        (
            "machine_cpu_physical_cores",
            "Number of physical CPU cores.",
            u64::from(machine.physical_cores),
        ),
        (
            "machine_cpu_sockets",
            "Number of CPU sockets.",
            u64::from(machine.sockets),
        ),
        (
            "machine_memory_bytes",
            "Amount of memory installed on the machine.",
            machine.memory_bytes,
        ),
        (
            "machine_swap_bytes",
            "Amount of swap memory available on the machine.",
            machine.swap_bytes,
        ),
    ] {
        text.gauge(name, help).sample(&labels, value as f64, None);
    }
    text.gauge(
        "machine_scrape_error",
        "1 if there was an error while getting machine metrics, 0 otherwise.",
    )
    .sample(&Labels::default(), 0.0, None);
    let versions = Labels::new(&[
        ("cadvisorRevision", ""),
        ("cadvisorVersion", ""),
        ("dockerVersion", ""),
        ("kernelVersion", &machine.kernel_version),
        ("osVersion", &machine.os_image),
    ]);
    text.gauge(
        "cadvisor_version_info",
        "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.",
    )
    .sample(&versions, 1.0, None);
}
