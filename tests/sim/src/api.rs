//! The API: pods with graceful deletion, node, events, objects; and the pod sources, which tell of it a little later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Node, NodeStatus, Pod, PodStatus, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value};
use tokio::sync::watch;
use witlet_agent::supervisor::Sources;
use witlet_core::desired::{is_mirror, key, uid};
use witlet_core::ids::{PodKey, PodUid};
use witlet_core::plan::Note;
use witlet_ports::api::{Events, Nodes, Objects, Pods, Registered, Token, TokenRequest};
use witlet_ports::source::PodSet;
use witlet_ports::{Class, Error, Result};

use crate::clock;
use crate::pods::{CONFIG_MAP, PodPlan};
use crate::world::{Port, State, World};

#[derive(Default)]
pub struct Api {
    pub pods: BTreeMap<PodUid, Pod>,
    /// Manifests on the node.
    pub files: BTreeMap<PodUid, Pod>,
    pub node: Option<Arc<Node>>,
    /// The next deletion by the agent has no effect.
    pub loses_delete: bool,
    /// When pods came into the world.
    pub created: BTreeMap<PodUid, Timestamp>,
    /// Since when this life of the agent knows that a pod is to end.
    pub told: BTreeMap<PodUid, Timestamp>,
    /// Calls that make something for a pod after that, by pod.
    pub made_after: BTreeMap<PodUid, BTreeSet<String>>,
    /// What the API showed of each pod, one after the other.
    pub phases: BTreeMap<PodUid, Vec<String>>,
    pub events: BTreeMap<String, u32>,
    pub evicted: BTreeSet<PodUid>,
    /// When a manifest came back that had been taken away.
    pub back: BTreeMap<PodUid, Timestamp>,
    /// Some port of the agent's was away for a while.
    pub had_outage: bool,
    api_out: Option<watch::Sender<PodSet>>,
    files_out: Option<watch::Sender<PodSet>>,
    mirrors: u32,
    /// Of the last change to an object, and the objects as they were then.
    version: u64,
    numbered: BTreeMap<PodUid, Pod>,
}

impl Api {
    pub fn agent_died(&mut self) {
        self.api_out = None;
        self.files_out = None;
        self.told.clear();
        self.made_after.clear();
    }

    /// As its source has it now.
    pub fn wanted(&self, uid: &PodUid) -> Option<&Pod> {
        self.pods.get(uid).or_else(|| self.files.get(uid))
    }

    pub fn is_to_end(&self, uid: &PodUid) -> bool {
        self.wanted(uid)
            .is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
    }

    pub fn mirror(&self, of: &PodKey) -> Option<&Pod> {
        self.pods.values().find(|p| is_mirror(p) && key(p) == *of)
    }

    pub fn phase(&self, uid: &PodUid) -> Option<&str> {
        let shown = match self.files.get(uid) {
            Some(pod) => self.mirror(&key(pod)),
            None => self.pods.get(uid),
        };
        shown?.status.as_ref()?.phase.as_deref()
    }
}

impl State {
    /// The sources of a new agent: empty until they have listed.
    pub fn connect(&mut self) -> Sources {
        let (api_out, api) = watch::channel(PodSet::default());
        let (files_out, files) = watch::channel(PodSet::default());
        self.api.api_out = Some(api_out);
        self.api.files_out = Some(files_out);
        self.announce();
        Sources { api, files }
    }

    /// The agent hears of what changed, after a while, and then of everything that changed until then.
    pub fn announce(&mut self) {
        self.number();
        let late = 1 + self.up_to(self.faults.latency_ms);
        self.after(late, Self::tell);
    }

    /// Gives each object that changed the next number.
    fn number(&mut self) {
        for pod in self.api.pods.values_mut() {
            let before = pod.metadata.resource_version.take();
            let same = self.api.numbered.get(&uid(pod)) == Some(pod);
            if same && before.is_some() {
                pod.metadata.resource_version = before;
            } else {
                self.api.version += 1;
                self.api.numbered.insert(uid(pod), pod.clone());
                pod.metadata.resource_version = Some(self.api.version.to_string());
            }
        }
    }

