#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};
use tokio::sync::Notify;
use witlet_core::ids::{PodKey, PodUid};
use witlet_ports::network::Command as Step;

use super::*;

/// Says what the test wants and writes down what it was asked.
#[derive(Default)]
struct FakeNetwork {
    calls: Mutex<Vec<String>>,
    changed: Notify,
    errors: Mutex<VecDeque<Error>>,
    /// What setup gives back, if not the usual.
    result: Mutex<Option<String>>,
    /// Setup waits for it.
    gate: Mutex<Option<Arc<Notify>>>,
}

impl FakeNetwork {
    fn note(&self, call: String) -> witlet_ports::Result<()> {
        self.calls.lock().unwrap().push(call);
        self.changed.notify_waiters();
        self.errors.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn fail(&self, error: Error) {
        self.errors.lock().unwrap().push_back(error);
    }

    async fn called(&self, times: usize) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.calls().len() >= times {
                    return;
                }
                changed.await;
            }
        };
        timeout(Duration::from_secs(60), waiting)
            .await
            .expect("the plugin is called");
    }
}

#[async_trait]
impl Network for FakeNetwork {
    async fn setup(&self, pod: Option<&Arc<Pod>>, sandbox: &Sandbox) -> witlet_ports::Result<Attachment> {
        let pod = pod
            .and_then(|p| p.metadata.uid.clone())
            .unwrap_or_else(|| "-".to_owned());
        self.note(format!("setup {} of {pod}", sandbox.id))?;
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        let usual = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.85.0.2/16"}]}).to_string();
        Ok(Attachment {
            cni_result: self.result.lock().unwrap().clone().unwrap_or(usual),
            state: format!("state of {}", sandbox.id),
            offline_teardown: vec![Step {
                program: "/bin/undo".into(),
                args: vec![sandbox.id.clone()],
                env: vec![("CNI_COMMAND".into(), "DEL".into())],
                stdin: b"{}".to_vec(),
            }],
        })
    }

    async fn teardown(&self, sandbox: &Sandbox, state: Option<&str>) -> witlet_ports::Result<()> {
        self.note(format!("teardown {} with {state:?}", sandbox.id))
    }

    async fn check(&self, sandbox: &Sandbox, state: Option<&str>) -> witlet_ports::Result<()> {
        self.note(format!("check {} with {state:?}", sandbox.id))
    }

    async fn status(&self) -> witlet_ports::Result<()> {
        self.note("status".to_owned())
    }
}

struct Agent {
    dir: tempfile::TempDir,
    network: Arc<FakeNetwork>,
    shutdown: CancellationToken,
    server: tokio::task::JoinHandle<()>,
    api: Arc<FakeApi>,
}

/// Takes annotations, at the second attempt.
#[derive(Default)]
struct FakeApi {
    annotations: Mutex<Vec<String>>,
    attempts: Mutex<u32>,
}

#[async_trait]
impl Pods for FakeApi {
    async fn get(&self, _: &PodKey, _: &PodUid) -> witlet_ports::Result<Option<Pod>> {
        Ok(None)
    }

    async fn patch_status(&self, _: &Pod, _: &PodStatus) -> witlet_ports::Result<Option<Pod>> {
        Ok(None)
    }

    async fn delete(&self, _: &PodKey, _: &PodUid, _: i64) -> witlet_ports::Result<()> {
        Ok(())
    }

    async fn create_mirror(&self, _: &Pod) -> witlet_ports::Result<()> {
        Ok(())
    }

    async fn annotate(&self, _: &PodKey, uid: &PodUid, key: &str, value: &str) -> witlet_ports::Result<()> {
        let mut attempts = self.attempts.lock().unwrap();
        *attempts += 1;
        if *attempts == 1 {
            return Err(Error::retry("not now"));
        }
        let value: Value = serde_json::from_str(value).unwrap();
        self.annotations.lock().unwrap().push(format!("{uid} {key} {value}"));
        Ok(())
    }
}

