use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::json;

use super::*;

fn with_status(pod: &Pod, status: PodStatus) -> Pod {
    let mut pod = pod.clone();
    pod.status = Some(status);
    pod
}

/// An API that refuses every PATCH.
struct Refusing {
    pod: Pod,
    patches: AtomicUsize,
}

#[async_trait]
impl Pods for Refusing {
    async fn get(&self, _: &PodKey, _: &PodUid) -> Result<Option<Pod>> {
        Ok(Some(self.pod.clone()))
    }

    async fn patch_status(&self, _: &Pod, _: &PodStatus) -> Result<Option<Pod>> {
        self.patches.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(Class::Terminal, "status.podIPs[1]: Invalid value"))
    }

    async fn delete(&self, _: &PodKey, _: &PodUid, _: i64) -> Result<()> {
        Ok(())
    }

    async fn create_mirror(&self, _: &Pod) -> Result<()> {
        Ok(())
    }
}

/// Whatever else goes on on the node and in the API.
#[tokio::test]
async fn a_refused_status_is_not_sent_again_at_every_wake() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "namespace": "a", "name": "b", "uid": "u" },
        "spec": { "containers": [{ "name": "c" }] },
    }))
    .expect("the test's own pod");
    let api = Arc::new(Refusing {
        pod: pod.clone(),
        patches: AtomicUsize::new(0),
    });
    let (_keep, set) = watch::channel(PodSet::default());
    let writer = StatusWriter::new(api.clone(), set, Arc::default());
    let want = DesiredPod::new(Arc::new(pod), Source::Api);
    let publish = |phase: &str| {
        let status = PodStatus {
            phase: Some(phase.to_owned()),
            ..PodStatus::default()
        };
        let memory = PodMemory {
            status,
            ..PodMemory::default()
        };
        writer.publish(&want, &memory);
    };
    let due = |after: Duration| writer.lock().due(Instant::now() + after);

    publish("Pending");
    let first = due(Duration::ZERO).pop().expect("a status to be written");
    writer.clone().write_one(first).await;
    assert_eq!(api.patches.load(Ordering::SeqCst), 1);
    assert!(due(Duration::ZERO).is_empty(), "a wake is no reason to try again");
    assert_eq!(due(RETRY_REFUSED).len(), 1, "it is tried again by itself");
    publish("Running");
    let newer = due(Duration::ZERO)
        .pop()
        .expect("a newer status is worth a try at once");
    publish("Succeeded");
    let renewed = writer.lock().renew(newer);
    assert_eq!(
        renewed.latest.status.phase.as_deref(),
        Some("Succeeded"),
        "one write is enough for both"
    );
}

/// An API of an older release.
struct Forgetful(Pod);

#[async_trait]
impl Pods for Forgetful {
    async fn get(&self, _: &PodKey, _: &PodUid) -> Result<Option<Pod>> {
        Ok(Some(self.0.clone()))
    }

    async fn patch_status(&self, live: &Pod, status: &PodStatus) -> Result<Option<Pod>> {
        let mut kept = status.clone();
        kept.host_ips = None;
        Ok(Some(with_status(live, kept)))
    }

    async fn delete(&self, _: &PodKey, _: &PodUid, _: i64) -> Result<()> {
        Ok(())
    }

    async fn create_mirror(&self, _: &Pod) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_the_api_does_not_keep_is_not_sent_for_ever() {
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": { "namespace": "a", "name": "b", "uid": "u" },
        "spec": { "containers": [{ "name": "c" }] },
    }))
    .expect("the test's own pod");
    let api = Arc::new(Forgetful(pod.clone()));
    let (changes, set) = watch::channel(PodSet::default());
    let writer = StatusWriter::new(api, set, Arc::default());
    let want = DesiredPod::new(Arc::new(pod.clone()), Source::Api);
    let status: PodStatus = serde_json::from_value(
        json!({ "phase": "Running", "hostIP": "192.0.2.1", "hostIPs": [{ "ip": "192.0.2.1" }] }),
    )
    .expect("the test's own status");
    let memory = PodMemory {
        status: status.clone(),
        ..PodMemory::default()
    };
    let due = || writer.lock().due(Instant::now());
    writer.publish(&want, &memory);
    writer
        .clone()
        .write_one(due().pop().expect("a status to be written"))
        .await;
    assert!(due().is_empty());

    let mut show = |status: PodStatus| {
        pod.status = Some(status);
        let pods = Arc::new([("u".into(), Arc::new(pod.clone()))].into());
        changes.send_replace(PodSet {
            pods,
            ..PodSet::default()
        });
        writer.compare_all();
    };
    let mut kept = merge_for_write(&PodStatus::default(), &status, false);
    kept.host_ips = None;
    show(kept.clone());
    assert!(due().is_empty(), "the API has what it made of the status");
    kept.phase = Some("Failed".to_owned());
    show(kept);
    assert_eq!(due().len(), 1, "somebody else wrote a status");
}

/// One pod, deleted by its user, in an API that answers a PATCH when the test says so.
struct Api {
    pod: Pod,
    patches: AtomicUsize,
    go_on: Semaphore,
    deleted: Notify,
}

#[async_trait]
impl Pods for Api {
    async fn get(&self, _: &PodKey, _: &PodUid) -> Result<Option<Pod>> {
        Ok(Some(self.pod.clone()))
    }

