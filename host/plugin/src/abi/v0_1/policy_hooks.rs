//! `witlet:policy-hooks@0.1.0`: optional exports of policies, found by looking at the component.

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::core::v1;
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentType, InstancePre, Lift, Lower, Resource};
use witlet_ports::policy::{Access, Review};

use super::base::Error;
use super::lifecycle::Untyped;
use crate::abi::{self, answers};
use crate::capability::handles;
use crate::engine::PluginEngine;
use crate::error::Fault;
use crate::instance::Caller;
use crate::state::{Plugin, State};

const CONTAINER_CREATE: &str = "witlet:policy-hooks/container-create";
const ACCESS: &str = "witlet:policy-hooks/access";

#[derive(ComponentType, Lift)]
#[component(record)]
struct Answer {
    denied: Option<String>,
    warnings: Vec<String>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Request {
    verb: String,
    container: String,
    command: Vec<String>,
    stdin: bool,
    tty: bool,
    ports: Vec<u16>,
}

/// The names of the hooks that the component exports.
pub(super) struct Hooks {
    caller: Caller<Untyped>,
    pub(super) container_create: Option<String>,
    pub(super) access: Option<String>,
}

impl Hooks {
    pub(super) fn find(
        engine: &Arc<PluginEngine>,
        component: &Component,
        plugin: &Arc<Plugin>,
        pre: &InstancePre<State>,
    ) -> Self {
        let ty = component.component_type();
        let find = |wanted: &str| {
            ty.exports(engine.wasmtime()).find_map(|(name, item)| {
                let named = name.split('@').next() == Some(wanted);
                (named && matches!(item.ty, ComponentItem::ComponentInstance(_))).then(|| name.to_owned())
            })
        };
        Self {
            caller: Caller::new(Arc::clone(engine), Arc::clone(plugin), Untyped(pre.clone())),
            container_create: find(CONTAINER_CREATE),
            access: find(ACCESS),
        }
    }

    /// None: the policy does not ask to be asked.
    pub(super) async fn container(
        &self,
        pod: &Arc<v1::Pod>,
        container: &Arc<v1::Container>,
        image: &str,
    ) -> abi::Result<Option<Review>> {
        let Some(export) = self.container_create.clone() else {
            return Ok(None);
        };
        let (pod, container, image) = (Arc::clone(pod), Arc::clone(container), image.to_owned());
        let answer = self
            .caller
            .call("review-container", std::time::Duration::MAX, move |store, instance| {
                async move {
                    type Params = (Resource<handles::Pod>, Resource<handles::Container>, String);
                    let index = index(instance, store, &export, "review-container")?;
                    let function = instance.get_typed_func::<Params, (Result<Answer, Error>,)>(&mut *store, index)?;
                    let table = &mut store.data_mut().table;
                    let pod = table.push(handles::Pod(pod))?;
                    let container = table.push(handles::Container { container, id: None })?;
                    let lend = (
                        Resource::new_borrow(pod.rep()),
                        Resource::new_borrow(container.rep()),
                        image,
                    );
                    let (answer,) = function.call_async(&mut *store, lend).await?;
                    let table = &mut store.data_mut().table;
                    table.delete(pod)?;
                    table.delete(container)?;
                    Ok(answer.map_err(Fault::from))
                }
                .boxed()
            })
            .await?;
        Ok(Some(review(answer)))
    }

    /// None: the policy does not ask to be asked.
    pub(super) async fn access(&self, pod: &Arc<v1::Pod>, access: &Access) -> abi::Result<Option<Review>> {
        let Some(export) = self.access.clone() else {
            return Ok(None);
        };
        let pod = Arc::clone(pod);
        let request = Request {
            verb: access.verb.as_str().to_owned(),
            container: access.container.clone(),
            command: access.command.clone(),
            stdin: access.stdin,
            tty: access.tty,
            ports: access.ports.clone(),
        };
        let answer = self
            .caller
            .call("review-access", std::time::Duration::MAX, move |store, instance| {
                async move {
                    type Params = (Resource<handles::Pod>, Request);
                    let index = index(instance, store, &export, "review-access")?;
                    let function = instance.get_typed_func::<Params, (Result<Answer, Error>,)>(&mut *store, index)?;
                    let pod = store.data_mut().table.push(handles::Pod(pod))?;
                    let lend = (Resource::new_borrow(pod.rep()), request);
                    let (answer,) = function.call_async(&mut *store, lend).await?;
                    store.data_mut().table.delete(pod)?;
                    Ok(answer.map_err(Fault::from))
                }
                .boxed()
            })
            .await?;
        Ok(Some(review(answer)))
    }
}

fn index(
    instance: &wasmtime::component::Instance,
    store: &mut Store<State>,
    interface: &str,
    function: &str,
) -> wasmtime::Result<wasmtime::component::ComponentExportIndex> {
    let missing = || wasmtime::format_err!("{interface} has no function {function}");
    let found = instance
        .get_export_index(&mut *store, None, interface)
        .ok_or_else(missing)?;
    instance
        .get_export_index(&mut *store, Some(&found), function)
        .ok_or_else(missing)
}

fn review(answer: Answer) -> Review {
    answers::hook_review(answer.denied, answer.warnings)
}
