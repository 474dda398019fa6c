//! `witlet:lifecycle@0.1.0`: optional exports, found by looking at the component.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Instance, InstancePre};

use crate::abi;
use crate::engine::PluginEngine;
use crate::error::Fault;
use crate::instance::{Bindings, Caller};
use crate::state::{Plugin, State};

const SELF_CHECK: &str = "witlet:lifecycle/self-check";

/// The plugin's check of itself, if it has one.
pub(crate) struct SelfCheck(Option<(Arc<Caller<Untyped>>, String)>);

/// Calls exports by their names.
pub(super) struct Untyped(pub(super) InstancePre<State>);

impl Bindings for Untyped {
    type Instance = Instance;

    fn instantiate<'a>(&'a self, store: &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<Instance>> {
        self.0.instantiate_async(store).boxed()
    }
}

pub(super) fn find(
    engine: &Arc<PluginEngine>,
    component: &Component,
    plugin: &Arc<Plugin>,
    pre: &InstancePre<State>,
) -> SelfCheck {
    let ty = component.component_type();
    let export = ty.exports(engine.wasmtime()).find_map(|(name, item)| {
        let named = name.split('@').next() == Some(SELF_CHECK);
        (named && matches!(item.ty, ComponentItem::ComponentInstance(_))).then(|| name.to_owned())
    });
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
        let wall = std::time::Duration::from_secs(10);
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
