//! Puts together what the runtime, the kernel and the disk say of the same pods.

use std::collections::{BTreeMap, HashMap};

use super::reading::{Cgroup, Container, Node, Pod, PodCgroups, Readings, Sandbox, Usage, Volume};
use crate::ids::PodUid;
use crate::observed::{self, ContainerState, SandboxState};

/// What was gathered in one pass, from everywhere.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    pub node: Node,
    pub cgroups: PodCgroups,
    pub sandboxes: Vec<observed::Sandbox>,
    pub containers: Vec<observed::Container>,
    pub counted: Vec<Counted>,
    pub files: BTreeMap<PodUid, Files>,
    pub volumes: BTreeMap<PodUid, Vec<Volume>>,
    /// Names of images by their ids.
    pub images: BTreeMap<String, String>,
}

/// What the runtime counts of a container.
#[derive(Clone, PartialEq, Debug)]
pub struct Counted {
    pub id: String,
    /// Without a path. Stands in where the kernel's own is not found.
    pub cgroup: Cgroup,
    pub layer: Option<Usage>,
}

/// What a pod's own files take up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Files {
    /// By container.
    pub logs: BTreeMap<String, Usage>,
    pub other_logs: Usage,
    pub hosts: Usage,
}

/// One pod for each UID with a sandbox, its newest, one that is ready before others (rule 158); of it the containers that run.
pub fn assemble(mut gathered: Gathered) -> Readings {
    let mut newest: BTreeMap<PodUid, observed::Sandbox> = BTreeMap::new();
    let rank = |s: &observed::Sandbox| (s.state == SandboxState::Ready, s.created_at, s.attempt);
    for sandbox in std::mem::take(&mut gathered.sandboxes) {
        match newest.get(&sandbox.uid) {
            Some(other) if rank(other) >= rank(&sandbox) => {}
            _ => {
                newest.insert(sandbox.uid.clone(), sandbox);
            }
        }
    }
    let mut running: HashMap<PodUid, Vec<observed::Container>> = HashMap::new();
    for container in std::mem::take(&mut gathered.containers) {
        if container.state == ContainerState::Running {
            running.entry(container.uid.clone()).or_default().push(container);
        }
    }
    let mut counted: HashMap<String, Counted> = std::mem::take(&mut gathered.counted)
        .into_iter()
        .map(|c| (c.id.clone(), c))
        .collect();
    let mut pods = Vec::new();
    for (uid, sandbox) in newest {
        let running = running.remove(&uid).unwrap_or_default();
        if sandbox.state != SandboxState::Ready && running.is_empty() {
            continue;
        }
        pods.push(pod(&mut gathered, &mut counted, sandbox, running));
    }
    Readings {
        node: gathered.node,
        pods,
    }
}

fn pod(
    gathered: &mut Gathered,
    counted: &mut HashMap<String, Counted>,
    sandbox: observed::Sandbox,
    mut running: Vec<observed::Container>,
) -> Pod {
    let uid = &sandbox.uid;
    let mut cgroups = gathered.cgroups.remove(uid);
    let files = gathered.files.remove(uid).unwrap_or_default();
    let mut cgroup = |id: &str| cgroups.as_mut()?.containers.remove(id);
    // The newest of a name first.
    running.sort_by(|a, b| (&a.name, b.created_at, b.attempt).cmp(&(&b.name, a.created_at, a.attempt)));
    running.dedup_by(|b, a| a.name == b.name);
    let containers = running
        .into_iter()
        .map(|c| {
            let counted = counted.remove(&c.id);
            let layer = counted.as_ref().and_then(|c| c.layer);
            Container {
                cgroup: cgroup(&c.id).or_else(|| counted.map(|c| c.cgroup)),
                layer,
                logs: files.logs.get(&c.name).copied(),
                image: gathered.images.get(&c.image).cloned().unwrap_or(c.image),
                id: c.id,
                name: c.name,
                started_at: c.created_at,
            }
        })
        .collect();
    let of_sandbox = Sandbox {
        cgroup: cgroup(&sandbox.id),
        id: sandbox.id,
        image: String::new(),
    };
    let (cgroup, network) = cgroups.map_or((None, None), |c| (Some(c.pod), c.network));
    let (network_at, interfaces) = network.map_or((None, Vec::new()), |(at, list)| (Some(at), list));
    Pod {
        volumes: gathered.volumes.remove(uid).unwrap_or_default(),
        key: sandbox.pod,
        uid: sandbox.uid,
        created_at: sandbox.created_at,
        cgroup,
        sandbox: Some(of_sandbox),
        network_at,
        interfaces,
        containers,
        logs: files.other_logs,
        hosts_file: files.hosts,
    }
}
