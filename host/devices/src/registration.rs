//! Plugins of all kinds that announce themselves by a socket in `plugins_registry` (the kubelet contract, volumes 146 to 151).
//!
//! The directory is looked at each second: what is there decides, and nothing is missed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{debug, info, warn};
use witlet_core::registration::{Identity, Sockets, Step, next_retry, steps, words};
use witlet_ports::meter::About;
use witlet_ports::registration::Registrant;
use witlet_ports::sink::Family;

use crate::proto::registration::registration_client::RegistrationClient;
use crate::proto::registration::{InfoRequest, RegistrationStatus};
use crate::socket;

const LOOK: Duration = Duration::from_secs(1);
const INFO: Duration = Duration::from_secs(1);
const NOTIFY: Duration = Duration::from_secs(5);
/// Plugins make directories of their own, but no mazes.
const DEEPEST: usize = 8;
const MOST: usize = 4096;

const TOTAL: About = About::new(
    "plugin_manager_total_plugins",
    "[ALPHA] Number of plugins in Plugin Manager",
    &["socket_path", "state"],
);

/// Who takes on plugins, by the kind that they say they are.
pub type Registrants = BTreeMap<&'static str, Arc<dyn Registrant>>;

/// The sockets of plugins, as they are and as they are registered.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    registrants: Registrants,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    there: Vec<PathBuf>,
    registered: Vec<PathBuf>,
}

/// A plugin that was taken on.
struct Registered {
    identity: Identity,
    registrant: Arc<dyn Registrant>,
    name: String,
    endpoint: PathBuf,
}

/// A socket whose plugin was not.
struct Failure {
    identity: Identity,
    pause: Duration,
    again: Instant,
}

type Attempt = (PathBuf, Identity, Result<Registered, String>);

impl Registry {
    pub fn new(dir: PathBuf, registrants: Registrants) -> Self {
        Self(Arc::new(Inner {
            dir,
            registrants,
            shown: Mutex::default(),
        }))
    }

    pub fn families(&self) -> Vec<Family> {
        let shown = self.0.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let text = |paths: &[PathBuf]| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        let (there, registered) = (text(&shown.there), text(&shown.registered));
        let there = there.iter().map(|path| vec![path.as_str(), "desired_state_of_world"]);
        let registered = registered
            .iter()
            .map(|path| vec![path.as_str(), "actual_state_of_world"]);
        vec![TOTAL.gauge(there.chain(registered).map(|labels| (labels, 1.0)))]
    }

