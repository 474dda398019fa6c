//! Giving a running pod what was allocated to it (the kubelet contract, pod 4.8 rules 35 and 36).

use tokio::time::Instant;
use tracing::{debug, info};
use witlet_core::allocation::{self, Cgroup, Decreases, PodResources, Situation, Step};
use witlet_core::desired::DesiredPod;
use witlet_core::observed::Receipt;
use witlet_core::resources::qos::qos_class;
use witlet_ports::{Error, Result};

use crate::context::{Context, jittered, later};
use crate::pod::execute::{Fact, Outcome};
use crate::pod::observe;
use crate::pod::worker::State;

/// Never fails as an action: what went wrong is shown in the pod's status, and tried again in its own time.
pub(super) async fn run(context: &Context, want: &DesiredPod, state: &State) -> Outcome {
    let mut resize = Resize {
        context,
        want,
        state,
        actuated: state.memory.actuated.clone().unwrap_or_default(),
        outcome: Outcome::default(),
    };
    let began = Instant::now();
    let result = resize.steps().await;
    let success = if result.is_ok() { "true" } else { "false" };
    let took = began.elapsed().as_secs_f64() * 1000.0;
    context.metrics.kubelet.resize.observe(&[success], took);
    match result {
        Ok(()) => {
            // What does not run starts with the right values.
            let all = PodResources::of(&want.pod);
            resize.record(all);
            info!("resources of the running pod changed");
        }
        Err(error) => resize.failed(&error),
    }
    resize.outcome
}

struct Resize<'a> {
    context: &'a Context,
    want: &'a DesiredPod,
    state: &'a State,
    actuated: PodResources,
    outcome: Outcome,
}

impl Resize<'_> {
    async fn steps(&mut self) -> Result<()> {
        let (uid, qos) = (self.want.uid(), qos_class(&self.want.pod));
        let cgroup = self.context.ports.cgroups.current(&uid, qos).await?;
        let (steps, decreases) = {
            let situation = self.situation(&cgroup);
            (situation.steps(), situation.decreases())
        };
        self.check(&decreases).await?;
        let mut told = None;
        for step in steps {
            match step {
                Step::Sandbox {
                    id,
                    overhead,
                    resources,
                    before,
                } => {
                    let runtime = &self.context.ports.runtime;
                    runtime.update_sandbox(&id, &overhead, &resources).await?;
                    told = Some((id, overhead, before));
                }
                Step::Pod(change) => {
                    if let Err(error) = self.context.ports.cgroups.change(&uid, qos, &change).await {
                        if let Some((id, overhead, before)) = &told {
                            let undone = self.context.ports.runtime.update_sandbox(id, overhead, before).await;
                            debug!(?undone, "the runtime was told the pod's old size again");
                        }
                        return Err(error);
                    }
                }
                Step::Container {
                    id,
                    name,
                    resources,
                    given,
                } => {
                    self.context.ports.runtime.update_container(&id, &resources).await?;
                    let mut actuated = self.actuated.clone();
                    actuated.containers.insert(name, given);
                    self.record(actuated);
                    if let Ok(Some(now)) = observe::container(&*self.context.ports.runtime, &id).await {
                        self.outcome.receipts.push(Receipt::Container(Box::new(now)));
                    }
                }
            }
        }
        Ok(())
    }

    fn situation<'a>(&'a self, cgroup: &'a Cgroup) -> Situation<'a> {
        Situation {
            pod: &self.want.pod,
            actuated: &self.actuated,
            have: &self.state.have,
            cgroup,
            node: &self.context.node,
        }
    }

    async fn check(&self, decreases: &Decreases) -> Result<()> {
        if decreases.is_empty() {
            return Ok(());
        }
        let (uid, qos) = (self.want.uid(), qos_class(&self.want.pod));
        let cgroups = &self.context.ports.cgroups;
        let pod = match decreases.pod {
            Some(_) => cgroups.memory_usage(&uid, qos, None).await.ok(),
            None => None,
        };
        let mut containers = Vec::with_capacity(decreases.containers.len());
        for (id, _, _) in &decreases.containers {
            containers.push(cgroups.memory_usage(&uid, qos, Some(id)).await.ok());
        }
        decreases.check(pod, &containers).map_err(Error::retry)
    }

    fn record(&mut self, actuated: PodResources) {
        self.context.allocations.actuated.set(&self.want.uid(), &actuated);
        self.actuated.clone_from(&actuated);
        self.outcome.facts.push(Fact::Actuated(actuated));
    }

    fn failed(&mut self, error: &Error) {
        let message = error.message.clone();
        let before = &self.state.memory.resize;
        if before.error.as_ref() != Some(&message) {
            let pod = &self.want.pod;
            let generation = before.generation.or(pod.metadata.generation).unwrap_or(0);
            self.context.note(pod, allocation::failed(pod, generation, &message));
        }
        let retry_at = later(crate::clock::now(), jittered(self.context.intervals.retry));
        self.outcome.facts.push(Fact::ResizeFailed(message, retry_at));
    }
}
