//! Device plugins on real sockets.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use witlet_core::devices::{Ids, Options, Question};
use witlet_core::ids::PodKey;
use witlet_devices::Plugins;
use witlet_devices::pod_resources;
use witlet_devices::proto::device_plugin as api;
use witlet_devices::proto::pod_resources as v1;
use witlet_devices::proto::pod_resources::pod_resources_lister_client::PodResourcesListerClient;
use witlet_devices::proto::pod_resources_alpha as alpha;
use witlet_devices::proto::registration::PluginInfo;
use witlet_devices::registration::{Registrants, Registry};
use witlet_ports::devices::{
    DevicePlugins, Event, Group, Listener, MemoryBlock, PodResources, ResourceLister, Resources,
};
use witlet_ports::registration::Registrant;
use witlet_test_support::fake_device_plugin::{Announcement, Answer, FakeDevicePlugin, connect, device};

const GPU: &str = "example.com/gpu";
const PATIENCE: Duration = Duration::from_secs(20);

struct Told(mpsc::UnboundedSender<Event>);

impl Listener for Told {
    fn told(&self, event: Event) {
        self.0.send(event).ok();
    }
}

struct Node {
    dir: TempDir,
    plugins: Plugins,
    events: mpsc::UnboundedReceiver<Event>,
    shutdown: CancellationToken,
}

impl Node {
    async fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap()).await
    }

    async fn at(dir: TempDir) -> Self {
        let shutdown = CancellationToken::new();
        let plugins = Plugins::new(dir.path().join("p"), shutdown.clone());
        let (sender, events) = mpsc::unbounded_channel();
        plugins.serve(Arc::new(Told(sender))).await.unwrap();
        Self {
            dir,
            plugins,
            events,
            shutdown,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("p")
    }

    async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    fn plugin(&self, options: api::DevicePluginOptions) -> FakeDevicePlugin {
        let devices = vec![device("a", true), device("b", false)];
        FakeDevicePlugin::start(&self.path(), "gpu.sock", options, devices).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn ids(list: &[&str]) -> Ids {
    list.iter().map(|id| (*id).to_owned()).collect()
}

fn healthy(event: Event) -> BTreeMap<String, bool> {
    let Event::Listed { devices, .. } = event else {
        panic!("{event:?}")
    };
    devices.into_iter().map(|(id, d)| (id, d.healthy)).collect()
}

#[tokio::test]
async fn a_plugin_comes_lists_and_goes() {
    let mut node = Node::new().await;
    let wants = api::DevicePluginOptions {
        pre_start_required: true,
        get_preferred_allocation_available: false,
    };
    let plugin = node.plugin(wants);
    plugin.register(GPU).await.unwrap();
    let options = Options {
        pre_start: true,
        preferred: false,
    };
    let connected = |connection| Event::Connected {
        resource: GPU.into(),
        connection,
        options,
    };
    assert_eq!(node.next().await, connected(1));
    let both = |a, b| BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
    assert_eq!(healthy(node.next().await), both(true, false));
    plugin.set_devices(vec![device("a", false), device("b", true)]);
    assert_eq!(healthy(node.next().await), both(false, true));
    // Again, without having gone: the older connection ends.
    plugin.register(GPU).await.unwrap();
    assert_eq!(node.next().await, connected(2));
    let mut rest = [node.next().await, node.next().await];
    rest.sort_by_key(|event| matches!(event, Event::Listed { .. }));
    let disconnected = |connection| Event::Disconnected {
        resource: GPU.into(),
        connection,
    };
    assert_eq!(rest[0], disconnected(1));
    plugin.stop();
    assert_eq!(node.next().await, disconnected(2));
    let families = witlet_devices::families();
    let counted = families
        .iter()
        .find(|f| f.name == "kubelet_device_plugin_registration_total");
    let samples = &counted.unwrap().samples;
    assert_eq!(samples[0].labels, [("resource_name".to_owned(), GPU.to_owned())]);
    assert!(samples[0].value >= 2.0);
    let gone = node.plugins.allocate(GPU, &ids(&["a"])).await.unwrap_err();
    assert_eq!(gone.message, "endpoint of example.com/gpu has been stopped");
}

#[tokio::test]
async fn wrong_registrations_are_told_why() {
    let node = Node::new().await;
    let plugin = node.plugin(api::DevicePluginOptions::default());
    let refused = async |version: &str, resource: &str, endpoint: &str| {
        let status = plugin.register_as(version, resource, endpoint).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unknown);
        status.message().to_owned()
    };
    assert_eq!(
        refused("v1alpha", GPU, "gpu.sock").await,
        r#"requested API version "v1alpha" is not supported by kubelet. Supported version is ["v1beta1"]"#
    );
    assert_eq!(
        refused("v1beta1", "gpu", "gpu.sock").await,
        r#"the ResourceName "gpu" is invalid"#
    );
    assert!(refused("v1beta1", GPU, "../gpu.sock").await.contains("is invalid"));
}

#[tokio::test]
async fn plugins_are_asked() {
    let mut node = Node::new().await;
    let plugin = node.plugin(api::DevicePluginOptions::default());
    plugin.register(GPU).await.unwrap();
    node.next().await;
    let question = Question {
        available: ids(&["a", "b", "c"]),
        must_include: ids(&["a"]),
        size: 2,
    };
    assert_eq!(node.plugins.preferred(GPU, &question).await.unwrap(), ids(&["a", "c"]));
    let answer = node.plugins.allocate(GPU, &ids(&["a", "c"])).await.unwrap();
    assert_eq!(answer.granted.env["GIVEN_DEVICES"], "a,c");
    assert_eq!(node.plugins.read(&answer.bytes).unwrap(), answer.granted);
    node.plugins.pre_start(GPU, &ids(&["a"])).await.unwrap();
    assert_eq!(plugin.calls(), ["prefer a,b,c", "allocate a,c", "pre-start a"]);

    plugin.answer_with(Some(Answer::Error("no power".into())));
    let failed = node.plugins.allocate(GPU, &ids(&["a"])).await.unwrap_err();
    assert_eq!(failed.message, "rpc error: code = Unknown desc = no power");
    plugin.answer_with(Some(Answer::Response(api::AllocateResponse::default())));
    let empty = node.plugins.allocate(GPU, &ids(&["a"])).await.unwrap_err();
    assert_eq!(empty.message, "no containers return in allocation response");
    let huge = api::ContainerAllocateResponse {
        envs: BTreeMap::from([("A".into(), "x".repeat(5 << 20))]),
        ..Default::default()
    };
    plugin.answer_with(Some(Answer::Response(api::AllocateResponse {
        container_responses: vec![huge],
    })));
    let huge = node.plugins.allocate(GPU, &ids(&["a"])).await.unwrap_err();
    assert!(huge.message.contains("too large"), "{huge}");
    // One that never answers holds up nobody else.
    plugin.answer_with(Some(Answer::Never));
    let never = timeout(Duration::from_millis(200), node.plugins.allocate(GPU, &ids(&["a"]))).await;
    assert!(never.is_err());
    node.plugins.pre_start(GPU, &ids(&["a"])).await.unwrap();
}

#[tokio::test]
async fn a_start_removes_old_sockets_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    fs::create_dir(&path).unwrap();
    drop(UnixListener::bind(path.join("old.sock")).unwrap());
    drop(UnixListener::bind(path.join("kubelet.sock")).unwrap());
    fs::write(path.join("kubelet_internal_checkpoint"), "x").unwrap();
    fs::create_dir(path.join("kept")).unwrap();
    let node = Node::at(dir).await;
    let mut left: Vec<_> = fs::read_dir(node.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["kept", "kubelet.sock", "kubelet_internal_checkpoint"]);
    assert!(node.plugins.problem().is_none());
    node.plugin(api::DevicePluginOptions::default())
        .register(GPU)
        .await
        .unwrap();
}

