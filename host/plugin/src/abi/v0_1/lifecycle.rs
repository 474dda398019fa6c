//! `witlet:lifecycle@0.1.0`: optional exports, found by looking at the component.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, ComponentType, Instance, InstancePre, Lift, Lower};

use super::optional::{self, exported};
use crate::abi::{self, Keeper, Snapshot};
use crate::config::{Instances, Limits};
use crate::engine::PluginEngine;
use crate::error::{CallError, Fault};
use crate::instance::{Bindings, Caller, Instantiated};
use crate::state::{Plugin, State};

const SELF_CHECK: &str = "witlet:lifecycle/self-check";
const STATE: &str = "witlet:lifecycle/state";
/// What a version may hand to the next.
const MAX_STATE: usize = 1 << 20;
/// Of an export or import; calls wait meanwhile.
const WALL: Duration = Duration::from_secs(2);

/// The plugin's check of itself, if it has one.
pub(crate) struct SelfCheck(Option<(Arc<Caller<Untyped>>, String)>);

/// Calls exports by their names.
struct Untyped(InstancePre<State>);

impl Bindings for Untyped {
    type Instance = Instance;

    fn instantiate<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<Instance>> {
        self.0.instantiate_async(store).boxed()
    }

    fn with_names<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<Instantiated<Self>>> {
        async move {
            let instance = self.0.instantiate_async(store).await?;
            Ok(Instantiated {
                exports: instance,
                by_name: Some(instance),
            })
        }
        .boxed()
    }
}

/// The export through which this plugin hands over its state; none if it has none, or if no one instance has it.
pub(crate) fn handover(engine: &PluginEngine, component: &Component, limits: &Limits) -> Option<Arc<str>> {
    let export = exported(engine, component, STATE)?;
    let one =
        matches!(limits.instances, Instances::Warm { warm, .. } if warm.get() == 1) && limits.concurrency.get() == 1;
    if !one {
        tracing::info!(
            "it can hand over its state, which takes limits = {{ concurrency = 1, instances = {{ warm = 1 }} }}: otherwise there is no one instance that has it"
        );
    }
    one.then(|| export.into())
}

pub(super) fn keeper<B: Bindings>(caller: &Arc<Caller<B>>) -> Option<Arc<dyn Keeper>> {
    let has = caller.plugin().handover.is_some();
    has.then(|| Arc::clone(caller) as Arc<dyn Keeper>)
}

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Record {
    version: u32,
    data: Vec<u8>,
}

/// The instance, and the index of a function of its interface `state`.
fn function<B: Bindings>(
    store: &mut Store<State>,
    instance: &Instantiated<B>,
    name: &str,
) -> wasmtime::Result<(Instance, ComponentExportIndex)> {
    let export = store.data().plugin.handover.clone();
    let export = export.ok_or_else(|| wasmtime::format_err!("it has no {STATE}"))?;
    optional::function(store, instance, &export, name)
}

#[async_trait]
impl<B: Bindings> Keeper for Caller<B> {
    async fn export(&self) -> abi::Result<Option<Snapshot>> {
        if !self.has_kept() {
            return Ok(None);
        }
        let call = self.call_any("export-state", WALL, |store, instance| {
            async move {
                let (instance, index) = function(store, instance, "export-state")?;
                let export = instance.get_typed_func::<(), (Result<Record, String>,)>(&mut *store, index)?;
                let (answer,) = export.call_async(&mut *store, ()).await?;
                Ok(answer.map_err(Fault::failed))
            }
            .boxed()
        });
        let Record { version, data } = call.await?;
        if data.len() > MAX_STATE {
            let size = data.len();
            return Err(CallError::Nonsense(format!(
                "a state of {size} bytes, at most {MAX_STATE}"
            )));
        }
        Ok(Some(Snapshot { version, data }))
    }

    async fn import(&self, snapshot: Snapshot) -> abi::Result<()> {
        let Snapshot { version, data } = snapshot;
        self.call_any("import-state", WALL, move |store, instance| {
            async move {
                let (instance, index) = function(store, instance, "import-state")?;
                let import = instance.get_typed_func::<(Record,), (Result<(), String>,)>(&mut *store, index)?;
                let (answer,) = import.call_async(&mut *store, (Record { version, data },)).await?;
                Ok(answer.map_err(Fault::failed))
            }
            .boxed()
        })
        .await
    }
}

pub(super) fn find(
    engine: &Arc<PluginEngine>,
    component: &Component,
    plugin: &Arc<Plugin>,
    pre: &InstancePre<State>,
) -> SelfCheck {
    let export = exported(engine, component, SELF_CHECK);
    SelfCheck(export.map(|name| {
        let caller = Caller::new(Arc::clone(engine), Arc::clone(plugin), Untyped(pre.clone()));
        (Arc::new(caller), name)
    }))
}

impl SelfCheck {
    /// An error keeps the plugin out of service.
    pub(crate) async fn run(&self) -> abi::Result<()> {
        let Some((caller, export)) = &self.0 else { return Ok(()) };
        let export = export.clone();
        let wall = Duration::from_secs(10);
        caller
            .call("self-check", wall, move |store, instance| {
                async move {
                    let find = |store: &mut Store<State>| {
                        let interface = instance.get_export_index(&mut *store, None, &export)?;
                        instance.get_export_index(&mut *store, Some(&interface), "run")
                    };
                    let index = find(store).ok_or_else(|| wasmtime::format_err!("{export} has no function run"))?;
                    let run = instance.get_typed_func::<(), (Result<(), String>,)>(&mut *store, index)?;
                    let (answer,) = run.call_async(&mut *store, ()).await?;
                    Ok(answer.map_err(Fault::failed))
                }
                .boxed()
            })
            .await
    }
}
