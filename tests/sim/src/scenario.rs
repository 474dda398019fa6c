//! Scenarios and their course.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use witlet_agent::app::{Agent, Config};
use witlet_agent::context::{Intervals, Ports};
use witlet_agent::images;
use witlet_agent::node::NodeOptions;
use witlet_agent::users::Users;
use witlet_core::config::NodeSettings;
use witlet_core::ids::PodUid;
use witlet_core::node::{MachineFacts, NodeConfig};
use witlet_core::pull_records::Verification;
use witlet_core::userns::{Allocations, Pool, UNIT};

use crate::api::FakeApi;
use crate::clock;
use crate::node::FakeNode;
use crate::pods::{Kind, NODE, PodPlan};
use crate::runtime::FakeRuntime;
use crate::world::{Faults, Port, State, World};

/// After the world has calmed down, everything is as it is to be within this time: the longest back-offs fit in.
const PATIENCE: Duration = Duration::from_secs(900);
/// What has been right for so long is no moment's appearance, such as a pod that waits to go on and looks stuck.
const FIRM: Duration = Duration::from_secs(30);
/// And it stays so.
const STAYS: Duration = Duration::from_secs(90);
/// Real time for one scenario; usual are milliseconds.
const SPINS: Duration = Duration::from_secs(15);
/// Lines of the trace that a failure shows.
const SHOWN: usize = 400;

#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub faults: Faults,
    /// When each pod comes.
    pub pods: Vec<(u64, PodPlan)>,
    pub steps: Vec<(u64, Step)>,
    /// Nothing goes wrong any more from then on.
    pub calm_ms: u64,
}

/// What happens to pods, machine and agent. Numbers of pods are taken modulo the pods that there are.
#[derive(Clone, Debug)]
pub enum Step {
    Delete {
        pod: usize,
        grace: Option<i64>,
    },
    /// The next pod of the same name comes at once.
    Replace {
        pod: usize,
    },
    /// The manifest of a static pod is moved away and, after so long, back.
    TakeAway {
        pod: usize,
        ms: u64,
    },
    ChangeImage {
        pod: usize,
    },
    /// A container is killed by somebody else.
    KillContainer {
        pod: usize,
        nth: usize,
    },
    KillSandbox {
        pod: usize,
    },
    /// Somebody else, such as the agent before this one, tells the API that the pod was evicted.
    Evict {
        pod: usize,
    },
    /// [`State::leave`]
    Leave {
        stuck_ms: u64,
    },
    BreakHints,
    /// The next object that the agent deletes stays, though it is told otherwise.
    LoseDelete,
    Outage {
        port: Port,
        ms: u64,
    },
    /// The agent is killed, now.
    Kill,
    /// The agent is killed at its next call but so many.
    KillAtCall(u64),
}

enum End {
    /// The agent was killed.
    Killed,
    Over(Result<(), String>),
}

impl Scenario {
    pub fn new(pods: Vec<PodPlan>) -> Self {
        let pods = pods.into_iter().map(|pod| (0, pod)).collect();
        Self {
            seed: 1,
            faults: Faults::default(),
            pods,
            steps: Vec::new(),
            calm_ms: 0,
        }
    }

    /// Runs to the end. `runtime` gives async runtimes of this thread with paused clocks. An error tells what went wrong, and
    /// what happened before.
    pub fn run(&self, runtime: impl Fn() -> Runtime) -> Result<(), String> {
        let began = "2030-01-01T00:00:00Z".parse::<Timestamp>().map_err(|e| e.to_string())?;
        clock::begin(began);
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        for part in ["root", "logs", "containers"] {
            std::fs::create_dir(dir.path().join(part)).map_err(|e| e.to_string())?;
        }
        let calm = Duration::from_millis(self.calm_ms);
        let world = World::new(self.seed, self.faults.clone(), calm, dir.path().to_owned());
        world.with(|state| self.prepare(state));
        let _guard = self.watch(&world);
        loop {
            let runtime = runtime();
            let end = runtime.block_on(async {
                clock::run();
                let end = live(&world).await;
                clock::stop();
                end
            });
            // Every task of the agent ends where it is.
            drop(runtime);
            match end {
                End::Killed => world.agent_died(),
                End::Over(result) => return result.map_err(|why| report(&world.lock(), &why)),
            }
        }
    }

    /// An agent that spins without a call cannot be stopped from within. The channel closes with the run.
    fn watch(&self, world: &World) -> std::sync::mpsc::Sender<()> {
        let (alive, ended) = std::sync::mpsc::channel();
        let (world, scenario) = (world.clone(), self.clone());
        std::thread::spawn(move || {
            if ended.recv_timeout(SPINS) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{}\n{scenario:#?}", report(&world.lock(), "the agent spins"));
                std::process::abort();
            }
        });
        alive
    }