    fn tell(&mut self) {
        if let Some(out) = &self.api.files_out {
            send(out, &self.api.files);
        }
        if self.is_down(Port::Api) {
            self.after(200, Self::tell);
            return;
        }
        if let Some(out) = &self.api.api_out {
            send(out, &self.api.pods);
        }
        if self.api.api_out.is_some() {
            let ending: Vec<PodUid> = self
                .api
                .created
                .keys()
                .filter(|uid| self.api.is_to_end(uid))
                .cloned()
                .collect();
            for uid in ending {
                self.api.told.entry(uid).or_insert_with(clock::now);
            }
        }
    }

    /// A user, or the file system, brings a pod.
    pub fn add_pod(&mut self, plan: &PodPlan, id: &str) -> PodUid {
        let mut pod = plan.pod(id);
        pod.metadata.creation_timestamp = Some(Time(clock::now()));
        let uid = uid(&pod);
        self.note(format!("+++ {uid} is {:?} {}", plan.kind, plan.name));
        self.plans.insert(uid.clone(), plan.clone());
        self.api.created.insert(uid.clone(), clock::now());
        if plan.is_static {
            self.api.files.insert(uid.clone(), pod);
        } else {
            pod.status = Some(PodStatus {
                phase: Some("Pending".into()),
                ..PodStatus::default()
            });
            self.api.pods.insert(uid.clone(), pod);
        }
        self.announce();
        uid
    }

    /// As the API server does it: pods that are over, or get no grace, go at once; others wait for the agent.
    pub fn delete_pod(&mut self, uid: &PodUid, grace: Option<i64>) {
        if self.api.files.remove(uid).is_some() {
            self.note(format!("+++ the manifest of {uid} is removed"));
        }
        if let Some(pod) = self.api.pods.get_mut(uid) {
            let spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
            let over = matches!(
                pod.status.as_ref().and_then(|s| s.phase.as_deref()),
                Some("Succeeded" | "Failed")
            );
            let grace = if over { 0 } else { grace.or(spec).unwrap_or(30) };
            let known = pod.metadata.deletion_grace_period_seconds;
            if grace == 0 {
                self.api.pods.remove(uid);
            } else if known.is_none_or(|known| grace < known) {
                pod.metadata.deletion_timestamp = Some(Time(clock::after_ms(grace.unsigned_abs() * 1000)));
                pod.metadata.deletion_grace_period_seconds = Some(grace);
            }
            self.note(format!("+++ {uid} is deleted with grace {grace}"));
        }
        self.announce();
    }

    /// A manifest is taken away, and put back after a while.
    pub fn take_away(&mut self, uid: &PodUid, ms: u64) {
        let Some(pod) = self.api.files.get(uid).cloned() else {
            return;
        };
        self.delete_pod(uid, None);
        let uid = uid.clone();
        self.after(ms, move |state| {
            state.note(format!("+++ the manifest of {uid} is back"));
            state.api.told.remove(&uid);
            state.api.made_after.remove(&uid);
            state.api.back.insert(uid.clone(), clock::now());
            state.api.files.insert(uid, pod);
            state.announce();
        });
    }

    pub fn change_image(&mut self, uid: &PodUid, image: &str) {
        if let Some(pod) = self.api.pods.get_mut(uid)
            && let Some(first) = pod.spec.as_mut().and_then(|s| s.containers.first_mut())
        {
            first.image = Some(image.into());
            self.note(format!("+++ {uid} gets the image {image}"));
        }
        self.announce();
    }

