//! The adapter against the embedded API: real HTTP, TLS, watches and patches.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, NodeStatus, Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use witlet_core::desired::{Source, key, uid};
use witlet_core::manifest;
use witlet_core::plan::Note;
use witlet_kube::{Client, Config, watch_pods};
use witlet_ports::Class;
use witlet_ports::api::{Events, Nodes, Objects, Pods, TokenRequest};
use witlet_ports::source::PodSet;
use witlet_standalone as standalone;

const NODE: &str = "node-1";

struct Embedded {
    dir: tempfile::TempDir,
    addr: SocketAddr,
    stop: CancellationToken,
    server: Option<standalone::Server>,
}

impl Embedded {
    async fn start() -> Self {
        let mut this = Self {
            dir: tempfile::tempdir().unwrap(),
            addr: ([127, 0, 0, 1], 0).into(),
            stop: CancellationToken::new(),
            server: None,
        };
        this.run().await;
        this
    }

    /// Again, on the same address, with the same objects.
    async fn run(&mut self) {
        self.stop = CancellationToken::new();
        let config = standalone::Config {
            listen: self.addr,
            data_dir: self.dir.path().join("data"),
            kubeconfig: self.kubeconfig(),
            node_name: NODE.into(),
        };
        let server = standalone::start(config, self.stop.clone()).await.unwrap();
        self.addr = server.addr;
        self.server = Some(server);
    }

    async fn end(&mut self) {
        self.stop.cancel();
        if let Some(server) = self.server.take() {
            soon("the API ends", server.wait()).await.unwrap();
        }
    }

    fn kubeconfig(&self) -> std::path::PathBuf {
        self.dir.path().join("kubeconfig")
    }

    async fn client(&self) -> Client {
        Client::connect(Config::new(self.kubeconfig(), NODE)).await.unwrap()
    }

    /// A user's client.
    async fn user(&self) -> kube::Client {
        user(&self.kubeconfig()).await
    }
}

async fn user(kubeconfig: &Path) -> kube::Client {
    let file = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    kube::Client::try_from(
        kube::Config::from_custom_kubeconfig(file, &Default::default())
            .await
            .unwrap(),
    )
    .unwrap()
}

async fn soon<T>(what: &str, done: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), done)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, check: impl Fn() -> F) -> T {
    soon(what, async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

fn web(name: &str) -> Pod {
    let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "x:1"}]}});
    serde_json::from_value(value).unwrap()
}

fn ready() -> watch::Receiver<bool> {
    watch::channel(true).1
}

fn names(set: &PodSet) -> Vec<String> {
    let mut names: Vec<_> = set.pods.values().map(|p| key(p).name).collect();
    names.sort();
    names
}

async fn wait_for(set: &mut watch::Receiver<PodSet>, expected: &[&str]) -> PodSet {
    let what = format!("pods {expected:?}");
    soon(&what, set.wait_for(|s| s.synced && names(s) == expected))
        .await
        .unwrap()
        .clone()
}