    fn prepare(&self, state: &mut State) {
        let uids = Arc::new(std::sync::Mutex::new(vec![None; self.pods.len()]));
        let last = self
            .pods
            .iter()
            .map(|(ms, _)| *ms)
            .chain(self.steps.iter().map(|(ms, _)| *ms))
            .max();
        state.steps_until = clock::after_ms(last.unwrap_or(0) + 1);
        for (index, (ms, plan)) in self.pods.iter().enumerate() {
            let (mut plan, uids) = (plan.clone(), uids.clone());
            plan.disturbed |= self.steps.iter().any(|(_, step)| step.disturbs(index, self.pods.len()));
            state.after(*ms, move |state| {
                let uid = state.add_pod(&plan, &format!("u{index}"));
                if let Ok(mut uids) = uids.lock() {
                    uids[index] = Some(uid);
                }
            });
        }
        for (number, (ms, step)) in self.steps.iter().enumerate() {
            let (step, uids) = (step.clone(), uids.clone());
            state.after(*ms, move |state| {
                let Ok(mut uids) = uids.lock() else { return };
                step.carry_out(state, &mut uids, number);
            });
        }
    }
}

impl Step {
    fn pod(&self) -> Option<usize> {
        match self {
            Self::Delete { pod, .. }
            | Self::Replace { pod }
            | Self::TakeAway { pod, .. }
            | Self::ChangeImage { pod }
            | Self::KillContainer { pod, .. }
            | Self::KillSandbox { pod }
            | Self::Evict { pod } => Some(*pod),
            Self::Leave { .. }
            | Self::BreakHints
            | Self::LoseDelete
            | Self::Outage { .. }
            | Self::Kill
            | Self::KillAtCall(_) => None,
        }
    }

    fn disturbs(&self, index: usize, count: usize) -> bool {
        let breaks_in = matches!(self, Self::KillContainer { .. } | Self::KillSandbox { .. });
        breaks_in && self.pod().is_some_and(|pod| pod % count == index)
    }

    fn carry_out(&self, state: &mut State, uids: &mut [Option<PodUid>], number: usize) {
        let index = self.pod().filter(|_| !uids.is_empty()).map(|pod| pod % uids.len());
        let uid = index.and_then(|index| uids[index].clone());
        match (self, uid) {
            (Self::Delete { grace, .. }, Some(uid)) => state.delete_pod(&uid, *grace),
            (Self::Replace { .. }, Some(uid)) => {
                state.delete_pod(&uid, Some(0));
                let Some(mut plan) = state.plans.get(&uid).cloned() else {
                    return;
                };
                if plan.is_static {
                    // An edited manifest is another pod of the same name.
                    plan.grace += 1;
                }
                let next = state.add_pod(&plan, &format!("{uid}-{number}"));
                if let Some(index) = index {
                    uids[index] = Some(next);
                }
            }
            (Self::TakeAway { ms, .. }, Some(uid)) => state.take_away(&uid, *ms),
            (Self::ChangeImage { .. }, Some(uid)) => {
                // Others would be done before or after; both are right.
                if state
                    .plans
                    .get(&uid)
                    .is_some_and(|p| matches!(p.kind, Kind::Server { .. } | Kind::Probed))
                {
                    state.change_image(&uid, &format!("app:{}", number + 2));
                }
            }
            (Self::KillContainer { nth, .. }, Some(uid)) => {
                let running: Vec<String> = state.machine.running(&uid).map(|c| c.it.id.clone()).collect();
                if let Some(id) = running.get(nth % running.len().max(1)) {
                    state.note(format!("--- {id} is killed by somebody"));
                    state.exit(id, 137);
                }
            }
            (Self::KillSandbox { .. }, Some(uid)) => {
                let own: Vec<String> = state
                    .machine
                    .sandboxes
                    .values()
                    .filter(|s| s.uid == uid)
                    .map(|s| s.id.clone())
                    .collect();
                for id in own {
                    state.note(format!("--- {id} breaks down"));
                    state.stop_sandbox(&id, false);
                }
            }
            (Self::Evict { .. }, Some(uid)) => state.evict(&uid),
            (Self::Leave { stuck_ms }, _) => state.leave(&PodUid::from(&*format!("left-{number}")), *stuck_ms),
            (Self::BreakHints, _) => state.break_hints(),
            (Self::LoseDelete, _) => state.api.loses_delete = true,
            (Self::Outage { port, ms }, _) => state.outage(*port, *ms),
            (Self::Kill, _) => state.crash = true,
            (Self::KillAtCall(calls), _) => state.kill_at_call(*calls),
            (_, None) => {}
        }
    }
}