impl FakeApi {
    async fn told(&self, times: usize) -> Vec<String> {
        let waiting = async {
            loop {
                let told = self.annotations.lock().unwrap().clone();
                if told.len() >= times {
                    return told;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), waiting)
            .await
            .expect("the API is told")
    }
}

impl Agent {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(dir: tempfile::TempDir) -> Self {
        let network = Arc::new(FakeNetwork::default());
        let shutdown = CancellationToken::new();
        let server = CniServer::bind(&config(&dir)).unwrap();
        let pods: FindPod = Arc::new(|uid, namespace, name| {
            let mut pod = Pod::default();
            pod.metadata.uid = Some(format!("{uid}={namespace}/{name}"));
            (namespace == "shop").then(|| Arc::new(pod))
        });
        let api = Arc::new(FakeApi::default());
        let server = tokio::spawn(server.run(network.clone(), pods, Some(api.clone()), shutdown.clone()));
        Self {
            dir,
            api,
            network,
            shutdown,
            server,
        }
    }

    async fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        self.server.await.unwrap();
        self.dir
    }

    async fn raw(&self, request: &[u8]) -> Value {
        let mut stream = UnixStream::connect(config(&self.dir).socket).await.unwrap();
        // It may refuse before it has read all of it.
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        // An error behind the answer, since it closed without reading the rest, does not take the answer away.
        let _ = stream.read_to_end(&mut answer).await;
        serde_json::from_slice(&answer).unwrap()
    }

    async fn ask(&self, command: &str, id: &str) -> Value {
        let config = r#"{"cniVersion":"1.0.0","name":"witlet","type":"witlet-cni"}"#;
        self.ask_with(command, sandbox(id, config)).await
    }

    async fn ask_with(&self, command: &str, sandbox: Value) -> Value {
        self.raw(json!({"command": command, "sandbox": sandbox}).to_string().as_bytes())
            .await
    }

    fn record(&self, id: &str) -> PathBuf {
        self.dir.path().join(format!("state/attachments/{id}-eth0.json"))
    }
}

/// As `witlet-cni` sends it; its own tests have the same.
fn sandbox(id: &str, config: &str) -> Value {
    json!({
        "id": id,
        "netns": "/run/netns/x",
        "ifname": "eth0",
        "args": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web"], ["K8S_POD_UID", "u1"]],
        "config": config,
    })
}

fn config(dir: &tempfile::TempDir) -> Config {
    Config {
        socket: dir.path().join("run/cni.sock"),
        state_dir: dir.path().join("state"),
    }
}

fn nothing() -> Value {
    json!({"result": null})
}

#[tokio::test]
async fn a_pod_is_attached_checked_and_detached() {
    let agent = Agent::start();
    let added = agent.ask("ADD", "c1").await;
    let result: Value = serde_json::from_str(added["result"].as_str().unwrap()).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.85.0.2/16");
    // What witlet-cni reads while the agent is down.
    let record: Value = serde_json::from_slice(&fs::read(agent.record("c1")).unwrap()).unwrap();
    assert_eq!(
        record["offline_teardown"],
        json!([{"program": "/bin/undo", "args": ["c1"], "env": [["CNI_COMMAND", "DEL"]], "stdin": [123, 125]}])
    );
    assert_eq!(agent.ask("CHECK", "c1").await, nothing());
    assert_eq!(agent.ask("DEL", "c1").await, nothing());
    assert!(!agent.record("c1").exists());
    assert_eq!(agent.ask("DEL", "c1").await, nothing(), "again is fine");
    assert_eq!(
        agent.network.calls(),
        [
            "setup c1 of u1=shop/web",
            "check c1 with Some(\"state of c1\")",
            "teardown c1 with Some(\"state of c1\")",
        ],
        "the second DEL does not run the chain again"
    );
    // Of what it never saw it cannot know.
    assert_eq!(agent.ask("DEL", "c2").await, nothing());
    assert_eq!(agent.network.calls()[3], "teardown c2 with None");
    let dir = agent.stop().await;
    assert!(!config(&dir).socket.exists());
}

