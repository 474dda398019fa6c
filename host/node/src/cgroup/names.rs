//! Names of cgroups, in the forms of both drivers (the kubelet contract, node D1).

/// How cgroups are named, and who makes them. The runtime must use the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Driver {
    #[default]
    Cgroupfs,
    Systemd,
}

#[derive(Clone, Debug)]
pub(super) struct Names {
    driver: Driver,
    root: Vec<String>,
}

impl Names {
    pub(super) fn new(driver: Driver, root: &str) -> Self {
        // `..` would lead out of the hierarchy.
        let parts = root.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
        Self {
            driver,
            root: parts.map(str::to_owned).collect(),
        }
    }

    pub(super) fn kubepods(&self) -> String {
        self.path(&["kubepods"])
    }

    /// The cgroup that holds the pods of a class.
    pub(super) fn parent(&self, qos: &str) -> String {
        match qos {
            "Burstable" => self.path(&["kubepods", "burstable"]),
            "BestEffort" => self.path(&["kubepods", "besteffort"]),
            _ => self.kubepods(),
        }
    }

    pub(super) fn pod(&self, uid: &str, qos: &str) -> String {
        let pod = format!("pod{}", uid.replace('/', "-"));
        match qos {
            "Burstable" => self.path(&["kubepods", "burstable", &pod]),
            "BestEffort" => self.path(&["kubepods", "besteffort", &pod]),
            _ => self.path(&["kubepods", &pod]),
        }
    }

    /// The pod that an entry of a class's cgroup stands for.
    pub(super) fn uid(&self, entry: &str, qos: &str) -> Option<String> {
        let uid = match self.driver {
            Driver::Cgroupfs => entry.strip_prefix("pod")?.to_owned(),
            Driver::Systemd => {
                let parent = self.parent(qos);
                let slice = parent.rsplit('/').next()?.strip_suffix(".slice")?;
                let name = entry.strip_suffix(".slice")?.strip_prefix(slice)?;
                name.strip_prefix("-pod")?.replace('_', "-")
            }
        };
        (!uid.is_empty()).then_some(uid)
    }

    /// A cgroup of others, which is not below ours: a path, or with systemd the name of a slice, alone or as a path.
    pub(super) fn existing(&self, name: &str) -> String {
        let mut parts = name.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
        match self.driver {
            Driver::Cgroupfs => format!("/{}", parts.collect::<Vec<_>>().join("/")),
            Driver::Systemd => {
                let slice = parts.next_back().unwrap_or_default();
                let name = slice.strip_suffix(".slice").unwrap_or(slice);
                let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
                ends.map(|end| format!("/{}.slice", &name[..end])).collect()
            }
        }
    }

    fn path(&self, parts: &[&str]) -> String {
        let all: Vec<&str> = self
            .root
            .iter()
            .map(String::as_str)
            .chain(parts.iter().copied())
            .collect();
        match self.driver {
            Driver::Cgroupfs => format!("/{}", all.join("/")),
            Driver::Systemd => {
                // Every slice lies in the one whose name is its own without the last part.
                let mut path = String::new();
                let mut name = String::new();
                for part in all {
                    if !name.is_empty() {
                        name.push('-');
                    }
                    name.push_str(&part.replace('-', "_"));
                    path.push_str(&format!("/{name}.slice"));
                }
                path
            }
        }
    }
}
