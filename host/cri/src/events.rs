//! What happens to containers, as hints: CRI events where the runtime has them (containerd 1.7, CRI-O), else containerd's own.
//!
//! Events only make the agent look sooner: the list is the truth. So what cannot be understood is left out, and everything that
//! is understood becomes as little as "look at this pod".

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use witlet_ports::runtime::Hint;
use witlet_ports::{Class, Error, Result};

use crate::proto::events::{Envelope, Subject, SubscribeRequest, TaskDelete, TaskExit};
use crate::proto::v1;
use crate::{Cri, error};

/// A server without the call says so at once. One that has it need not say anything before the first event, so that after
/// this time silence is taken for consent.
const REFUSAL: Duration = Duration::from_millis(500);

/// containerd's namespace of what the CRI makes.
const NAMESPACE: &str = "k8s.io";

/// Leaves out, at the source, what happens at every exec, pull and snapshot, and what the agent does itself: it needs no hint
/// of its own creations and starts, and each would cost a look at the pod in the middle of its start.
const FILTER: &str = r#"namespace=="k8s.io",topic~="^/?(tasks|sandbox(es)?)/(exit|delete|oom|paused|resumed)$""#;

type Opening<T> = BoxFuture<'static, Result<Response<Streaming<T>>, Status>>;

impl Cri {
    pub(crate) async fn open_hints(&self) -> Result<BoxStream<'static, Hint>> {
        if !self.no_cri_events.load(Ordering::Relaxed) {
            let mut client = self.runtime.clone();
            let opening = async move { client.get_container_events(v1::GetEventsRequest {}).await };
            match self.subscribe(Box::pin(opening), from_cri).await {
                Err(e) if e.class == Class::Unimplemented => self.no_cri_events.store(true, Ordering::Relaxed),
                result => return result,
            }
        }
        let mut client = self.events.clone();
        let mut request = Request::new(SubscribeRequest {
            filters: vec![FILTER.to_owned()],
        });
        request
            .metadata_mut()
            .insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
        let opening = async move { client.subscribe(request).await };
        self.subscribe(Box::pin(opening), |envelope| from_containerd(&envelope))
            .await
            .map_err(|e| match e.class {
                Class::Unimplemented => Error::new(
                    Class::Unimplemented,
                    "the container runtime has no event stream: neither that of the CRI nor containerd's",
                ),
                _ => e,
            })
    }

    async fn subscribe<T: Send + 'static>(
        &self,
        mut opening: Opening<T>,
        hint: fn(T) -> Option<Hint>,
    ) -> Result<BoxStream<'static, Hint>> {
        let state = match tokio::time::timeout(REFUSAL, &mut opening).await {
            Ok(Ok(response)) => State::Open(Box::new(response.into_inner())),
            Ok(Err(status)) => return Err(error::error(status, &self.socket)),
            Err(_) => State::Opening(opening),
        };
        let no_cri_events = self.no_cri_events.clone();
        let events = Events {
            state,
            // Asked again, `hints` then uses the other stream. Nothing else refuses this late.
            refused: move || no_cri_events.store(true, Ordering::Relaxed),
        };
        // What happened before now was not seen.
        let first = stream::iter([Hint::Unknown]);
        Ok(first
            .chain(events.filter_map(move |event| std::future::ready(hint(event))))
            .boxed())
    }
}

enum State<T> {
    Opening(Opening<T>),
    Open(Box<Streaming<T>>),
    Ended,
}

/// Ends at the first error: the reason is in the log, and the agent's reaction is the same for all of them.
struct Events<T, F> {
    state: State<T>,
    refused: F,
}

impl<T, F: Fn() + Unpin> stream::Stream for Events<T, F> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            let status = match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Opening(opening) => match std::task::ready!(opening.as_mut().poll(cx)) {
                    Ok(response) => {
                        self.state = State::Open(Box::new(response.into_inner()));
                        continue;
                    }
                    Err(status) => {
                        if status.code() == tonic::Code::Unimplemented {
                            (self.refused)();
                        }
                        status
                    }
                },
                State::Open(streaming) => match std::task::ready!(Pin::new(&mut **streaming).poll_next(cx)) {
                    Some(Ok(event)) => return Poll::Ready(Some(event)),
                    Some(Err(status)) => status,
                    None => Status::ok("the container runtime ended the stream"),
                },
            };
            tracing::debug!(code = ?status.code(), message = status.message(), "the event stream ended");
            self.state = State::Ended;
        }
    }
}

fn from_cri(event: v1::ContainerEventResponse) -> Option<Hint> {
    match event.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid) {
        Some(uid) if !uid.is_empty() => Some(Hint::Pod(uid.as_str().into())),
        _ if !event.container_id.is_empty() => Some(Hint::Container(event.container_id)),
        _ => Some(Hint::Unknown),
    }
}

/// None for what says nothing about a container's state: an exec's end, another tool's containers, images.
fn from_containerd(envelope: &Envelope) -> Option<Hint> {
    if envelope.namespace != NAMESPACE {
        return None;
    }
    let payload = envelope.event.as_ref()?.value.as_slice();
    let topic = envelope.topic.strip_prefix('/').unwrap_or(&envelope.topic);
    let (subject, action) = topic.split_once('/')?;
    let id = match (subject, action) {
        ("tasks", "exit") => TaskExit::decode(payload).map(|e| own(e.container_id, &e.id)),
        ("tasks", "delete") => TaskDelete::decode(payload).map(|e| own(e.container_id, &e.id)),
        ("tasks", "create" | "start" | "oom" | "paused" | "resumed")
        | ("containers", "create" | "delete")
        | ("sandbox" | "sandboxes", "create" | "start" | "exit" | "delete") => {
            Subject::decode(payload).map(|s| Some(s.id))
        }
        _ => return None,
    };
    match id {
        Ok(Some(id)) if !id.is_empty() => Some(Hint::Container(id)),
        Ok(None) => None,
        // It was about something that we watch, but who knows what.
        Ok(Some(_)) | Err(_) => Some(Hint::Unknown),
    }
}

/// The container, if the process is its own and not that of an exec.
fn own(container_id: String, process: &str) -> Option<String> {
    (process.is_empty() || process == container_id).then_some(container_id)
}

#[cfg(test)]
mod tests;
