#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::mock::{Mock, Seen, failure};

fn node(version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n", "uid": "node-uid", "resourceVersion": version,
            "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": "n", "mine": "x"}},
        "spec": {"taints": [{"key": "t", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "False"}], "addresses": [{"type": "InternalIP", "address": "1"}],
            "volumesAttached": [{"name": "v", "devicePath": "d"}]}})
}

fn wanted() -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n",
        "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": "n", "custom": "y"},
        "annotations": {ANNOTATION_CONTROLLER_ATTACH: "true"}},
        "status": {"capacity": {"cpu": "2", "hugepages-2Mi": "0"}}}))
    .unwrap()
}

fn list(items: &[Value]) -> (u16, Value) {
    (
        200,
        json!({"apiVersion": "v1", "kind": "NodeList", "metadata": {"resourceVersion": "1"}, "items": items}),
    )
}

/// Answers lists and watches of nodes; everything else is the test's.
fn mock(exists: bool, answer: impl Fn(&Seen) -> (u16, Value) + Send + Sync + 'static) -> Mock {
    Mock::new(move |request| {
        if request.query.contains("watch=true") {
            (200, json!([]))
        } else if request.line() == "GET /api/v1/nodes" {
            list(&if exists { vec![node("1")] } else { vec![] })
        } else {
            answer(request)
        }
    })
}

async fn started(mock: &Mock) -> NodeApi {
    let nodes = mock.client().nodes(CancellationToken::new());
    let mut synced = nodes.synced();
    tokio::time::timeout(Duration::from_secs(20), synced.wait_for(|s| *s))
        .await
        .unwrap()
        .unwrap();
    nodes
}

fn writes(mock: &Mock) -> Vec<Seen> {
    mock.requests().into_iter().filter(|r| r.method != "GET").collect()
}

#[tokio::test]
async fn a_new_node_is_created() {
    let mock = mock(false, |_| (201, node("2")));
    let nodes = started(&mock).await;
    assert!(nodes.current().is_none());
    nodes.register(&wanted()).await.unwrap();
    assert_eq!(nodes.current().unwrap().metadata.uid.as_deref(), Some("node-uid"));
    let [request] = writes(&mock).try_into().unwrap();
    assert_eq!(request.line(), "POST /api/v1/nodes");
}

#[tokio::test]
async fn an_existing_node_is_adjusted_and_keeps_what_is_the_clusters() {
    let mock = mock(true, |request| match request.method.as_str() {
        "POST" => failure(409, "AlreadyExists", "nodes \"n\" already exists"),
        "PATCH" => (200, node("3")),
        _ => (200, node("2")),
    });
    let nodes = started(&mock).await;
    nodes.register(&wanted()).await.unwrap();
    let requests = writes(&mock);
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert_eq!(requests[1].line(), "PATCH /api/v1/nodes/n");
    assert_eq!(
        requests[1].body,
        json!({"metadata": {"labels": {"kubernetes.io/arch": "amd64"}, "annotations": {ANNOTATION_CONTROLLER_ATTACH: "true"}}})
    );
    assert_eq!(requests[2].line(), "PATCH /api/v1/nodes/n/status");
    assert_eq!(requests[2].body["status"]["capacity"], json!({"hugepages-2Mi": "0"}));
}

