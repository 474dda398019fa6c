use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::json;

use super::*;

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

    async fn patch_status(&self, _: &Pod, _: &PodStatus) -> Result<PodStatus> {
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
    assert_eq!(due(Duration::ZERO).len(), 1, "a newer status is worth a try at once");
}

/// An API of an older release.
struct Forgetful(Pod);

#[async_trait]
impl Pods for Forgetful {
    async fn get(&self, _: &PodKey, _: &PodUid) -> Result<Option<Pod>> {
        Ok(Some(self.0.clone()))
    }

    async fn patch_status(&self, _: &Pod, status: &PodStatus) -> Result<PodStatus> {
        let mut kept = status.clone();
        kept.host_ips = None;
        Ok(kept)
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

    async fn patch_status(&self, _: &Pod, status: &PodStatus) -> Result<PodStatus> {
        self.patches.fetch_add(1, Ordering::SeqCst);
        match self.go_on.acquire().await {
            Ok(permit) => permit.forget(),
            Err(closed) => return Err(Error::retry(closed.to_string())),
        }
        Ok(status.clone())
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