    /// Runs until shutdown. Plugins then stay as they are.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut registered: BTreeMap<PathBuf, Registered> = BTreeMap::new();
        let mut failures: BTreeMap<PathBuf, Failure> = BTreeMap::new();
        let mut attempts: JoinSet<Attempt> = JoinSet::new();
        let mut busy: Sockets = Sockets::new();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: an interval keeps its tick, a JoinSet what was not taken.
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(ended) = attempts.join_next() => {
                    let Ok((path, identity, result)) = ended else { continue };
                    busy.remove(&path);
                    match result {
                        Ok(plugin) => {
                            info!(socket = %path.display(), plugin = plugin.name, "a plugin is registered");
                            failures.remove(&path);
                            registered.insert(path, plugin);
                        }
                        Err(why) => {
                            warn!(why, socket = %path.display(), "a plugin could not be registered, trying again");
                            let last = failures.get(&path).filter(|f| f.identity == identity).map(|f| f.pause);
                            let pause = next_retry(last);
                            failures.insert(path, Failure { identity, pause, again: Instant::now() + pause });
                        }
                    }
                }
                _ = look.tick() => {}
            }
            let there = sockets(&self.0.dir);
            failures.retain(|path, failure| there.get(path) == Some(&failure.identity));
            let known: Sockets = registered.iter().map(|(path, r)| (path.clone(), r.identity)).collect();
            for step in steps(&there, &known) {
                match step {
                    Step::Deregister(path) => {
                        if let Some(gone) = registered.remove(&path) {
                            info!(socket = %path.display(), plugin = gone.name, "a plugin is let go");
                            gone.registrant.deregister(&gone.name, &gone.endpoint);
                        }
                    }
                    Step::Register(path, identity) => {
                        let waits = failures.get(&path).is_some_and(|f| Instant::now() < f.again);
                        if waits || busy.contains_key(&path) {
                            continue;
                        }
                        busy.insert(path.clone(), identity);
                        let registry = self.clone();
                        attempts.spawn(async move {
                            let result = registry.register(&path, identity).await;
                            (path, identity, result)
                        });
                    }
                }
            }
            let mut shown = self.0.shown.lock().unwrap_or_else(PoisonError::into_inner);
            *shown = Shown {
                there: there.into_keys().collect(),
                registered: registered.keys().cloned().collect(),
            };
        }
    }

    async fn register(&self, path: &Path, identity: Identity) -> Result<Registered, String> {
        let at = path.display();
        let channel = socket::dial(path).await;
        let channel = channel.map_err(|e| format!("RegisterPlugin error -- dial failed at socket {at}, err: {e}"))?;
        let mut client = RegistrationClient::new(channel);
        let info = match timeout(INFO, client.get_info(InfoRequest {})).await {
            Ok(Ok(info)) => info.into_inner(),
            Ok(Err(status)) => return Err(no_info(path, &socket::text(&status))),
            Err(_) => return Err(no_info(path, "no answer")),
        };
        let Some(registrant) = self.0.registrants.get(info.r#type.as_str()) else {
            return Err(refuse(&mut client, words::nobody(&socket::harmless(&info.r#type), at)).await);
        };
        let endpoint = match info.endpoint.as_str() {
            "" => path.to_owned(),
            endpoint => endpoint.into(),
        };
        let versions = &info.supported_versions;
        if let Err(why) = registrant.validate(&info.name, &endpoint, versions) {
            return Err(refuse(&mut client, words::invalid(&socket::harmless(&why))).await);
        }
        if let Err(why) = registrant.register(&info.name, &endpoint, versions).await {
            return Err(refuse(&mut client, words::failed(&why)).await);
        }
        if let Err(why) = notify(&mut client, String::new()).await {
            registrant.deregister(&info.name, &endpoint);
            return Err(format!(
                "RegisterPlugin error -- failed to send registration status at socket {at}, err: {why}"
            ));
        }
        Ok(Registered {
            identity,
            registrant: registrant.clone(),
            name: info.name,
            endpoint,
        })
    }
}

fn no_info(path: &Path, why: &str) -> String {
    let at = path.display();
    format!("RegisterPlugin error -- failed to get plugin info using RPC GetInfo at socket {at}, err: {why}")
}

/// Tells the plugin why; gives the same.
async fn refuse(client: &mut RegistrationClient<Channel>, why: String) -> String {
    if let Err(error) = notify(client, why.clone()).await {
        debug!(error, "a plugin that was refused cannot be told so");
    }
    why
}

async fn notify(client: &mut RegistrationClient<Channel>, error: String) -> Result<(), String> {
    let status = RegistrationStatus {
        plugin_registered: error.is_empty(),
        error,
    };
    match timeout(NOTIFY, client.notify_registration_status(status)).await {
        Ok(answer) => answer.map(|_| ()).map_err(|e| socket::text(&e)),
        Err(_) => Err("no answer".into()),
    }
}

/// All sockets below, but for what begins with a dot.
fn sockets(dir: &Path) -> Sockets {
    let mut found = Sockets::new();
    let mut dirs = vec![(dir.to_owned(), 0)];
    while let Some((dir, depth)) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if found.len() + dirs.len() >= MOST {
                return found;
            }
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // Of the link itself: a socket is no link.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() && depth < DEEPEST {
                dirs.push((entry.path(), depth + 1));
            } else if meta.file_type().is_socket() {
                let identity = (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec());
                found.insert(entry.path(), identity);
            }
        }
    }
    found
}
