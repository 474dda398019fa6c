//! Device plugins, and who is told which container has what.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use witlet_core::devices::{Device, Granted, Ids, Options, Question};
use witlet_core::ids::PodKey;

use crate::{Error, Result};

/// What happens to the plugins. Each connection has a number of its own, and its events come in their order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Connected {
        resource: String,
        connection: u64,
        options: Options,
    },
    /// All devices that there are now.
    Listed {
        resource: String,
        connection: u64,
        devices: BTreeMap<String, Device>,
    },
    Disconnected {
        resource: String,
        connection: u64,
    },
}

pub trait Listener: Send + Sync + 'static {
    /// Must not block.
    fn told(&self, event: Event);
}

/// A plugin's answer, understood and as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub granted: Granted,
    pub bytes: Vec<u8>,
}

/// The plugins, by the resource that they offer. Messages of errors are what users see.
#[async_trait]
pub trait DevicePlugins: Send + Sync + 'static {
    /// From now on plugins may come, until the end of the process.
    async fn serve(&self, listener: Arc<dyn Listener>) -> Result<()>;
    /// Gives these devices to a container. There is no deadline: who does not want to wait drops the call.
    async fn allocate(&self, resource: &str, ids: &Ids) -> Result<Answer>;
    async fn preferred(&self, resource: &str, question: &Question) -> Result<Ids>;
    /// A container with these devices is about to start.
    async fn pre_start(&self, resource: &str, ids: &Ids) -> Result<()>;
    /// Understands an answer of an earlier run.
    fn read(&self, answer: &[u8]) -> Result<Granted>;
    /// Why no plugin can come.
    fn problem(&self) -> Option<String>;
}

/// No plugins at all.
#[async_trait]
impl DevicePlugins for () {
    async fn serve(&self, _: Arc<dyn Listener>) -> Result<()> {
        Ok(())
    }

    async fn allocate(&self, _: &str, _: &Ids) -> Result<Answer> {
        Err(none())
    }

    async fn preferred(&self, _: &str, _: &Question) -> Result<Ids> {
        Err(none())
    }

    async fn pre_start(&self, _: &str, _: &Ids) -> Result<()> {
        Err(none())
    }

    fn read(&self, _: &[u8]) -> Result<Granted> {
        Err(none())
    }

    fn problem(&self) -> Option<String> {
        None
    }
}

fn none() -> Error {
    Error::terminal("there are no device plugins")
}

/// Devices of one resource that are near to the same NUMA node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Group {
    pub resource: String,
    pub ids: Vec<String>,
    /// None where that is not known.
    pub numa: Option<i64>,
}

/// Memory, or pages of one size, of some NUMA nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemoryBlock {
    /// `memory`, `hugepages-2Mi`, …
    pub kind: String,
    pub bytes: u64,
    pub numa: Vec<i64>,
}

/// What is a container's alone, or what containers can be given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resources {
    pub devices: Vec<Group>,
    pub cpus: Vec<i64>,
    pub memory: Vec<MemoryBlock>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodResources {
    pub name: String,
    pub namespace: String,
    /// By name, in the order of the spec.
    pub containers: Vec<(String, Resources)>,
}

/// Who has what, for those who watch devices.
pub trait ResourceLister: Send + Sync + 'static {
    /// Pods that run or are to run.
    fn list(&self) -> Vec<PodResources>;
    fn get(&self, key: &PodKey) -> Option<PodResources>;
    fn allocatable(&self) -> Resources;
}
