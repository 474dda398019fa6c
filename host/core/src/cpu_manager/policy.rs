//! Who has which cpus.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};

use super::take::{Manner, packed};
use super::{CpuSet, Machine, Options, distribute};
use crate::desired::{Rejection, is_sidecar, uid};
use crate::ids::PodUid;
use crate::resources::qos::{GUARANTEED, qos_class};
use crate::resources::requests::{CPU, request};
use crate::topology::{self, Hint, NumaMask};

/// Containers with cpus of their own, by pod.
pub(super) type Entries = BTreeMap<PodUid, BTreeMap<String, CpuSet>>;

/// What outlives the agent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Of all containers without cpus of their own.
    pub shared: CpuSet,
    pub entries: Entries,
}

/// How cpus are managed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Setup {
    pub options: Options,
    /// How many cpus are reserved for the system.
    pub reserved: usize,
    /// Which, if the operator says.
    pub reserved_cpus: CpuSet,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuManager {
    pub(super) machine: Machine,
    pub(super) options: Options,
    reserved: CpuSet,
    /// With the other threads of the same cores.
    reserved_cores: CpuSet,
    state: State,
    /// Of init containers of the pod that is being admitted: nobody else has them yet, and they end before the others start.
    reusable: (PodUid, CpuSet),
}

/// This machine, this configuration and this state do not go together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unusable {
    #[error("the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero")]
    NothingReserved,
    #[error("unable to reserve the required amount of CPUs (size of {found} did not equal {wanted})")]
    Reservation { found: CpuSet, wanted: usize },
    #[error("Align by socket is not compatible with hardware where number of sockets are more than number of NUMA")]
    Sockets,
    // === What follows is about a state, what is above about the configuration ===
    #[error("default cpuset cannot be empty")]
    NoShared,
    #[error("not all reserved cpus: \"{reserved}\" are present in defaultCpuSet: \"{shared}\"")]
    ReservedNotShared { reserved: CpuSet, shared: CpuSet },
    #[error("some of strictly reserved cpus: \"{reserved}\" are present in defaultCpuSet: \"{shared}\"")]
    ReservedShared { reserved: CpuSet, shared: CpuSet },
    #[error("pod: {pod}, container: {container} cpuset: \"{cpus}\" overlaps with default cpuset \"{shared}\"")]
    Overlap {
        pod: PodUid,
        container: String,
        cpus: CpuSet,
        shared: CpuSet,
    },
    #[error("current set of available CPUs \"{online}\" doesn't match with CPUs in state \"{known}\"")]
    OtherCpus { online: CpuSet, known: CpuSet },
}

impl Unusable {
    /// An earlier agent's state is in the way, not the configuration.
    pub fn is_of_state(&self) -> bool {
        !matches!(self, Self::NothingReserved | Self::Reservation { .. } | Self::Sockets)
    }
}

/// A container cannot get its cpus.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AllocateError {
    #[error("SMT Alignment Error: requested {requested} cpus not multiple cpus per core = {per_core}")]
    PartOfCore { requested: usize, per_core: usize },
    #[error(
        "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = {available}, requested CPUs = \
         {requested}, CPUs per core = {per_core}"
    )]
    NotEnoughCores {
        available: usize,
        requested: usize,
        per_core: usize,
    },
    #[error("not enough cpus available to satisfy request: requested={requested}, available={available}")]
    NotEnough { requested: usize, available: usize },
    #[error("accounting error, not enough CPUs allocated, remaining: {0}")]
    Accounting(usize),
}

impl From<AllocateError> for Rejection {
    fn from(error: AllocateError) -> Self {
        match error {
            AllocateError::PartOfCore { .. } | AllocateError::NotEnoughCores { .. } => Self {
                reason: "SMTAlignmentError".into(),
                message: error.to_string(),
            },
            _ => topology::unexpected(error),
        }
    }
}

/// How many cpus the container is to have for itself; 0: it runs where all others do. Pods whose resources are stated for the
/// pod as a whole have none.
pub fn exclusive_cpus(pod: &Pod, container: &Container) -> usize {
    let pod_level = pod.spec.as_ref().is_some_and(|s| s.resources.is_some());
    if pod_level || qos_class(pod) != GUARANTEED {
        return 0;
    }
    let millis = request(container, CPU).millis();
    let whole = millis > 0 && millis % 1000 == 0;
    usize::try_from(millis / 1000).ok().filter(|_| whole).unwrap_or(0)
}