#[tokio::test]
async fn only_its_user_may_open_the_socket_and_the_records() {
    let agent = Agent::start();
    agent.ask("ADD", "c1").await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&config(&agent.dir).socket), 0o600);
    assert_eq!(mode(&agent.record("c1")), 0o600);
    assert_eq!(mode(agent.record("c1").parent().unwrap()), 0o700);
    let left: Vec<_> = fs::read_dir(agent.dir.path().join("run"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["cni.sock"], "nothing of how it was made is left");
}

#[tokio::test]
async fn records_survive_a_restart() {
    let agent = Agent::start();
    agent.ask("ADD", "c1").await;
    let agent = Agent::start_in(agent.stop().await);
    assert_eq!(agent.ask("DEL", "c1").await, nothing());
    assert_eq!(agent.network.calls(), ["teardown c1 with Some(\"state of c1\")"]);
}

#[tokio::test]
async fn a_killed_agent_leaves_a_socket_that_the_next_one_takes() {
    let agent = Agent::start();
    // As kill -9: nothing is tidied up.
    agent.server.abort();
    let _ = agent.server.await;
    assert!(config(&agent.dir).socket.exists());
    let agent = Agent::start_in(agent.dir);
    assert_eq!(agent.ask("STATUS", "").await, nothing());
    // But one that runs keeps its own.
    let second = CniServer::bind(&config(&agent.dir)).err().unwrap();
    assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    assert!(second.to_string().contains("another agent"), "{second}");
    assert_eq!(agent.ask("STATUS", "").await, nothing());
}

#[tokio::test]
async fn what_is_no_socket_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("run")).unwrap();
    fs::write(config(&dir).socket, "precious").unwrap();
    assert!(CniServer::bind(&config(&dir)).is_err());
    assert_eq!(fs::read(config(&dir).socket).unwrap(), b"precious");
}

#[tokio::test]
async fn errors_of_the_plugin_become_cni_errors() {
    let agent = Agent::start();
    let table = [
        (Class::Retry, 11),
        (Class::Timeout, 11),
        (Class::Conflict, 11),
        (Class::NotFound, 3),
        (Class::Terminal, 100),
        (Class::Denied, 100),
        (Class::Unimplemented, 100),
        (Class::Bug, 100),
    ];
    for (class, code) in table {
        agent
            .network
            .fail(Error::new(class, "no address left").with_source(io::Error::other("10.85.0.0/16 is full")));
        let answer = agent.ask("ADD", "c1").await;
        let expected = json!({"error": {"code": code, "msg": "no address left", "details": "10.85.0.0/16 is full"}});
        assert_eq!(answer, expected, "{class:?}");
        assert!(!agent.record("c1").exists());
    }
    agent.network.fail(Error::retry("the bridge is down"));
    assert_eq!(
        agent.ask("STATUS", "").await,
        json!({"error": {"code": 50, "msg": "the bridge is down"}})
    );
}

#[tokio::test]
async fn what_cannot_be_torn_down_keeps_its_record() {
    let agent = Agent::start();
    agent.ask("ADD", "c1").await;
    agent.network.fail(Error::retry("busy"));
    assert_eq!(agent.ask("DEL", "c1").await["error"]["code"], 11);
    assert!(agent.record("c1").exists());
    agent.network.fail(Error::not_found("long gone"));
    assert_eq!(agent.ask("DEL", "c1").await, nothing());
    assert!(!agent.record("c1").exists());
}

