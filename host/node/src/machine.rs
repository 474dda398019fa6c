//! Facts about the machine, from `/proc`, `/sys` and `/etc` (the kubelet contract, node C2 rules 45 and 50).
//!
//! What cannot be read is empty or zero, except what a node cannot be without: processors and memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};

use witlet_core::node::{MachineFacts, go_architecture};

#[cfg(test)]
mod tests;

/// Where the kernel and the distribution keep what we read. Other than the real places only in tests.
#[derive(Clone, Debug)]
pub struct Places {
    pub proc: PathBuf,
    pub sys: PathBuf,
    pub etc: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            etc: "/etc".into(),
        }
    }
}

/// Reads everything. `root_dir` is the agent's, and exists.
pub fn facts(places: &Places, root_dir: &Path) -> io::Result<MachineFacts> {
    let text = read(&places.proc.join("meminfo"));
    let memory = meminfo(&text);
    let memory_bytes = memory.get("MemTotal").copied().unwrap_or(0);
    let cpus = cpus(places);
    if memory_bytes == 0 || cpus == 0 {
        let what = if cpus == 0 { "processors" } else { "memory" };
        return Err(io::Error::other(format!(
            "the kernel does not tell how many {what} there are"
        )));
    }
    let machine_id = machine_id(places);
    Ok(MachineFacts {
        cpus,
        memory_bytes,
        swap_bytes: memory.get("SwapTotal").copied().unwrap_or(0),
        hugepages: hugepages(places),
        system_uuid: system_uuid(places).unwrap_or_else(|| machine_id.clone()),
        machine_id,
        boot_id: read(&places.proc.join("sys/kernel/random/boot_id")),
        kernel_version: read(&places.proc.join("sys/kernel/osrelease")),
        os_image: os_image(places),
        architecture: go_architecture(std::env::consts::ARCH).to_owned(),
        hostname: read(&places.proc.join("sys/kernel/hostname")).to_lowercase(),
        root_fs_bytes: filesystem(root_dir)?.capacity_bytes,
        addresses: local_addresses(places),
        default_address: default_address(),
        thermal_throttle_paths: thermal_throttle(places),
    })
}

/// How full a filesystem is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filesystem {
    pub capacity_bytes: u64,
    /// For those who are not root.
    pub available_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

pub fn filesystem(path: &Path) -> io::Result<Filesystem> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Filesystem {
        capacity_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path)
        .map(|text| text.trim_end_matches(['\n', '\0']).trim().to_owned())
        .unwrap_or_default()
}

/// `name` to bytes.
pub(crate) fn meminfo(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some((name, kib.saturating_mul(1024)))
        })
        .collect()
}

fn cpus(places: &Places) -> u32 {
    let online = count_ranges(&read(&places.sys.join("devices/system/cpu/online")));
    if online > 0 {
        return online;
    }
    let listed = read(&places.proc.join("cpuinfo"))
        .lines()
        .filter(|l| l.starts_with("processor"))
        .count();
    u32::try_from(listed).unwrap_or(u32::MAX)
}

/// How many numbers `0-3,5` names.
fn count_ranges(text: &str) -> u32 {
    text.split(',')
        .filter_map(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let (low, high): (u32, u32) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
            high.checked_sub(low)?.checked_add(1)
        })
        .fold(0, u32::saturating_add)
}

