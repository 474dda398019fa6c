//! The cgroups above the pods', on a virtual clock.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use witlet_agent::qos::{Qos, enforce_reserved};
use witlet_core::ids::PodUid;
use witlet_core::plan::Note;
use witlet_core::resources::reserved::{Reserved, Whose};
use witlet_ports::api::Events;
use witlet_ports::cgroups::{Cgroup, CgroupChange, Cgroups, PodCgroup, ReservedLimits};
use witlet_ports::{Class, Error, Result};

/// Cgroups and events in one list of what came; `broken` calls fail.
#[derive(Default)]
struct Fake {
    log: Mutex<Vec<String>>,
    broken: Mutex<Vec<&'static str>>,
}

impl Fake {
    fn call(&self, name: &str, what: String) -> Result<()> {
        self.log.lock().unwrap().push(what);
        if self.broken.lock().unwrap().contains(&name) {
            return Err(Error::retry("the kernel says no"));
        }
        Ok(())
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

#[async_trait]
impl Cgroups for Fake {
    fn parent(&self, _: &PodUid, _: &str) -> String {
        String::new()
    }
    async fn exists(&self, _: &PodUid, _: &str) -> bool {
        false
    }
    async fn ensure(&self, _: &PodCgroup) -> Result<()> {
        Ok(())
    }
    async fn current(&self, _: &PodUid, _: &str) -> Result<Cgroup> {
        Ok(Cgroup::default())
    }
    async fn change(&self, _: &PodUid, _: &str, _: &CgroupChange) -> Result<()> {
        Ok(())
    }
    async fn memory_usage(&self, _: &PodUid, _: &str, _: Option<&str>) -> Result<u64> {
        Ok(0)
    }
    async fn set_burstable_shares(&self, shares: u64) -> Result<()> {
        self.call("shares", format!("shares {shares}"))
    }
    async fn enforce(&self) -> Result<()> {
        self.call("enforce", "enforce".into())
    }
    async fn limit_reserved(&self, cgroup: &str, limits: &ReservedLimits) -> Result<()> {
        self.call("reserved", format!("{cgroup} gets {:?}", limits.cpu_shares))
    }
    async fn starve(&self, _: &PodUid) -> Result<()> {
        Ok(())
    }
    async fn remove(&self, _: &PodUid) -> Result<()> {
        Ok(())
    }
    async fn pods(&self) -> Result<Vec<PodUid>> {
        Ok(Vec::new())
    }
}

impl Events for Fake {
    fn pod(&self, _: &Pod, _: Note) {}
    fn node(&self, warning: bool, reason: &str, message: &str) {
        let kind = if warning { "Warning" } else { "Normal" };
        let text = format!("{kind} {reason}: {message}");
        self.log.lock().unwrap().push(text);
    }
}

fn start(fake: &Arc<Fake>) -> (watch::Sender<Option<u64>>, CancellationToken) {
    let (sender, burstable) = watch::channel(None);
    let shutdown = CancellationToken::new();
    let qos = Qos {
        cgroups: fake.clone(),
        events: fake.clone(),
        burstable,
    };
    tokio::spawn(qos.run(shutdown.clone()));
    (sender, shutdown)
}

/// What came within so long.
async fn within(fake: &Fake, seconds: u64) -> Vec<String> {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    fake.take()
}

const DONE: &str = "Normal NodeAllocatableEnforced: Updated Node Allocatable limit across pods";

#[tokio::test(start_paused = true)]
async fn the_weight_of_burstable_pods_is_set_with_every_change_and_each_minute() {
    let fake = Arc::new(Fake::default());
    let (sender, shutdown) = start(&fake);
    assert_eq!(within(&fake, 1).await, ["enforce", DONE], "no pods are known yet");
    sender.send(Some(102)).unwrap();
    assert_eq!(within(&fake, 1).await, ["shares 102"], "at once");
    sender.send(Some(204)).unwrap();
    assert_eq!(within(&fake, 1).await, ["shares 204"]);
    assert_eq!(within(&fake, 50).await, [""; 0]);
    for _ in 0..2 {
        assert_eq!(within(&fake, 60).await, ["enforce", "shares 204"], "and told only once");
    }
    shutdown.cancel();
    sender.closed().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_set_is_tried_again_a_minute_later() {
    let fake = Arc::new(Fake::default());
    *fake.broken.lock().unwrap() = vec!["enforce", "shares"];
    let (sender, _shutdown) = start(&fake);
    sender.send(Some(7)).unwrap();
    let failed =
        "Warning FailedNodeAllocatableEnforcement: Failed to update Node Allocatable Limits: the kernel says no";
    let first = within(&fake, 1).await;
    assert!(
        first.contains(&failed.to_owned()) && first.contains(&"shares 7".to_owned()),
        "{first:?}"
    );
    assert_eq!(within(&fake, 60).await, ["enforce", failed, "shares 7"]);
    fake.broken.lock().unwrap().clear();
    assert_eq!(within(&fake, 60).await, ["enforce", DONE, "shares 7"]);
}

fn reserved(whose: Whose, cgroup: &str) -> Reserved {
    Reserved {
        whose,
        compressible: false,
        cgroup: cgroup.into(),
        limits: ReservedLimits {
            cpu_shares: Some(512),
            ..ReservedLimits::default()
        },
    }
}

#[tokio::test]
async fn reserved_cgroups_are_limited_and_told() {
    let fake = Fake::default();
    let all = [reserved(Whose::System, "/system"), reserved(Whose::Kube, "/kube")];
    enforce_reserved(&fake, &fake, &all).await.unwrap();
    assert_eq!(
        fake.take(),
        [
            "/system gets Some(512)",
            "Normal NodeAllocatableEnforced: Updated limits on system reserved cgroup /system",
            "/kube gets Some(512)",
            "Normal NodeAllocatableEnforced: Updated limits on kube reserved cgroup /kube",
        ]
    );
}

#[tokio::test]
async fn a_reserved_cgroup_that_cannot_be_limited_ends_the_start() {
    let fake = Fake::default();
    fake.broken.lock().unwrap().push("reserved");
    let all = [reserved(Whose::System, "/system"), reserved(Whose::Kube, "/kube")];
    let error = enforce_reserved(&fake, &fake, &all).await.unwrap_err();
    let why = "Failed to enforce System Reserved Cgroup Limits on \"/system\": the kernel says no";
    assert_eq!((error.class, error.message.as_str()), (Class::Terminal, why));
    let told = format!("Warning FailedNodeAllocatableEnforcement: {why}");
    assert_eq!(
        fake.take(),
        ["/system gets Some(512)", told.as_str()],
        "the rest is left"
    );
}