#[tokio::test]
async fn a_status_is_patched_with_what_differs() {
    let mock = mock(true, |_| (200, node("5")));
    let nodes = started(&mock).await;
    let same: NodeStatus = serde_json::from_value(node("1")["status"].clone()).unwrap();
    nodes.patch_status(&same).await.unwrap();
    assert!(writes(&mock).is_empty());
    let mut status = same;
    status.conditions.as_mut().unwrap()[0].status = "True".into();
    status.addresses.as_mut().unwrap()[0].address = "2".into();
    status.volumes_attached = None;
    nodes.patch_status(&status).await.unwrap();
    let [request] = writes(&mock).try_into().unwrap();
    assert_eq!(request.line(), "PATCH /api/v1/nodes/n/status");
    assert_eq!(
        request.body,
        json!({"status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "2"}, {"$patch": "replace"}]}})
    );
    assert_eq!(
        nodes.current().unwrap().metadata.resource_version.as_deref(),
        Some("5"),
        "the answer is the newest word"
    );
}

#[tokio::test]
async fn stolen_labels_are_put_back_with_the_status() {
    let mock = mock(true, |request| match request.method.as_str() {
        "POST" => failure(409, "AlreadyExists", "nodes \"n\" already exists"),
        // The API never takes the label.
        _ => (200, node("2")),
    });
    let nodes = started(&mock).await;
    nodes.register(&wanted()).await.unwrap();
    nodes.patch_status(&NodeStatus::default()).await.unwrap();
    let last = writes(&mock).pop().unwrap();
    assert_eq!(
        last.body["metadata"],
        json!({"labels": {"kubernetes.io/arch": "amd64"}})
    );
    assert!(
        last.body["status"].get("volumesAttached").is_none(),
        "others' fields are not touched"
    );
}

#[tokio::test]
async fn the_address_for_the_cloud_controller_is_kept_on_an_existing_node() {
    let mock = mock(true, |request| match request.method.as_str() {
        "POST" => failure(409, "AlreadyExists", "nodes \"n\" already exists"),
        _ => (200, node("2")),
    });
    let nodes = started(&mock).await;
    let mut wanted = wanted();
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_PROVIDED_NODE_IP.into(), "10.0.0.1".into());
    nodes.register(&wanted).await.unwrap();
    nodes.patch_status(&NodeStatus::default()).await.unwrap();
    let last = writes(&mock).pop().unwrap();
    assert_eq!(
        last.body["metadata"]["annotations"],
        json!({ANNOTATION_PROVIDED_NODE_IP: "10.0.0.1"})
    );
}

#[tokio::test]
async fn a_node_that_somebody_deleted_gets_no_status_and_is_not_made_anew() {
    let mock = mock(false, |_| failure(404, "NotFound", "nodes \"n\" not found"));
    let nodes = started(&mock).await;
    assert!(nodes.current().is_none());
    let error = nodes.patch_status(&NodeStatus::default()).await.unwrap_err();
    assert_eq!(error.class, Class::NotFound);
    assert!(writes(&mock).is_empty());
}

fn lease(version: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n", "resourceVersion": version},
        "spec": {"holderIdentity": "n"}})
}

#[tokio::test]
async fn a_lease_is_created_for_the_node_and_then_renewed() {
    let mock = mock(true, |request| match request.method.as_str() {
        "GET" => failure(404, "NotFound", "no"),
        _ => (200, lease("1")),
    });
    let nodes = started(&mock).await;
    nodes.renew_lease().await.unwrap();
    nodes.renew_lease().await.unwrap();
    let requests = writes(&mock);
    assert_eq!(
        requests[0].line(),
        "POST /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    );
    let owner = &requests[0].body["metadata"]["ownerReferences"][0];
    assert_eq!(
        (owner["kind"].as_str(), owner["uid"].as_str()),
        (Some("Node"), Some("node-uid"))
    );
    let spec = &requests[0].body["spec"];
    assert_eq!(
        (spec["leaseDurationSeconds"].as_i64(), spec["holderIdentity"].as_str()),
        (Some(40), Some("n"))
    );
    assert_eq!(
        requests[1].line(),
        "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n"
    );
    assert!(requests[1].body["spec"]["renewTime"].is_string());
}

#[tokio::test]
async fn no_lease_before_the_node() {
    let mock = mock(false, |_| failure(404, "NotFound", "no"));
    let nodes = started(&mock).await;
    assert_eq!(
        nodes.renew_lease().await.unwrap_err().message,
        "no lease before the node exists"
    );
    assert!(writes(&mock).is_empty());
}

#[tokio::test]
async fn a_conflict_is_tried_again_with_the_lease_as_it_is() {
    let mock = mock(true, |request| {
        match (
            request.method.as_str(),
            request.body["metadata"]["resourceVersion"].as_str(),
        ) {
            ("GET", _) => (200, lease("7")),
            ("PUT", Some("7")) => (200, lease("1")),
            _ => failure(409, "Conflict", "changed"),
        }
    });
    let nodes = started(&mock).await;
    nodes.renew_lease().await.unwrap();
    // What is remembered ("1") is old by now.
    nodes.renew_lease().await.unwrap();
    let puts = writes(&mock).into_iter().filter(|r| r.method == "PUT").count();
    assert_eq!(puts, 3);
}
