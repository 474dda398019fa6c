//! What the machine says of its use: the port `Machine` over the kernel's files.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use witlet_core::ids::PodUid;
use witlet_core::stats::reading::{Detail, Filesystem, Interface, Node, PodCgroup, PodCgroups, Tasks, Traffic, Usage};
use witlet_ports::machine::Machine;

use crate::cgroup::CgroupTree;
use crate::machine::{Places, meminfo};

#[cfg(test)]
mod tests;

/// Interfaces that are no machine's way out: the other ends of pods' interfaces, and bridges of other programs.
const LEFT_OUT: [&str; 4] = ["lo", "veth", "docker", "nerdctl"];

pub struct MachineStats {
    cgroups: CgroupTree,
    places: Places,
}

impl MachineStats {
    pub fn new(cgroups: CgroupTree, places: Places) -> Self {
        Self { cgroups, places }
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(self.places.proc.join(file)).unwrap_or_default()
    }
}

impl Machine for MachineStats {
    fn node(&self, detail: Detail) -> Node {
        let reader = self.cgroups.reader(detail, &self.places.proc, &self.places.sys);
        let (kubepods, classes) = self.cgroups.read_parents(&reader);
        let memory = self.proc("meminfo");
        let memory = meminfo(&memory);
        let of = |name| memory.get(name).copied().unwrap_or(0);
        Node {
            boot_time: boot_time(&self.proc("stat")),
            memory_bytes: of("MemTotal"),
            swap_bytes: of("SwapTotal"),
            root: reader.read("/"),
            kubepods,
            classes,
            interfaces: interfaces(&self.proc("net/dev")),
            tasks: tasks(
                &self.proc("loadavg"),
                &self.proc("sys/kernel/pid_max"),
                &self.proc("sys/kernel/threads-max"),
            ),
            ..Node::default()
        }
    }

    fn pods(&self, detail: Detail) -> PodCgroups {
        let reader = self.cgroups.reader(detail, &self.places.proc, &self.places.sys);
        let found = self.cgroups.read_pods(&reader).into_iter().map(|found| {
            let network = found.process.and_then(|pid| {
                let at = Timestamp::now();
                let text = std::fs::read_to_string(self.places.proc.join(format!("{pid}/net/dev"))).ok()?;
                Some((at, interfaces(&text)))
            });
            let pod = PodCgroup {
                pod: found.pod,
                containers: found.containers,
                network,
            };
            (PodUid::from(found.uid.as_str()), pod)
        });
        found.collect()
    }

    fn filesystem(&self, path: &Path) -> io::Result<Filesystem> {
        let stat = rustix::fs::statvfs(path)?;
        let size = stat.f_frsize;
        Ok(Filesystem {
            at: Timestamp::now(),
            device: std::fs::metadata(path)?.dev(),
            capacity: stat.f_blocks.saturating_mul(size),
            available: stat.f_bavail.saturating_mul(size),
            inodes: stat.f_files,
            inodes_free: stat.f_ffree,
            used: stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(size),
            inodes_used: stat.f_files.saturating_sub(stat.f_ffree),
        })
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        let root = std::fs::symlink_metadata(path)?;
        let mut usage = Usage {
            at: Some(Timestamp::now()),
            bytes: blocks(&root),
            inodes: 1,
        };
        let (mut seen, mut dirs) = (HashSet::new(), Vec::<PathBuf>::new());
        dirs.extend(root.is_dir().then(|| path.to_owned()));
        while let Some(dir) = dirs.pop() {
            // It may be removed while we look.
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                if meta.dev() != root.dev() || (meta.nlink() > 1 && !meta.is_dir() && !seen.insert(meta.ino())) {
                    continue;
                }
                usage.bytes = usage.bytes.saturating_add(blocks(&meta));
                usage.inodes += 1;
                if meta.is_dir() {
                    dirs.push(entry.path());
                }
            }
        }
        Ok(usage)
    }
}

/// A block of a file's metadata is 512 bytes, whatever the filesystem's is.
fn blocks(meta: &std::fs::Metadata) -> u64 {
    meta.blocks().saturating_mul(512)
}

fn boot_time(stat: &str) -> Option<Timestamp> {
    let seconds = stat
        .lines()
        .find_map(|l| l.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Timestamp::from_second(seconds).ok()
}

/// `0.00 0.00 0.00 1/354 4711`
fn tasks(loadavg: &str, pid_max: &str, threads_max: &str) -> Option<Tasks> {
    let (_, running) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
    let max = [pid_max, threads_max]
        .into_iter()
        .filter_map(|text| text.trim().parse().ok())
        .min()?;
    Some(Tasks {
        at: Timestamp::now(),
        max,
        running: running.parse().ok()?,
    })
}

/// `net/dev` of a network namespace.
fn interfaces(text: &str) -> Vec<Interface> {
    let parse = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let name = name.trim();
        if LEFT_OUT.iter().any(|prefix| name.starts_with(prefix)) {
            return None;
        }
        let counters: Vec<u64> = counters.split_whitespace().map_while(|c| c.parse().ok()).collect();
        let traffic = |from: usize| {
            let [bytes, packets, errors, dropped] = *counters.get(from..from + 4)? else {
                return None;
            };
            Some(Traffic {
                bytes,
                packets,
                errors,
                dropped,
            })
        };
        Some(Interface {
            name: name.to_owned(),
            received: traffic(0)?,
            sent: traffic(8)?,
        })
    };
    text.lines().skip(2).filter_map(parse).collect()
}