#[tokio::test]
async fn what_cannot_be_recorded_is_undone() {
    let agent = Agent::start();
    // A directory is where the record should be.
    fs::create_dir(agent.record("c1")).unwrap();
    fs::write(agent.record("c1").join("x"), "").unwrap();
    let answer = agent.ask("ADD", "c1").await;
    assert_eq!(answer["error"]["code"], 5, "{answer}");
    assert_eq!(agent.network.calls()[1], "teardown c1 with Some(\"state of c1\")");

    *agent.network.result.lock().unwrap() = Some("nonsense".to_owned());
    let answer = agent.ask("ADD", "c2").await;
    assert_eq!(answer["error"]["code"], 100, "{answer}");
    assert_eq!(agent.network.calls()[3], "teardown c2 with Some(\"state of c2\")");
    assert!(!agent.record("c2").exists());
}

#[tokio::test]
async fn a_corrupt_record_is_set_aside() {
    let agent = Agent::start();
    let texts = ["", "{", "[]", "{\"sandbox\": 3}"];
    for (text, id) in texts.into_iter().zip(["c1", "c2", "c3", "c4"]) {
        fs::write(agent.record(id), text).unwrap();
        assert_eq!(agent.ask("DEL", id).await, nothing(), "{text:?}");
        assert!(!agent.record(id).exists());
        assert_eq!(
            fs::read_to_string(agent.record(id).with_extension("corrupt")).unwrap(),
            text
        );
        assert_eq!(
            agent.network.calls().last().unwrap(),
            &format!("teardown {id} with None")
        );
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let agent = Agent::start();
    for request in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"{}",
        b"[1]",
        br#"{"command":"NOPE","sandbox":{}}"#,
        b"\xff\xfe",
    ] {
        assert_eq!(agent.raw(request).await["error"]["code"], 6, "{request:?}");
    }
    let huge = format!("{{\"command\": \"{}\"}}", "x".repeat(1 << 20));
    let answer = agent.raw(huge.as_bytes()).await;
    assert!(
        answer["error"]["msg"]
            .as_str()
            .unwrap()
            .contains("more than 1048576 bytes"),
        "{answer}"
    );
    for (id, ifname) in [
        ("../../etc/x", "eth0"),
        ("", "eth0"),
        ("c1", "../x"),
        ("c1", ""),
        (".hidden", "eth0"),
    ] {
        let mut sandbox = sandbox(id, "{}");
        sandbox["ifname"] = ifname.into();
        for command in ["ADD", "DEL", "CHECK"] {
            assert_eq!(
                agent.ask_with(command, sandbox.clone()).await["error"]["code"],
                4,
                "{command} {id} {ifname}"
            );
        }
    }
    assert!(agent.network.calls().is_empty());
    // It is none the worse for it.
    assert_eq!(agent.ask("STATUS", "").await, nothing());
}

#[tokio::test]
async fn a_pod_that_is_not_known_is_attached_as_a_stranger() {
    let agent = Agent::start();
    let mut stranger = sandbox("c1", "{}");
    stranger["args"] = json!([["K8S_POD_NAMESPACE", "elsewhere"], ["K8S_POD_NAME", "web"]]);
    agent.ask_with("ADD", stranger).await;
    let mut nobody = sandbox("c2", "{}");
    nobody["args"] = json!([]);
    agent.ask_with("ADD", nobody).await;
    assert_eq!(agent.network.calls(), ["setup c1 of -", "setup c2 of -"]);
}

#[tokio::test]
async fn a_teardown_waits_for_the_setup_and_nobody_else_does() {
    let agent = Arc::new(Agent::start());
    let gate = Arc::new(Notify::new());
    *agent.network.gate.lock().unwrap() = Some(gate.clone());
    let ask = |command: &'static str, id: &'static str| {
        let agent = agent.clone();
        tokio::spawn(async move { agent.ask(command, id).await })
    };
    let add = ask("ADD", "c1");
    agent.network.called(1).await;
    let del = ask("DEL", "c1");
    assert_eq!(agent.ask("DEL", "c2").await, nothing());
    assert_eq!(agent.ask("STATUS", "").await, nothing());
    assert_eq!(agent.network.calls().len(), 3, "c1 is not torn down yet");
    gate.notify_one();
    assert!(add.await.unwrap()["result"].is_string());
    assert_eq!(del.await.unwrap(), nothing());
    assert_eq!(agent.network.calls()[3], "teardown c1 with Some(\"state of c1\")");
    assert!(!agent.record("c1").exists());
}

