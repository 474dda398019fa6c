//! What stands in for a scheduler and for admission.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use witlet_standalone::{NodeProxy, NodeRequest, ProxyBody, start, start_with};

use crate::client::{Api, Client, PODS, config, pod};

fn scheduled(pod: &Value) -> (&str, &str) {
    let condition = pod["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "PodScheduled")
        .unwrap();
    (
        condition["status"].as_str().unwrap(),
        condition["reason"].as_str().unwrap_or_default(),
    )
}

#[tokio::test]
async fn pods_wait_for_the_node() {
    let api = Api::start().await;
    let client = api.client();
    let waiting = client.pod("early").await;
    assert_eq!(
        (waiting["spec"].get("nodeName"), scheduled(&waiting)),
        (None, ("False", "Unschedulable"))
    );
    let mut watch = client
        .watch(&format!("{PODS}?watch=true&fieldSelector=spec.nodeName%3Dnode"))
        .await;
    client.node().await;
    let event = watch.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["spec"]["nodeName"]),
        (&json!("ADDED"), &json!("node"))
    );
    assert_eq!(scheduled(&event["object"]), ("True", ""));
    assert_eq!(client.pod("late").await["spec"]["nodeName"], "node");

    let cordon = |on: bool| json!({ "spec": { "unschedulable": on } });
    client
        .patch("/api/v1/nodes/node", "strategic-merge", &cordon(true))
        .await
        .ok();
    assert_eq!(watch.step().await, ("ADDED".into(), "late".into()));
    assert_eq!(scheduled(&client.pod("cordoned").await), ("False", "Unschedulable"));
    client
        .patch("/api/v1/nodes/node", "strategic-merge", &cordon(false))
        .await
        .ok();
    assert_eq!(watch.step().await, ("ADDED".into(), "cordoned".into()));

    let mut gated = pod("gated");
    gated["spec"]["schedulingGates"] = json!([{ "name": "example.com/g" }]);
    assert_eq!(
        scheduled(&client.post(PODS, &gated).await.ok()),
        ("False", "SchedulingGated")
    );
    let open = json!([{ "op": "remove", "path": "/spec/schedulingGates" }]);
    let opened = client.patch(&format!("{PODS}/gated"), "json", &open).await.ok();
    assert_eq!(
        (&opened["spec"]["nodeName"], scheduled(&opened)),
        (&json!("node"), ("True", ""))
    );
}

#[tokio::test]
async fn nodes_register_with_their_status() {
    let api = Api::start().await;
    let client = api.client();
    let node = json!({ "metadata": { "name": "node" }, "status": { "capacity": { "cpu": "2" }, "conditions": [{ "type": "Ready", "status": "True" }] } });
    let made = client.post("/api/v1/nodes", &node).await.ok();
    assert_eq!(made["status"]["capacity"]["cpu"], "2");
    let heartbeat = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }, { "type": "DiskPressure", "status": "False" }] } });
    let after = client
        .patch("/api/v1/nodes/node/status", "strategic-merge", &heartbeat)
        .await
        .ok();
    assert_eq!(after["status"]["conditions"].as_array().unwrap().len(), 2);
    let table = client.table("/api/v1/nodes").await;
    assert_eq!(table["rows"][0]["cells"][1], "NotReady");
}

#[tokio::test]
async fn priorities_are_resolved() {
    let api = Api::start().await;
    let client = api.client();
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    client
        .post(
            classes,
            &json!({ "metadata": { "name": "high" }, "value": 1000, "preemptionPolicy": "Never" }),
        )
        .await
        .ok();
    for (class, value, policy) in [
        ("system-node-critical", 2_000_001_000_i64, "PreemptLowerPriority"),
        ("system-cluster-critical", 2_000_000_000, "PreemptLowerPriority"),
        ("high", 1000, "Never"),
    ] {
        let mut object = pod(class);
        object["spec"]["priorityClassName"] = class.into();
        let made = client.post(PODS, &object).await.ok();
        assert_eq!(
            (&made["spec"]["priority"], &made["spec"]["preemptionPolicy"]),
            (&json!(value), &json!(policy))
        );
    }
    let mut object = pod("x");
    object["spec"]["priorityClassName"] = "none".into();
    assert!(
        client
            .post(PODS, &object)
            .await
            .refused(403, "Forbidden")
            .contains("no PriorityClass with name none was found")
    );
}

