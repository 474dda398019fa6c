//! The node's own object and its lease (the kubelet contract, node C1, C3 and C4).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher::Event;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;
use witlet_core::node::{ANNOTATION_CONTROLLER_ATTACH, ANNOTATION_PROVIDED_NODE_IP};
use witlet_ports::api::{Nodes, Registered};
use witlet_ports::{Class, Error, Result};

use crate::Client;
use crate::error::{Call, already_exists, bounded};
use crate::patch::{How, Merged, diff};
use crate::watching::watch;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_TRIES: u32 = 5;

/// Lists of a node's status that merge. Addresses may repeat a type, so that they are sent as a whole.
const MERGED: [Merged; 2] = [
    Merged {
        field: "conditions",
        key: "type",
        how: How::Elements,
    },
    Merged {
        field: "addresses",
        key: "type",
        how: How::Whole,
    },
];

/// What a status must not overwrite: others write it.
const FOREIGN: [&str; 2] = ["volumesAttached", "config"];

/// Labels that only the node knows, and that are put back when somebody takes them.
const OWN_LABELS: [&str; 2] = ["kubernetes.io/os", "kubernetes.io/arch"];
/// Labels that are brought up to date at registration, where the node has a word for them.
const DEFAULT_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

#[derive(Clone)]
pub struct NodeApi(Arc<Inner>);

struct Inner {
    client: Client,
    current: watch::Sender<Option<Arc<Node>>>,
    synced: watch::Receiver<bool>,
    /// Labels and annotations as the node was registered.
    wanted: Mutex<ObjectMeta>,
    lease: Mutex<Option<Lease>>,
    failures: AtomicU32,
}

impl NodeApi {
    pub(crate) fn start(client: &Client, shutdown: CancellationToken) -> Self {
        let (sync, synced) = watch::channel(false);
        let inner = Arc::new(Inner {
            client: client.clone(),
            current: watch::Sender::new(None),
            synced,
            wanted: Mutex::default(),
            lease: Mutex::default(),
            failures: AtomicU32::new(0),
        });
        let of_task = inner.clone();
        let api = client.all::<Node>();
        let name = client.node_name().to_owned();
        tokio::spawn(async move {
            let fields = format!("metadata.name={name}");
            let mut listed = None;
            watch("the node", api, Some(&fields), &shutdown, |events| {
                for event in events {
                    match event {
                        Event::Init => listed = None,
                        Event::InitApply(node) if is(&node, &name) => listed = Some(node),
                        Event::InitDone => {
                            match listed.take() {
                                Some(node) => of_task.saw(node),
                                None => of_task.gone(),
                            }
                            sync.send_replace(true);
                        }
                        Event::Apply(node) if is(&node, &name) => of_task.saw(node),
                        Event::Delete(node) if is(&node, &name) => of_task.gone(),
                        Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => {}
                    }
                }
                true
            })
            .await;
        });
        Self(inner)
    }

