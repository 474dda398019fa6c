//! Connections to device plugins.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{debug, info, warn};
use witlet_core::devices::{Granted, Ids, Options, Question, check_resource, check_versions};
use witlet_ports::devices::{Answer, DevicePlugins, Event, Listener};
use witlet_ports::registration::Registrant;
use witlet_ports::{Class, Error, Result};

use crate::proto::device_plugin as proto;
use crate::proto::device_plugin::device_plugin_client::DevicePluginClient;
use crate::{convert, server, socket};

const PRE_START: Duration = Duration::from_secs(30);
/// A plugin that does not even say what it wants to be asked.
const OPTIONS: Duration = Duration::from_secs(10);
/// Each resource keeps its place in the node's object, even when its plugin has gone.
const MOST_RESOURCES: usize = 1000;

type Client = DevicePluginClient<Channel>;

/// All device plugins of the node.
#[derive(Clone)]
pub struct Plugins(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    shutdown: CancellationToken,
    listener: OnceLock<Arc<dyn Listener>>,
    connections: Mutex<Connections>,
    /// Why nobody can register.
    problem: Mutex<Option<String>>,
}

#[derive(Default)]
struct Connections {
    last: u64,
    by_resource: BTreeMap<String, Connection>,
    /// All that ever came.
    names: BTreeSet<String>,
}

impl Connections {
    fn may_come(&self, resource: &str) -> Result<(), String> {
        if self.names.len() < MOST_RESOURCES || self.names.contains(resource) {
            return Ok(());
        }
        Err(format!(
            "{MOST_RESOURCES} different resources were offered already, and no more can be until the agent starts again"
        ))
    }
}

struct Connection {
    number: u64,
    client: Client,
    ended: CancellationToken,
}

impl Plugins {
    /// `dir` is where plugins find the agent's socket and put their own.
    pub fn new(dir: PathBuf, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            dir,
            shutdown,
            listener: OnceLock::new(),
            connections: Mutex::default(),
            problem: Mutex::default(),
        }))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0.dir
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        // Consistent after every statement.
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_problem(&self, problem: Option<String>) {
        *self.0.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    fn tell(&self, event: Event) {
        if let Some(listener) = self.0.listener.get() {
            listener.told(event);
        }
    }

    /// Goes to a plugin at its socket, and stays with it until one of both ends.
    pub(crate) async fn connect(&self, resource: &str, path: &Path) -> Result<(), String> {
        self.lock().may_come(resource)?;
        let mut client = DevicePluginClient::new(socket::dial(path).await?);
        let options = timeout(OPTIONS, client.get_device_plugin_options(proto::Empty {})).await;
        let options = match options {
            Ok(Ok(options)) => options.into_inner(),
            Ok(Err(status)) => {
                return Err(format!(
                    "failed to get device plugin options: {}",
                    socket::text(&status)
                ));
            }
            Err(_) => return Err("failed to get device plugin options: no answer".into()),
        };
        let ended = self.0.shutdown.child_token();
        info!(resource, socket = %path.display(), "a device plugin came");
        let number = {
            // Told within the lock: of two at once the later is told later.
            let mut connections = self.lock();
            connections.may_come(resource)?;
            connections.names.insert(resource.to_owned());
            connections.last += 1;
            let number = connections.last;
            let connection = Connection {
                number,
                client: client.clone(),
                ended: ended.clone(),
            };
            if let Some(before) = connections.by_resource.insert(resource.to_owned(), connection) {
                before.ended.cancel();
            }
            self.tell(Event::Connected {
                resource: resource.to_owned(),
                connection: number,
                options: Options {
                    pre_start: options.pre_start_required,
                    preferred: options.get_preferred_allocation_available,
                },
            });
            number
        };
        tokio::spawn(self.clone().watch(resource.to_owned(), number, client, ended));
        Ok(())
    }

    async fn watch(self, resource: String, number: u64, mut client: Client, ended: CancellationToken) {
        // Cancel-safe: nothing of an ended connection is wanted.
        let why = tokio::select! {
            () = ended.cancelled() => None,
            why = self.receive(&resource, number, &mut client) => Some(why),
        };
        if self.0.shutdown.is_cancelled() {
            return;
        }
        {
            let mut connections = self.lock();
            let own = connections.by_resource.get(&resource);
            if own.is_some_and(|c| c.number == number) {
                connections.by_resource.remove(&resource);
            }
        }
        if let Some(why) = why {
            warn!(
                resource,
                why, "a device plugin went: none of its devices can be used until it is back"
            );
        }
        self.tell(Event::Disconnected {
            resource,
            connection: number,
        });
    }

    /// Why no more comes.
    async fn receive(&self, resource: &str, number: u64, client: &mut Client) -> String {
        let mut stream = match client.list_and_watch(proto::Empty {}).await {
            Ok(response) => response.into_inner(),
            Err(status) => return socket::text(&status),
        };
        loop {
            match stream.message().await {
                Ok(Some(list)) => {
                    let devices = convert::devices(resource, list.devices);
                    debug!(resource, devices = devices.len(), "devices");
                    self.tell(Event::Listed {
                        resource: resource.to_owned(),
                        connection: number,
                        devices,
                    });
                }
                Ok(None) => return "the plugin ended its list of devices".into(),
                Err(status) => return socket::text(&status),
            }
        }
    }

    fn client(&self, resource: &str) -> Result<Client> {
        let connections = self.lock();
        let found = connections.by_resource.get(resource).map(|c| c.client.clone());
        found.ok_or_else(|| Error::retry(format!("endpoint of {resource} has been stopped")))
    }

    /// Lets a plugin go. Its devices stay known for a while.
    fn disconnect(&self, resource: &str) {
        if let Some(connection) = self.lock().by_resource.get(resource) {
            connection.ended.cancel();
        }
    }
}

