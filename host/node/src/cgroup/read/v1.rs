//! Version 1: a directory in the hierarchy of every controller.

use std::path::Path;

use witlet_core::stats::reading::{Cgroup, Cpu, Disk, Memory, Throttling};

use super::{Flat, Reader, number, text, threads_max};

/// The kernel writes a number near 2^63 where there is no limit.
const UNLIMITED: u64 = 1 << 62;
/// What the kernel counts `cpuacct.stat` in: a hundredth of a second.
const TICK_NANOS: u64 = 10_000_000;

impl Reader<'_> {
    pub(super) fn fill_v1(&self, cgroup: &mut Cgroup) {
        let path = cgroup.path.clone();
        cgroup.cpu = self.dir("cpuacct", &path).and_then(|dir| cpu(&dir));
        if let Some(dir) = self.dir("memory", &path) {
            cgroup.memory = self.memory_v1(&dir);
            let limit = limit(&dir, "memory.limit_in_bytes");
            let both = self::limit(&dir, "memory.memsw.limit_in_bytes");
            cgroup.limits.memory = limit;
            cgroup.limits.memory_swap = both;
            cgroup.limits.swap = both.zip(limit).map(|(both, memory)| both.saturating_sub(memory));
            if self.all() {
                cgroup.limits.memory_reservation = self::limit(&dir, "memory.soft_limit_in_bytes");
            }
        }
        cgroup.processes = self.processes(&path);
        if !self.all() {
            return;
        }
        if let Some(dir) = self.dir("cpu", &path) {
            if let Some(cpu) = &mut cgroup.cpu {
                cpu.throttling = throttling(&dir);
            }
            cgroup.limits.cpu_shares = number(&dir, "cpu.shares");
            cgroup.limits.cpu_period = number(&dir, "cpu.cfs_period_us");
            // -1 without one.
            cgroup.limits.cpu_quota = number(&dir, "cpu.cfs_quota_us");
        }
        if let Some(dir) = self.dir("pids", &path) {
            cgroup.threads = number(&dir, "pids.current");
            cgroup.threads_max = threads_max(&dir);
        }
        if let Some(dir) = self.dir("blkio", &path) {
            let bytes = text(&dir, "blkio.throttle.io_service_bytes_recursive").unwrap_or_default();
            let count = text(&dir, "blkio.throttle.io_serviced_recursive").unwrap_or_default();
            let bytes = bytes
                .lines()
                .filter_map(|l| operation(l, |d| &mut d.read_bytes, |d| &mut d.written_bytes));
            let count = count
                .lines()
                .filter_map(|l| operation(l, |d| &mut d.reads, |d| &mut d.writes));
            cgroup.disks = self.disks(bytes.chain(count));
        }
    }

    fn memory_v1(&self, dir: &Path) -> Option<Memory> {
        let usage = number(dir, "memory.usage_in_bytes")?;
        let stat = Flat::read(dir, "memory.stat")?;
        // With what cgroups below use.
        let total = |name: &str| stat.get(&format!("total_{name}")).or_else(|| stat.get(name));
        let inactive_file = total("inactive_file");
        let mut memory = Memory {
            usage,
            working_set: usage.saturating_sub(inactive_file.unwrap_or(0)),
            rss: total("rss"),
            cache: total("cache"),
            mapped_file: total("mapped_file"),
            active_file: total("active_file"),
            inactive_file,
            swap: total("swap"),
            page_faults: total("pgfault"),
            major_page_faults: total("pgmajfault"),
            ..Memory::default()
        };
        if self.all() {
            memory.max_usage = number(dir, "memory.max_usage_in_bytes");
            memory.limit_hits = number(dir, "memory.failcnt");
            memory.kernel = number(dir, "memory.kmem.usage_in_bytes");
            memory.oom_kills = Flat::read(dir, "memory.oom_control").and_then(|f| f.get("oom_kill"));
        }
        Some(memory)
    }
}

fn limit(dir: &Path, file: &str) -> Option<u64> {
    number(dir, file).filter(|limit| *limit < UNLIMITED)
}

fn cpu(dir: &Path) -> Option<Cpu> {
    let usage = number(dir, "cpuacct.usage")?;
    let (mut user, mut system) = (number(dir, "cpuacct.usage_user"), number(dir, "cpuacct.usage_sys"));
    if user.is_none() {
        let stat = Flat::read(dir, "cpuacct.stat");
        let ticks = |name| stat.as_ref()?.get(name)?.checked_mul(TICK_NANOS);
        (user, system) = (ticks("user"), ticks("system"));
    }
    Some(Cpu {
        usage,
        user,
        system,
        ..Cpu::default()
    })
}

fn throttling(dir: &Path) -> Option<Throttling> {
    let stat = Flat::read(dir, "cpu.stat")?;
    Some(Throttling {
        periods: stat.get("nr_periods")?,
        throttled_periods: stat.get("nr_throttled")?,
        throttled: stat.get("throttled_time")?,
        burst_periods: stat.get("nr_bursts").unwrap_or(0),
        burst: stat.get("burst_time").unwrap_or(0),
    })
}

type Field = fn(&mut Disk) -> &mut u64;

/// `254:0 Read 4096`
fn operation(line: &str, read: Field, write: Field) -> Option<(&str, Field, u64)> {
    let mut fields = line.split_whitespace();
    let (numbers, operation, value) = (fields.next()?, fields.next()?, fields.next()?);
    let field = match operation {
        "Read" => read,
        "Write" => write,
        _ => return None,
    };
    Some((numbers, field, value.parse().ok()?))
}
