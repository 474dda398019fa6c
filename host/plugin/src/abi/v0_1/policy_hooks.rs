//! `witlet:policy-hooks@0.1.0`: optional exports of policies, found by looking at the component.

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::core::v1;
use wasmtime::component::{Component, ComponentType, Lift, Lower, Resource};
use witlet_ports::policy::{Access, Review};

use super::base::Error;
use super::optional::{exported, function};
use crate::abi::{self, answers};
use crate::capability::handles;
use crate::engine::PluginEngine;
use crate::error::Fault;
use crate::instance::{Bindings, Caller};

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
    pub(super) container_create: Option<String>,
    pub(super) access: Option<String>,
}

impl Hooks {
    pub(super) fn find(engine: &PluginEngine, component: &Component) -> Self {
        Self {
            container_create: exported(engine, component, CONTAINER_CREATE),
            access: exported(engine, component, ACCESS),
        }
    }

    /// None: the policy does not ask to be asked.
    pub(super) async fn container<B: Bindings>(
        &self,
        caller: &Caller<B>,
        pod: &Arc<v1::Pod>,
        container: &Arc<v1::Container>,
        image: &str,
    ) -> abi::Result<Option<Review>> {
        let Some(export) = self.container_create.clone() else {
            return Ok(None);
        };
        let (pod, container, image) = (Arc::clone(pod), Arc::clone(container), image.to_owned());
        let answer = caller
            .call_any("review-container", std::time::Duration::MAX, move |store, instance| {
                async move {
                    type Params = (Resource<handles::Pod>, Resource<handles::Container>, String);
                    let (instance, index) = function(store, instance, &export, "review-container")?;
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
    pub(super) async fn access<B: Bindings>(
        &self,
        caller: &Caller<B>,
        pod: &Arc<v1::Pod>,
        access: &Access,
    ) -> abi::Result<Option<Review>> {
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
        let answer = caller
            .call_any("review-access", std::time::Duration::MAX, move |store, instance| {
                async move {
                    type Params = (Resource<handles::Pod>, Request);
                    let (instance, index) = function(store, instance, &export, "review-access")?;
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

fn review(answer: Answer) -> Review {
    answers::hook_review(answer.denied, answer.warnings)
}
