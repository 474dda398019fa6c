//! The managers of cpus and memory, and the topology manager over them (the kubelet contract, node F2 and F3).
//!
//! What they decide is in `witlet_core::{cpu_manager, memory_manager, topology}`; here it is kept, told to the runtime, and
//! counted. In: pods that are admitted and pods that are gone, from the supervisor. Out: where a container is held to, for its
//! start; for running containers, updates by the runtime; the state, in a file each. With the policies `none` there is nothing
//! to do.

mod kept;
mod meters;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{Notify, Semaphore};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use witlet_core::config::Pinned;
use witlet_core::cpu_manager::{self, CpuManager, CpuSet, Machine, Running, Setup, exclusive_cpus, has_exclusive_cpus};
use witlet_core::desired::{Rejection, uid};
use witlet_core::ids::PodUid;
use witlet_core::manager_state::policy_name;
use witlet_core::memory_manager::{self, MemoryManager, NodeMemory, Reservations};
use witlet_core::observed::ContainerState;
use witlet_core::runtime::LinuxResources;
use witlet_core::topology::{self, Hint, Numa, ProviderHints, Topology};
use witlet_ports::runtime::Runtime;
use witlet_ports::{Error, Result};

use crate::metrics::Metrics;
use kept::Kept;

const CPU_STATE: &str = "cpu_manager_state";
const MEMORY_STATE: &str = "memory_manager_state";

/// What is managed, and of which machine.
#[derive(Clone, Debug)]
pub struct Settings {
    pub topology: topology::Settings,
    pub numa: Numa,
    /// None with the policy `none`.
    pub cpu: Option<(Machine, Setup)>,
    pub memory: Option<(BTreeMap<u32, NodeMemory>, Reservations)>,
    /// Running containers are looked at so often.
    pub reconcile: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            topology: topology::Settings::default(),
            numa: Numa::default(),
            cpu: None,
            memory: None,
            reconcile: Duration::from_secs(10),
        }
    }
}

pub struct Managers {
    topology: Topology,
    cpu: Option<Mutex<CpuManager>>,
    memory: Option<Mutex<MemoryManager>>,
    cpu_file: Kept,
    memory_file: Kept,
    reconcile: Duration,
    /// One pod at a time: what one takes, the hints of the next must not offer.
    turn: Semaphore,
    /// Who has what is not what it was.
    changed: Notify,
    /// On which cpus the runtime was told to run a container, by its id.
    told: Mutex<BTreeMap<String, CpuSet>>,
    metrics: Arc<Metrics>,
}

impl Managers {
    /// As an earlier run left it. A state that does not go with this machine or configuration ends the start: whoever runs
    /// on cpus of his own must not lose them.
    pub fn open(root_dir: &Path, settings: Settings, metrics: Arc<Metrics>) -> Result<Self> {
        let cpu_file = Kept::new(root_dir.join(CPU_STATE), "CPU manager");
        let memory_file = Kept::new(root_dir.join(MEMORY_STATE), "Memory manager");
        let topology = Topology::new(settings.topology, settings.numa)
            .map_err(|e| Error::terminal(format!("topology_manager: {e}")).with_source(e))?;
        let managers = Self {
            topology,
            cpu: open_cpu(&cpu_file, settings.cpu)?.map(Mutex::new),
            memory: open_memory(&memory_file, settings.memory)?.map(Mutex::new),
            cpu_file,
            memory_file,
            reconcile: settings.reconcile,
            turn: Semaphore::new(1),
            changed: Notify::new(),
            told: Mutex::default(),
            metrics,
        };
        managers
            .write()
            .map_err(|e| Error::terminal(format!("cannot write who has which cpus and memory: {e}")))?;
        Ok(managers)
    }