    /// True from when the API was asked about the node once, whether it exists or not.
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.0.synced.clone()
    }

    /// The node object, whenever it changes.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Node>>> {
        self.0.current.subscribe()
    }

    fn api(&self) -> Api<Node> {
        self.0.client.all()
    }

    fn name(&self) -> &str {
        self.0.client.node_name()
    }

    async fn patch(&self, subresource: Option<&str>, patch: &Value) -> Result<Node> {
        let (api, params, patch) = (self.api(), PatchParams::default(), Patch::Strategic(patch));
        let name = self.name();
        match subresource {
            Some(_) => {
                let request = api.patch_status(name, &params, &patch);
                self.0
                    .client
                    .request(Call::new("patch status of node", &name), request)
                    .await
            }
            None => {
                self.0
                    .client
                    .request(Call::new("patch node", &name), api.patch(name, &params, &patch))
                    .await
            }
        }
    }

    /// Brings the object of an earlier life up to date. Its taints, its other labels and its spec are the cluster's.
    async fn reconcile(&self, live: Node, wanted: &Node) -> Result<()> {
        if let Some(patch) = adjustments(&live, wanted) {
            info!(node = self.name(), "bringing the registered node up to date");
            let node = self.patch(None, &patch).await?;
            self.0.saw(node);
        } else {
            self.0.saw(live.clone());
        }
        let huge = wanted
            .status
            .as_ref()
            .and_then(|s| s.capacity.as_ref())
            .into_iter()
            .flatten();
        let huge: BTreeMap<_, _> = huge.filter(|(name, _)| name.starts_with("hugepages-")).collect();
        let have = live.status.as_ref().and_then(|s| s.capacity.as_ref());
        if huge
            .iter()
            .any(|(name, amount)| have.and_then(|h| h.get(*name)) != Some(*amount))
        {
            let node = self
                .patch(
                    Some("status"),
                    &json!({"status": {"capacity": huge, "allocatable": huge}}),
                )
                .await?;
            self.0.saw(node);
        }
        Ok(())
    }

    // === Lease ===

    async fn try_lease(&self) -> Result<()> {
        let api = Api::<Lease>::namespaced(self.0.client.heartbeat(), LEASE_NAMESPACE);
        let known = self.0.lease.lock().unwrap_or_else(PoisonError::into_inner).take();
        let name = self.name();
        let limit = self.0.client.config().heartbeat_timeout;
        let current = match known {
            Some(lease) => Some(lease),
            None => bounded(Call::new("get lease", &name), limit, api.get_opt(name)).await?,
        };
        let lease = match current {
            Some(mut lease) => {
                let spec = lease.spec.get_or_insert_default();
                spec.holder_identity = Some(name.to_owned());
                spec.lease_duration_seconds = Some(self.0.client.config().lease_seconds);
                spec.renew_time = Some(MicroTime(Timestamp::now()));
                if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) {
                    lease.metadata.owner_references = self.owner().map(|owner| vec![owner]);
                }
                let params = PostParams::default();
                bounded(
                    Call::new("renew lease", &name),
                    limit,
                    api.replace(name, &params, &lease),
                )
                .await?
            }
            None => {
                // Without an owner it would outlive the node.
                let owner = self
                    .owner()
                    .ok_or_else(|| Error::retry("no lease before the node exists"))?;
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(name.to_owned()),
                        namespace: Some(LEASE_NAMESPACE.into()),
                        owner_references: Some(vec![owner]),
                        ..ObjectMeta::default()
                    },
                    spec: Some(LeaseSpec {
                        holder_identity: Some(name.to_owned()),
                        lease_duration_seconds: Some(self.0.client.config().lease_seconds),
                        renew_time: Some(MicroTime(Timestamp::now())),
                        ..LeaseSpec::default()
                    }),
                };
                bounded(
                    Call::new("create lease", &name),
                    limit,
                    api.create(&PostParams::default(), &lease),
                )
                .await?
            }
        };
        *self.0.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
        Ok(())
    }

    fn owner(&self) -> Option<OwnerReference> {
        let node = self.current()?;
        Some(OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: self.name().to_owned(),
            uid: node.metadata.uid.clone().filter(|uid| !uid.is_empty())?,
            ..OwnerReference::default()
        })
    }
}

fn is(node: &Node, name: &str) -> bool {
    node.metadata.name.as_deref() == Some(name)
}

impl Inner {
    /// A word of the API about the node; an older one than is known (a watch lags behind our own writes) is passed over.
    fn saw(&self, mut node: Node) {
        node.metadata.managed_fields = None;
        let version = |node: &Node| {
            node.metadata
                .resource_version
                .as_deref()
                .and_then(|v| v.parse::<u64>().ok())
        };
        self.current.send_if_modified(|current| {
            let known = current.as_ref().filter(|known| known.metadata.uid == node.metadata.uid);
            match (known.and_then(|known| version(known)), version(&node)) {
                (Some(known), Some(new)) if new <= known => false,
                _ => {
                    *current = Some(Arc::new(node));
                    true
                }
            }
        });
    }

    fn gone(&self) {
        self.current.send_replace(None);
    }
}

#[async_trait]
impl Nodes for NodeApi {
    fn current(&self) -> Option<Arc<Node>> {
        self.0.current.borrow().clone()
    }