fn failed(status: tonic::Status) -> Error {
    Error::retry(socket::text(&status)).with_source(status)
}

#[async_trait]
impl DevicePlugins for Plugins {
    async fn serve(&self, listener: Arc<dyn Listener>) -> Result<()> {
        if self.0.listener.set(listener).is_err() {
            return Err(Error::new(Class::Bug, "device plugins have a listener already"));
        }
        server::start(self.clone(), self.0.shutdown.clone()).map_err(|e| {
            Error::terminal(format!(
                "node.device_plugins_dir: cannot listen at {}: {e}; choose another directory, or stop the agent that uses it",
                server::path(&self.0.dir).display()
            ))
        })
    }

    async fn allocate(&self, resource: &str, ids: &Ids) -> Result<Answer> {
        let request = proto::AllocateRequest {
            container_requests: vec![proto::ContainerAllocateRequest {
                devices_ids: ids.iter().cloned().collect(),
            }],
        };
        let response = self.client(resource)?.allocate(request).await.map_err(failed)?;
        convert::answer(resource, response.into_inner()).map_err(Error::retry)
    }

    async fn preferred(&self, resource: &str, question: &Question) -> Result<Ids> {
        let list = |ids: &Ids| ids.iter().cloned().collect();
        let request = proto::PreferredAllocationRequest {
            container_requests: vec![proto::ContainerPreferredAllocationRequest {
                available_device_i_ds: list(&question.available),
                must_include_device_i_ds: list(&question.must_include),
                allocation_size: i32::try_from(question.size).unwrap_or(i32::MAX),
            }],
        };
        let response = self.client(resource)?.get_preferred_allocation(request).await;
        let responses = response.map_err(failed)?.into_inner().container_responses;
        let own = responses.into_iter().next();
        Ok(own.into_iter().flat_map(|r| r.device_i_ds).collect())
    }

    async fn pre_start(&self, resource: &str, ids: &Ids) -> Result<()> {
        let request = proto::PreStartContainerRequest {
            devices_ids: ids.iter().cloned().collect(),
        };
        let mut client = self.client(resource)?;
        match timeout(PRE_START, client.pre_start_container(request)).await {
            Ok(answer) => answer.map(|_| ()).map_err(failed),
            Err(_) => Err(Error::new(
                Class::Timeout,
                "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
            )),
        }
    }

    fn read(&self, answer: &[u8]) -> Result<Granted> {
        convert::read(answer).map_err(Error::terminal)
    }

    fn problem(&self) -> Option<String> {
        self.0.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Device plugins that announce themselves in `plugins_registry`, by the name of their resource.
#[async_trait]
impl Registrant for Plugins {
    fn validate(&self, name: &str, _: &Path, versions: &[String]) -> Result<(), String> {
        check_versions(versions)?;
        check_resource(name).map_err(|e| format!("invalid name of device plugin socket: {e}"))
    }

    async fn register(&self, name: &str, endpoint: &Path, _: &[String]) -> Result<(), String> {
        self.connect(name, endpoint).await
    }

    fn deregister(&self, name: &str, _: &Path) {
        self.disconnect(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_an_end() {
        let mut connections = Connections::default();
        for i in 0..MOST_RESOURCES {
            let name = format!("a.b/{i}");
            assert_eq!(connections.may_come(&name), Ok(()));
            connections.names.insert(name);
        }
        assert!(connections.may_come("a.b/more").is_err());
        assert_eq!(connections.may_come("a.b/7"), Ok(()));
    }
}
