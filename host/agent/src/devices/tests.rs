#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;

use async_trait::async_trait;
use serde_json::json;
use witlet_core::devices::{Device, Granted, Ids, Options, Question};
use witlet_ports::Error;
use witlet_ports::devices::Answer;

use super::file::CHECKPOINT;
use super::*;

const GPU: &str = "example.com/gpu";

/// Answers with the names of devices.
#[derive(Default)]
struct Plugin {
    calls: Mutex<Vec<String>>,
    refuses: AtomicBool,
}

impl Plugin {
    fn call(&self, what: &str, ids: &Ids) -> Result<()> {
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        self.calls.lock().unwrap().push(format!("{what} {}", ids.join(",")));
        match self.refuses.load(Ordering::Relaxed) {
            true => Err(Error::retry("out of order")),
            false => Ok(()),
        }
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

fn granted(bytes: &[u8]) -> Granted {
    let ids = String::from_utf8(bytes.to_vec()).unwrap();
    Granted {
        env: BTreeMap::from([("IDS".into(), ids)]),
        ..Granted::default()
    }
}

#[async_trait]
impl DevicePlugins for Plugin {
    async fn serve(&self, _: Arc<dyn Listener>) -> Result<()> {
        Ok(())
    }

    async fn allocate(&self, _: &str, ids: &Ids) -> Result<Answer> {
        self.call("allocate", ids)?;
        let bytes = ids.iter().cloned().collect::<Vec<_>>().join(",").into_bytes();
        Ok(Answer {
            granted: granted(&bytes),
            bytes,
        })
    }

    async fn preferred(&self, _: &str, question: &Question) -> Result<Ids> {
        self.call("prefer", &question.available)?;
        Ok(question.available.iter().rev().take(question.size).cloned().collect())
    }

    async fn pre_start(&self, _: &str, ids: &Ids) -> Result<()> {
        self.call("pre-start", ids)
    }

    fn read(&self, answer: &[u8]) -> Result<Granted> {
        Ok(granted(answer))
    }

    fn problem(&self) -> Option<String> {
        None
    }
}

struct Scene {
    plugin: Arc<Plugin>,
    dir: tempfile::TempDir,
    devices: Arc<Devices>,
}

fn open(dir: &Path, plugin: &Arc<Plugin>) -> Arc<Devices> {
    Devices::open(Some(dir), plugin.clone(), Arc::default(), Arc::default())
}

impl Scene {
    fn new() -> Self {
        let (dir, plugin) = (tempfile::tempdir().unwrap(), Arc::<Plugin>::default());
        let devices = open(dir.path(), &plugin);
        Self { plugin, dir, devices }
    }

    fn restart(&mut self) {
        self.devices = open(self.dir.path(), &self.plugin);
    }

    fn offers(&self, options: Options, list: &[&str]) {
        self.devices.told(Event::Connected {
            resource: GPU.into(),
            connection: 1,
            options,
        });
        let healthy = Device {
            healthy: true,
            ..Device::default()
        };
        self.devices.told(Event::Listed {
            resource: GPU.into(),
            connection: 1,
            devices: list.iter().map(|id| ((*id).to_owned(), healthy.clone())).collect(),
        });
    }

    fn capacity(&self) -> (u64, u64) {
        let (counts, _) = self.devices.counts();
        (counts.capacity[GPU], counts.allocatable[GPU])
    }
}

fn pod(uid: &str, count: usize) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": uid, "uid": uid},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {GPU: count.to_string()}}}]},
    }))
    .unwrap()
}

fn container(pod: &Pod) -> &Container {
    &pod.spec.as_ref().unwrap().containers[0]
}

async fn give(devices: &Arc<Devices>, pod: &Pod, runs: bool) -> Result<(), String> {
    devices.allocate(pod, container(pod), runs, None).await
}

async fn ids_of(devices: &Arc<Devices>, pod: &Pod) -> Option<String> {
    let options = devices.prepare(pod, container(pod)).await.unwrap();
    options.map(|options| options.env[0].1.clone())
}

#[tokio::test]
async fn devices_outlive_the_agent() {
    let mut scene = Scene::new();
    assert!(scene.devices.counts().1, "there was no run before");
    scene.offers(Options::default(), &["a", "b"]);
    let (p, q) = (pod("p", 1), pod("q", 1));
    assert!(scene.devices.are_wanted(&p));
    assert_eq!(give(&scene.devices, &p, false).await, Ok(()));
    assert_eq!(scene.capacity(), (2, 2));

    scene.restart();
    assert!(!scene.devices.counts().1);
    assert_eq!(scene.capacity(), (0, 0));
    scene.plugin.calls();
    // It runs, and keeps what it has; another one has to wait for the plugin.
    assert_eq!(give(&scene.devices, &p, true).await, Ok(()));
    let refused = give(&scene.devices, &q, false).await.unwrap_err();
    assert_eq!(
        refused,
        "no healthy devices present; cannot allocate unhealthy devices example.com/gpu"
    );
    assert_eq!(ids_of(&scene.devices, &p).await.as_deref(), Some("a"));
    scene.offers(Options::default(), &["a", "b"]);
    assert_eq!(give(&scene.devices, &q, false).await, Ok(()));
    assert_eq!(scene.plugin.calls(), ["allocate b"]);
    assert_eq!(
        scene.devices.used_beside(&"p".into()),
        Some(BTreeMap::from([(GPU.to_owned(), 2)]))
    );
    assert_eq!(scene.devices.used_beside(&"r".into()), None);
    scene.devices.retain(|uid| uid.as_str() == "q");
    assert_eq!(give(&scene.devices, &pod("r", 1), false).await, Ok(()));
    assert_eq!(scene.plugin.calls(), ["allocate a"]);
}

