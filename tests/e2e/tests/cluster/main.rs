//! A citizen of a cluster: the built agent, started as a kubelet is, towards an API server that signs certificates, reviews
//! clients and can fail. The runtime is a fake one: no containerd is needed, but root is.
#![allow(clippy::unwrap_used)]

mod node;
mod traces;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use node::{NAME, Node, ready};
use serde_json::json;
use witlet_test_api::{Mode, OPERATOR_TOKEN, VIEWER_TOKEN};

async fn lease(node: &Node) -> Lease {
    let leases = Api::<Lease>::namespaced(node.api.admin(), "kube-node-lease");
    leases.get(NAME).await.unwrap()
}

#[tokio::test]
async fn a_node_joins_as_a_kubelet_does() {
    let mut node = Node::new(Mode::Sign).await;
    let drop_in = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    let write =
        |name: &str, text: &str| fs::write(node.path("etc/drop-ins").join(name), format!("{drop_in}{text}")).unwrap();
    write(
        "10-size.conf",
        "maxPods: 31\nregisterWithTaints: [{key: a, effect: NoSchedule}]\n",
    );
    write("20-size.conf", "maxPods: 32\n");
    // No drop-in.
    write("30-size.yaml", "maxPods: 33\n");
    node.start(&["--node-labels=site=home", "--register-with-taints=b=c:NoSchedule"]);
    let object = node.until_ready().await;

    let labels = object.metadata.labels.clone().unwrap();
    assert_eq!(labels["site"], "home");
    assert_eq!(labels["kubernetes.io/hostname"], NAME);
    let status = object.status.clone().unwrap();
    assert_eq!(
        status.capacity.unwrap()["pods"].0,
        "32",
        "the last drop-in wins over the file"
    );
    let taints = object.spec.unwrap().taints.unwrap();
    assert_eq!(taints[0].key, "b", "flags win over drop-ins");
    let port = status.daemon_endpoints.unwrap().kubelet_endpoint.unwrap().port;
    assert_eq!(port, i32::from(node.port));

    // The kubeconfig names the certificate that the cluster signed; the link leads to a file of this day.
    let current = node.path("pki/kubelet-client-current.pem");
    let kubeconfig = fs::read_to_string(node.path("etc/kubeconfig")).unwrap();
    assert!(kubeconfig.contains(current.to_str().unwrap()), "{kubeconfig}");
    let file = fs::read_link(&current).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("kubelet-client-2") && name.ends_with(".pem"), "{name}");
    assert_eq!(fs::metadata(&current).unwrap().mode() & 0o777, 0o600);
    let seen = node.api.seen();
    let registered = seen
        .iter()
        .find(|s| s.method == "POST" && s.path == "/api/v1/nodes")
        .unwrap();
    assert_eq!(registered.user, "system:node:n1");

    // Its server shows a certificate of the cluster, and asks the cluster about its clients.
    node.until_told(&["kubelet-server", "there is a new certificate"]).await;
    let signers: Vec<_> = node.api.requests().into_iter().map(|r| (r.signer, r.user)).collect();
    let [client, serving] = &signers[..] else {
        panic!("{signers:?}")
    };
    assert_eq!(client.0, "kubernetes.io/kube-apiserver-client-kubelet");
    assert_eq!(client.1, "token secret");
    assert_eq!(serving.0, "kubernetes.io/kubelet-serving");
    assert_eq!(serving.1, "system:node:n1");
    for (token, path, code) in [
        (Some(OPERATOR_TOKEN), "/pods", 200),
        (Some(OPERATOR_TOKEN), "/configz", 200),
        (Some(VIEWER_TOKEN), "/metrics", 200),
        (Some(VIEWER_TOKEN), "/pods", 403),
        (Some("wrong"), "/metrics", 401),
        (None, "/metrics", 401),
    ] {
        assert_eq!(node.ask(token, path).await, code, "{token:?} asks for {path}");
    }

    let first = lease(&node).await.spec.unwrap();
    assert_eq!(first.holder_identity.as_deref(), Some(NAME));
    node.until("the lease is renewed", async || {
        lease(&node).await.spec.unwrap().renew_time > first.renew_time
    })
    .await;
    node.run_pod("first").await;
    node.stop().await;
    assert!(node.runtime.container_named("c").is_some(), "pods go on running");
    assert!(ready(&node.object().await.unwrap()), "the node's word stays");
}