/// One life of the agent.
async fn live(world: &World) -> End {
    let agent = agent(world);
    tokio::pin!(agent);
    let mut look = tokio::time::interval(Duration::from_secs(1));
    let mut good_since = None;
    loop {
        let due = world.due().map(clock::instant);
        let next = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = next => world.turn(),
            () = world.news() => {}
            why = &mut agent => return End::Over(Err(format!("the agent ended: {why}"))),
            _ = look.tick() => {
                if let Some(end) = judge(&world.lock(), &mut good_since) {
                    return End::Over(end);
                }
            }
        }
        let state = world.lock();
        if let Some(first) = state.violations.first() {
            return End::Over(Err(first.clone()));
        }
        if state.crash {
            return End::Killed;
        }
    }
}

/// None: it goes on.
fn judge(state: &State, good_since: &mut Option<Timestamp>) -> Option<Result<(), String>> {
    if !state.is_calm() || state.steps_left() {
        return None;
    }
    let now = clock::now();
    let open = state.open_points();
    match (open.is_empty(), *good_since) {
        (true, None) => *good_since = Some(now),
        (true, Some(since)) if now >= clock::later(since, STAYS) => return Some(Ok(())),
        (true, Some(_)) => {}
        (false, Some(since)) if now < clock::later(since, FIRM) => *good_since = None,
        (false, Some(_)) => return Some(Err(format!("it did not stay as it should: {open:#?}"))),
        (false, None) if now >= clock::later(state.calm, PATIENCE) => {
            return Some(Err(format!("not reached: {open:#?}")));
        }
        (false, None) => {}
    }
    None
}

/// As the binary does it, with a start that is tried again as an init system would.
async fn agent(world: &World) -> String {
    loop {
        let sources = world.with(State::connect);
        let shutdown = CancellationToken::new();
        let config = config(&world.lock());
        match Agent::start(config, ports(world), sources, Arc::new(Vec::new), shutdown).await {
            Ok(agent) => return agent.run().await.err().map_or_else(String::new, |e| e.to_string()),
            Err(error) => world.lock().note(format!("the agent does not start: {error}")),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn ports(world: &World) -> Ports {
    let api = Arc::new(FakeApi(world.clone()));
    let node = Arc::new(FakeNode(world.clone()));
    Ports {
        runtime: Arc::new(FakeRuntime(world.clone())),
        cgroups: node.clone(),
        objects: api.clone(),
        pods: api.clone(),
        events: api.clone(),
        nodes: api,
        probes: node.clone(),
        volumes: node.clone(),
        network: node.clone(),
        policies: node,
        sinks: Arc::new(()),
        plugins: Arc::new(()),
        machine: Arc::new(()),
        devices: Arc::new(()),
    }
}

fn config(state: &State) -> Config {
    let address = "10.0.0.1".parse().into_iter().collect::<Vec<_>>();
    Config {
        node: NodeSettings {
            root_dir: state.dir.join("root"),
            pod_logs_dir: state.dir.join("logs"),
            node_name: NODE.into(),
            node_ips: address.clone(),
            memory_bytes: 64 << 30,
            ..NodeSettings::default()
        },
        node_options: NodeOptions::new(
            MachineFacts {
                cpus: 64,
                memory_bytes: 64 << 30,
                root_fs_bytes: 1 << 40,
                architecture: "amd64".into(),
                hostname: NODE.into(),
                addresses: address.clone(),
                default_address: address.first().copied(),
                ..MachineFacts::default()
            },
            NodeConfig {
                name: NODE.into(),
                hostname: NODE.into(),
                node_ips: address,
                ..NodeConfig::default()
            },
        ),
        admission: witlet_core::admission::Settings::default(),
        container_logs_dir: state.dir.join("containers"),
        intervals: Intervals::default(),
        images: images::Config {
            parallel: 1,
            per_second: 0,
            burst: 0,
            verification: Verification::default(),
            providers: images::provider::Providers::default(),
            root_dir: state.dir.join("root"),
        },
        users: users(state),
        cni: None,
        health: None,
        stats: None,
        pressure: Default::default(),
        rotation: Default::default(),
        dead: Default::default(),
        managers: witlet_agent::managers::Settings::default(),
        device_plugins_dir: None,
        reserved: Vec::new(),
        image_gc: Default::default(),
        sinks_dir: None,
        metrics_push: Duration::from_secs(60),
    }
}

/// As the machine has them; what the agent wrote before must be readable.
fn users(state: &State) -> Users {
    let allocations = Allocations::new(Pool::rest_of_the_node(UNIT), UNIT, 110);
    let loaded = allocations.and_then(|allocations| Users::load(&state.dir.join("root"), allocations));
    loaded.unwrap_or_else(|e| panic!("user namespaces: {e}"))
}

fn report(state: &State, why: &str) -> String {
    let mut text = format!("{why}\nwhat happened:\n");
    let from = state.trace.len().saturating_sub(SHOWN);
    for line in &state.trace[from..] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}