    fn cpu(&self) -> Option<MutexGuard<'_, CpuManager>> {
        self.cpu.as_ref().map(lock)
    }

    fn memory(&self) -> Option<MutexGuard<'_, MemoryManager>> {
        self.memory.as_ref().map(lock)
    }

    /// Whether the pod must be given something before it may run, or must be refused by the topology manager.
    pub fn are_wanted(&self, pod: &Pod) -> bool {
        let cpu = self.cpu.is_some() && has_exclusive_cpus(pod);
        cpu || self.memory.is_some() && memory_manager::is_managed(pod) || self.topology.is_active()
    }

    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Held while a pod is given what it needs. None: the agent is stopping.
    pub async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.turn.acquire().await.ok()
    }

    /// Of cpus, then of memory.
    pub fn hints(&self, pod: &Pod, container: &Container) -> [ProviderHints; 2] {
        let cpu = self.cpu().map(|cpu| cpu.hints(pod, container));
        let memory = self.memory().map(|memory| memory.hints(pod, container));
        [cpu.unwrap_or_default(), memory.unwrap_or_default()]
    }

    pub fn pod_hints(&self, pod: &Pod) -> [ProviderHints; 2] {
        let cpu = self.cpu().map(|cpu| cpu.pod_hints(pod));
        let memory = self.memory().map(|memory| memory.pod_hints(pod));
        [cpu.unwrap_or_default(), memory.unwrap_or_default()]
    }

    /// Containers are to come in the order of their start.
    pub fn allocate(&self, pod: &Pod, container: &Container, hint: Hint) -> Result<(), Rejection> {
        if let Some(mut cpu) = self.cpu().filter(|_| exclusive_cpus(pod, container) > 0) {
            let had = cpu.exclusive(&uid(pod), &container.name).is_some();
            let result = cpu.allocate(pod, container, hint);
            let new = cpu.exclusive(&uid(pod), &container.name).filter(|_| !had);
            meters::cpu(&self.metrics.kubelet, &cpu, &result, new);
            if let Some(cpus) = new {
                info!(container = container.name, %cpus, "cpus allocated");
            }
            result?;
        }
        if let Some(mut memory) = self.memory().filter(|_| memory_manager::is_managed(pod)) {
            let result = memory.allocate(pod, container, hint);
            meters::memory(&self.metrics.kubelet, result.is_ok());
            result?;
        }
        Ok(())
    }

    /// What was allocated is kept, and others are told what they lost.
    pub async fn settle(self: &Arc<Self>) {
        self.save().await;
        self.changed.notify_one();
    }

    /// Takes back what pods have that are not among these.
    pub fn retain(&self, known: impl Fn(&PodUid) -> bool) {
        let cpu = self.cpu().is_some_and(|mut cpu| cpu.retain(&known));
        let memory = self.memory().is_some_and(|mut memory| memory.retain(&known));
        if cpu || memory {
            self.changed.notify_one();
        }
    }

    /// Whether any pod has something that could be taken back.
    pub fn are_given(&self) -> bool {
        let cpu = self.cpu().is_some_and(|cpu| !cpu.state().entries.is_empty());
        cpu || self.memory().is_some_and(|memory| !memory.state().entries.is_empty())
    }

    /// Where a container is held to that is about to start.
    pub fn pinned(&self, pod: &PodUid, container: &str) -> Pinned {
        let cpus = self.cpu().map(|cpu| cpu.of(pod, container).to_string());
        let nodes = self.memory().map(|memory| memory.nodes(pod, container));
        let ids = nodes.iter().flat_map(|nodes| nodes.ids()).map(|id| id.to_string());
        Pinned {
            cpus: cpus.unwrap_or_default(),
            mems: ids.collect::<Vec<_>>().join(","),
        }
    }

    /// A container was made on these cpus.
    pub fn made(&self, pod: &PodUid, container: &str, id: &str, cpus: &str) {
        let Some(now) = self.cpu().map(|cpu| cpu.of(pod, container).clone()) else {
            return;
        };
        if let Ok(cpus) = cpus.parse::<CpuSet>() {
            let late = cpus != now;
            lock(&self.told).insert(id.to_owned(), cpus);
            if late {
                self.changed.notify_one();
            }
        }
    }

    /// Of a container with cpus for itself, for those who watch resources.
    pub fn exclusive_cpus(&self, pod: &PodUid, container: &str) -> CpuSet {
        let cpu = self.cpu();
        let own = cpu.as_ref().and_then(|cpu| cpu.exclusive(pod, container));
        own.cloned().unwrap_or_default()
    }

    /// Those that pods can have for themselves.
    pub fn allocatable_cpus(&self) -> CpuSet {
        self.cpu().map(|cpu| cpu.allocatable()).unwrap_or_default()
    }

    pub fn memory_of(&self, pod: &PodUid, container: &str) -> Vec<memory_manager::Block> {
        self.memory().map(|m| m.of(pod, container).to_vec()).unwrap_or_default()
    }

    pub fn allocatable_memory(&self) -> Vec<memory_manager::Block> {
        self.memory().map(|m| m.allocatable()).unwrap_or_default()
    }

    /// Keeps the files and running containers up to date until shutdown.
    pub async fn run(self: Arc<Self>, runtime: Arc<dyn Runtime>, shutdown: CancellationToken) {
        if self.cpu.is_none() && self.memory.is_none() {
            return shutdown.cancelled().await;
        }
        let mut tick = tokio::time::interval(self.reconcile);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: a permit that is not taken stays, and so does a tick.
            tokio::select! {
                () = shutdown.cancelled() => return self.save().await,
                () = self.changed.notified() => {}
                _ = tick.tick() => {}
            }
            self.save().await;
            if self.cpu.is_some() {
                self.tell(&*runtime).await;
            }
        }
    }

    /// Tells the runtime of containers whose cpus changed.
    async fn tell(&self, runtime: &dyn Runtime) {
        let all = match runtime.containers(None).await {
            Ok(all) => all,
            Err(error) => {
                debug!(%error, "the runtime does not say what runs; cpus are told later");
                return;
            }
        };
        let ids: BTreeSet<&str> = all.iter().map(|c| c.id.as_str()).collect();
        lock(&self.told).retain(|id, _| ids.contains(id.as_str()));
        let running = all.iter().filter(|c| c.state == ContainerState::Running);
        let running: Vec<Running> = running
            .map(|c| Running {
                id: c.id.clone(),
                pod: c.uid.clone(),
                name: c.name.clone(),
            })
            .collect();
        let updates = match self.cpu() {
            Some(cpu) => cpu_manager::updates(&cpu, &running, &lock(&self.told)),
            None => Vec::new(),
        };
        for update in updates {
            let resources = LinuxResources {
                cpuset_cpus: update.cpus.to_string(),
                ..LinuxResources::default()
            };
            match runtime.update_container(&update.id, &resources).await {
                Ok(()) => {
                    debug!(container = update.id, cpus = %update.cpus, "a container runs on other cpus");
                    lock(&self.told).insert(update.id, update.cpus);
                }
                // It may just have ended.
                Err(error) => warn!(%error, container = update.id, "cannot change a container's cpus, trying again"),
            }
        }
    }

    /// What cannot be written now is written by the next call.
    async fn save(self: &Arc<Self>) {
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.write()).await;
        if let Err(error) = written.map_err(std::io::Error::other).flatten() {
            warn!(%error, "cannot write who has which cpus and memory, trying again");
        }
    }

    fn write(&self) -> std::io::Result<()> {
        if let Some(cpu) = self.cpu.as_ref() {
            self.cpu_file
                .write(|| cpu_manager::encode(cpu_manager::POLICY_STATIC, lock(cpu).state()))?;
        }
        if let Some(memory) = self.memory.as_ref() {
            self.memory_file
                .write(|| memory_manager::encode(memory_manager::POLICY_STATIC, lock(memory).state()))?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Consistent after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_cpu(file: &Kept, settings: Option<(Machine, Setup)>) -> Result<Option<CpuManager>> {
    let text = file.read()?;
    let Some((machine, setup)) = settings else {
        let found = text.as_deref().and_then(policy_name);
        return file.check_policy(cpu_manager::POLICY_NONE, found).map(|()| None);
    };
    let decode = |text: &str| cpu_manager::decode(cpu_manager::POLICY_STATIC, text);
    let state = text.as_deref().map(decode).transpose();
    let state = state.map_err(|why| file.unusable(&why))?;
    CpuManager::new(machine, setup, state).map(Some).map_err(|why| {
        if why.is_of_state() {
            file.unusable(&why)
        } else {
            Error::terminal(format!("cpu_manager: new static policy error: {why}"))
        }
    })
}

fn open_memory(
    file: &Kept,
    settings: Option<(BTreeMap<u32, NodeMemory>, Reservations)>,
) -> Result<Option<MemoryManager>> {
    let text = file.read()?;
    let Some((nodes, reserved)) = settings else {
        let found = text.as_deref().and_then(policy_name);
        return file.check_policy(memory_manager::POLICY_NONE, found).map(|()| None);
    };
    let decode = |text: &str| memory_manager::decode(memory_manager::POLICY_STATIC, text);
    let state = text.as_deref().map(decode).transpose();
    let state = state.map_err(|why| file.unusable(&why))?;
    let manager = MemoryManager::new(&nodes, &reserved, state);
    manager.map(Some).map_err(|why| file.unusable(&why))
}
