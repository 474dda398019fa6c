//! Kernel parameters of pods (the kubelet contract, pod 3.1 rule 8).

/// `net/ipv4/a.b` to `net.ipv4.a/b`: the first separator tells which form a name has; the form with dots is the canonical one.
pub(crate) fn normalise(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Namespace {
    Ipc,
    Net,
}

impl Namespace {
    fn of(name: &str) -> Option<Self> {
        let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
        if name == "kernel.sem" || ipc.iter().any(|p| name.starts_with(p)) {
            Some(Self::Ipc)
        } else if name.starts_with("net.") {
            Some(Self::Net)
        } else {
            None
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
        }
    }
}

/// Allowed everywhere, from the named kernel on.
const SAFE: [(&str, (u32, u32)); 12] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];

/// May a pod set it? `unsafe_allowed` are further names of the node's configuration, or prefixes that end in `*`.
pub(crate) fn check(name: &str, host: Host, kernel: &str, unsafe_allowed: &[String]) -> Result<(), String> {
    let name = normalise(name);
    let kernel = version(kernel);
    let safe = SAFE.iter().any(|(safe, since)| *safe == name && *since <= kernel);
    let pattern = |pattern: &String| {
        let pattern = normalise(pattern);
        match pattern.strip_suffix('*') {
            // A prefix that is wider than one namespace is worth nothing.
            Some(prefix) => Namespace::of(prefix).is_some() && name.starts_with(prefix),
            None => pattern == name,
        }
    };
    let namespace = Namespace::of(&name).filter(|_| safe || unsafe_allowed.iter().any(pattern));
    match namespace {
        None => Err(format!("{name:?} not allowlisted")),
        Some(n) if (n == Namespace::Ipc && host.ipc) || (n == Namespace::Net && host.network) => {
            Err(format!("{name:?} not allowed with host {} enabled", n.name()))
        }
        Some(_) => Ok(()),
    }
}

/// The namespaces of the node that a pod shares.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Host {
    pub(crate) network: bool,
    pub(crate) ipc: bool,
}

/// Major and minor of `6.1.0-18-amd64`; zeros if unknown, which allows only what every kernel has.
fn version(kernel: &str) -> (u32, u32) {
    let mut numbers = kernel
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn forms() {
        for (name, canonical) in [
            ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("kernel/shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("net.ipv4.conf.eno2/100.rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("", ""),
            ("plain", "plain"),
        ] {
            assert_eq!(normalise(name), canonical);
        }
    }

    #[test]
    fn allowed() {
        let (none, net, ipc) = (
            Host::default(),
            Host {
                network: true,
                ..Host::default()
            },
            Host {
                ipc: true,
                ..Host::default()
            },
        );
        let allowed = [
            "kernel.msg*".to_owned(),
            "net/core/somaxconn".to_owned(),
            "*".to_owned(),
            "vm.swappiness".to_owned(),
        ];
        let table = [
            ("net.ipv4.tcp_syncookies", none, Ok(())),
            ("net/ipv4/tcp_syncookies", none, Ok(())),
            ("net.ipv4.tcp_syncookies", ipc, Ok(())),
            (
                "net.ipv4.tcp_syncookies",
                net,
                Err("\"net.ipv4.tcp_syncookies\" not allowed with host Net enabled"),
            ),
            (
                "kernel.shm_rmid_forced",
                ipc,
                Err("\"kernel.shm_rmid_forced\" not allowed with host IPC enabled"),
            ),
            ("kernel.msgmax", none, Ok(())),
            (
                "kernel.msgmax",
                ipc,
                Err("\"kernel.msgmax\" not allowed with host IPC enabled"),
            ),
            ("net.core.somaxconn", none, Ok(())),
            (
                "net.core.somaxconn2",
                none,
                Err("\"net.core.somaxconn2\" not allowlisted"),
            ),
            ("kernel.sem", none, Err("\"kernel.sem\" not allowlisted")),
            ("vm.swappiness", none, Err("\"vm.swappiness\" not allowlisted")),
        ];
        for (name, host, expected) in table {
            assert_eq!(
                check(name, host, "6.1.0-18-amd64", &allowed),
                expected.map_err(str::to_owned),
                "{name} {host:?}"
            );
        }
        assert!(check("net.ipv4.tcp_keepalive_time", none, "4.4.0", &[]).is_err());
        assert!(check("net.ipv4.tcp_keepalive_time", none, "4.5", &[]).is_ok());
        assert!(check("net.ipv4.tcp_keepalive_time", none, "", &[]).is_err());
    }
}
