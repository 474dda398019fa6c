//! Disks, filesystems and networks.

use super::{Machine, Names, Series};
use crate::stats::reading::{Disk, Interface, Readings};
use crate::stats::text::Text;

/// A name, what it means, and its value.
type Value<T> = (&'static str, &'static str, fn(&T) -> u64);

pub(super) fn disks(text: &mut Text, all: &[Series<'_>]) {
    let families: [Value<Disk>; 4] = [
        (
            "container_fs_reads_bytes_total",
            "Cumulative count of bytes read",
            |d| d.read_bytes,
        ),
        ("container_fs_reads_total", "Cumulative count of reads completed", |d| {
            d.reads
        }),
        (
            "container_fs_writes_bytes_total",
            "Cumulative count of bytes written",
            |d| d.written_bytes,
        ),
        (
            "container_fs_writes_total",
            "Cumulative count of writes completed",
            |d| d.writes,
        ),
    ];
    for (name, help, value) in families {
        let mut family = text.counter(name, help);
        for series in all {
            for disk in &series.cgroup.disks {
                let labels = series.labels.with("device", &disk.device);
                family.sample(&labels, value(disk) as f64, Some(series.cgroup.at));
            }
        }
    }
}

pub(super) fn root_fs(text: &mut Text, readings: &Readings, machine: &Machine) {
    let Some(fs) = readings.node.root_fs else { return };
    let labels = Names::default().labels("/").with("device", &machine.root_device);
    for (name, help, value) in [
        ("container_fs_inodes_free", "Number of available Inodes", fs.inodes_free),
        ("container_fs_inodes_total", "Number of Inodes", fs.inodes),
        (
            "container_fs_limit_bytes",
            "Number of bytes that can be consumed by the container on this filesystem.",
            fs.capacity,
        ),
        (
            "container_fs_usage_bytes",
            "Number of bytes that are consumed by the container on this filesystem.",
            fs.used,
        ),
    ] {
        text.gauge(name, help).sample(&labels, value as f64, Some(fs.at));
    }
}

pub(super) fn networks(text: &mut Text, all: &[Series<'_>]) {
    let families: [Value<Interface>; 8] = [
        ("receive_bytes_total", "Cumulative count of bytes received", |i| {
            i.received.bytes
        }),
        (
            "receive_errors_total",
            "Cumulative count of errors encountered while receiving",
            |i| i.received.errors,
        ),
        (
            "receive_packets_dropped_total",
            "Cumulative count of packets dropped while receiving",
            |i| i.received.dropped,
        ),
        ("receive_packets_total", "Cumulative count of packets received", |i| {
            i.received.packets
        }),
        ("transmit_bytes_total", "Cumulative count of bytes transmitted", |i| {
            i.sent.bytes
        }),
        (
            "transmit_errors_total",
            "Cumulative count of errors encountered while transmitting",
            |i| i.sent.errors,
        ),
        (
            "transmit_packets_dropped_total",
            "Cumulative count of packets dropped while transmitting",
            |i| i.sent.dropped,
        ),
        (
            "transmit_packets_total",
            "Cumulative count of packets transmitted",
            |i| i.sent.packets,
        ),
    ];
    for (name, help, value) in families {
        let name = format!("container_network_{name}");
        let mut family = text.counter(&name, help);
        for series in all {
            for interface in series.interfaces {
                let labels = series.labels.with("interface", &interface.name);
                family.sample(&labels, value(interface) as f64, series.network_at);
            }
        }
    }
}
