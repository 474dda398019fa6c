//! A network that leaves the work to one CNI program of the node.
//!
//! `config`: `{ program = "/usr/lib/cni/ptp", network = { name = "net", ipam = { … } } }`, with the grant
//! `exec = { programs = ["/usr/lib/cni/ptp"] }`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use witlet_sdk::network::{self, Attachment, Command, Exec, Network, Node, Pod, Sandbox};
use witlet_sdk::{Error, Result, config};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct {{Type}};

#[network::plugin(name = "{{name}}", capabilities = ["exec"])]
impl Network for {{Type}} {
    fn setup(&self, _: Option<&Pod>, sandbox: &Sandbox) -> Result<Attachment> {
        setup(&Node, &config::get()?, &Invocation::of(sandbox))
    }

    /// Also of what another version set up: the configuration and the sandbox are all that it needs.
    fn teardown(&self, sandbox: &Sandbox, _: Option<&str>) -> Result<()> {
        run(&Node, &config::get()?, &Invocation::of(sandbox), "DEL").map(drop)
    }

    fn check(&self, _: &Sandbox, _: Option<&str>) -> Result<()> {
        Ok(())
    }

    fn status(&self) -> Result<()> {
        config::get::<Config>().map(drop)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub program: String,
    pub network: Map<String, Value>,
}

/// What CNI programs are told of a sandbox.
pub struct Invocation {
    pub id: String,
    pub netns: String,
    pub ifname: String,
}

impl Invocation {
    fn of(sandbox: &Sandbox) -> Self {
        Self {
            id: sandbox.id(),
            netns: sandbox.netns(),
            ifname: sandbox.ifname(),
        }
    }
}

pub fn setup(node: &impl Exec, config: &Config, invocation: &Invocation) -> Result<Attachment> {
    Ok(Attachment {
        cni_result: run(node, config, invocation, "ADD")?,
        state: String::new(),
        // What the runtime does when it removes a sandbox while the agent is down.
        offline_teardown: vec![command(config, invocation, "DEL")],
    })
}

fn command(config: &Config, invocation: &Invocation, verb: &str) -> Command {
    let mut stdin = config.network.clone();
    stdin.entry("cniVersion").or_insert("1.0.0".into());
    let env = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", &invocation.id),
        ("CNI_NETNS", &invocation.netns),
        ("CNI_IFNAME", &invocation.ifname),
        ("CNI_PATH", "/usr/lib/cni"),
    ];
    Command {
        program: config.program.clone(),
        args: Vec::new(),
        env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        stdin: Value::Object(stdin).to_string().into_bytes(),
    }
}

fn run(node: &impl Exec, config: &Config, invocation: &Invocation, verb: &str) -> Result<String> {
    let output = node.run(&command(config, invocation, verb), PATIENCE)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.exit_code != 0 {
        return Err(Error::Failed(format!("{} {verb}: {}", config.program, stdout.trim())));
    }
    Ok(stdout)
}
