#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use serde_json::json;
use witlet_ports::probe;
use witlet_ports::{Class, Error, Result};

use super::*;

/// A plugin that comes after so many calls, and then finds the container sick.
struct LatePlugin {
    reason: &'static str,
    calls_left: Mutex<u32>,
}

#[async_trait]
impl Probes for LatePlugin {
    async fn check(&self, _: Check) -> Result<probe::Outcome> {
        let mut left = self.calls_left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return Err(Error::new(Class::Retry, "there is no plugin late").with_reason(self.reason));
        }
        Ok(probe::Outcome {
            verdict: Verdict::Fail,
            message: "sick".into(),
        })
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>, tokio::sync::Notify);

impl Events for Told {
    fn pod(&self, _: &Pod, note: Note) {
        self.0.lock().unwrap().push(note.message);
        self.1.notify_one();
    }

    fn node(&self, _: bool, _: &str, _: &str) {}
}

#[tokio::test]
async fn a_plugin_that_fails_is_told_once_and_uses_up_no_events() {
    told_once("PluginFailed").await;
}

#[tokio::test]
async fn a_plugin_that_is_not_there_yet_is_told_once() {
    told_once("PluginNotFound").await;
}

async fn told_once(reason: &'static str) {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": "p", "namespace": "n", "uid": "u",
            "annotations": { "probe.witlet.dev/c.liveness": r#"{"plugin": "late", "periodMs": 50}"# },
        },
        "spec": { "containers": [{
            "name": "c", "image": "i",
            "livenessProbe": { "exec": { "command": ["true"] }, "failureThreshold": 1000 },
        }] },
        "status": { "phase": "Running", "containerStatuses": [{
            "name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": 0, "started": true,
            "containerID": "containerd://1", "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } },
        }] },
    }))
    .unwrap();
    let (pod, told) = (Arc::new(pod), Arc::new(Told::default()));
    let plugin = LatePlugin {
        reason,
        calls_left: Mutex::new(20),
    };
    let runner = ProbeRunner::new(Arc::new(plugin), told.clone(), Arc::default(), Arc::default());
    runner.start(&pod);
    let want = DesiredPod::new(pod.clone(), witlet_core::desired::Source::Api);
    runner.facts(&want, &ObservedPod::default(), pod.status.as_ref().unwrap());
    let answered = async {
        while !told.0.lock().unwrap().iter().any(|m| m.contains("sick")) {
            told.1.notified().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answered).await.unwrap();
    runner.stop_all(&uid(&pod));
    let told = told.0.lock().unwrap();
    let of_plugin = told.iter().filter(|m| m.contains("there is no plugin")).count();
    assert_eq!(of_plugin, 1, "{told:?}");
}
