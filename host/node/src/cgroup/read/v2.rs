//! Version 2: one directory with everything. The root has no files for memory: there the machine's own counters stand for it.

use std::path::Path;

use witlet_core::stats::reading::{Cgroup, Cpu, Disk, Memory, Pressure, Stall, Throttling};

use super::{Flat, Reader, number, text, threads_max};

impl Reader<'_> {
    pub(super) fn fill_v2(&self, cgroup: &mut Cgroup, dir: &Path) {
        let root = cgroup.path == "/";
        cgroup.cpu = cpu(dir);
        cgroup.memory = if root {
            self.memory_of_root(dir)
        } else {
            self.memory_v2(dir)
        };
        cgroup.io = pressure(dir, "io.pressure");
        cgroup.limits.memory = number(dir, "memory.max");
        cgroup.limits.memory_swap = number(dir, "memory.swap.max");
        cgroup.limits.swap = cgroup.limits.memory_swap;
        cgroup.processes = self.processes(&cgroup.path);
        if !self.all() {
            return;
        }
        cgroup.limits.memory_reservation = number(dir, "memory.low").filter(|low| *low > 0);
        cgroup.limits.cpu_shares = number(dir, "cpu.weight").map(shares);
        if let Some(max) = text(dir, "cpu.max") {
            let mut fields = max.split_whitespace();
            cgroup.limits.cpu_quota = fields.next().and_then(|f| f.parse().ok());
            cgroup.limits.cpu_period = fields.next().and_then(|f| f.parse().ok());
        }
        cgroup.threads = number(dir, "pids.current");
        cgroup.threads_max = threads_max(dir);
        let io = text(dir, "io.stat").unwrap_or_default();
        cgroup.disks = self.disks(io.lines().flat_map(devices));
    }

    fn memory_v2(&self, dir: &Path) -> Option<Memory> {
        let usage = number(dir, "memory.current")?;
        let mut memory = memory(usage, &Flat::read(dir, "memory.stat")?);
        memory.swap = number(dir, "memory.swap.current");
        memory.pressure = pressure(dir, "memory.pressure");
        if self.all() {
            memory.max_usage = number(dir, "memory.peak");
            let events = Flat::read(dir, "memory.events");
            memory.limit_hits = events.as_ref().and_then(|e| e.get("max"));
            memory.oom_kills = events.as_ref().and_then(|e| e.get("oom_kill"));
        }
        Some(memory)
    }

    fn memory_of_root(&self, dir: &Path) -> Option<Memory> {
        let machine = self.memory_of_machine();
        let used = |total: &str, free: &str| Some(machine.get(total)?.saturating_sub(*machine.get(free)?));
        let mut memory = memory(used("MemTotal", "MemFree")?, &Flat::read(dir, "memory.stat")?);
        memory.swap = used("SwapTotal", "SwapFree");
        memory.pressure = pressure(dir, "memory.pressure");
        Some(memory)
    }
}

fn cpu(dir: &Path) -> Option<Cpu> {
    let stat = Flat::read(dir, "cpu.stat")?;
    let nanos = |name: &str| stat.get(name).map(|micros| micros.saturating_mul(1000));
    let throttling = || {
        Some(Throttling {
            periods: stat.get("nr_periods")?,
            throttled_periods: stat.get("nr_throttled")?,
            throttled: nanos("throttled_usec")?,
            burst_periods: stat.get("nr_bursts").unwrap_or(0),
            burst: nanos("burst_usec").unwrap_or(0),
        })
    };
    Some(Cpu {
        usage: nanos("usage_usec")?,
        nano_cores: None,
        user: nanos("user_usec"),
        system: nanos("system_usec"),
        throttling: throttling(),
        pressure: pressure(dir, "cpu.pressure"),
    })
}

fn memory(usage: u64, stat: &Flat) -> Memory {
    let inactive_file = stat.get("inactive_file");
    Memory {
        usage,
        working_set: usage.saturating_sub(inactive_file.unwrap_or(0)),
        rss: stat.get("anon"),
        cache: stat.get("file"),
        mapped_file: stat.get("file_mapped"),
        active_file: stat.get("active_file"),
        inactive_file,
        kernel: stat.get("kernel"),
        page_faults: stat.get("pgfault"),
        major_page_faults: stat.get("pgmajfault"),
        ..Memory::default()
    }
}

/// The kubelet contract, node D2 rule 70.
fn shares(weight: u64) -> u64 {
    weight.clamp(1, 10_000).saturating_sub(1) * 262_142 / 9999 + 2
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
fn pressure(dir: &Path, file: &str) -> Option<Pressure> {
    let text = text(dir, file)?;
    let stall = |name: &str| {
        let fields = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))?;
        let get = |key: &str| fields.split(' ').find_map(|f| f.strip_prefix(key)?.strip_prefix('='));
        let average = |key| get(key).and_then(|v| v.parse().ok()).unwrap_or(0.0);
        Some(Stall {
            avg10: average("avg10"),
            avg60: average("avg60"),
            avg300: average("avg300"),
            total: get("total")?.parse().ok()?,
        })
    };
    Some(Pressure {
        some: stall("some")?,
        // Older kernels have none for cpu.
        full: stall("full").unwrap_or_default(),
    })
}

type Field = fn(&mut Disk) -> &mut u64;

/// `254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn devices(line: &str) -> Vec<(&str, Field, u64)> {
    let (numbers, fields) = line.split_once(' ').unwrap_or((line, ""));
    let field = |entry: &str| -> Option<(Field, u64)> {
        let (key, value) = entry.split_once('=')?;
        let field: Field = match key {
            "rbytes" => |d| &mut d.read_bytes,
            "wbytes" => |d| &mut d.written_bytes,
            "rios" => |d| &mut d.reads,
            "wios" => |d| &mut d.writes,
            _ => return None,
        };
        Some((field, value.parse().ok()?))
    };
    fields
        .split(' ')
        .filter_map(field)
        .map(|(f, value)| (numbers, f, value))
        .collect()
}