    async fn patch_status(&self, live: &Pod, status: &PodStatus) -> Result<Option<Pod>> {
        self.patches.fetch_add(1, Ordering::SeqCst);
        match self.go_on.acquire().await {
            Ok(permit) => permit.forget(),
            Err(closed) => return Err(Error::retry(closed.to_string())),
        }
        Ok(Some(with_status(live, status.clone())))
    }

    async fn delete(&self, _: &PodKey, _: &PodUid, grace: i64) -> Result<()> {
        assert_eq!(grace, 0);
        self.deleted.notify_one();
        Ok(())
    }

    async fn create_mirror(&self, _: &Pod) -> Result<()> {
        Ok(())
    }
}

/// The final status may be on its way already when the worker asks for the end.
#[tokio::test]
async fn the_end_is_not_missed_by_a_write_under_way() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "namespace": "a", "name": "b", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "containers": [{ "name": "c" }] },
    }))
    .expect("the test's own pod");
    let api = Arc::new(Api {
        pod: pod.clone(),
        patches: AtomicUsize::new(0),
        go_on: Semaphore::new(0),
        deleted: Notify::new(),
    });
    let (_keep, set) = watch::channel(PodSet::default());
    let writer = StatusWriter::new(api.clone(), set, Arc::default());
    let running = tokio::spawn(writer.clone().run(CancellationToken::new()));
    let want = DesiredPod::new(Arc::new(pod), Source::Api);
    let memory = PodMemory {
        stage: Stage::Terminated,
        status: PodStatus {
            phase: Some("Succeeded".to_owned()),
            ..PodStatus::default()
        },
        ..PodMemory::default()
    };

    writer.publish(&want, &memory);
    while api.patches.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let finish = tokio::spawn(async move { writer.finish(&want, &memory).await });
    tokio::task::yield_now().await;
    api.go_on.add_permits(2);

    let end = async {
        api.deleted.notified().await;
        finish.await.expect("no panic")
    };
    let end = tokio::time::timeout(Duration::from_secs(5), end).await;
    assert!(matches!(end, Ok(Ok(()))), "the object was not deleted: {end:?}");
    running.abort();
}

/// An API that notes what it is asked, and with which release of the object.
struct Noting {
    pod: Mutex<Pod>,
    fails: AtomicUsize,
    calls: Mutex<Vec<String>>,
}

fn release(pod: &Pod) -> u64 {
    let text = pod.metadata.resource_version.as_deref().unwrap_or_default();
    text.parse().expect("a number")
}

#[async_trait]
impl Pods for Noting {
    async fn get(&self, _: &PodKey, _: &PodUid) -> Result<Option<Pod>> {
        self.calls.lock().expect("no panic").push("get".into());
        Ok(Some(self.pod.lock().expect("no panic").clone()))
    }

    async fn patch_status(&self, live: &Pod, status: &PodStatus) -> Result<Option<Pod>> {
        let mut pod = self.pod.lock().expect("no panic");
        self.calls
            .lock()
            .expect("no panic")
            .push(format!("patch {}", release(live)));
        let next = release(&pod) + 1;
        *pod = with_status(&pod, status.clone());
        pod.metadata.resource_version = Some(next.to_string());
        if self.fails.swap(0, Ordering::SeqCst) > 0 {
            return Err(Error::retry("no answer"));
        }
        Ok(Some(pod.clone()))
    }

    async fn delete(&self, _: &PodKey, _: &PodUid, _: i64) -> Result<()> {
        Ok(())
    }

    async fn create_mirror(&self, _: &Pod) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_api_is_asked_only_for_what_is_not_known() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "namespace": "a", "name": "b", "uid": "u", "resourceVersion": "5" },
        "spec": { "containers": [{ "name": "c" }] },
    }))
    .expect("the test's own pod");
    let api = Arc::new(Noting {
        pod: Mutex::new(pod.clone()),
        fails: AtomicUsize::new(0),
        calls: Mutex::default(),
    });
    let shown = |pod: Pod| PodSet {
        pods: Arc::new([("u".into(), Arc::new(pod))].into()),
        ..PodSet::default()
    };
    let (watch, set) = watch::channel(shown(pod.clone()));
    let writer = StatusWriter::new(api.clone(), set, Arc::default());
    let want = DesiredPod::new(Arc::new(pod), Source::Api);
    let write = async |message: &str| {
        let status = PodStatus {
            phase: Some("Running".to_owned()),
            message: Some(message.to_owned()),
            ..PodStatus::default()
        };
        let memory = PodMemory {
            status,
            ..PodMemory::default()
        };
        writer.publish(&want, &memory);
        let due = writer.lock().due(Instant::now() + RETRY_REFUSED).pop();
        writer.clone().write_one(due.expect("a status to be written")).await;
        std::mem::take(&mut *api.calls.lock().expect("no panic"))
    };
    assert_eq!(write("a").await, ["patch 5"], "as the watch shows it");
    assert_eq!(
        write("b").await,
        ["patch 6"],
        "the watch does not show the last answer yet"
    );
    watch.send_replace(shown(api.pod.lock().expect("no panic").clone()));
    writer.compare_all();
    assert!(writer.lock().last.is_empty(), "the watch shows it");
    assert_eq!(write("c").await, ["patch 7"]);
    api.fails.store(1, Ordering::SeqCst);
    assert_eq!(write("d").await, ["patch 8"]);
    assert_eq!(
        write("e").await,
        ["get", "patch 9"],
        "it may have had its effect, as it had"
    );
    assert_eq!(write("f").await, ["patch 10"]);
}
