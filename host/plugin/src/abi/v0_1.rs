//! Track 0.1: the frozen WIT packages `witlet:*@0.1.0`.

use std::sync::Arc;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use super::{Keeper, Linked};
use crate::config::Kind;
use crate::engine::PluginEngine;
use crate::grants::{Capability, Grants, toml_lines};
use crate::state::{Plugin, State};

mod base;
mod lifecycle;
mod log_sink;
mod metric_sink;
mod network;
mod optional;
mod policy;
mod policy_hooks;
mod probe;
mod volume;
mod volume_steps;

/// Instances that plugins of this track may import without a grant.
const FREE: [&str; 9] = [
    "witlet:base/types",
    "witlet:base/objects",
    "witlet:base/log",
    "witlet:base/clock",
    "witlet:base/random",
    "witlet:base/config",
    "witlet:network/sandboxes",
    "witlet:volume/files",
    "witlet:volume-steps/steps",
];

/// Packages of WASI 0.2 that are there without a grant, and empty: `wasi:http`, for one, is not.
const WASI: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];

fn is_wasi(import: &str) -> bool {
    let package = import.strip_prefix("wasi:").and_then(|rest| rest.split('/').next());
    package.is_some_and(|package| WASI.contains(&package))
}

/// May every plugin of this track import it, without a grant?
pub fn is_free(import: &str) -> bool {
    let bare = import.split('@').next().unwrap_or(import);
    FREE.contains(&bare) || is_wasi(bare)
}

/// What a component imports, as far as it matters here.
pub(crate) struct Imports {
    /// Capabilities whose functions it calls. Types alone need no grant.
    capabilities: Vec<Capability>,
    pub(crate) wasi: bool,
    unknown: Vec<String>,
}

impl Imports {
    pub(crate) fn of(engine: &PluginEngine, component: &Component) -> Self {
        let mut imports = Self {
            capabilities: Vec::new(),
            wasi: false,
            unknown: Vec::new(),
        };
        let ty = component.component_type();
        for (name, item) in ty.imports(engine.wasmtime()) {
            let bare = name.split('@').next().unwrap_or(name);
            if is_wasi(bare) {
                imports.wasi = true;
            } else if let Some(capability) = Capability::of_interface(name) {
                let calls = match item.ty {
                    ComponentItem::ComponentInstance(instance) => instance
                        .exports(engine.wasmtime())
                        .any(|(_, export)| matches!(export.ty, ComponentItem::ComponentFunc(_))),
                    _ => true,
                };
                if calls {
                    imports.capabilities.push(capability);
                }
            } else if !FREE.contains(&bare) {
                imports.unknown.push(name.to_owned());
            }
        }
        imports
    }

    /// Every import must be there. The error says what to do about it, not what a linker thinks.
    pub(crate) fn check(&self, plugin: &str, kind: Kind, asked: &[Capability], granted: &Grants) -> Result<(), String> {
        if let Some(unknown) = self.unknown.first() {
            return Err(format!("it imports {unknown}, which this node does not offer"));
        }
        let mut missing = Vec::new();
        for &capability in &self.capabilities {
            if !capability.fits(kind) {
                return Err(format!("it imports {capability}, which {kind} plugins cannot have"));
            }
            if !asked.contains(&capability) {
                return Err(format!(
                    "it imports {capability} without asking for it: add {capability:?} to the capabilities in its manifest and rebuild it",
                    capability = capability.as_str()
                ));
            }
            if !granted.has(capability) {
                missing.push(capability);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(|c| c.as_str()).collect();
        Err(format!(
            "it needs {}, which is not granted; to grant it, add:\n{}",
            names.join(", "),
            toml_lines(plugin, &missing)
        ))
    }
}

/// What a component can be asked.
pub(crate) struct Callable {
    pub(crate) linked: Linked,
    pub(crate) keeper: Option<Arc<dyn Keeper>>,
    pub(crate) check: SelfCheck,
}

/// Makes the functions of a component callable, with nothing in reach but what it was granted.
pub(crate) fn link(
    engine: &Arc<PluginEngine>,
    component: &Component,
    plugin: &Arc<Plugin>,
) -> wasmtime::Result<Callable> {
    let mut linker: Linker<State> = Linker::new(engine.wasmtime());
    base::add(&mut linker, &plugin.grants)?;
    if plugin.wasi {
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    }
    match plugin.kind {
        Kind::Probe => probe::add(&mut linker, &plugin.grants)?,
        Kind::Volume => {
            volume::add(&mut linker, &plugin.grants)?;
            volume_steps::add(&mut linker, &plugin.grants)?;
        }
        Kind::Network => network::add(&mut linker, &plugin.grants)?,
        Kind::SinkLog => log_sink::add(&mut linker, &plugin.grants)?,
        Kind::Policy | Kind::SinkMetric => {}
    }
    let pre = linker.instantiate_pre(component)?;
    let check = lifecycle::find(engine, component, plugin, &pre);
    let (engine, plugin) = (Arc::clone(engine), Arc::clone(plugin));
    // Both of one driver: what it calls is what it keeps.
    macro_rules! made {
        ($linked:ident, $driver:expr) => {{
            let driver = $driver;
            let keeper = driver.keeper();
            (Linked::$linked(Arc::new(driver)), keeper)
        }};
    }
    let (linked, keeper) = match plugin.kind {
        Kind::Probe => made!(Probe, probe::Driver::new(engine, plugin, pre)?),
        Kind::Volume => made!(Volume, volume::Driver::new(engine, component, plugin, pre)?),
        Kind::Network => made!(Network, network::Driver::new(engine, plugin, pre)?),
        Kind::Policy => made!(Policy, policy::Driver::new(engine, component, plugin, pre)?),
        Kind::SinkLog => made!(LogSink, log_sink::Driver::new(engine, plugin, pre)?),
        Kind::SinkMetric => made!(MetricSink, metric_sink::Driver::new(engine, plugin, pre)?),
    };
    Ok(Callable { linked, keeper, check })
}

pub(crate) use lifecycle::{SelfCheck, handover};
pub(crate) use optional::has_any as has_optional;