#[tokio::test]
async fn what_is_under_way_at_shutdown_is_finished() {
    let agent = Arc::new(Agent::start());
    let gate = Arc::new(Notify::new());
    *agent.network.gate.lock().unwrap() = Some(gate.clone());
    let add = tokio::spawn({
        let agent = agent.clone();
        async move { agent.ask("ADD", "c1").await }
    });
    agent.network.called(1).await;
    agent.shutdown.cancel();
    let socket = config(&agent.dir).socket;
    let gone = async {
        while socket.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    };
    timeout(Duration::from_secs(60), gone)
        .await
        .expect("nobody new is let in");
    gate.notify_one();
    assert!(add.await.unwrap()["result"].is_string());
    let Ok(agent) = Arc::try_unwrap(agent) else {
        panic!("nobody else has it")
    };
    agent.server.await.unwrap();
}

#[tokio::test]
async fn what_the_runtime_forgot_is_collected() {
    let agent = Agent::start();
    for id in ["c1", "c2", "c3"] {
        agent.ask("ADD", id).await;
    }
    agent.ask_with("ADD", sandbox("c4", r#"{"name":"other"}"#)).await;
    fs::write(agent.record("c5"), "nonsense").unwrap();
    let valid = json!([{"containerID": "c2", "ifname": "eth0"}, {"containerID": "c3", "ifname": "eth1"}]);
    let config = json!({"cniVersion": "1.1.0", "name": "witlet", "cni.dev/valid-attachments": valid}).to_string();
    assert_eq!(agent.ask_with("GC", sandbox("", &config)).await, nothing());
    let left = |id: &str| agent.record(id).exists();
    assert_eq!(
        [left("c1"), left("c2"), left("c3"), left("c4"), left("c5")],
        [false, true, false, true, false]
    );
    assert_eq!(
        agent.network.calls()[4..],
        [
            "teardown c1 with Some(\"state of c1\")",
            "teardown c3 with Some(\"state of c3\")"
        ]
    );

    agent.network.fail(Error::retry("busy"));
    let config = json!({"name": "witlet", "cni.dev/valid-attachments": []}).to_string();
    let answer = agent.ask_with("GC", sandbox("", &config)).await;
    assert_eq!(
        answer["error"],
        json!({"code": 11, "msg": "1 attachments could not be removed", "details": "c2-eth0: busy"})
    );
    // Without the list nothing may go.
    assert_eq!(agent.ask("GC", "").await["error"]["code"], 7);
    assert!(left("c2"));
}

/// The runtime gets a plain CNI result, the pod the annotation, whatever happens to the API or the agent.
#[tokio::test]
async fn pods_are_told_of_their_interfaces() {
    let agent = Agent::start();
    let entry = json!({"name": "second", "interface": "net1", "ips": ["10.9.0.2"], "dns": {}});
    let result = json!({"cniVersion": "1.0.0", "k8s.v1.cni.cncf.io/network-status": [entry]});
    *agent.network.result.lock().unwrap() = Some(result.to_string());
    let answer = agent.ask("ADD", "c1").await;
    assert!(!answer.to_string().contains("network-status"), "{answer}");
    let expected = format!("u1=shop/web k8s.v1.cni.cncf.io/network-status {}", json!([entry]));
    assert_eq!(agent.api.told(1).await, [expected.as_str()]);
    // The next agent cannot know what the API took.
    let agent = Agent::start_in(agent.stop().await);
    assert_eq!(agent.api.told(1).await, [expected.as_str()]);
    agent.stop().await;
}