    async fn register(&self, node: &Node) -> Result<Registered> {
        *self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner) = node.metadata.clone();
        let (api, name, params) = (self.api(), self.name(), PostParams::default());
        let error = match self
            .0
            .client
            .request(Call::new("register node", &name), api.create(&params, node))
            .await
        {
            Ok(created) => {
                info!(node = name, "the node is registered");
                self.0.saw(created);
                return Ok(Registered::New);
            }
            Err(error) => error,
        };
        // A node may be allowed to look at its object and not to create it.
        if !already_exists(&error) && error.class != Class::Denied {
            return Err(error);
        }
        match self
            .0
            .client
            .request(Call::new("get node", &name), api.get_opt(name))
            .await?
        {
            Some(live) => self.reconcile(live, node).await.map(|()| Registered::Known),
            None => Err(error),
        }
    }

    async fn patch_status(&self, status: &NodeStatus) -> Result<()> {
        let name = self.name();
        let live = match self.current() {
            Some(live) => live,
            None => {
                let live = self
                    .0
                    .client
                    .request(Call::new("get node", &name), self.api().get_opt(name))
                    .await?;
                Arc::new(live.ok_or_else(|| Error::not_found(format!("nodes {name:?} not found")))?)
            }
        };
        let before = live.status.clone().unwrap_or_default();
        let mut patch = Map::new();
        if let Some(mut changes) = diff(&before, status, &MERGED) {
            changes.retain(|field, _| !FOREIGN.contains(&field.as_str()));
            if !changes.is_empty() {
                patch.insert("status".into(), Value::Object(changes));
            }
        }
        let metadata = {
            let wanted = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            stolen(&live, &wanted)
        };
        if !metadata.is_empty() {
            patch.insert("metadata".into(), Value::Object(metadata));
        }
        if patch.is_empty() {
            return Ok(());
        }
        let node = self.patch(Some("status"), &Value::Object(patch)).await?;
        self.0.saw(node);
        Ok(())
    }

    /// Up to five tries. After two calls in a row without success the connection is made anew.
    async fn renew_lease(&self) -> Result<()> {
        let mut last = None;
        for _ in 0..LEASE_TRIES {
            match self.try_lease().await {
                Ok(()) => {
                    self.0.failures.store(0, Ordering::Relaxed);
                    return Ok(());
                }
                // Somebody else wrote it, or it is gone: once more with what it is now.
                Err(error) if matches!(error.class, Class::Conflict | Class::NotFound) => last = Some(error),
                Err(error) => {
                    last = Some(error);
                    break;
                }
            }
        }
        if self.0.failures.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            self.0.client.renew_heartbeat().await;
        }
        Err(last.unwrap_or_else(|| Error::retry("the lease was not renewed")))
    }
}

fn missing_labels(live: &Node, wanted: &BTreeMap<String, String>, names: &[&str]) -> BTreeMap<String, String> {
    let have = live.metadata.labels.as_ref();
    let differs = |name: &&str| {
        wanted
            .get(*name)
            .is_some_and(|w| have.and_then(|h| h.get(*name)) != Some(w))
    };
    names
        .iter()
        .copied()
        .filter(|n| differs(n))
        .filter_map(|n| Some((n.to_owned(), wanted.get(n)?.clone())))
        .collect()
}

/// What the node says of itself beside its status, and the object does not: somebody took it, or it is from before.
fn stolen(live: &Node, wanted: &ObjectMeta) -> Map<String, Value> {
    let mut metadata = Map::new();
    let labels = missing_labels(live, wanted.labels.as_ref().unwrap_or(&BTreeMap::new()), &OWN_LABELS);
    if !labels.is_empty() {
        metadata.insert("labels".into(), json!(labels));
    }
    let ip = |annotations: &Option<BTreeMap<String, String>>| {
        annotations
            .as_ref()
            .and_then(|a| a.get(ANNOTATION_PROVIDED_NODE_IP))
            .cloned()
    };
    if let Some(ip) = ip(&wanted.annotations).filter(|wanted| ip(&live.metadata.annotations).as_ref() != Some(wanted)) {
        metadata.insert("annotations".into(), json!({ANNOTATION_PROVIDED_NODE_IP: ip}));
    }
    metadata
}

/// What C1 rule 36 changes of an existing node's metadata.
fn adjustments(live: &Node, wanted: &Node) -> Option<Value> {
    let none = BTreeMap::new();
    let labels = missing_labels(live, wanted.metadata.labels.as_ref().unwrap_or(&none), &DEFAULT_LABELS);
    let attach = |node: &Node| {
        node.metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(ANNOTATION_CONTROLLER_ATTACH).cloned())
    };
    let mut metadata = Map::new();
    if !labels.is_empty() {
        metadata.insert("labels".into(), json!(labels));
    }
    if attach(live) != attach(wanted) {
        metadata.insert(
            "annotations".into(),
            json!({ANNOTATION_CONTROLLER_ATTACH: attach(wanted)}),
        );
    }
    (!metadata.is_empty()).then(|| json!({"metadata": metadata}))
}

#[cfg(test)]
mod tests;