#[tokio::test]
async fn a_damaged_file_is_no_reason_not_to_start() {
    let mut scene = Scene::new();
    scene.offers(Options::default(), &["a"]);
    give(&scene.devices, &pod("p", 1), false).await.unwrap();
    let path = scene.dir.path().join(CHECKPOINT);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"p\"", "\"x\"")).unwrap();
    scene.restart();
    assert_eq!(scene.devices.used_beside(&"x".into()), None);
    assert!(!scene.devices.counts().1, "a node that had devices is no new one");
    scene.offers(Options::default(), &["a"]);
    assert_eq!(give(&scene.devices, &pod("p", 1), false).await, Ok(()));
}

#[tokio::test]
async fn two_at_once_do_not_get_the_same() {
    let scene = Scene::new();
    let options = Options {
        preferred: true,
        ..Options::default()
    };
    scene.offers(options, &["a", "b", "c"]);
    let (p, q) = (pod("p", 1), pod("q", 2));
    let both = futures::join!(give(&scene.devices, &p, false), give(&scene.devices, &q, false));
    assert_eq!(both, (Ok(()), Ok(())));
    let took = scene.devices.metrics.kubelet.device_allocations.family();
    let count = took.samples.iter().find(|s| s.name.ends_with("_count")).unwrap();
    assert_eq!((count.labels[0].1.as_str(), count.value), (GPU, 2.0));
    let calls = scene.plugin.calls();
    assert_eq!(calls, ["prefer a,b,c", "allocate c", "prefer a,b", "allocate a,b"]);
}

#[tokio::test]
async fn plugins_may_refuse() {
    let scene = Scene::new();
    let options = Options {
        pre_start: true,
        ..Options::default()
    };
    scene.offers(options, &["a", "b"]);
    let p = pod("p", 1);
    scene.plugin.refuses.store(true, Ordering::Relaxed);
    assert_eq!(give(&scene.devices, &p, false).await.unwrap_err(), "out of order");
    assert_eq!(scene.devices.used_beside(&"p".into()), None);
    scene.plugin.refuses.store(false, Ordering::Relaxed);
    give(&scene.devices, &p, false).await.unwrap();
    scene.plugin.refuses.store(true, Ordering::Relaxed);
    let refused = scene.devices.prepare(&p, container(&p)).await.unwrap_err();
    assert_eq!(
        refused,
        "device plugin PreStartContainer rpc failed with err: out of order"
    );
    assert_eq!(scene.plugin.calls(), ["allocate a", "allocate a", "pre-start a"]);
    // Without its plugin nobody is asked, and the container may start.
    scene.devices.told(Event::Disconnected {
        resource: GPU.into(),
        connection: 1,
    });
    assert_eq!(scene.capacity(), (2, 0));
    assert_eq!(ids_of(&scene.devices, &p).await.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_plugin_that_came_late_is_asked_at_the_start() {
    let scene = Scene::new();
    let p = pod("p", 1);
    assert!(!scene.devices.are_wanted(&p));
    assert_eq!(give(&scene.devices, &p, false).await, Ok(()));
    assert_eq!(ids_of(&scene.devices, &p).await, None);
    scene.offers(Options::default(), &["a"]);
    assert_eq!(ids_of(&scene.devices, &p).await.as_deref(), Some("a"));
    let shown = scene.devices.groups(&"p".into(), "c");
    assert_eq!((shown.len(), shown[0].ids.as_slice()), (1, &["a".to_owned()][..]));
    assert_eq!(scene.devices.offered(), shown);
}

#[tokio::test]
async fn changes_are_news() {
    let scene = Scene::new();
    let mut changed = scene.devices.changed();
    scene.offers(Options::default(), &["a"]);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(scene.devices.clone().run(shutdown.clone()));
    changed.changed().await.unwrap();
    let path = scene.dir.path().join(CHECKPOINT);
    while !fs::read_to_string(&path).is_ok_and(|text| text.contains(r#"{"example.com/gpu":["a"]}"#)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let names: BTreeSet<_> = fs::read_dir(scene.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    shutdown.cancel();
    task.await.unwrap();
}