#[tokio::test]
async fn pods_are_followed_through_a_restart_of_the_api() {
    let mut api = Embedded::start().await;
    let pods = Api::<Pod>::namespaced(api.user().await, "default");
    let stop = CancellationToken::new();
    let client = api.client().await;
    let mut set = watch_pods(&client, ready(), stop.clone());
    wait_for(&mut set, &[]).await;
    pods.create(&PostParams::default(), &web("a")).await.unwrap();
    let first = wait_for(&mut set, &["a"]).await;
    let pod = first.pods.values().next().unwrap();
    assert_eq!(
        pod.spec.as_ref().unwrap().restart_policy.as_deref(),
        Some("Always"),
        "the API gave defaults"
    );

    api.end().await;
    assert_eq!(names(&set.borrow()), ["a"], "an outage takes no pod away");
    api.run().await;
    let pods = Api::<Pod>::namespaced(api.user().await, "default");
    pods.create(&PostParams::default(), &web("b")).await.unwrap();
    wait_for(&mut set, &["a", "b"]).await;
    pods.delete("a", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    wait_for(&mut set, &["b"]).await;
    stop.cancel();
    api.end().await;
}

#[tokio::test]
async fn a_status_is_written_and_a_pod_deleted_only_if_it_is_the_same() {
    let mut api = Embedded::start().await;
    let client = api.client().await;
    let writer = client.pods();
    let pods = Api::<Pod>::namespaced(api.user().await, "default");
    let created = pods.create(&PostParams::default(), &web("a")).await.unwrap();
    let (key, id) = (key(&created), uid(&created));

    let live = writer.get(&key, &id).await.unwrap().unwrap();
    assert!(writer.get(&key, &"other".into()).await.unwrap().is_none());
    let status = |phase: &str, ips: &[&str], conditions: Value| -> PodStatus {
        let ips: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        serde_json::from_value(json!({"phase": phase, "podIPs": ips, "conditions": conditions,
            "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "image": "x:1", "imageID": ""}]}))
        .unwrap()
    };
    let first = status(
        "Running",
        &["10.0.0.1", "fd00::1"],
        json!([{"type": "Ready", "status": "True"}, {"type": "X", "status": "True"}]),
    );
    writer.patch_status(&live, &first).await.unwrap();
    let live = writer.get(&key, &id).await.unwrap().unwrap();
    let got = live.status.clone().unwrap();
    assert_eq!(
        (got.phase.as_deref(), got.pod_ips.as_ref().map(Vec::len)),
        (Some("Running"), Some(2))
    );

    let second = status("Running", &["10.0.0.2"], json!([{"type": "Ready", "status": "False"}]));
    writer.patch_status(&live, &second).await.unwrap();
    let got = writer.get(&key, &id).await.unwrap().unwrap().status.unwrap();
    let ips: Vec<_> = got.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    assert_eq!(ips, ["10.0.0.2"], "the list is replaced");
    let conditions: Vec<_> = got
        .conditions
        .iter()
        .flatten()
        .map(|c| (c.type_.as_str(), c.status.as_str()))
        .collect();
    assert_eq!(conditions, [("Ready", "False")], "what is gone is taken out");

    let mut stranger = live.clone();
    stranger.metadata.uid = Some("00000000-0000-0000-0000-000000000000".into());
    let error = writer
        .patch_status(&stranger, &status("Failed", &[], json!([])))
        .await
        .unwrap_err();
    assert_eq!(error.class, Class::Conflict, "{error}");

    writer.delete(&key, &"another".into(), 0).await.unwrap();
    assert!(
        writer.get(&key, &id).await.unwrap().is_some(),
        "another pod of the name is not deleted"
    );
    writer.delete(&key, &id, 0).await.unwrap();
    assert!(writer.get(&key, &id).await.unwrap().is_none());
    writer.delete(&key, &id, 0).await.unwrap();
    api.end().await;
}

fn node(labels: Value) -> Node {
    serde_json::from_value(json!({"metadata": {"name": NODE, "labels": labels},
        "status": {"capacity": {"cpu": "2"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}]}}))
    .unwrap()
}

#[tokio::test]
async fn a_node_registers_reports_and_holds_its_lease() {
    let mut api = Embedded::start().await;
    let stop = CancellationToken::new();
    let client = api.client().await;
    let nodes = client.nodes(stop.clone());
    let mut synced = nodes.synced();
    soon("node watch", synced.wait_for(|s| *s)).await.unwrap();
    let wanted = node(json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}));
    nodes.register(&wanted).await.unwrap();
    let first = nodes.current().unwrap();
    assert!(first.metadata.uid.is_some());

    let mut status: NodeStatus = first.status.clone().unwrap();
    status.conditions.as_mut().unwrap()[0].status = "True".into();
    let address = |kind: &str, address: &str| k8s_openapi::api::core::v1::NodeAddress {
        type_: kind.into(),
        address: address.into(),
    };
    status.addresses = Some(vec![
        address("InternalIP", "10.0.0.2"),
        address("InternalIP", "fd00::2"),
        address("Hostname", NODE),
    ]);
    nodes.patch_status(&status).await.unwrap();
    let live = Api::<Node>::all(api.user().await)
        .get(NODE)
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(
        live.addresses, status.addresses,
        "two of a type stay two, in their order"
    );
    assert_eq!(live.conditions.unwrap()[0].status, "True");
    assert_eq!(
        live.capacity.unwrap()["cpu"].0,
        "2",
        "what did not differ was not touched"
    );

    nodes.renew_lease().await.unwrap();
    nodes.renew_lease().await.unwrap();
    let leases = Api::<k8s_openapi::api::coordination::v1::Lease>::namespaced(api.user().await, "kube-node-lease");
    let lease = leases.get(NODE).await.unwrap();
    assert_eq!(
        lease.metadata.owner_references.unwrap()[0].uid,
        first.metadata.uid.clone().unwrap()
    );
    assert!(lease.spec.unwrap().renew_time.is_some());

    // A second life: what the cluster changed stays, what only the node knows comes back.
    let cluster = json!({"metadata": {"labels": {"kubernetes.io/arch": null, "zone": "z"}}, "spec": {"taints": [{"key": "t", "effect": "NoSchedule"}]}});
    let user = Api::<Node>::all(api.user().await);
    user.patch(NODE, &PatchParams::default(), &Patch::Merge(cluster))
        .await
        .unwrap();
    nodes.register(&wanted).await.unwrap();
    let now = user.get(NODE).await.unwrap();
    let labels = now.metadata.labels.unwrap();
    assert_eq!(
        (labels["kubernetes.io/arch"].as_str(), labels["zone"].as_str()),
        ("amd64", "z")
    );
    assert_eq!(now.spec.unwrap().taints.unwrap().len(), 1);

    user.delete(NODE, &DeleteParams::default()).await.unwrap();
    let mut current = nodes.watch();
    soon("the node is gone", current.wait_for(Option::is_none))
        .await
        .unwrap();
    stop.cancel();
    api.end().await;
}

#[tokio::test]
async fn objects_follow_their_changes() {
    let mut api = Embedded::start().await;
    let stop = CancellationToken::new();
    let objects = api.client().await.objects(stop.clone());
    let maps = Api::<ConfigMap>::namespaced(api.user().await, "default");
    let map = |value: &str| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"k": value}})).unwrap()
    };
    let mut pod = web("a");
    pod.metadata.uid = Some("u".into());
    let volumes = json!([{"name": "m", "configMap": {"name": "m"}}]);
    pod.spec.as_mut().unwrap().volumes = serde_json::from_value(volumes).unwrap();
    objects.register(&Arc::new(pod));
    assert!(objects.config_map("default", "m").await.unwrap_err().is_not_found());
    let value = |objects: witlet_kube::ObjectCache| async move {
        objects
            .config_map("default", "m")
            .await
            .ok()
            .map(|m| m.data.as_ref().unwrap()["k"].clone())
    };
    maps.create(&PostParams::default(), &map("1")).await.unwrap();
    until("the map", || async {
        value(objects.clone()).await.filter(|v| v == "1")
    })
    .await;
    maps.patch("m", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}})))
        .await
        .unwrap();
    until("the change", || async {
        value(objects.clone()).await.filter(|v| v == "2")
    })
    .await;
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    until("the end", || async {
        objects
            .config_map("default", "m")
            .await
            .err()
            .filter(witlet_ports::Error::is_not_found)
    })
    .await;
    assert!(objects.services().await.is_ok());
    stop.cancel();
    api.end().await;
}