    /// Nothing of the pod's containers may be left after its end, and not only when the next garbage is collected.
    pub fn evict(&mut self, uid: &PodUid) {
        let Some(pod) = self.api.pods.get_mut(uid) else { return };
        let status = pod.status.get_or_insert_default();
        status.phase = Some("Failed".into());
        status.reason = Some("Evicted".into());
        self.note(format!("+++ {uid} is evicted"));
        self.api.evicted.insert(uid.clone());
        self.announce();
        let uid = uid.clone();
        self.after(20_000, move |state| {
            let left = state.machine.containers.values().filter(|c| c.it.uid == uid).count();
            if left > 0 {
                state
                    .violations
                    .push(format!("{uid} was evicted, and {left} containers are left"));
            }
        });
    }

    /// What differs between what the agent knew and what it wants.
    fn patch_status(&mut self, uid: &PodUid, known: &PodStatus, status: &PodStatus) -> Result<Pod> {
        let Some(pod) = self.api.pods.get(uid) else {
            return Err(Error::not_found(format!("no pod {uid}")));
        };
        let fields = |status: &PodStatus| -> Result<Map<String, Value>> {
            let value = serde_json::to_value(status).map_err(|e| Error::terminal(e.to_string()))?;
            Ok(value.as_object().cloned().unwrap_or_default())
        };
        let (known, wanted) = (fields(known)?, fields(status)?);
        let mut stored = fields(&pod.status.clone().unwrap_or_default())?;
        stored.retain(|name, _| wanted.contains_key(name) || !known.contains_key(name));
        stored.extend(
            wanted
                .into_iter()
                .filter(|(name, value)| known.get(name) != Some(value)),
        );
        let now: PodStatus =
            serde_json::from_value(Value::Object(stored)).map_err(|e| Error::terminal(e.to_string()))?;
        self.rule_status(uid, &now);
        if let Some(pod) = self.api.pods.get_mut(uid) {
            pod.status = Some(now);
        }
        self.announce();
        Ok(self.api.pods.get(uid).cloned().unwrap_or_default())
    }

    /// By the agent.
    fn delete_object(&mut self, uid: &PodUid) {
        if self.api.pods.contains_key(uid) {
            self.rule_delete(uid);
            self.api.pods.remove(uid);
            self.note(format!("{uid}: object deleted"));
            self.announce();
        }
    }

    fn create_mirror(&mut self, mut pod: Pod) -> Result<()> {
        if self.api.pods.values().any(|p| key(p) == key(&pod)) {
            return Err(Error::new(Class::Conflict, "it exists"));
        }
        self.api.mirrors += 1;
        let uid = PodUid::from(&*format!("mirror-{}", self.api.mirrors));
        pod.metadata.uid = Some(uid.as_str().to_owned());
        self.note(format!("{uid}: mirror of {}", key(&pod)));
        self.api.pods.insert(uid, pod);
        self.announce();
        Ok(())
    }
}

/// Objects that did not change stay the same ones.
fn send(out: &watch::Sender<PodSet>, pods: &BTreeMap<PodUid, Pod>) {
    let before = out.borrow().clone();
    let same = |uid: &PodUid, pod: &Pod| before.pods.get(uid).filter(|old| ***old == *pod).cloned();
    let next: BTreeMap<PodUid, Arc<Pod>> = pods
        .iter()
        .map(|(uid, pod)| (uid.clone(), same(uid, pod).unwrap_or_else(|| Arc::new(pod.clone()))))
        .collect();
    if !before.synced || *before.pods != next {
        out.send_replace(PodSet {
            pods: Arc::new(next),
            synced: true,
        });
    }
}

#[derive(Clone)]
pub struct FakeApi(pub World);

impl FakeApi {
    async fn call<T: Send + 'static>(
        &self,
        what: String,
        effect: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.0.call(Port::Api, what, effect).await
    }
}

#[async_trait]
impl Pods for FakeApi {
    async fn get(&self, key: &PodKey, uid: &PodUid) -> Result<Option<Pod>> {
        let uid = uid.clone();
        self.call(format!("GET {key}"), move |s| Ok(s.api.pods.get(&uid).cloned()))
            .await
    }

