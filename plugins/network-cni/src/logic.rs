//! Running a chain of CNI plugins (CNI specification 1.0, sections 3 and 4).
//!
//! ADD runs the chain forwards, each plugin with the result of the one before. DEL runs it backwards, each with the result
//! of ADD. What ADD did is kept as state, with the chain as it was then: DEL must undo that, whatever the configuration has
//! become.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use witlet_sdk::network::{Attachment, Command, Exec, Output};
use witlet_sdk::{Error, Result};

mod config;
mod failure;
mod status;
mod wishes;

#[cfg(test)]
mod tests;

pub use config::Config;
use status::NETWORK_STATUS;
pub use wishes::{Wanted, Wishes};

/// The host lets no call run longer than its own deadline; this is for a program that hangs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What reads definitions of networks.
const CAT: &str = "/usr/bin/cat";

/// Programs get a clean environment, but some start others, such as iptables.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the runtime asks for.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    pub id: String,
    pub netns: String,
    pub ifname: String,
    pub args: Vec<(String, String)>,
    /// The configuration that came on standard input, as JSON.
    pub config: String,
}

/// The part of the runtime's configuration that matters here.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Asked {
    cni_version: Option<String>,
    runtime_config: Map<String, Value>,
}

/// A chain as it was, or will be, run; and after ADD, with what came of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    cni_version: String,
    name: String,
    plugins: Vec<Map<String, Value>>,
    bin_dirs: Vec<String>,
    #[serde(default)]
    runtime_config: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    /// The pod's other networks, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extra: Vec<Extra>,
}

/// A network that the pod asked for besides its own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Extra {
    ifname: String,
    network: Network,
}

impl Network {
    /// All interfaces of the pod, its own network's first, as the Network Plumbing Working Group writes them down.
    fn told(&self, ifname: &str) -> Value {
        let own = status::entry(&self.name, ifname, true, self.result.as_ref());
        let extra = self
            .extra
            .iter()
            .map(|one| status::entry(&one.network.name, &one.ifname, false, one.network.result.as_ref()));
        Value::Array(std::iter::once(own).chain(extra).collect())
    }
}

/// Runs the configured chain.
pub struct Runner<'a, E> {
    pub node: &'a E,
    pub config: Config,
}