/// Whether any of its containers has cpus for itself.
pub fn has_exclusive_cpus(pod: &Pod) -> bool {
    containers(pod).any(|c| exclusive_cpus(pod, c) > 0)
}

/// As they are admitted: init containers first.
pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
}

impl CpuManager {
    /// `state` is what an earlier agent left, if one did.
    pub fn new(machine: Machine, setup: Setup, state: Option<State>) -> Result<Self, Unusable> {
        let options = setup.options;
        if setup.reserved == 0 {
            return Err(Unusable::NothingReserved);
        }
        if options.align_by_socket && machine.sockets_of(machine.numa_nodes()).len() > machine.numa_nodes().count() {
            return Err(Unusable::Sockets);
        }
        let mut manager = Self {
            options,
            reserved: setup.reserved_cpus,
            reserved_cores: CpuSet::default(),
            state: State::default(),
            reusable: ("".into(), CpuSet::default()),
            machine,
        };
        if manager.reserved.is_empty() {
            let lowest = manager.take(&manager.machine.cpus(), setup.reserved);
            manager.reserved = lowest.unwrap_or_default();
        }
        if manager.reserved.len() != setup.reserved {
            return Err(Unusable::Reservation {
                found: manager.reserved,
                wanted: setup.reserved,
            });
        }
        manager.reserved_cores = manager.machine.whole_cores(&manager.reserved);
        manager.restore(state.unwrap_or_default())?;
        Ok(manager)
    }

    fn restore(&mut self, state: State) -> Result<(), Unusable> {
        let online = self.managed();
        let (shared, strict) = (&state.shared, self.options.strict_reservation);
        let exclusive = || {
            state
                .entries
                .iter()
                .flat_map(|(pod, c)| c.iter().map(move |e| (pod, e)))
        };
        if shared.is_empty() && exclusive().next().is_none() {
            self.state = State {
                shared: online,
                entries: Entries::new(),
            };
            return Ok(());
        }
        // With a strict reservation pods can have everything else.
        if shared.is_empty() && !strict {
            return Err(Unusable::NoShared);
        }
        let reserved = self.reserved.clone();
        if strict && reserved.overlaps(shared) {
            return Err(Unusable::ReservedShared {
                reserved: reserved.and(shared),
                shared: shared.clone(),
            });
        }
        if !strict && !reserved.is_subset_of(shared) {
            return Err(Unusable::ReservedNotShared {
                reserved,
                shared: shared.clone(),
            });
        }
        if let Some((pod, (container, cpus))) = exclusive().find(|(_, (_, cpus))| cpus.overlaps(shared)) {
            return Err(Unusable::Overlap {
                pod: pod.clone(),
                container: container.clone(),
                cpus: cpus.clone(),
                shared: shared.clone(),
            });
        }
        let known = exclusive().fold(shared.clone(), |known, (_, (_, cpus))| known.union(cpus));
        if known != online {
            return Err(Unusable::OtherCpus { online, known });
        }
        self.state = state;
        Ok(())
    }

