//! `kubectl` itself, unmodified and without special flags.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::client::{Api, PODS};

const KUBECTL: &str = "/usr/bin/kubectl";

#[derive(Clone)]
struct Kubectl {
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Kubectl {
    /// `None`, visibly, where there is no kubectl.
    fn of(api: &Api) -> Option<Self> {
        if !Path::new(KUBECTL).exists() {
            eprintln!("SKIPPED: {KUBECTL} is not installed");
            return None;
        }
        Some(Self {
            kubeconfig: api.server.kubeconfig.clone(),
            home: api.dir.path().to_owned(),
        })
    }

    async fn output(&self, arguments: &str, input: &str) -> Output {
        let (own, arguments, input) = (self.clone(), arguments.to_owned(), input.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut child = Command::new(KUBECTL)
                .args(arguments.split_whitespace())
                .env("KUBECONFIG", own.kubeconfig)
                .env("HOME", own.home)
                .env("KUBE_EDITOR", "sed -i s/nginx:1.26/nginx:1.27/")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        })
        .await
        .unwrap()
    }

    async fn with(&self, arguments: &str, input: &str) -> String {
        let output = self.output(arguments, input).await;
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert!(output.status.success(), "kubectl {arguments}\n{out}\n{err}");
        assert!(
            !err.contains("error") && !err.contains("warning: error"),
            "kubectl {arguments}\n{err}"
        );
        out
    }

    async fn run(&self, arguments: &str) -> String {
        self.with(arguments, "").await
    }