    async fn patch_status(&self, live: &Pod, status: &PodStatus) -> Result<Option<Pod>> {
        let (uid, known) = (uid(live), live.status.clone().unwrap_or_default());
        if known == *status {
            return Ok(None);
        }
        let status = status.clone();
        self.call(format!("PATCH {uid}"), move |s| s.patch_status(&uid, &known, &status))
            .await
            .map(Some)
    }

    async fn delete(&self, key: &PodKey, uid: &PodUid, _grace: i64) -> Result<()> {
        let uid = uid.clone();
        self.call(format!("DELETE {key}"), move |s| {
            if !std::mem::take(&mut s.api.loses_delete) {
                s.delete_object(&uid);
            }
            Ok(())
        })
        .await
    }

    async fn create_mirror(&self, pod: &Pod) -> Result<()> {
        let pod = pod.clone();
        self.call(format!("POST {}", key(&pod)), move |s| s.create_mirror(pod))
            .await
    }
}

impl Events for FakeApi {
    fn pod(&self, pod: &Pod, note: Note) {
        let mut state = self.0.lock();
        if note.warning {
            let text = format!("{}: event {}: {}", uid(pod), note.reason, note.message);
            state.note(text);
        }
        *state.api.events.entry(note.reason).or_default() += 1;
    }

    fn node(&self, _warning: bool, reason: &str, _message: &str) {
        *self.0.lock().api.events.entry(reason.to_owned()).or_default() += 1;
    }
}

#[async_trait]
impl Nodes for FakeApi {
    fn current(&self) -> Option<Arc<Node>> {
        self.0.lock().api.node.clone()
    }

    async fn register(&self, node: &Node) -> Result<Registered> {
        let mut node = node.clone();
        self.call("register".into(), move |s| {
            node.metadata.uid = Some("node-uid".into());
            let before = s.api.node.replace(Arc::new(node));
            Ok(before.map_or(Registered::New, |_| Registered::Known))
        })
        .await
    }

    async fn patch_status(&self, status: &NodeStatus) -> Result<()> {
        let status = status.clone();
        self.call("PATCH node".into(), move |s| {
            s.rule_node(&status);
            if let Some(node) = &mut s.api.node {
                Arc::make_mut(node).status = Some(status);
            }
            Ok(())
        })
        .await
    }

    async fn renew_lease(&self) -> Result<()> {
        self.call("PUT lease".into(), |_| Ok(())).await
    }
}

#[async_trait]
impl Objects for FakeApi {
    async fn config_map(&self, _namespace: &str, name: &str) -> Result<Arc<ConfigMap>> {
        let name = name.to_owned();
        self.call(format!("GET configmap {name}"), move |_| {
            let data = Some([("colour".to_owned(), "blue".to_owned())].into());
            let found = (name == CONFIG_MAP).then(|| {
                Arc::new(ConfigMap {
                    data,
                    ..ConfigMap::default()
                })
            });
            found.ok_or_else(|| Error::not_found(format!("configmap {name:?} not found")))
        })
        .await
    }

    async fn secret(&self, _namespace: &str, name: &str) -> Result<Arc<Secret>> {
        Err(Error::not_found(format!("secret {name:?} not found")))
    }

    async fn token(&self, _request: &TokenRequest) -> Result<Token> {
        Err(Error::denied("no tokens here"))
    }

    async fn services(&self) -> Result<Vec<Arc<Service>>> {
        self.call("services".into(), |_| Ok(Vec::new())).await
    }

    async fn runtime_handler(&self, class: &str) -> Result<String> {
        Err(Error::not_found(format!("runtime class {class:?} not found")))
    }

    fn register(&self, _pod: &Arc<Pod>) {}

    fn unregister(&self, _uid: &PodUid) {}
}