    /// What the state is about.
    fn managed(&self) -> CpuSet {
        let all = self.machine.cpus();
        if self.options.strict_reservation {
            all.minus(&self.reserved)
        } else {
            all
        }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    pub fn options(&self) -> Options {
        self.options
    }

    pub fn reserved(&self) -> &CpuSet {
        &self.reserved
    }

    /// Those that pods can have for themselves, whoever has them now.
    pub fn allocatable(&self) -> CpuSet {
        self.machine.cpus().minus(&self.reserved)
    }

    /// Those that nobody has for himself and the system does not need.
    pub fn available(&self) -> CpuSet {
        self.state.shared.minus(&self.reserved)
    }

    /// Of a container that has cpus for itself.
    pub fn exclusive(&self, pod: &PodUid, container: &str) -> Option<&CpuSet> {
        self.state.entries.get(pod)?.get(container)
    }

    /// Where a container runs.
    pub fn of(&self, pod: &PodUid, container: &str) -> &CpuSet {
        self.exclusive(pod, container).unwrap_or(&self.state.shared)
    }

    /// All that pods have for themselves.
    pub fn allocated(&self) -> CpuSet {
        let sets = self.state.entries.values().flat_map(BTreeMap::values);
        sets.fold(CpuSet::default(), |all, cpus| all.union(cpus))
    }

    /// Gives the container its cpus, within the hint as far as that goes. True if it now has cpus for itself.
    pub fn allocate(&mut self, pod: &Pod, container: &Container, hint: Hint) -> Result<bool, AllocateError> {
        let wanted = exclusive_cpus(pod, container);
        if wanted == 0 {
            return Ok(false);
        }
        let own = uid(pod);
        if let Some(cpus) = self.exclusive(&own, &container.name).cloned() {
            self.note_reuse(pod, container, &cpus);
            return Ok(true);
        }
        let reusable = self.reusable_by(pod);
        self.check_cores(wanted, &reusable)?;
        let available = self.available().union(&reusable);
        let aligned = match hint.mask {
            None => CpuSet::default(),
            Some(mask) => {
                let near = available.and(&self.aligned_to(mask));
                self.take(&near, wanted.min(near.len()))?
            }
        };
        let more = self.take(&available.minus(&aligned), wanted - aligned.len())?;
        let cpus = aligned.union(&more);
        self.state.shared = self.state.shared.minus(&cpus);
        self.note_reuse(pod, container, &cpus);
        let entry = self.state.entries.entry(own).or_default();
        entry.insert(container.name.clone(), cpus);
        Ok(true)
    }

    fn check_cores(&self, wanted: usize, reusable: &CpuSet) -> Result<(), AllocateError> {
        if !self.options.full_pcpus_only {
            return Ok(());
        }
        let per_core = self.machine.cpus_per_core().max(1);
        if !wanted.is_multiple_of(per_core) {
            return Err(AllocateError::PartOfCore {
                requested: wanted,
                per_core,
            });
        }
        // The other threads of a reserved cpu's core are of no use: half a core would be left over.
        let available = self.state.shared.union(reusable).minus(&self.reserved_cores).len();
        if wanted > available {
            return Err(AllocateError::NotEnoughCores {
                available,
                requested: wanted,
                per_core,
            });
        }
        Ok(())
    }

    fn aligned_to(&self, mask: NumaMask) -> CpuSet {
        if self.options.align_by_socket {
            self.machine.in_sockets_of(mask)
        } else {
            self.machine.in_nodes(mask)
        }
    }

    fn take(&self, available: &CpuSet, wanted: usize) -> Result<CpuSet, AllocateError> {
        let manner = Manner {
            across_cores: self.options.distribute_across_cores,
            by_cache: self.options.prefer_align_by_cache,
        };
        if !self.options.distribute_across_numa {
            return packed(&self.machine, available, wanted, manner);
        }
        let group = if self.options.full_pcpus_only {
            self.machine.cpus_per_core()
        } else {
            1
        };
        distribute::distributed(&self.machine, available, wanted, group, manner)
    }

    pub(super) fn reusable_by(&self, pod: &Pod) -> CpuSet {
        let (of, cpus) = &self.reusable;
        if *of == uid(pod) {
            cpus.clone()
        } else {
            CpuSet::default()
        }
    }

    /// Init containers that end leave their cpus to those after them; sidecars and regular containers keep theirs.
    fn note_reuse(&mut self, pod: &Pod, container: &Container, cpus: &CpuSet) {
        let before = self.reusable_by(pod);
        let init = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
        let ends = init
            .into_iter()
            .any(|init| init.name == container.name && !is_sidecar(init));
        let now = if ends { before.union(cpus) } else { before.minus(cpus) };
        self.reusable = (uid(pod), now);
    }

    /// What pods that are gone had goes back to all. True if there were such.
    pub fn retain(&mut self, known: impl Fn(&PodUid) -> bool) -> bool {
        if !known(&self.reusable.0) {
            self.reusable.1 = CpuSet::default();
        }
        let before = self.state.entries.len();
        let all = self.allocated();
        self.state.entries.retain(|pod, _| known(pod));
        let freed = all.minus(&self.allocated()).and(&self.managed());
        self.state.shared = self.state.shared.union(&freed);
        self.state.entries.len() != before
    }
}