impl<E: Exec> Runner<'_, E> {
    pub fn add(&self, invocation: &Invocation, wishes: &Wishes) -> Result<Attachment> {
        let mut asked = asked(&invocation.config)?;
        if let Some(bandwidth) = &wishes.bandwidth {
            let known = asked.runtime_config.entry("bandwidth");
            known.or_insert_with(|| Value::Object(bandwidth.clone()));
        }
        // Everything is known before anything is done.
        let mut network = self.network(&asked)?;
        let extra = wishes.networks.iter().map(|wanted| self.extra(&asked, wanted));
        let extra = extra.collect::<Result<Vec<_>>>()?;
        let programs = self.add_chain(&mut network, invocation)?;
        let mut offline = network.undoing(&programs, invocation);
        for mut one in extra {
            let own = one.invocation(invocation);
            match self.add_chain(&mut one.network, &own) {
                Ok(programs) => {
                    offline = [one.network.undoing(&programs, &own), offline].concat();
                    network.extra.push(one);
                }
                Err(error) => return Err(with_undo(error, self.del_network(&network, invocation))),
            }
        }
        let mut result = network.result.clone();
        if let Some(Value::Object(members)) = result.as_mut().filter(|_| !network.extra.is_empty()) {
            // The host takes it out and puts it into the annotation.
            members.insert(NETWORK_STATUS.to_owned(), network.told(&invocation.ifname));
        }
        Ok(Attachment {
            cni_result: result.as_ref().map(Value::to_string).unwrap_or_default(),
            state: json!(network).to_string(),
            offline_teardown: offline,
        })
    }

    /// The programs that were run.
    fn add_chain(&self, network: &mut Network, invocation: &Invocation) -> Result<Vec<String>> {
        let mut programs = Vec::new();
        for index in 0..network.plugins.len() {
            match self.add_one(network, index, invocation) {
                Ok((program, result)) => {
                    programs.push(program);
                    network.result = Some(result);
                }
                // The one that failed may have done half of its work.
                Err(error) => return Err(with_undo(error, self.del_all(network, index + 1, invocation))),
            }
        }
        Ok(programs)
    }

    fn add_one(&self, network: &Network, index: usize, invocation: &Invocation) -> Result<(String, Value)> {
        let (program, output) = self.run(network, index, "ADD", invocation)?;
        let result: Map<String, Value> = serde_json::from_slice(&output)
            .map_err(|e| Error::Failed(format!("{} gave no result (add): {e}", network.describe(index))))?;
        Ok((program, Value::Object(result)))
    }

    /// Every plugin gets its turn, whatever becomes of the others; the first error counts.
    pub fn del(&self, invocation: &Invocation, state: Option<&str>) -> Result<()> {
        let network = match state {
            Some(state) => parse_state(state)?,
            None => self.network(&asked(&invocation.config)?)?,
        };
        self.del_network(&network, invocation)
    }

    /// The last one first.
    fn del_network(&self, network: &Network, invocation: &Invocation) -> Result<()> {
        let mut first = Ok(());
        for one in network.extra.iter().rev() {
            let own = one.invocation(invocation);
            let done = self.del_all(&one.network, one.network.plugins.len(), &own);
            first = first.and(done);
        }
        first.and(self.del_all(network, network.plugins.len(), invocation))
    }

    fn del_all(&self, network: &Network, count: usize, invocation: &Invocation) -> Result<()> {
        let mut first = Ok(());
        for index in (0..count).rev() {
            let done = self.run(network, index, "DEL", invocation).map(drop);
            if first.is_ok() {
                first = done;
            }
        }
        first
    }

    pub fn check(&self, invocation: &Invocation, state: Option<&str>) -> Result<()> {
        let network = match state {
            Some(state) => parse_state(state)?,
            None => {
                return Err(Error::Failed(
                    "nothing is known of what CHECK is asked to check".to_owned(),
                ));
            }
        };
        if version(&network.cni_version) < (0, 4, 0) {
            let text = format!(
                "configuration version {:?} does not support CHECK command",
                network.cni_version
            );
            return Err(Error::Invalid(text));
        }
        let check = |network: &Network, invocation: &Invocation| {
            (0..network.plugins.len()).try_for_each(|index| self.run(network, index, "CHECK", invocation).map(drop))
        };
        check(&network, invocation)?;
        let mut extra = network.extra.iter();
        extra.try_for_each(|one| check(&one.network, &one.invocation(invocation)))
    }

    /// Are the programs there, and do they speak the chain's version? Those that can are asked for more.
    pub fn status(&self) -> Result<()> {
        let network = self.network(&Asked::default())?;
        let nothing = Invocation::default();
        for index in 0..network.plugins.len() {
            let (_, output) = self.run(&network, index, "VERSION", &nothing)?;
            let supported: Supported = serde_json::from_slice(&output)
                .map_err(|e| Error::Failed(format!("{} did not tell its versions: {e}", network.describe(index))))?;
            if !supported.supported_versions.contains(&network.cni_version) {
                return Err(Error::Invalid(format!(
                    "{} does not support config version {:?}",
                    network.describe(index),
                    network.cni_version
                )));
            }
            if version(&network.cni_version) >= (1, 1, 0) {
                self.run(&network, index, "STATUS", &nothing)?;
            }
        }
        Ok(())
    }

    fn network(&self, asked: &Asked) -> Result<Network> {
        let config = &self.config;
        let network = Network {
            // The runtime must understand the result.
            cni_version: config
                .cni_version
                .clone()
                .or_else(|| asked.cni_version.clone())
                .unwrap_or_else(|| "1.0.0".to_owned()),
            name: config.name.clone(),
            plugins: config.chain(asked.runtime_config.contains_key("bandwidth"))?,
            bin_dirs: config.bin_dirs.clone(),
            runtime_config: asked.runtime_config.clone(),
            result: None,
            extra: Vec::new(),
        };
        network.verified()
    }

    /// A network besides the pod's own, as the node's configuration or a file of it defines it.
    fn extra(&self, asked: &Asked, wanted: &Wanted) -> Result<Extra> {
        let name = &wanted.name;
        let defined = match (self.config.networks.get(name), &self.config.network_dir) {
            (Some(plugins), _) => Defined {
                cni_version: None,
                plugins: plugins.clone(),
            },
            (None, Some(dir)) => self.read(&format!("{}/{name}.conflist", dir.trim_end_matches('/')))?,
            (None, None) => return Err(Error::Invalid(format!("there is no network {name:?} on this node"))),
        };
        if defined.plugins.is_empty() {
            return Err(Error::Invalid(format!(
                "network {name:?}: a chain has at least one plugin"
            )));
        }
        // What the runtime asks for is meant for the pod's own network.
        let mut runtime_config = Map::new();
        if !wanted.ips.is_empty() {
            runtime_config.insert("ips".to_owned(), json!(wanted.ips));
        }
        let config = &self.config;
        let version = defined.cni_version.or_else(|| config.cni_version.clone());
        let network = Network {
            cni_version: version
                .or_else(|| asked.cni_version.clone())
                .unwrap_or_else(|| "1.0.0".to_owned()),
            name: name.clone(),
            plugins: defined.plugins,
            bin_dirs: config.bin_dirs.clone(),
            runtime_config,
            result: None,
            extra: Vec::new(),
        };
        Ok(Extra {
            ifname: wanted.ifname.clone(),
            network: network.verified()?,
        })
    }

    /// Plugins have no files: a program reads it.
    fn read(&self, path: &str) -> Result<Defined> {
        let command = Command {
            program: CAT.to_owned(),
            args: vec!["--".to_owned(), path.to_owned()],
            env: Vec::new(),
            stdin: Vec::new(),
        };
        let output = self.node.run(&command, TIMEOUT).map_err(|e| e.context(path))?;
        if output.exit_code != 0 {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Invalid(format!("the network cannot be read: {}", text.trim())));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| Error::Invalid(format!("{path}: {e}")))
    }

    /// Runs one plugin of the chain, from the first directory that has it; the path and what it wrote.
    fn run(&self, network: &Network, index: usize, verb: &str, invocation: &Invocation) -> Result<(String, Vec<u8>)> {
        let name = network.program(index);
        let mut refused = None;
        for dir in &network.bin_dirs {
            let program = format!("{}/{name}", dir.trim_end_matches('/'));
            let command = network.command(index, program.clone(), verb, invocation);
            match self.node.run(&command, TIMEOUT) {
                Ok(Output {
                    exit_code: 0, stdout, ..
                }) => return Ok((program, stdout)),
                Ok(output) => return Err(failure::of(&network.describe(index), verb, &output)),
                Err(Error::NotFound(_)) => {}
                // Perhaps the grant lists it elsewhere.
                Err(error @ Error::Denied(_)) => refused = refused.or(Some(error)),
                Err(error) => {
                    return Err(error.context(format!("{} failed ({})", network.describe(index), verb.to_lowercase())));
                }
            }
        }
        Err(refused.unwrap_or_else(|| {
            Error::Unavailable(format!(
                "failed to find plugin {name:?} in path [{}]",
                network.bin_dirs.join(" ")
            ))
        }))
    }
}

