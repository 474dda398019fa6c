//! Deleting: grace, preconditions, finalizers, collections, namespaces.

use serde_json::{Value, json};

use crate::client::{Api, Client, MAPS, PODS, config_map, pod, version};

/// A pod that the node has.
async fn bound(client: &Client, name: &str) -> Value {
    if client.get("/api/v1/nodes/node").await.code == 404 {
        client.node().await;
    }
    let pod = client.pod(name).await;
    assert_eq!(pod["spec"]["nodeName"], "node");
    pod
}

fn seconds(object: &Value, key: &str) -> i64 {
    object["metadata"][key]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap()
        .as_second()
}

#[tokio::test]
async fn a_running_pod_goes_gracefully_and_grace_only_shrinks() {
    let api = Api::start().await;
    let client = api.client();
    let created = bound(&client, "web").await;
    let path = format!("{PODS}/web");
    let marked = client.delete(&path, &json!({})).await.ok();
    let meta = &marked["metadata"];
    assert_eq!(
        (&meta["deletionGracePeriodSeconds"], &meta["generation"]),
        (&json!(30), &json!(2))
    );
    let wait = seconds(&marked, "deletionTimestamp") - seconds(&created, "creationTimestamp");
    assert!((30..60).contains(&wait), "the time is when grace ends: {wait}");

    assert_eq!(
        client.delete(&path, &json!({ "gracePeriodSeconds": 60 })).await.ok(),
        marked,
        "longer is not possible"
    );
    assert_eq!(client.delete(&path, &json!({})).await.ok(), marked);
    let sooner = client
        .delete(&format!("{path}?gracePeriodSeconds=5"), &json!({}))
        .await
        .ok();
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], json!(5));
    assert_eq!(
        seconds(&marked, "deletionTimestamp") - seconds(&sooner, "deletionTimestamp"),
        25
    );
    assert!(version(&sooner) > version(&marked));

    client.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await.ok();
    client.get(&path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn pods_that_nobody_runs_go_at_once() {
    let api = Api::start().await;
    let client = api.client();
    client.pod("unbound").await;
    let gone = client.delete(&format!("{PODS}/unbound"), &json!({})).await.ok();
    assert_eq!(gone["kind"], "Pod", "a pod is answered, not a Status");
    client.get(&format!("{PODS}/unbound")).await.refused(404, "NotFound");
    bound(&client, "done").await;
    client
        .patch(
            &format!("{PODS}/done/status"),
            "merge",
            &json!({ "status": { "phase": "Succeeded" } }),
        )
        .await
        .ok();
    client.delete(&format!("{PODS}/done"), &json!({})).await.ok();
    client.get(&format!("{PODS}/done")).await.refused(404, "NotFound");
}

#[tokio::test]
async fn preconditions_and_dry_run() {
    let api = Api::start().await;
    let client = api.client();
    let map = client.post(MAPS, &config_map("m", json!({}))).await.ok();
    let path = format!("{MAPS}/m");
    let wrong = client.delete(&path, &json!({ "preconditions": { "uid": "x" } })).await;
    assert!(wrong.refused(409, "Conflict").contains("UID in precondition: x"));
    client
        .delete(&path, &json!({ "preconditions": { "resourceVersion": "1" } }))
        .await
        .refused(409, "Conflict");
    client.delete(&path, &json!({ "dryRun": ["All"] })).await.ok();
    client
        .delete(&path, &json!({ "gracePeriodSeconds": "x" }))
        .await
        .refused(400, "BadRequest");
    client
        .delete(&path, &json!({ "propagationPolicy": "Perhaps" }))
        .await
        .refused(400, "BadRequest");
    let answer = client
        .delete(&path, &json!({ "preconditions": { "uid": map["metadata"]["uid"] } }))
        .await
        .ok();
    assert_eq!(
        (&answer["kind"], &answer["status"]),
        (&json!("Status"), &json!("Success"))
    );
    client.delete(&path, &json!({})).await.refused(404, "NotFound");
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let api = Api::start().await;
    let client = api.client();
    let mut object = config_map("m", json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/wait"]);
    client.post(MAPS, &object).await.ok();
    let path = format!("{MAPS}/m");
    let marked = client.delete(&path, &json!({})).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(client.delete(&path, &json!({})).await.ok(), marked);
    let more = json!({ "metadata": { "finalizers": ["example.com/wait", "example.com/more"] } });
    client.patch(&path, "merge", &more).await.refused(422, "Invalid");
    client
        .patch(&path, "merge", &json!({ "metadata": { "finalizers": null } }))
        .await
        .ok();
    client.get(&path).await.refused(404, "NotFound");

    let mut held = pod("held");
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    client.node().await;
    client.post(PODS, &held).await.ok();
    let path = format!("{PODS}/held");
    client.delete(&path, &json!({})).await.ok();
    client
        .patch(&path, "merge", &json!({ "metadata": { "finalizers": [] } }))
        .await
        .ok();
    client.get(&path).await.ok();
    client.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await.ok();
    client.get(&path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let api = Api::start().await;
    let client = api.client();
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut object = config_map(name, json!({}));
        object["metadata"]["labels"] = json!({ "app": app });
        client.post(MAPS, &object).await.ok();
    }
    let deleted = client
        .delete(&format!("{MAPS}?labelSelector=app%3Dx"), &json!({}))
        .await
        .ok();
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    client.get(&format!("{MAPS}/a")).await.refused(404, "NotFound");
    client.get(&format!("{MAPS}/c")).await.ok();
}

#[tokio::test]
async fn evicting_is_deleting_and_binding_happens_once() {
    let api = Api::start().await;
    let client = api.client();
    client.pod("web").await;
    let binding = json!({ "metadata": { "name": "web" }, "target": { "kind": "Node", "name": "elsewhere" } });
    assert_eq!(client.post(&format!("{PODS}/web/binding"), &binding).await.code, 201);
    let after = client.get(&format!("{PODS}/web")).await.ok();
    assert_eq!(after["spec"]["nodeName"], "elsewhere");
    assert_eq!(
        (
            &after["status"]["conditions"][0]["type"],
            &after["status"]["conditions"][0]["status"]
        ),
        (&json!("PodScheduled"), &json!("True"))
    );
    let again = client
        .post(&format!("{PODS}/web/binding"), &binding)
        .await
        .refused(409, "Conflict");
    assert!(again.contains("already assigned to node \"elsewhere\""), "{again}");
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "web" }, "deleteOptions": { "gracePeriodSeconds": 7 } });
    assert_eq!(client.post(&format!("{PODS}/web/eviction"), &eviction).await.code, 201);
    assert_eq!(
        client.get(&format!("{PODS}/web")).await.ok()["metadata"]["deletionGracePeriodSeconds"],
        json!(7)
    );
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_empty() {
    let api = Api::start().await;
    let client = api.client();
    let namespaces = "/api/v1/namespaces";
    let made = client
        .post(namespaces, &json!({ "metadata": { "name": "team" } }))
        .await
        .ok();
    assert_eq!(
        (
            &made["status"]["phase"],
            &made["metadata"]["labels"]["kubernetes.io/metadata.name"]
        ),
        (&json!("Active"), &json!("team"))
    );
    client.get("/api/v1/namespaces/team/serviceaccounts/default").await.ok();
    let ca = client
        .get("/api/v1/namespaces/team/configmaps/kube-root-ca.crt")
        .await
        .ok();
    assert!(
        ca["data"]["ca.crt"]
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE-----")
    );
    client.node().await;
    client.post("/api/v1/namespaces/team/pods", &pod("web")).await.ok();
    client
        .post("/api/v1/namespaces/team/configmaps", &config_map("m", json!({})))
        .await
        .ok();

    let mut watch = client
        .watch("/api/v1/namespaces?watch=true&fieldSelector=metadata.name%3Dteam")
        .await;
    assert_eq!(watch.step().await, ("ADDED".into(), "team".into()));
    let mut pods = client.watch("/api/v1/namespaces/team/pods?watch=true").await;
    assert_eq!(pods.step().await.0, "ADDED");
    let answer = client.delete("/api/v1/namespaces/team", &json!({})).await.ok();
    assert_eq!(answer["status"]["phase"], "Terminating");
    assert_eq!(watch.step().await.0, "MODIFIED");
    let marked = pods.next().await.unwrap();
    assert!(marked["object"]["metadata"]["deletionTimestamp"].is_string());
    let refused = client
        .post("/api/v1/namespaces/team/configmaps", &config_map("late", json!({})))
        .await;
    assert!(
        refused
            .refused(403, "Forbidden")
            .contains("because it is being terminated")
    );
    client.get("/api/v1/namespaces/team").await.ok();
    // The agent has stopped the pod.
    client
        .delete("/api/v1/namespaces/team/pods/web", &json!({ "gracePeriodSeconds": 0 }))
        .await
        .ok();
    assert_eq!(watch.step().await.0, "DELETED");
    client.get("/api/v1/namespaces/team").await.refused(404, "NotFound");
    client
        .get("/api/v1/namespaces/team/configmaps/m")
        .await
        .refused(404, "NotFound");
    client
        .delete("/api/v1/namespaces/default", &json!({}))
        .await
        .refused(403, "Forbidden");
}
