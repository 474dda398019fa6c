//! Pod networks by CNI plugins: a chain of programs such as `bridge` and `portmap`, run as `libcni` runs them.
//!
//! Everything worth reading is in [`logic`]; here it is given a real host.

use witlet_sdk::network::{self, Attachment, Network, Node, Pod, Sandbox};
use witlet_sdk::{Result, config};

pub mod logic;

use logic::{Invocation, Runner, Wishes};

#[derive(Default)]
struct Cni;

impl Cni {
    fn runner() -> Result<Runner<'static, Node>> {
        Ok(Runner {
            node: &Node,
            config: config::get()?,
        })
    }
}

fn invocation(sandbox: &Sandbox) -> Invocation {
    Invocation {
        id: sandbox.id(),
        netns: sandbox.netns(),
        ifname: sandbox.ifname(),
        args: sandbox.args(),
        config: sandbox.config(),
    }
}

// 1: the state knows of more than one network; who does not would leave the others behind.
#[network::plugin(name = "network-cni", capabilities = ["exec"], state_version = 1)]
impl Network for Cni {
    fn setup(&self, pod: Option<&Pod>, sandbox: &Sandbox) -> Result<Attachment> {
        let wishes = Wishes::of(|key| pod?.annotation(key))?;
        Self::runner()?.add(&invocation(sandbox), &wishes)
    }

    fn teardown(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()> {
        Self::runner()?.del(&invocation(sandbox), state)
    }

    fn check(&self, sandbox: &Sandbox, state: Option<&str>) -> Result<()> {
        Self::runner()?.check(&invocation(sandbox), state)
    }

    fn status(&self) -> Result<()> {
        Self::runner()?.status()
    }
}