/// A network's definition, as far as it is needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Defined {
    #[serde(default)]
    cni_version: Option<String>,
    plugins: Vec<Map<String, Value>>,
}

fn with_undo(error: Error, undone: Result<()>) -> Error {
    match undone {
        Ok(()) => error,
        Err(undo) => error.map_message(|m| format!("{m}; clean-up: {}", undo.message())),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Supported {
    supported_versions: Vec<String>,
}

impl Extra {
    fn invocation(&self, of_pod: &Invocation) -> Invocation {
        Invocation {
            ifname: self.ifname.clone(),
            ..of_pod.clone()
        }
    }
}

impl Network {
    fn verified(self) -> Result<Self> {
        for index in 0..self.plugins.len() {
            let name = self.program(index);
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                return Err(Error::Invalid(format!("invalid plugin name: {name:?}")));
            }
        }
        Ok(self)
    }

    /// The commands that undo what these programs did, the last one first.
    fn undoing(&self, programs: &[String], invocation: &Invocation) -> Vec<Command> {
        let programs = programs.iter().enumerate().rev();
        programs
            .map(|(at, program)| self.command(at, program.clone(), "DEL", invocation))
            .collect()
    }

    fn program(&self, index: usize) -> &str {
        self.plugins
            .get(index)
            .and_then(|p| p.get("type"))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// As errors name a plugin.
    fn describe(&self, index: usize) -> String {
        format!("plugin type={:?} name={:?}", self.program(index), self.name)
    }

    fn command(&self, index: usize, program: String, verb: &str, invocation: &Invocation) -> Command {
        let args: Vec<_> = invocation
            .args
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut env = vec![
            ("PATH", PATH.to_owned()),
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_PATH", self.bin_dirs.join(":")),
        ];
        if !matches!(verb, "VERSION" | "STATUS") {
            env.extend([
                ("CNI_CONTAINERID", invocation.id.clone()),
                ("CNI_NETNS", invocation.netns.clone()),
                ("CNI_IFNAME", invocation.ifname.clone()),
                ("CNI_ARGS", args.join(";")),
            ]);
        }
        Command {
            program,
            args: Vec::new(),
            env: env.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            stdin: self.stdin(index, verb).to_string().into_bytes(),
        }
    }

    fn stdin(&self, index: usize, verb: &str) -> Value {
        if verb == "VERSION" {
            return json!({ "cniVersion": self.cni_version });
        }
        let mut config = self.plugins.get(index).cloned().unwrap_or_default();
        config.insert("cniVersion".to_owned(), json!(self.cni_version));
        config.insert("name".to_owned(), json!(self.name));
        // Each plugin gets those of the runtime's arguments that it declares to understand.
        let understood = |key: &str| config.get("capabilities").is_some_and(|c| c[key] == json!(true));
        let runtime: Map<String, Value> = self
            .runtime_config
            .iter()
            .filter(|(key, _)| understood(key))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if !runtime.is_empty() {
            config.insert("runtimeConfig".to_owned(), Value::Object(runtime));
        }
        // Older plugins do not expect one at DEL.
        let wants_result = verb != "DEL" || version(&self.cni_version) >= (0, 4, 0);
        if let Some(result) = self.result.as_ref().filter(|_| wants_result) {
            config.insert("prevResult".to_owned(), result.clone());
        }
        Value::Object(config)
    }
}

fn asked(config: &str) -> Result<Asked> {
    if config.is_empty() {
        return Ok(Asked::default());
    }
    serde_json::from_str(config).map_err(|e| Error::Invalid(format!("the runtime's network configuration: {e}")))
}

fn parse_state(state: &str) -> Result<Network> {
    serde_json::from_str(state).map_err(|e| Error::Invalid(format!("the state of an earlier ADD: {e}")))
}

/// Something that is no version is older than all of them.
fn version(text: &str) -> (u32, u32, u32) {
    let mut parts = text.split('.').map(|p| p.parse().unwrap_or_default());
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next())
}