#[tokio::test]
async fn tokens_are_given_to_pods() {
    let mut api = Embedded::start().await;
    let stop = CancellationToken::new();
    let pods = Api::<Pod>::namespaced(api.user().await, "default");
    let created = pods.create(&PostParams::default(), &web("a")).await.unwrap();
    let objects = api.client().await.objects(stop.clone());
    let request = TokenRequest {
        namespace: "default".into(),
        service_account: "default".into(),
        audience: None,
        expiration_seconds: Some(3607),
        pod_name: "a".into(),
        pod_uid: uid(&created),
    };
    let token = objects.token(&request).await.unwrap();
    assert_eq!(token.token.split('.').count(), 3);
    assert!(token.expires > jiff::Timestamp::now());
    assert_eq!(
        objects.token(&request).await.unwrap().token,
        token.token,
        "it is cached"
    );
    stop.cancel();
    api.end().await;
}

#[tokio::test]
async fn events_arrive_and_are_counted() {
    let mut api = Embedded::start().await;
    let stop = CancellationToken::new();
    let recorder = api.client().await.events(stop.clone());
    let pod = web("a");
    let note = Note {
        warning: true,
        reason: "BackOff".into(),
        message: "m".into(),
        field_path: Some("spec.containers{c}".into()),
    };
    for _ in 0..3 {
        recorder.pod(&pod, note.clone());
    }
    recorder.node(false, "Starting", "Starting kubelet.");
    let events = Api::<Event>::namespaced(api.user().await, "default");
    let found = until("both events", || async {
        let list = events.list(&ListParams::default()).await.unwrap().items;
        let counted = list
            .iter()
            .any(|e| e.reason.as_deref() == Some("BackOff") && e.count == Some(3));
        let started = list.iter().any(|e| e.reason.as_deref() == Some("Starting"));
        (counted && started).then_some(list)
    })
    .await;
    assert_eq!(found.len(), 2);
    let event = found.iter().find(|e| e.reason.as_deref() == Some("BackOff")).unwrap();
    assert_eq!(event.involved_object.field_path.as_deref(), Some("spec.containers{c}"));
    assert_eq!(event.source.as_ref().unwrap().component.as_deref(), Some("kubelet"));
    stop.cancel();
    api.end().await;
}