#[tokio::test]
async fn a_denied_node_says_so_each_time_and_joins_once_it_may() {
    let mut node = Node::new(Mode::Deny).await;
    node.start(&[]);
    let denied = [
        "certificate signing request csr-",
        "is denied, reason: \"Test\", message: \"so be it\"",
        "kubectl describe csr",
    ];
    node.until("two denials", async || node.told(&denied) >= 2).await;
    assert!(node.object().await.is_none());
    node.api.set(Mode::Sign);
    node.until_ready().await;
}

#[tokio::test]
async fn a_deleted_node_comes_back_with_a_restart_or_by_somebody_else() {
    let mut node = Node::new(Mode::Sign).await;
    node.start(&[]);
    let first = node.until_ready().await;
    node.run_pod("first").await;
    let container = node.runtime.container_named("c").unwrap().id;
    let nodes = Api::<NodeObject>::all(node.api.admin());
    nodes.delete(NAME, &DeleteParams::default()).await.unwrap();
    node.until_told(&["there is no Node object to write the status to", "restart the agent"])
        .await;
    // Three times the interval of its status.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(node.object().await.is_none(), "a deleted node is not made anew");
    assert_eq!(node.told(&["there is no Node object"]), 1, "it is told once");
    assert_eq!(node.runtime.container_named("c").unwrap().id, container);

    // Somebody else makes it: it gets its status.
    let bare = serde_json::from_value(json!({"metadata": {"name": NAME}})).unwrap();
    nodes.create(&PostParams::default(), &bare).await.unwrap();
    node.until_ready().await;
    assert_eq!(node.told(&["the Node object is there again"]), 1);

    nodes.delete(NAME, &DeleteParams::default()).await.unwrap();
    node.until("the second deletion is told", async || {
        node.told(&["there is no Node object"]) == 2
    })
    .await;
    // A restart, for which the certificate is kept where the kubeconfig says.
    node.stop().await;
    node.start(&["--node-labels=site=home"]);
    let again = node.until_ready().await;
    assert_ne!(again.metadata.uid, first.metadata.uid);
    assert_eq!(again.metadata.labels.unwrap()["site"], "home");
    let clients = node.api.requests().into_iter().filter(|r| r.signer.contains("client"));
    assert_eq!(clients.count(), 1, "the certificate is good for the next start");
}

#[tokio::test]
async fn an_outage_of_the_api_is_told_once_and_so_is_its_end() {
    let mut node = Node::new(Mode::Sign).await;
    node.start(&[]);
    node.until_ready().await;
    node.run_pod("first").await;
    let container = node.runtime.container_named("c").unwrap().id;
    node.api.set(Mode::Down);
    for what in ["the node's lease", "the node's status"] {
        node.until_told(&[&format!("cannot write {what} to the API"), "trying again"])
            .await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    node.api.set(Mode::Sign);
    for what in ["the node's lease", "the node's status"] {
        node.until_told(&[&format!("{what} is written to the API again")]).await;
        let words = format!("cannot write {what} to the API");
        assert_eq!(node.told(&[&words]), 1, "{what}:\n{}", node.log());
    }
    let before = lease(&node).await.spec.unwrap().renew_time;
    node.until("the lease is renewed", async || {
        lease(&node).await.spec.unwrap().renew_time > before
    })
    .await;
    assert_eq!(node.runtime.container_named("c").unwrap().id, container);
    node.run_pod("second").await;
}
