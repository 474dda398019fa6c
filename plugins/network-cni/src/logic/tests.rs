#![allow(clippy::unwrap_used)]

use witlet_sdk::config::parse;
use witlet_sdk_testing::Script;

use super::*;

mod add;
mod del;
mod extra;
mod others;

type FakeNode = Script<Command, Output>;

fn output(exit_code: i32, stdout: &Value) -> Result<Output> {
    Ok(Output {
        exit_code,
        stdout: stdout.to_string().into_bytes(),
        stderr: Vec::new(),
    })
}

fn ok() -> Result<Output> {
    Ok(Output {
        exit_code: 0,
        stdout: Vec::new(),
        stderr: Vec::new(),
    })
}

fn missing() -> Result<Output> {
    Err(Error::NotFound("no such file or directory".to_owned()))
}

fn invocation() -> Invocation {
    Invocation {
        id: "c0ffee".to_owned(),
        netns: "/run/netns/x".to_owned(),
        ifname: "eth0".to_owned(),
        args: vec![
            ("K8S_POD_NAME".to_owned(), "web".to_owned()),
            ("IgnoreUnknown".to_owned(), "1".to_owned()),
        ],
        config: json!({
            "cniVersion": "1.0.0", "name": "outer", "type": "witlet-cni",
            "runtimeConfig": {"portMappings": [{"hostPort": 80}], "bandwidth": {"ingressRate": 1}},
        })
        .to_string(),
    }
}

/// Two plugins, `a` and `b`; `b` understands port mappings.
fn config() -> Config {
    parse(
        r#"{
            "name": "net",
            "bin_dirs": ["/one", "/two/"],
            "plugins": [{"type": "a", "x": 1}, {"type": "b", "capabilities": {"portMappings": true, "bandwidth": false}}]
        }"#,
    )
    .unwrap()
}

fn runner(node: &FakeNode) -> Runner<'_, FakeNode> {
    Runner { node, config: config() }
}

fn env(command: &Command, key: &str) -> Option<String> {
    command
        .env
        .iter()
        .find(|(k, _)| k == key)
        .map(|(_, value)| value.clone())
}

fn stdin(command: &Command) -> Value {
    serde_json::from_slice(&command.stdin).unwrap()
}

/// What was run: verb and program.
fn ran(node: &FakeNode) -> Vec<String> {
    node.asked()
        .iter()
        .map(|c| format!("{} {}", env(c, "CNI_COMMAND").unwrap(), c.program))
        .collect()
}