#[tokio::test]
async fn mirror_pods_stand_for_static_pods() {
    let mut api = Embedded::start().await;
    let stop = CancellationToken::new();
    let client = api.client().await;
    let nodes = client.nodes(stop.clone());
    nodes.register(&node(json!({}))).await.unwrap();
    let text = b"apiVersion: v1\nkind: Pod\nmetadata: {name: s}\nspec: {containers: [{name: c, image: x}]}\n";
    let pod = manifest::adopt(manifest::parse(text, "s.yaml").unwrap(), Source::File, NODE, "/s.yaml");
    let mirror = manifest::mirror_of(&pod, &nodes.current().unwrap()).unwrap();
    let writer = client.pods();
    writer.create_mirror(&mirror).await.unwrap();
    writer.create_mirror(&mirror).await.unwrap();
    let pods = Api::<Pod>::namespaced(api.user().await, "default");
    let shown = pods.get(&format!("s-{NODE}")).await.unwrap();
    assert!(witlet_core::desired::is_mirror(&shown));
    assert_ne!(shown.metadata.uid, pod.metadata.uid);
    stop.cancel();
    api.end().await;
}

#[tokio::test]
async fn a_namespace_that_ends_does_not_disturb_a_watch() {
    let mut api = Embedded::start().await;
    let stop = CancellationToken::new();
    let client = api.client().await;
    let mut set = watch_pods(&client, ready(), stop.clone());
    let namespaces = Api::<Namespace>::all(api.user().await);
    let namespace = serde_json::from_value(json!({"metadata": {"name": "short"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let mut pod = web("x");
    pod.metadata.namespace = Some("short".into());
    let pods = Api::<Pod>::namespaced(api.user().await, "short");
    pods.create(&PostParams::default(), &pod).await.unwrap();
    wait_for(&mut set, &["x"]).await;
    pods.delete("x", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    wait_for(&mut set, &[]).await;
    stop.cancel();
    api.end().await;
}