    async fn fails(&self, arguments: &str, input: &str) -> String {
        let output = self.output(arguments, input).await;
        assert!(!output.status.success(), "kubectl {arguments} must fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  volumes:
  - name: data
    emptyDir: {}
  containers:
  - name: c
    image: nginx:1.25
    ports: [{containerPort: 80}]
    env: [{name: A, value: b}]
    volumeMounts: [{name: data, mountPath: /data}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_get_change_and_delete() {
    let api = Api::start().await;
    let Some(kubectl) = Kubectl::of(&api) else { return };
    assert_eq!(kubectl.with("apply -f -", POD).await, "pod/web created\n");
    assert_eq!(kubectl.with("apply -f -", POD).await, "pod/web unchanged\n");
    assert_eq!(
        kubectl.with("apply -f -", &POD.replace("1.25", "1.26")).await,
        "pod/web configured\n"
    );
    assert_eq!(
        kubectl.run("get pod web -o jsonpath={.spec.containers[0].image}").await,
        "nginx:1.26"
    );
    let refused = kubectl.fails("apply -f -", &POD.replace("/data}", "/other}")).await;
    assert!(
        refused.contains("pod updates may not change fields other than"),
        "{refused}"
    );
    let typo = kubectl.fails("apply -f -", &POD.replace("image:", "imagee:")).await;
    assert!(typo.contains("unknown field \"spec.containers[0].imagee\""), "{typo}");

    let table = kubectl.run("get pods -o wide").await;
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..5], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(lines[1][..4], ["web", "0/1", "Pending", "0"]);
    kubectl.run("edit pod web").await;
    assert_eq!(
        kubectl.run("get pod web -o jsonpath={.spec.containers[0].image}").await,
        "nginx:1.27"
    );
    kubectl.run("label pod web tier=front app-").await;
    kubectl.run("annotate pod web note=hello").await;
    let wide = kubectl.run("get pods -l tier=front --show-labels --no-headers").await;
    assert!(wide.contains("tier=front") && !wide.contains("app=web"), "{wide}");
    let patch = r#"patch pod web --type=json -p [{"op":"add","path":"/metadata/labels/x","value":"y"}]"#;
    assert_eq!(kubectl.run(patch).await, "pod/web patched\n");
    kubectl
        .with("apply --server-side -f -", &POD.replace("1.25", "1.28"))
        .await;
    kubectl.with("diff -f -", &POD.replace("1.25", "1.28")).await;
    let described = kubectl.run("describe pod web").await;
    assert!(
        described.contains("QoS Class:") && described.contains("Volumes:"),
        "{described}"
    );
    assert_eq!(kubectl.run("delete pod web").await, "pod \"web\" deleted\n");
    assert!(
        kubectl
            .fails("get pod web", "")
            .await
            .contains("pods \"web\" not found")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_and_graceful_delete_with_an_agent() {
    let api = Api::start().await;
    let Some(kubectl) = Kubectl::of(&api) else { return };
    let client = api.client();
    client.node().await;
    kubectl.with("apply -f -", POD).await;
    let waiter = tokio::spawn({
        let kubectl = kubectl.clone();
        async move { kubectl.run("wait --for=condition=Ready pod/web --timeout=30s").await }
    });
    let status = json!({ "status": { "phase": "Running", "podIPs": [{ "ip": "10.0.0.7" }], "podIP": "10.0.0.7",
        "conditions": [{ "type": "Ready", "status": "True" }],
        "containerStatuses": [{ "name": "c", "ready": true, "restartCount": 0, "image": "nginx", "imageID": "x", "state": { "running": {} } }] } });
    client
        .patch(&format!("{PODS}/web/status"), "strategic-merge", &status)
        .await
        .ok();
    assert_eq!(waiter.await.unwrap(), "pod/web condition met\n");
    let row = kubectl.run("get pod web -o wide --no-headers").await;
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        (cells[1], cells[2], cells[5], cells[6]),
        ("1/1", "Running", "10.0.0.7", "node")
    );

    // kubectl waits for the pod to go, which takes the agent.
    let mut watch = client.watch(&format!("{PODS}?watch=true")).await;
    assert_eq!(watch.step().await.0, "ADDED");
    let deleter = tokio::spawn({
        let kubectl = kubectl.clone();
        async move { kubectl.run("delete pod web").await }
    });
    let marked = watch.next().await.unwrap();
    assert_eq!(marked["object"]["metadata"]["deletionGracePeriodSeconds"], json!(30));
    assert!(kubectl.run("get pod web").await.contains("Terminating"));
    assert!(!deleter.is_finished());
    client
        .delete(&format!("{PODS}/web"), &json!({ "gracePeriodSeconds": 0 }))
        .await
        .ok();
    assert_eq!(deleter.await.unwrap(), "pod \"web\" deleted\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_commands_speak_protobuf() {
    let api = Api::start().await;
    let Some(kubectl) = Kubectl::of(&api) else { return };
    assert_eq!(kubectl.run("create namespace team").await, "namespace/team created\n");
    kubectl
        .run("-n team create configmap m --from-literal=a=b --from-literal=c=d")
        .await;
    assert_eq!(
        kubectl.run("-n team get cm m -o jsonpath={.data}").await,
        r#"{"a":"b","c":"d"}"#
    );
    kubectl
        .run("-n team create secret generic s --from-literal=password=x")
        .await;
    assert_eq!(
        kubectl.run("-n team get secret s -o jsonpath={.data.password}").await,
        "eA=="
    );
    kubectl.run("-n team create serviceaccount robot").await;
    let token = kubectl
        .run("-n team create token robot --duration=20m --audience=vault")
        .await;
    assert_eq!(token.trim().split('.').count(), 3);
    kubectl.run("-n team create service clusterip svc --tcp=80:8080").await;
    assert_eq!(
        kubectl
            .run("-n team get svc svc -o jsonpath={.spec.ports[0].targetPort}")
            .await,
        "8080"
    );
    assert_eq!(kubectl.run("auth can-i create pods").await, "yes\n");
    assert!(kubectl.run("auth whoami").await.contains("kubernetes-admin"));
    assert!(
        kubectl
            .fails("auth can-i create pods --as=somebody", "")
            .await
            .is_empty(),
        "the answer no goes to stdout"
    );
    let all = kubectl.run("-n team get cm,secret,sa,svc").await;
    for name in [
        "configmap/m",
        "secret/s",
        "serviceaccount/robot",
        "service/svc",
        "configmap/kube-root-ca.crt",
    ] {
        assert!(all.contains(name), "{name} in\n{all}");
    }
    kubectl.run("delete namespace team").await;
    assert!(kubectl.fails("get namespace team", "").await.contains("not found"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_events_and_the_rest() {
    let api = Api::start().await;
    let Some(kubectl) = Kubectl::of(&api) else { return };
    let client = api.client();
    client.node().await;
    kubectl.with("apply -f -", POD).await;
    kubectl.run("cordon node").await;
    assert!(kubectl.run("get nodes").await.contains("SchedulingDisabled"));
    kubectl.run("uncordon node").await;
    assert!(
        kubectl
            .run("describe node node")
            .await
            .contains("default                     web")
    );
    let event = json!({ "metadata": { "name": "e" }, "involvedObject": { "kind": "Pod", "name": "web", "namespace": "default",
        "uid": client.get(&format!("{PODS}/web")).await.ok()["metadata"]["uid"] }, "reason": "Pulled", "message": "image is here", "type": "Normal",
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "source": { "component": "kubelet" } });
    client.post("/api/v1/namespaces/default/events", &event).await.ok();
    assert!(kubectl.run("describe pod web").await.contains("image is here"));
    assert!(kubectl.run("events").await.contains("Pulled"));
    assert!(kubectl.run("get events").await.contains("pod/web"));
    let resources = kubectl.run("api-resources --no-headers").await;
    assert!(
        resources.lines().any(|l| l.starts_with("pods ")) && resources.contains("runtimeclasses"),
        "{resources}"
    );
    assert!(kubectl.run("version").await.contains("Server Version: v1.36."));
    assert!(
        kubectl
            .fails("logs web", "")
            .await
            .contains("no way to the node's agent")
    );
    let watched = kubectl.output("get pods -w --request-timeout=1s", "").await;
    assert!(String::from_utf8_lossy(&watched.stdout).contains("web"), "{watched:?}");
    kubectl.run("delete pod web --force --grace-period=0").await;
    assert_eq!(kubectl.run("get pods").await, "");
}