/// How many cores there are, not counting threads, and how many sockets. At least one of each.
pub fn topology(places: &Places) -> (u32, u32) {
    let (mut cores, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    for cpu in entries(&places.sys.join("devices/system/cpu")) {
        let of = |file| read(&cpu.join("topology").join(file)).parse::<i64>().ok();
        if let (Some(core), Some(socket)) = (of("core_id"), of("physical_package_id")) {
            cores.insert((socket, core));
            sockets.insert(socket);
        }
    }
    let count = |n: usize| u32::try_from(n.max(1)).unwrap_or(u32::MAX);
    (count(cores.len()), count(sockets.len()))
}

/// The block device of the filesystem that holds the path: `/dev/vda1`. Its numbers where it has no name.
pub fn device_of(places: &Places, path: &Path) -> io::Result<String> {
    let device = rustix::fs::stat(path)?.st_dev;
    let numbers = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let event = read(&places.sys.join("dev/block").join(&numbers).join("uevent"));
    let name = event.lines().find_map(|l| l.strip_prefix("DEVNAME="));
    Ok(name.map_or(numbers, |name| format!("/dev/{name}")))
}

fn hugepages(places: &Places) -> BTreeMap<u64, u64> {
    hugepages_in(&places.sys.join("kernel/mm/hugepages"))
}

/// By the size of a page: the bytes of all such pages.
pub(crate) fn hugepages_in(dir: &Path) -> BTreeMap<u64, u64> {
    entries(dir)
        .into_iter()
        .filter_map(|dir| {
            let name = dir.file_name()?.to_str()?;
            let page: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let page = page.checked_mul(1024)?;
            let count: u64 = read(&dir.join("nr_hugepages")).parse().unwrap_or(0);
            Some((page, page.saturating_mul(count)))
        })
        .collect()
}

fn machine_id(places: &Places) -> String {
    let id = read(&places.etc.join("machine-id"));
    if id.is_empty() {
        read(&places.etc.join("../var/lib/dbus/machine-id"))
    } else {
        id
    }
}

/// The firmware's, or the device tree's. None where the machine has neither: the machine id stands for it then.
fn system_uuid(places: &Places) -> Option<String> {
    [
        "class/dmi/id/product_uuid",
        "firmware/devicetree/base/vm,uuid",
        "firmware/devicetree/base/serial-number",
    ]
    .into_iter()
    .map(|file| read(&places.sys.join(file)))
    .find(|id| !id.is_empty())
}

fn os_image(places: &Places) -> String {
    let text = read(&places.etc.join("os-release"));
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name
        .map(|n| n.trim().trim_matches(['"', '\'']).to_owned())
        .unwrap_or_default();
    if name.is_empty() { "Linux".into() } else { name }
}

fn thermal_throttle(places: &Places) -> Vec<String> {
    let mut paths: Vec<_> = entries(&places.sys.join("devices/system/cpu"))
        .into_iter()
        .filter(|dir| {
            let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            name.strip_prefix("cpu")
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
        .map(|dir| dir.join("thermal_throttle"))
        .filter(|dir| dir.is_dir())
        .map(|dir| dir.to_string_lossy().into_owned())
        .collect();
    paths.sort();
    paths
}

pub(crate) fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

// === Addresses ===

/// All addresses of the machine, and the one that the default route leaves by. Cheap: they may change at any time.
pub fn addresses(places: &Places) -> (Vec<IpAddr>, Option<IpAddr>) {
    (local_addresses(places), default_address())
}

/// On all interfaces of this network namespace.
fn local_addresses(places: &Places) -> Vec<IpAddr> {
    let v4 = fib_trie(&read(&places.proc.join("net/fib_trie")));
    let v6 = if_inet6(&read(&places.proc.join("net/if_inet6")));
    v4.into_iter()
        .map(IpAddr::V4)
        .chain(v6.into_iter().map(IpAddr::V6))
        .collect()
}

/// An address stands before the line that says `/32 host LOCAL`.
fn fib_trie(text: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = last
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

fn if_inet6(text: &str) -> Vec<Ipv6Addr> {
    text.lines()
        .filter_map(|line| u128::from_str_radix(line.split_whitespace().next()?, 16).ok())
        .map(Ipv6Addr::from_bits)
        .collect()
}

/// The address that the kernel would send from. Connecting a datagram socket asks the routing table and sends nothing; the
/// targets are addresses for documentation.
fn default_address() -> Option<IpAddr> {
    let ask = |from: &str, to: &str| -> io::Result<IpAddr> {
        let socket = UdpSocket::bind(from)?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    ask("0.0.0.0:0", "192.0.2.1:9")
        .or_else(|_| ask("[::]:0", "[2001:db8::1]:9"))
        .ok()
}
