//! What only two readings tell: how much of the processors is in use.

use std::collections::HashMap;

use jiff::Timestamp;

use super::reading::{Cgroup, Readings};

/// Readings closer together than this say little about a rate.
const LEAST_MILLIS: i64 = 100;

/// The counters of the reading before, by cgroup path.
#[derive(Clone, Debug, Default)]
pub struct Before(HashMap<String, (Timestamp, u64, Option<u64>)>);

impl Before {
    /// Fills in rates, and keeps these readings for the next ones.
    pub fn fill_in(&mut self, now: &mut Readings) {
        let mut next = HashMap::with_capacity(self.0.len());
        let node = [&mut now.node.root, &mut now.node.kubepods].into_iter().flatten();
        let pods = now.pods.iter_mut().flat_map(|pod| {
            let sandbox = pod.sandbox.as_mut().and_then(|s| s.cgroup.as_mut());
            let containers = pod.containers.iter_mut().filter_map(|c| c.cgroup.as_mut());
            pod.cgroup.iter_mut().chain(sandbox).chain(containers)
        });
        for cgroup in node.chain(now.node.classes.iter_mut()).chain(pods) {
            let before = self.0.get(&cgroup.path).copied();
            if let Some(entry) = fill_in(cgroup, before) {
                next.insert(cgroup.path.clone(), entry);
            }
        }
        self.0 = next;
    }
}

fn fill_in(
    cgroup: &mut Cgroup,
    before: Option<(Timestamp, u64, Option<u64>)>,
) -> Option<(Timestamp, u64, Option<u64>)> {
    let cpu = cgroup.cpu.as_mut()?;
    if cpu.nano_cores.is_some() || cgroup.path.is_empty() {
        // The runtime said it.
        return None;
    }
    if let Some((at, usage, rate)) = before {
        let elapsed = cgroup.at.duration_since(at).as_nanos();
        if elapsed < i128::from(LEAST_MILLIS) * 1_000_000 && usage <= cpu.usage {
            cpu.nano_cores = rate;
            return before;
        }
        // A counter that went back belongs to another cgroup of the same name.
        cpu.nano_cores = cpu.usage.checked_sub(usage).and_then(|used| per_second(used, elapsed));
    }
    Some((cgroup.at, cpu.usage, cpu.nano_cores))
}

/// Nanoseconds used, in nanoseconds that passed, to nanoseconds a second.
fn per_second(used: u64, elapsed: i128) -> Option<u64> {
    let rate = i128::from(used).checked_mul(1_000_000_000)?.checked_div(elapsed)?;
    u64::try_from(rate).ok()
}
