#![allow(clippy::unwrap_used)]

use super::*;

fn envelope(topic: &str, payload: Vec<u8>) -> Envelope {
    Envelope {
        namespace: NAMESPACE.into(),
        topic: topic.into(),
        event: Some(prost_types::Any {
            type_url: String::new(),
            value: payload,
        }),
        timestamp: None,
    }
}

fn container(id: &str) -> Option<Hint> {
    Some(Hint::Container(id.into()))
}

#[test]
fn containerd_events() {
    let exit = |process: &str| {
        TaskExit {
            container_id: "c1".into(),
            id: process.into(),
            ..Default::default()
        }
        .encode_to_vec()
    };
    let delete = |process: &str| {
        TaskDelete {
            container_id: "c1".into(),
            id: process.into(),
            ..Default::default()
        }
        .encode_to_vec()
    };
    let subject = |id: &str| Subject { id: id.into() }.encode_to_vec();
    let table = [
        ("/tasks/exit", exit("c1"), container("c1")),
        ("/tasks/exit", exit("exec-1"), None),
        ("/tasks/delete", delete(""), container("c1")),
        ("/tasks/delete", delete("c1"), container("c1")),
        ("/tasks/delete", delete("exec-1"), None),
        ("/tasks/start", subject("c2"), container("c2")),
        ("/tasks/oom", subject("c2"), container("c2")),
        ("/containers/create", subject("c3"), container("c3")),
        ("/containers/delete", subject("c3"), container("c3")),
        ("/containers/update", subject("c3"), None),
        ("sandboxes/exit", subject("s1"), container("s1")),
        ("/tasks/exec-started", subject("c1"), None),
        ("/images/delete", subject("i"), None),
        ("/snapshot/remove", subject("x"), None),
        ("nonsense", subject("x"), None),
        ("", subject("x"), None),
        // It was about a container, but cannot be read.
        ("/tasks/exit", vec![0xff, 0xff], Some(Hint::Unknown)),
        ("/tasks/oom", Vec::new(), Some(Hint::Unknown)),
    ];
    for (topic, payload, expected) in table {
        assert_eq!(
            from_containerd(&envelope(topic, payload.clone())),
            expected,
            "{topic} {payload:?}"
        );
    }
}

#[test]
fn the_payload_of_another_release_is_read() {
    // TaskStart and ContainerCreate have more fields behind the id, which differ.
    let create = [&[0x0a, 2, b'c', b'9', 0x12, 1, b'i'][..], &[0x1a, 0][..]].concat();
    assert_eq!(
        from_containerd(&envelope("/containers/create", create)),
        container("c9")
    );
}

#[test]
fn other_namespaces_and_empty_envelopes_are_nobodys() {
    let foreign = Envelope {
        namespace: "moby".into(),
        ..envelope("/tasks/start", Subject { id: "c".into() }.encode_to_vec())
    };
    assert_eq!(from_containerd(&foreign), None);
    assert_eq!(
        from_containerd(&Envelope {
            event: None,
            ..envelope("/tasks/start", Vec::new())
        }),
        None
    );
}

#[test]
fn cri_events() {
    let with = |uid: &str, id: &str| v1::ContainerEventResponse {
        container_id: id.into(),
        pod_sandbox_status: Some(v1::PodSandboxStatus {
            metadata: Some(v1::PodSandboxMetadata {
                uid: uid.into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(from_cri(with("u1", "c1")), Some(Hint::Pod("u1".into())));
    assert_eq!(from_cri(with("", "c1")), container("c1"));
    assert_eq!(
        from_cri(v1::ContainerEventResponse {
            container_id: "c1".into(),
            ..Default::default()
        }),
        container("c1")
    );
    assert_eq!(from_cri(v1::ContainerEventResponse::default()), Some(Hint::Unknown));
}
