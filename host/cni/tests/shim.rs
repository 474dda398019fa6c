//! The real program, with a fake agent at the socket or none at all.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use serde_json::{Value, json};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.path("state/attachments")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn config(&self) -> String {
        json!({
            "cniVersion": "1.0.0", "name": "witlet", "type": "witlet-cni",
            "socket": self.path("cni.sock"), "stateDir": self.path("state"),
        })
        .to_string()
    }

    /// Answers one request, and hands it out.
    fn agent(&self, answer: &'static str) -> JoinHandle<Value> {
        let listener = UnixListener::bind(self.path("cni.sock")).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            stream.read_to_string(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Both).unwrap();
            serde_json::from_str(&request).unwrap()
        })
    }

    fn call(&self, command: &str) -> Output {
        call(command, &[], &self.config())
    }

    fn record(&self, content: &Value) -> PathBuf {
        let path = self.path("state/attachments/c1-eth0.json");
        fs::write(&path, content.to_string()).unwrap();
        path
    }

    /// A program that writes its name, its environment and its input into `log`, and then exits so.
    fn program(&self, name: &str, exit: i32) -> PathBuf {
        let path = self.path(name);
        let log = self.path("log");
        let text = format!(
            "#!/bin/sh\nexec 9>>{}\necho \"{name} $* CNI_COMMAND=$CNI_COMMAND HOME=$HOME IFNAME=$CNI_IFNAME $(/bin/cat)\" >&9\necho 'it said why'\nexit {exit}\n",
            log.display()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

fn call(command: &str, change: &[(&str, &str)], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_witlet-cni"))
        .env_clear()
        .envs([
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web"),
            ("CNI_PATH", "/usr/lib/cni"),
            ("HOME", "/home/somebody"),
        ])
        .envs(change.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse before it has read its input.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The CNI error that it ended with.
fn error(output: &Output) -> Value {
    assert!(!output.status.success(), "it should have failed: {}", text(output));
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(error["cniVersion"].is_string() && error["msg"].is_string(), "{error}");
    error
}

fn step(program: &Path, args: &[&str]) -> Value {
    json!({"program": program, "args": args, "env": [["CNI_COMMAND", "DEL"]], "stdin": b"input"})
}

#[test]
fn version_needs_nobody() {
    for (stdin, version) in [
        (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
        (r#"{"cniVersion":"9.9.9"}"#, "1.1.0"),
        ("", "1.1.0"),
    ] {
        let output = call("VERSION", &[], stdin);
        assert!(output.status.success());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["cniVersion"], version);
        assert_eq!(answer["supportedVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    }
}

#[test]
fn a_request_and_its_answer() {
    let place = Place::new();
    let agent = place.agent(r#"{"result":"{\"cniVersion\":\"1.0.0\"}"}"#);
    let output = place.call("ADD");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(text(&output), r#"{"cniVersion":"1.0.0"}"#, "as the plugin said it");
    let request = agent.join().unwrap();
    assert_eq!(
        request,
        // As the agent reads it; its own tests have the same.
        json!({
            "command": "ADD",
            "sandbox": {
                "id": "c1",
                "netns": "/run/netns/x",
                "ifname": "eth0",
                "args": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web"]],
                "config": place.config(),
            },
        })
    );
}

#[test]
fn commands_without_a_result_print_nothing() {
    for command in ["DEL", "CHECK", "STATUS", "GC"] {
        let place = Place::new();
        let agent = place.agent(r#"{"result":null}"#);
        let output = place.call(command);
        assert!(output.status.success(), "{command}: {}", text(&output));
        assert_eq!(text(&output), "");
        assert_eq!(agent.join().unwrap()["command"], command);
    }
}

#[test]
fn a_del_after_the_namespace_is_gone() {
    let place = Place::new();
    let agent = place.agent(r#"{"result":null}"#);
    assert!(call("DEL", &[("CNI_NETNS", "")], &place.config()).status.success());
    assert_eq!(agent.join().unwrap()["sandbox"]["netns"], "");
}

#[test]
fn an_error_of_the_agent_is_printed_with_the_version_of_the_configuration() {
    let place = Place::new();
    let agent = place.agent(r#"{"error":{"code":100,"msg":"no address left","details":"full"}}"#);
    let output = place.call("ADD");
    assert_eq!(
        error(&output),
        json!({"cniVersion": "1.0.0", "code": 100, "msg": "no address left", "details": "full"})
    );
    agent.join().unwrap();
}

#[test]
fn nonsense_from_the_agent_is_an_error() {
    let place = Place::new();
    let agent = place.agent("hello");
    assert_eq!(error(&place.call("ADD"))["code"], 6);
    agent.join().unwrap();
}

#[test]
fn without_an_agent() {
    let place = Place::new();
    for (command, code) in [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)] {
        let error = error(&place.call(command));
        assert_eq!(error["code"], code, "{command}");
        assert!(error["msg"].as_str().unwrap().contains("is not running"), "{error}");
        assert!(error["details"].as_str().unwrap().contains("cni.sock"), "{error}");
    }
    // The socket of an agent that was killed.
    drop(UnixListener::bind(place.path("cni.sock")).unwrap());
    assert_eq!(error(&place.call("ADD"))["code"], 11);
}

#[test]
fn del_without_an_agent_and_without_a_record_succeeds() {
    let place = Place::new();
    let output = place.call("DEL");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(text(&output), "");
}

#[test]
fn del_without_an_agent_runs_what_was_recorded() {
    let place = Place::new();
    let (first, second) = (place.program("first", 0), place.program("second", 0));
    let record = place.record(&json!({
        "sandbox": {"id": "c1"}, "cni_result": "{}", "state": "x",
        "offline_teardown": [step(&first, &["a", "b c"]), step(&second, &[])],
    }));
    let output = place.call("DEL");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        place.log(),
        "first a b c CNI_COMMAND=DEL HOME= IFNAME= input\nsecond  CNI_COMMAND=DEL HOME= IFNAME= input\n",
        "in order, with their own environment and input only"
    );
    assert!(!record.exists());
    // Again there is nothing to do.
    assert!(place.call("DEL").status.success());
    assert_eq!(place.log().lines().count(), 2);
}

#[test]
fn every_recorded_command_runs_and_failures_keep_the_record() {
    let place = Place::new();
    let (bad, good) = (place.program("bad", 3), place.program("good", 0));
    let steps = [
        step(&bad, &[]),
        step(Path::new("/no/such/program"), &[]),
        step(Path::new("relative"), &[]),
        step(&good, &[]),
    ];
    let record = place.record(&json!({"offline_teardown": steps}));
    let error = error(&place.call("DEL"));
    assert_eq!(error["code"], 11);
    let details = error["details"].as_str().unwrap();
    for part in [
        "bad: exit status: 3: it said why",
        "/no/such/program: ",
        "relative: not an absolute path",
    ] {
        assert!(details.contains(part), "{details}");
    }
    assert!(place.log().contains("good"), "the last one ran all the same");
    assert!(record.exists(), "the agent, once it is back, can do better");
}

#[test]
fn a_record_that_cannot_be_read_is_left_to_the_agent() {
    let place = Place::new();
    for damaged in [
        json!("nonsense"),
        json!([]),
        json!({}),
        json!({"offline_teardown": [{}]}),
    ] {
        let record = place.record(&damaged);
        assert_eq!(error(&place.call("DEL"))["code"], 11, "{damaged}");
        assert!(record.exists());
    }
}

/// The agent dies in the middle of a DEL.
#[test]
fn an_agent_that_hangs_up_counts_as_none() {
    for answer in ["", r#"{"result":nu"#] {
        let place = Place::new();
        let program = place.program("undo", 0);
        let record = place.record(&json!({"offline_teardown": [step(&program, &[])]}));
        let agent = place.agent(answer);
        let output = place.call("DEL");
        assert!(output.status.success(), "{}", text(&output));
        assert!(!record.exists() && place.log().contains("undo"));
        agent.join().unwrap();
    }
}

#[test]
fn what_the_runtime_says_is_checked() {
    let place = Place::new();
    let config = place.config();
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, u64);
    let table: [Case; 12] = [
        ("", &[], &config, 4),
        ("NOPE", &[], &config, 4),
        ("ADD", &[("CNI_CONTAINERID", "")], &config, 4),
        ("ADD", &[("CNI_CONTAINERID", "../x")], &config, 4),
        ("ADD", &[("CNI_NETNS", "")], &config, 4),
        ("ADD", &[("CNI_IFNAME", "")], &config, 4),
        ("DEL", &[("CNI_IFNAME", "../../x")], &config, 4),
        ("ADD", &[("CNI_ARGS", "nonsense")], &config, 4),
        ("ADD", &[], "", 6),
        ("ADD", &[], "{", 6),
        ("ADD", &[], r#"{"cniVersion":"0.1.0"}"#, 1),
        ("ADD", &[], r#"{"cniVersion":"1.0.0","socket":"relative"}"#, 7),
    ];
    for (command, change, stdin, code) in table {
        assert_eq!(
            error(&call(command, change, stdin))["code"],
            code,
            "{command} {change:?} {stdin}"
        );
    }
    let huge = format!("{{\"cniVersion\":\"1.0.0\",\"x\":\"{}\"}}", "x".repeat(300 << 10));
    assert_eq!(error(&call("ADD", &[], &huge))["code"], 6);
}
