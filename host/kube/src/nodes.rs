//! The node's own objects: the node and its lease.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use witlet_ports::api::Nodes;
use witlet_ports::{Class, Error, Result};

use crate::client::error;
use crate::diff::{MergeKeys, two_way};

const MERGED: MergeKeys = &[("conditions", "type")];
const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
/// Labels that an existing node is given again (the kubelet contract, node C1 rule 36).
const DEFAULT_LABELS: [&str; 5] =
    ["kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/arch"];

pub struct KubeNodes {
    name: String,
    nodes: Api<Node>,
    leases: Api<Lease>,
    current: Arc<ArcSwapOption<Node>>,
    /// The lease as last written. Only the lease loop takes the lock.
    lease: Mutex<Option<Lease>>,
}

impl KubeNodes {
    /// Watches the node's object until shutdown.
    pub fn start(client: kube::Client, name: &str, shutdown: CancellationToken) -> Self {
        let nodes: Api<Node> = Api::all(client.clone());
        let current: Arc<ArcSwapOption<Node>> = Arc::default();
        tokio::spawn(watch(nodes.clone(), name.to_owned(), current.clone(), shutdown));
        let leases = Api::namespaced(client, LEASE_NAMESPACE);
        Self { name: name.to_owned(), nodes, leases, current, lease: Mutex::default() }
    }

    /// An existing node keeps its taints, its provider, its pod network and all labels but the default ones.
    async fn adopt(&self, wanted: &Node) -> Result<Node> {
        let there = self.nodes.get(&self.name).await.map_err(error)?;
        let mut patch = json!({});
        for (key, value) in wanted.metadata.annotations.iter().flatten() {
            if there.metadata.annotations.as_ref().and_then(|a| a.get(key)) != Some(value) {
                patch["metadata"]["annotations"][key] = json!(value);
            }
        }
        let labels = wanted.metadata.labels.iter().flatten().filter(|(key, _)| DEFAULT_LABELS.contains(&key.as_str()));
        for (key, value) in labels {
            if there.metadata.labels.as_ref().and_then(|l| l.get(key)) != Some(value) {
                patch["metadata"]["labels"][key] = json!(value);
            }
        }
        if patch == json!({}) {
            return Ok(there);
        }
        self.nodes.patch(&self.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map_err(error)
    }

    fn new_lease(&self) -> Option<Lease> {
        let node = self.current.load_full()?;
        let owner = OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: self.name.clone(),
            uid: node.metadata.uid.clone()?,
            ..OwnerReference::default()
        };
        Some(Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(LEASE_NAMESPACE.into()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.name.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                ..LeaseSpec::default()
            }),
        })
    }
}

async fn watch(nodes: Api<Node>, name: String, current: Arc<ArcSwapOption<Node>>, shutdown: CancellationToken) {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher(nodes, config).default_backoff();
    tokio::pin!(events);
    let mut listed = false;
    loop {
        // Cancel-safe: a stream gives an event or stays as it was.
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(Event::Init)) => listed = false,
            Some(Ok(Event::Apply(mut node) | Event::InitApply(mut node))) => {
                node.metadata.managed_fields = None;
                listed = true;
                current.store(Some(Arc::new(node)));
            }
            Some(Ok(Event::Delete(_))) => current.store(None),
            Some(Ok(Event::InitDone)) if !listed => current.store(None),
            Some(Ok(Event::InitDone)) => {}
            Some(Err(error)) => debug!(%error, "watching the node"),
            None => return,
        }
    }
}

#[async_trait]
impl Nodes for KubeNodes {
    fn current(&self) -> Option<Arc<Node>> {
        self.current.load_full()
    }

    async fn register(&self, node: &Node) -> Result<()> {
        let registered = match self.nodes.create(&PostParams::default(), node).await.map_err(error) {
            Ok(created) => created,
            Err(e) if matches!(e.class, Class::Conflict | Class::Denied) => self.adopt(node).await?,
            Err(e) => return Err(e),
        };
        self.current.store(Some(Arc::new(registered)));
        Ok(())
    }

    async fn patch_status(&self, status: &NodeStatus) -> Result<()> {
        let live = self.current.load_full().ok_or_else(|| Error::retry("the node's object is not known yet"))?;
        let json = |status: &NodeStatus| serde_json::to_value(status).map_err(|e| Error::new(Class::Bug, e.to_string()));
        let (before, after) = (json(&live.status.clone().unwrap_or_default())?, json(status)?);
        let Some(mut patch) = two_way(&before, &after, MERGED) else { return Ok(()) };
        // Addresses would be merged by their type, of which there may be two.
        if let Some(Value::Array(addresses)) = patch.get_mut("addresses") {
            addresses.push(json!({ "$patch": "replace" }));
        }
        let patch = Patch::Strategic(json!({ "status": patch }));
        let written = self.nodes.patch_status(&self.name, &PatchParams::default(), &patch).await.map_err(error)?;
        self.current.store(Some(Arc::new(written)));
        Ok(())
    }

    async fn renew_lease(&self) -> Result<()> {
        let now = MicroTime(Timestamp::now());
        let mut known = self.lease.lock().await;
        let mut lease = match known.take() {
            Some(lease) => lease,
            None => match self.leases.get_opt(&self.name).await.map_err(error)? {
                Some(lease) => lease,
                None => {
                    let mut lease = self.new_lease().ok_or_else(|| Error::retry("the node is not registered yet"))?;
                    lease.spec.get_or_insert_default().renew_time = Some(now);
                    *known = Some(self.leases.create(&PostParams::default(), &lease).await.map_err(error)?);
                    return Ok(());
                }
            },
        };
        if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) {
            lease.metadata.owner_references = self.new_lease().and_then(|l| l.metadata.owner_references);
        }
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(self.name.clone());
        spec.lease_duration_seconds = Some(LEASE_SECONDS);
        spec.renew_time = Some(now);
        // On an error it is forgotten, and read again the next time.
        *known = Some(self.leases.replace(&self.name, &PostParams::default(), &lease).await.map_err(error)?);
        Ok(())
    }
}
