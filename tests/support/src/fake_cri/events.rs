//! The event streams: the CRI's own and containerd's.

use std::pin::Pin;

use prost::Message;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use witlet_cri::proto::events::{Envelope, Subject, TaskDelete, TaskExit};
use witlet_cri::proto::v1;

#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: v1::ContainerEventType,
    pub(super) created_at: i64,
    /// None once it is gone.
    pub(super) sandbox: Option<v1::PodSandboxStatus>,
}

pub(super) type EventStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers with the first event, as servers written in Go do: until then the caller does not even see a header.
pub(super) async fn stream<T: Send + 'static>(
    receiver: broadcast::Receiver<Event>,
    message: fn(Event) -> T,
) -> Result<EventStream<T>, Status> {
    let mut events = Box::pin(BroadcastStream::new(receiver).map(move |event| match event {
        Ok(event) => Ok(message(event)),
        Err(BroadcastStreamRecvError::Lagged(n)) => Err(Status::data_loss(format!("{n} events were lost"))),
    }));
    match events.next().await {
        Some(first) => Ok(Box::pin(tokio_stream::iter([first]).chain(events))),
        None => Err(Status::unavailable("the runtime shuts down")),
    }
}

pub(super) fn cri(event: Event) -> v1::ContainerEventResponse {
    v1::ContainerEventResponse {
        container_id: event.id,
        container_event_type: event.kind.into(),
        created_at: event.created_at,
        pod_sandbox_status: event.sandbox,
        containers_statuses: Vec::new(),
    }
}

pub(super) fn containerd(event: Event) -> Envelope {
    use v1::ContainerEventType as Type;
    let id = event.id;
    let (topic, value) = match event.kind {
        Type::ContainerCreatedEvent => ("/containers/create", Subject { id }.encode_to_vec()),
        Type::ContainerStartedEvent => ("/tasks/start", Subject { id }.encode_to_vec()),
        Type::ContainerStoppedEvent => (
            "/tasks/exit",
            TaskExit {
                container_id: id.clone(),
                id,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        Type::ContainerDeletedEvent => (
            "/tasks/delete",
            TaskDelete {
                container_id: id,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
    };
    Envelope {
        timestamp: None,
        namespace: "k8s.io".into(),
        topic: topic.into(),
        event: Some(prost_types::Any {
            type_url: String::new(),
            value,
        }),
    }
}
