//! Cgroups, volumes, probes, policies, network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Volume};
use witlet_core::desired::{Rejection, uid};
use witlet_core::ids::PodUid;
use witlet_core::volumes::EMPTY_DIR;
use witlet_ports::cgroups::{Cgroup, CgroupChange, Cgroups, PodCgroup, ReservedLimits};
use witlet_ports::network::{Attachment, Network, Sandbox};
use witlet_ports::policy::{Policies, Review};
use witlet_ports::probe::{Check, Outcome, Probes, Verdict};
use witlet_ports::volume::{Found, Published, Volumes};
use witlet_ports::{Error, Result};

use crate::pods::{DENIED, Run};
use crate::world::{Port, State, World};

#[derive(Default)]
pub struct Node {
    pub cgroups: BTreeSet<PodUid>,
    pub volumes: BTreeMap<(PodUid, String), PathBuf>,
    /// Pods whose volumes cannot be unmounted at the moment.
    stuck: BTreeSet<PodUid>,
    starved: BTreeSet<PodUid>,
}

impl Node {
    pub fn volumes_of(&self, uid: &PodUid) -> usize {
        self.volumes.keys().filter(|(of, _)| of == uid).count()
    }
}

impl State {
    pub fn pod_dir(&self, uid: &PodUid) -> PathBuf {
        self.dir.join("root/pods").join(uid.as_str())
    }

    fn publish(&mut self, uid: PodUid, name: String) -> Result<Published> {
        let place = self
            .pod_dir(&uid)
            .join("volumes")
            .join(EMPTY_DIR.replace('/', "~"))
            .join(&name);
        fs::create_dir_all(&place).map_err(|e| Error::retry(e.to_string()))?;
        self.note(format!("{uid}: volume {name} published"));
        self.node.volumes.insert((uid, name), place.clone());
        Ok(Published {
            host_path: place,
            read_only: false,
            follows_source: true,
            group: None,
        })
    }

    /// What an agent before this one left of a pod that nobody knows: a cgroup, and a volume that cannot be unmounted for so
    /// long. What runs in the cgroup may need the volume to come to its end.
    pub fn leave(&mut self, uid: &PodUid, stuck_ms: u64) {
        self.note(format!("+++ a cgroup and a volume of {uid} are there"));
        self.node.cgroups.insert(uid.clone());
        if self.publish(uid.clone(), "data".into()).is_err() {
            return;
        }
        self.node.stuck.insert(uid.clone());
        let id = uid.clone();
        self.after(stuck_ms / 2, move |state| {
            let node = &state.node;
            if !node.starved.contains(&id) || !node.cgroups.contains(&id) {
                state
                    .violations
                    .push(format!("the cgroup of {id}, which has a volume, should only starve"));
            }
        });
        let id = uid.clone();
        self.after(stuck_ms, move |state| {
            state.node.stuck.remove(&id);
        });
        let id = uid.clone();
        self.after(stuck_ms + 20_000, move |state| {
            if state.node.cgroups.contains(&id) || state.node.volumes_of(&id) > 0 {
                state.violations.push(format!("something of {id} is left"));
            }
        });
    }

    fn unpublish(&mut self, found: &Found) -> Result<()> {
        if self.node.stuck.contains(&found.uid) {
            return Err(Error::retry("the volume is busy"));
        }
        self.rule_release(&found.uid, "volume");
        if let Some(place) = self.node.volumes.remove(&(found.uid.clone(), found.name.clone())) {
            self.note(format!("{}: volume {} unpublished", found.uid, found.name));
            fs::remove_dir_all(place).map_err(|e| Error::retry(e.to_string()))?;
        }
        Ok(())
    }
}

#[derive(Clone)]
pub struct FakeNode(pub World);

#[async_trait]
impl Cgroups for FakeNode {
    fn parent(&self, uid: &PodUid, _qos: &str) -> String {
        format!("/kubepods/pod{uid}")
    }

    async fn exists(&self, uid: &PodUid, _qos: &str) -> bool {
        self.0.lock().node.cgroups.contains(uid)
    }

    async fn ensure(&self, cgroup: &PodCgroup) -> Result<()> {
        let uid = PodUid::from(&*cgroup.uid);
        self.0
            .call(Port::Node, format!("cgroup of {uid}"), move |s| {
                s.node.cgroups.insert(uid);
                Ok(())
            })
            .await
    }

    async fn current(&self, _uid: &PodUid, _qos: &str) -> Result<Cgroup> {
        Ok(Cgroup::default())
    }