#[tokio::test]
async fn plugins_announce_themselves() {
    let mut node = Node::new().await;
    let registry_dir = node.dir.path().join("registry");
    fs::create_dir_all(registry_dir.join("vendor")).unwrap();
    let registrants: Registrants = [("DevicePlugin", Arc::new(node.plugins.clone()) as Arc<dyn Registrant>)].into();
    let registry = Registry::new(registry_dir.clone(), registrants);
    tokio::spawn(registry.clone().run(node.shutdown.clone()));
    let plugin = node.plugin(api::DevicePluginOptions::default());
    let info = |kind: &str, name: &str, endpoint: &Path| PluginInfo {
        r#type: kind.into(),
        name: name.into(),
        endpoint: endpoint.display().to_string(),
        supported_versions: vec!["v1beta1".into()],
    };
    let announce = |name: &str, info| Announcement::start(&registry_dir.join(name), info).unwrap();
    let hidden = announce(".hidden.sock", info("DevicePlugin", GPU, &plugin.endpoint()));
    let mut strange = announce("strange.sock", info("GuessWhat", GPU, &plugin.endpoint()));
    let why = timeout(PATIENCE, strange.outcome()).await.unwrap().unwrap().unwrap();
    let expected = "RegisterPlugin error -- no handler registered for plugin type: GuessWhat at socket ";
    assert!(why.starts_with(expected), "{why}");
    let mut invalid = announce("invalid.sock", info("DevicePlugin", "gpu", &plugin.endpoint()));
    let why = timeout(PATIENCE, invalid.outcome()).await.unwrap().unwrap().unwrap();
    assert_eq!(
        why,
        "RegisterPlugin error -- plugin validation failed with err: invalid name of device plugin socket: \
         the ResourceName \"gpu\" is invalid"
    );
    drop((strange, invalid));
    let good = info("DevicePlugin", GPU, &plugin.endpoint());
    let mut first = announce("vendor/gpu.sock", good.clone());
    assert_eq!(timeout(PATIENCE, first.outcome()).await.unwrap().unwrap(), None);
    assert!(matches!(node.next().await, Event::Connected { connection: 1, .. }));
    assert_eq!(healthy(node.next().await).len(), 2);
    // A new socket in its place is a new plugin.
    drop(first);
    let mut second = announce("vendor/gpu.sock", good);
    assert_eq!(timeout(PATIENCE, second.outcome()).await.unwrap().unwrap(), None);
    let mut ended = false;
    loop {
        match node.next().await {
            Event::Disconnected { connection: 1, .. } => ended = true,
            Event::Listed { connection: 2, .. } if ended => break,
            _ => {}
        }
    }
    let shown: Vec<_> = registry.families()[0]
        .samples
        .iter()
        .map(|s| s.labels[1].1.clone())
        .collect();
    assert_eq!(shown, ["desired_state_of_world", "actual_state_of_world"]);
    drop(second);
    assert!(matches!(node.next().await, Event::Disconnected { connection: 2, .. }));
    drop(hidden);
}