#[tokio::test]
async fn tokens_are_mounted_only_on_demand() {
    let api = Api::start().await;
    let client = api.client();
    assert!(client.pod("plain").await["spec"].get("volumes").is_none());
    let mut object = pod("asked");
    object["spec"]["automountServiceAccountToken"] = true.into();
    let made = client.post(PODS, &object).await.ok();
    let volume = &made["spec"]["volumes"][0];
    assert!(volume["name"].as_str().unwrap().starts_with("kube-api-access-"));
    assert_eq!(
        volume["projected"]["sources"][0]["serviceAccountToken"],
        json!({ "expirationSeconds": 3607, "path": "token" })
    );
    let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(
        (&mount["name"], &mount["mountPath"]),
        (&volume["name"], &json!("/var/run/secrets/kubernetes.io/serviceaccount"))
    );
}

#[tokio::test]
async fn mirror_pods_are_taken_as_they_are() {
    let api = Api::start().await;
    let client = api.client();
    let mut mirror = pod("static-node");
    mirror["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "hash" });
    mirror["spec"]["nodeName"] = "node".into();
    let made = client.post(PODS, &mirror).await.ok();
    assert!(made["spec"].get("serviceAccountName").is_none());
    assert_eq!(made["metadata"]["annotations"]["kubernetes.io/config.mirror"], "hash");
}

/// Says what it was asked.
struct Echo;

impl NodeProxy for Echo {
    fn proxy(&self, request: NodeRequest) -> BoxFuture<'static, Response<ProxyBody>> {
        let text = format!(
            "{:?} {} {}",
            request.pod,
            request.subresource,
            request.request.uri().query().unwrap_or_default()
        );
        async move { Response::new(Full::new(Bytes::from(text)).boxed_unsync()) }.boxed()
    }
}

#[tokio::test]
async fn an_agent_answers_for_its_containers() {
    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let server = start_with(config(dir.path().to_owned()), Some(Arc::new(Echo)), stop.clone())
        .await
        .unwrap();
    let client = Client::of(&std::fs::read_to_string(&server.kubeconfig).unwrap());
    client.pod("web").await;
    let answer = client.get(&format!("{PODS}/web/log?container=c")).await.ok();
    assert_eq!(answer, json!("Some((\"default\", \"web\")) log container=c"));
    for name in ["web", "web:80", "https:web:443"] {
        let answer = client.get(&format!("{PODS}/{name}/proxy/a/b?c=d")).await.ok();
        assert_eq!(answer, json!("Some((\"default\", \"web\")) proxy c=d"), "{name}");
    }
    client
        .get(&format!("{PODS}/ftp:web:80/proxy/"))
        .await
        .refused(400, "BadRequest");
    client
        .get(&format!("{PODS}/none:80/proxy/"))
        .await
        .refused(404, "NotFound");
    client.node().await;
    assert_eq!(
        client.get("/api/v1/nodes/node/proxy/stats").await.ok(),
        json!("None proxy ")
    );
    stop.cancel();
    server.wait().await.unwrap();
}

#[tokio::test]
async fn a_second_api_over_the_same_data_is_refused() {
    let api = Api::start().await;
    let error = start(config(api.dir.path().to_owned()), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("objects.redb"), "{error}");
    let mut taken = config(api.dir.path().join("other"));
    taken.listen = api.server.addr;
    let error = start(taken, CancellationToken::new()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on {}", api.server.addr)),
        "{error}"
    );
}

#[tokio::test]
async fn streams_into_containers_need_the_agent() {
    let api = Api::start().await;
    let client = api.client();
    client.pod("web").await;
    for sub in ["log", "exec?command=ls", "attach", "portforward", "proxy/index.html"] {
        client
            .get(&format!("{PODS}/web/{sub}"))
            .await
            .refused(501, "NotImplemented");
    }
    client.get(&format!("{PODS}/none/log")).await.refused(404, "NotFound");
}
