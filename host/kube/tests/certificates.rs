//! Certificates against an API server that signs them, or does not: real HTTPS with client certificates.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use witlet_kube::{Client, Config, CredentialsConfig, NodeCredentials, Pairs, serving_certificate};
use witlet_ports::api::Nodes;
use witlet_test_api::{ApiServer, Mode};

struct Machine {
    dir: tempfile::TempDir,
    signer: ApiServer,
}

/// An agent, until it is dropped.
struct Running {
    credentials: NodeCredentials,
    client: Client,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl Machine {
    async fn new(mode: Mode) -> Self {
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
            signer: ApiServer::start("n1", mode).await,
        };
        std::fs::write(this.path("bootstrap"), this.signer.kubeconfig("token: secret")).unwrap();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, rotate: bool) -> CredentialsConfig {
        CredentialsConfig {
            kubeconfig: self.path("kubeconfig"),
            bootstrap: Some(self.path("bootstrap")),
            cert_dir: self.path("pki"),
            node_name: "n1".into(),
            rotate,
        }
    }

    async fn run(&self, rotate: bool) -> Running {
        let stop = CancellationToken::new();
        let credentials = NodeCredentials::prepare(self.config(rotate), stop.clone())
            .await
            .unwrap();
        let client = Client::connect(Config {
            identity: credentials.identity.clone(),
            ..Config::new(self.path("kubeconfig"), "n1")
        })
        .await
        .unwrap();
        Running {
            credentials,
            client,
            _stop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// As the API server sees the user of the newest request.
    fn last_user(&self) -> Option<String> {
        self.signer.seen().last().map(|seen| seen.user.clone())
    }
}

impl Running {
    fn pairs(&self) -> Pairs {
        self.credentials.identity.clone().unwrap()
    }

    async fn until_certified(&self) -> String {
        let mut pairs = self.pairs();
        let pair = soon("a certificate", pairs.wait_for(Option::is_some))
            .await
            .unwrap()
            .clone();
        pair.unwrap().certificate.common_name.clone()
    }
}

async fn soon<T>(what: &str, done: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(40), done)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn until(what: &str, check: impl AsyncFn() -> bool) {
    soon(what, async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// One request of the agent.
async fn touch(client: &Client) {
    let _ = client
        .nodes(CancellationToken::new())
        .patch_status(&Default::default())
        .await;
}

#[tokio::test]
async fn bootstrap_credentials_become_the_nodes_own() {
    let machine = Machine::new(Mode::Sign).await;
    let agent = machine.run(true).await;
    assert_eq!(agent.until_certified().await, "system:node:n1");
    let [request] = machine.signer.requests().try_into().unwrap();
    assert_eq!(request.user, "token secret");
    assert!(request.name.starts_with("csr-"), "{}", request.name);
    assert_eq!(request.signer, "kubernetes.io/kube-apiserver-client-kubelet");

    // The files are where a kubelet looks for them.
    let current = machine.path("pki/kubelet-client-current.pem");
    let target = std::fs::read_link(&current).unwrap();
    assert!(
        target
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("kubelet-client-20")
    );
    let kubeconfig = std::fs::read_to_string(machine.path("kubeconfig")).unwrap();
    for part in [
        "default-cluster",
        "default-auth",
        "default-context",
        current.to_str().unwrap(),
    ] {
        assert!(kubeconfig.contains(part), "{part}: {kubeconfig}");
    }
    until("requests with the certificate", async || {
        touch(&agent.client).await;
        machine.last_user().as_deref() == Some("system:node:n1")
    })
    .await;

    // The next start needs nothing but the kubeconfig.
    drop(agent);
    std::fs::remove_file(machine.path("bootstrap")).unwrap();
    let agent = machine.run(true).await;
    touch(&agent.client).await;
    assert_eq!(machine.last_user().as_deref(), Some("system:node:n1"));
    assert_eq!(machine.signer.requests().len(), 1);
}

#[tokio::test]
async fn a_slow_signer_is_waited_for() {
    let machine = Machine::new(Mode::Hold).await;
    let agent = machine.run(true).await;
    until("the request", async || machine.signer.requests().len() == 1).await;
    assert!(agent.pairs().borrow().is_none());
    machine.signer.set(Mode::Sign);
    machine.signer.decide_all();
    assert_eq!(agent.until_certified().await, "system:node:n1");
    assert_eq!(machine.signer.requests().len(), 1, "the same request was signed");
}

#[tokio::test]
async fn a_denied_request_is_followed_by_another() {
    let machine = Machine::new(Mode::Deny).await;
    let agent = machine.run(true).await;
    until("two denials", async || machine.signer.requests().len() >= 2).await;
    assert!(agent.pairs().borrow().is_none());
    machine.signer.set(Mode::Sign);
    assert_eq!(agent.until_certified().await, "system:node:n1");
}

#[tokio::test]
async fn an_api_that_is_down_is_tried_again() {
    let machine = Machine::new(Mode::Down).await;
    let agent = machine.run(true).await;
    until("two attempts", async || machine.signer.seen().len() >= 2).await;
    machine.signer.set(Mode::Sign);
    assert_eq!(agent.until_certified().await, "system:node:n1");
}

#[tokio::test]
async fn a_damaged_certificate_is_replaced() {
    let machine = Machine::new(Mode::Sign).await;
    let agent = machine.run(true).await;
    agent.until_certified().await;
    drop(agent);
    let current = machine.path("pki/kubelet-client-current.pem");
    std::fs::write(
        std::fs::read_link(&current).unwrap(),
        "-----BEGIN CERTIFICATE-----\nAAA",
    )
    .unwrap();
    let agent = machine.run(true).await;
    assert_eq!(agent.until_certified().await, "system:node:n1");
    assert_eq!(machine.signer.requests().len(), 2);
}

#[tokio::test]
async fn a_new_certificate_closes_the_connections_of_the_old() {
    let machine = Machine::new(Mode::Sign).await;
    // Three quarters of its life are over when it comes; the next one is asked for within seconds.
    machine.signer.lifetime(-30, 14);
    let agent = machine.run(true).await;
    agent.until_certified().await;
    let stop = CancellationToken::new();
    let nodes = agent.client.nodes(stop.clone());
    soon("the watch of the node", nodes.synced().wait_for(|synced| *synced))
        .await
        .unwrap();
    let watched = || {
        machine
            .signer
            .seen()
            .iter()
            .filter(|s| s.path.contains("/nodes") && s.watch)
            .cloned()
            .collect::<Vec<_>>()
    };
    until("a watch with the first certificate", async || !watched().is_empty()).await;
    machine.signer.lifetime(-60, 3600);
    until("the second certificate", async || machine.signer.requests().len() >= 2).await;
    // The watch began anew, on another connection, with the new certificate.
    until("a watch with the second certificate", async || {
        let watches = watched();
        let (first, last) = (&watches[0], &watches[watches.len() - 1]);
        first.certificate != last.certificate && first.connection != last.connection
    })
    .await;
    until("the old connections are closed", async || {
        let first = watched()[0].connection;
        machine.signer.closed(first)
    })
    .await;
    stop.cancel();
}

#[tokio::test]
async fn a_certificate_inside_the_kubeconfig_is_replaced_at_once() {
    let machine = Machine::new(Mode::Sign).await;
    let (certificate, key) = machine.signer.issue("system:node:n1", 3600);
    std::fs::write(
        machine.path("kubeconfig"),
        machine.signer.kubeconfig(&witlet_test_api::inline(&certificate, &key)),
    )
    .unwrap();
    let agent = machine.run(true).await;
    until("a request with the old certificate", async || {
        machine.signer.requests().iter().any(|r| r.user == "system:node:n1")
    })
    .await;
    let mut pairs = agent.pairs();
    soon(
        "the new one",
        pairs.wait_for(|p| p.as_ref().is_some_and(|p| !p.bootstrap)),
    )
    .await
    .unwrap();
    assert!(machine.path("pki/kubelet-client-current.pem").exists());
}

#[tokio::test]
async fn without_rotation_one_request_is_waited_for_across_starts() {
    let machine = Machine::new(Mode::Hold).await;
    let stop = CancellationToken::new();
    let first = tokio::spawn(NodeCredentials::prepare(machine.config(false), stop.clone()));
    until("the request", async || machine.signer.requests().len() == 1).await;
    stop.cancel();
    soon("the first start ends", first).await.unwrap().unwrap();
    assert!(machine.path("pki/kubelet-client.key.tmp").exists());
    assert!(!machine.path("kubeconfig").exists());

    machine.signer.set(Mode::Sign);
    machine.signer.decide_all();
    let agent = soon("the second start", machine.run(false)).await;
    let requests = machine.signer.requests();
    assert_eq!(requests.len(), 1, "the request of the first start was used");
    assert!(requests[0].name.starts_with("node-csr-"), "{}", requests[0].name);
    assert!(!machine.path("pki/kubelet-client.key.tmp").exists());
    touch(&agent.client).await;
    assert_eq!(machine.last_user().as_deref(), Some("system:node:n1"));
}

#[tokio::test]
async fn a_bootstrap_file_that_is_missing_is_named() {
    let machine = Machine::new(Mode::Sign).await;
    std::fs::remove_file(machine.path("bootstrap")).unwrap();
    let error = NodeCredentials::prepare(machine.config(true), CancellationToken::new())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("bootstrap kubeconfig ") && error.contains("/bootstrap"),
        "{error}"
    );
}

fn node(addresses: &[&str]) -> Option<Arc<Node>> {
    let addresses: Vec<_> = addresses
        .iter()
        .map(|a| json!({"type": "InternalIP", "address": a}))
        .collect();
    let node = json!({"metadata": {"name": "n1"}, "status": {"addresses": addresses}});
    Some(Arc::new(serde_json::from_value(node).unwrap()))
}

fn names(pki: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(pki).unwrap().flatten();
    entries
        .map(|e| e.file_name().into_string().unwrap())
        .filter(|n| n.contains("server"))
        .collect()
}

#[tokio::test]
async fn the_serving_certificate_follows_the_addresses() {
    let machine = Machine::new(Mode::Sign).await;
    let agent = machine.run(true).await;
    agent.until_certified().await;
    let before = machine.signer.requests().len();
    let (addresses, observed) = watch::channel(None);
    let mut serving = serving_certificate(&agent.client, &machine.path("pki"), observed, agent.stop.clone()).unwrap();
    addresses.send_replace(node(&[]));
    assert!(serving.borrow().is_none());
    assert_eq!(
        machine.signer.requests().len(),
        before,
        "nothing is asked for without an address"
    );

    addresses.send_replace(node(&["10.0.0.1"]));
    let has = |serving: &Option<Arc<witlet_kube::Pair>>, ip: &str| {
        serving
            .as_ref()
            .is_some_and(|p| p.certificate.ips.contains(&ip.parse().unwrap()))
    };
    soon("a serving certificate", serving.wait_for(|s| has(s, "10.0.0.1")))
        .await
        .unwrap();
    let request = machine.signer.requests().pop().unwrap();
    assert_eq!(request.signer, "kubernetes.io/kubelet-serving");
    assert!(names(&machine.path("pki")).contains(&"kubelet-server-current.pem".to_owned()));

    addresses.send_replace(node(&["10.0.0.2"]));
    soon("one for the new address", serving.wait_for(|s| has(s, "10.0.0.2")))
        .await
        .unwrap();
    addresses.send_replace(None);
}