    async fn change(&self, _uid: &PodUid, _qos: &str, _change: &CgroupChange) -> Result<()> {
        Ok(())
    }

    async fn memory_usage(&self, _uid: &PodUid, _qos: &str, _container: Option<&str>) -> Result<u64> {
        Ok(0)
    }

    async fn set_burstable_shares(&self, _shares: u64) -> Result<()> {
        Ok(())
    }

    async fn enforce(&self) -> Result<()> {
        Ok(())
    }

    async fn limit_reserved(&self, _cgroup: &str, _limits: &ReservedLimits) -> Result<()> {
        Ok(())
    }

    async fn starve(&self, uid: &PodUid) -> Result<()> {
        let uid = uid.clone();
        self.0
            .call(Port::Node, format!("starve {uid}"), move |s| {
                s.node.starved.insert(uid);
                Ok(())
            })
            .await
    }

    async fn remove(&self, uid: &PodUid) -> Result<()> {
        let uid = uid.clone();
        self.0
            .call(Port::Node, format!("no cgroup of {uid}"), move |s| {
                s.rule_release(&uid, "cgroup");
                s.node.cgroups.remove(&uid);
                Ok(())
            })
            .await
    }

    async fn pods(&self) -> Result<Vec<PodUid>> {
        self.0
            .call(Port::Node, "cgroups", |s| Ok(s.node.cgroups.iter().cloned().collect()))
            .await
    }
}

#[async_trait]
impl Volumes for FakeNode {
    async fn publish(&self, pod: &Arc<Pod>, volume: &Volume) -> Result<Published> {
        let (uid, name) = (uid(pod), volume.name.clone());
        self.0
            .call(Port::Node, format!("publish {uid}/{name}"), move |s| {
                s.publish(uid, name)
            })
            .await
    }

    async fn unpublish(&self, found: &Found) -> Result<()> {
        let found = found.clone();
        self.0
            .call(
                Port::Node,
                format!("unpublish {}/{}", found.uid, found.name),
                move |s| s.unpublish(&found),
            )
            .await
    }

    async fn found(&self, uid: Option<&PodUid>) -> Result<Vec<Found>> {
        let uid = uid.cloned();
        self.0
            .call(Port::Node, "volumes", move |s| {
                let own = s
                    .node
                    .volumes
                    .keys()
                    .filter(|(of, _)| uid.as_ref().is_none_or(|u| u == of));
                Ok(own
                    .map(|(of, name)| Found {
                        uid: of.clone(),
                        driver: EMPTY_DIR.into(),
                        name: name.clone(),
                    })
                    .collect())
            })
            .await
    }
}

#[async_trait]
impl Probes for FakeNode {
    async fn check(&self, check: Check) -> Result<Outcome> {
        let id = check.container_id.clone();
        self.0
            .call(Port::Node, format!("probe {id}"), move |s| {
                let instance = s.machine.containers.get(&*id);
                let verdict = match instance {
                    Some(c) if c.runs() && c.run != Run::Wedged => Verdict::Pass,
                    Some(_) => Verdict::Fail,
                    None => Verdict::Unknown,
                };
                Ok(Outcome {
                    verdict,
                    message: String::new(),
                })
            })
            .await
    }
}

#[async_trait]
impl Policies for FakeNode {
    async fn admit(&self, pod: &Arc<Pod>) -> Result<Review> {
        let denied = pod.metadata.labels.as_ref().is_some_and(|l| l.contains_key(DENIED));
        let rejection = Rejection {
            reason: "PolicyDenied".into(),
            message: "not here".into(),
        };
        let review = Review {
            denied: denied.then_some(rejection),
            warnings: Vec::new(),
        };
        self.0
            .call(Port::Node, format!("admit {}", uid(pod)), move |_| Ok(review))
            .await
    }
}

/// The fake runtime makes networks by itself.
#[async_trait]
impl Network for FakeNode {
    async fn setup(&self, _pod: Option<&Arc<Pod>>, _sandbox: &Sandbox) -> Result<Attachment> {
        Err(Error::terminal("nobody asks for networks here"))
    }

    async fn teardown(&self, _sandbox: &Sandbox, _state: Option<&str>) -> Result<()> {
        Ok(())
    }

    async fn check(&self, _sandbox: &Sandbox, _state: Option<&str>) -> Result<()> {
        Ok(())
    }

    async fn status(&self) -> Result<()> {
        Ok(())
    }
}