struct Known;

impl ResourceLister for Known {
    fn list(&self) -> Vec<PodResources> {
        let resources = Resources {
            devices: vec![Group {
                resource: GPU.into(),
                ids: vec!["a".into(), "b".into()],
                numa: Some(1),
            }],
            cpus: vec![2, 3],
            memory: vec![MemoryBlock {
                kind: "memory".into(),
                bytes: 1 << 30,
                numa: vec![0],
            }],
        };
        vec![PodResources {
            name: "p".into(),
            namespace: "ns".into(),
            containers: vec![("c".into(), resources)],
        }]
    }

    fn get(&self, key: &PodKey) -> Option<PodResources> {
        self.list()
            .into_iter()
            .find(|p| p.name == key.name && p.namespace == key.namespace)
    }

    fn allocatable(&self) -> Resources {
        self.list().remove(0).containers.remove(0).1
    }
}

#[tokio::test]
async fn those_who_watch_devices_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pod-resources/kubelet.sock");
    let shutdown = CancellationToken::new();
    pod_resources::serve(&path, Arc::new(Known), shutdown.clone()).unwrap();
    let channel = connect(&path).await.unwrap();
    let mut client = PodResourcesListerClient::new(channel.clone());
    let list = client.list(v1::ListPodResourcesRequest {}).await.unwrap().into_inner();
    let container = &list.pod_resources[0].containers[0];
    assert_eq!((container.name.as_str(), &container.cpu_ids), ("c", &vec![2, 3]));
    assert_eq!(container.devices[0].device_ids, ["a", "b"]);
    assert_eq!(container.devices[0].topology.as_ref().unwrap().nodes[0].id, 1);
    assert_eq!(container.memory[0].size, 1 << 30);
    let all = client
        .get_allocatable_resources(v1::AllocatableResourcesRequest {})
        .await
        .unwrap();
    assert_eq!(all.into_inner().devices[0].resource_name, GPU);
    let mut get = async |name: &str| {
        let request = v1::GetPodResourcesRequest {
            pod_name: name.into(),
            pod_namespace: "ns".into(),
        };
        client.get(request).await
    };
    assert_eq!(get("p").await.unwrap().into_inner().pod_resources.unwrap().name, "p");
    let missing = get("q").await.unwrap_err();
    assert_eq!(missing.message(), "pod q in namespace ns not found");

    let mut old = alpha::pod_resources_lister_client::PodResourcesListerClient::new(channel);
    let list = old.list(alpha::ListPodResourcesRequest {}).await.unwrap().into_inner();
    assert_eq!(list.pod_resources[0].containers[0].devices[0].device_ids, ["a", "b"]);
    let mut refused = None;
    for _ in 0..200 {
        if let Err(status) = old.list(alpha::ListPodResourcesRequest {}).await {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert_eq!(refused.message(), "rejected by rate limit");
    let families = witlet_devices::families();
    let count = |name: &str, version: &str| {
        let family = families.iter().find(|f| f.name == name).unwrap();
        let sample = family.samples.iter().find(|s| s.labels[0].1 == version);
        sample.map(|s| s.value)
    };
    assert_eq!(count("kubelet_pod_resources_endpoint_requests_total", "v1"), Some(4.0));
    assert_eq!(count("kubelet_pod_resources_endpoint_requests_list", "v1"), Some(1.0));
    assert_eq!(count("kubelet_pod_resources_endpoint_requests_get", "v1"), Some(2.0));
    assert_eq!(
        count("kubelet_pod_resources_endpoint_requests_get_allocatable", "v1"),
        Some(1.0)
    );
    assert_eq!(count("kubelet_pod_resources_endpoint_errors_get", "v1"), Some(1.0));
    assert!(count("kubelet_pod_resources_endpoint_requests_list", "v1alpha1").is_some());
    shutdown.cancel();
}
