//! The ports' traits, answered by native code.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1;
use witlet_ports::network::{Attachment, Command, Sandbox};
use witlet_ports::policy::{Access, Review};
use witlet_ports::probe::{Check, Outcome};
use witlet_ports::sink::{Family, LogEntry};

use super::caller::Caller;
use super::{ACCESS, About, CONTAINER_CREATE, documents};
use crate::abi::{self, Linked, Placed, answers};
use crate::capability::volume_dir::VolumeDir;
use crate::config::Kind;
use crate::error::CallError;

/// No more than the plugin's own limit.
const ANY: Duration = Duration::MAX;

pub(super) fn link(kind: Kind, about: &About, caller: &Arc<Caller>) -> Linked {
    let caller = Arc::clone(caller);
    match kind {
        Kind::Probe => Linked::Probe(Arc::new(Driver(caller))),
        Kind::Volume => Linked::Volume(Arc::new(Driver(caller))),
        Kind::Network => Linked::Network(Arc::new(Driver(caller))),
        Kind::SinkLog => Linked::LogSink(Arc::new(Driver(caller))),
        Kind::SinkMetric => Linked::MetricSink(Arc::new(Driver(caller))),
        Kind::Policy => Linked::Policy(Arc::new(Policy {
            caller,
            container_create: about.has(CONTAINER_CREATE),
            access: about.has(ACCESS),
        })),
    }
}

struct Driver(Arc<Caller>);

struct Policy {
    caller: Arc<Caller>,
    container_create: bool,
    access: bool,
}

#[async_trait]
impl abi::Probe for Driver {
    async fn check(&self, check: &Check, wall: Duration) -> abi::Result<Outcome> {
        let request = documents::Check {
            pod: &check.pod,
            container: &check.container,
            container_id: Some(&*check.container_id).filter(|id| !id.is_empty()),
            params: &check.params,
            timeout_ms: u32::try_from(check.timeout.as_millis()).unwrap_or(u32::MAX),
        };
        let answer: documents::Outcome = self.0.ask("check", wall, &request).await?;
        Ok(answers::outcome(answer.verdict, answer.message))
    }
}

#[async_trait]
impl abi::Policy for Policy {
    async fn admit(&self, pod: &Arc<v1::Pod>) -> abi::Result<Review> {
        let answer: documents::Review = self.caller.ask("admit-pod", ANY, &documents::AdmitPod { pod }).await?;
        let denied = match answer.decision {
            documents::Decision::Allow => None,
            documents::Decision::Deny(denial) => Some((denial.reason, denial.message)),
        };
        answers::review(denied, answer.warnings)
    }

    fn has_container_hook(&self) -> bool {
        self.container_create
    }

    fn has_access_hook(&self) -> bool {
        self.access
    }

    async fn container(
        &self,
        pod: &Arc<v1::Pod>,
        container: &Arc<v1::Container>,
        image: &str,
    ) -> abi::Result<Option<Review>> {
        if !self.container_create {
            return Ok(None);
        }
        let request = documents::ReviewContainer { pod, container, image };
        let answer: documents::HookReview = self.caller.ask("review-container", ANY, &request).await?;
        Ok(Some(answers::hook_review(answer.denied, answer.warnings)))
    }

    async fn access(&self, pod: &Arc<v1::Pod>, access: &Access) -> abi::Result<Option<Review>> {
        if !self.access {
            return Ok(None);
        }
        let request = documents::ReviewAccess {
            pod,
            request: documents::Access {
                verb: access.verb.as_str(),
                container: &access.container,
                command: &access.command,
                stdin: access.stdin,
                tty: access.tty,
                ports: &access.ports,
            },
        };
        let answer: documents::HookReview = self.caller.ask("review-access", ANY, &request).await?;
        Ok(Some(answers::hook_review(answer.denied, answer.warnings)))
    }
}

/// JSON is UTF-8, and so are the paths that the agent makes.
fn target(dir: &VolumeDir) -> abi::Result<documents::Target<'_>> {
    let path = dir.path().to_str();
    let path = path.ok_or_else(|| CallError::Host("the volume's directory has a path that is no UTF-8".to_owned()))?;
    Ok(documents::Target { name: dir.name(), path })
}

#[async_trait]
impl abi::Volume for Driver {
    async fn publish(&self, pod: &Arc<v1::Pod>, volume: String, dir: VolumeDir) -> abi::Result<Placed> {
        let request = documents::Publish {
            pod,
            volume: serde_json::from_str(&volume).map_err(|e| CallError::Host(e.to_string()))?,
            target: target(&dir)?,
        };
        let answer: documents::Published = self.0.ask("publish", ANY, &request).await?;
        answers::placed(Placed {
            host_path: answer.host_path,
            read_only: answer.read_only,
            follows_source: answer.follows_source,
        })
    }

    async fn unpublish(&self, dir: VolumeDir) -> abi::Result<()> {
        let request = documents::Unpublish { target: target(&dir)? };
        self.0.ask("unpublish", ANY, &request).await
    }
}

#[async_trait]
impl abi::Network for Driver {
    async fn setup(&self, pod: Option<&Arc<v1::Pod>>, sandbox: &Sandbox) -> abi::Result<Attachment> {
        let request = documents::Sandbox {
            sandbox,
            pod: pod.map(|pod| &**pod),
            state: None,
        };
        let answer: documents::Attachment = self.0.ask("setup", ANY, &request).await?;
        let command = |c: documents::Command| Command {
            program: c.program,
            args: c.args,
            env: c.env,
            stdin: c.stdin,
        };
        let attachment = Attachment {
            cni_result: answer.cni_result,
            state: answer.state,
            offline_teardown: answer.offline_teardown.into_iter().map(command).collect(),
        };
        answers::attachment(attachment, &self.0.plugin().grants)
    }

    async fn teardown(&self, sandbox: &Sandbox, state: Option<&str>) -> abi::Result<()> {
        let request = documents::Sandbox {
            sandbox,
            pod: None,
            state,
        };
        self.0.ask("teardown", ANY, &request).await
    }

    async fn check(&self, sandbox: &Sandbox, state: Option<&str>) -> abi::Result<()> {
        let request = documents::Sandbox {
            sandbox,
            pod: None,
            state,
        };
        self.0.ask("check", ANY, &request).await
    }

    async fn status(&self) -> abi::Result<()> {
        self.0.ask("status", ANY, &serde_json::json!({})).await
    }
}

#[async_trait]
impl abi::LogSink for Driver {
    async fn push(&self, batch: &[LogEntry]) -> abi::Result<()> {
        let batch = batch.iter().map(documents::Entry::from).collect();
        self.0.ask("push", ANY, &documents::Logs { batch }).await
    }
}

#[async_trait]
impl abi::MetricSink for Driver {
    async fn push(&self, time: u64, families: &[Family]) -> abi::Result<()> {
        let families = families.iter().map(documents::Family::from).collect();
        self.0.ask("push", ANY, &documents::Metrics { time, families }).await
    }
}
