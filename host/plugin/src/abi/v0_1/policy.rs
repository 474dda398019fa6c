//! `witlet:policy@0.1.0`.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use k8s_openapi::api::core::v1;
use wasmtime::component::{Component, InstancePre, Resource};
use witlet_ports::policy::{Access, Review};

use self::bindings::exports::witlet::policy::admission as guest;
use self::bindings::{PolicyPlugin, PolicyPluginPre};
use super::lifecycle;
use super::policy_hooks::Hooks;
use crate::abi::{self, Keeper, answers};
use crate::capability::handles;
use crate::engine::PluginEngine;
use crate::error::Fault;
use crate::instance::{Caller, bindings};
use crate::state::{Plugin, State};

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::unwrap_used,
    clippy::large_futures
)]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../../wit/base/0.1", "../../wit/policy/0.1"],
        world: "witlet:policy/policy-plugin@0.1.0",
        exports: { default: async },
        with: { "witlet:base": crate::abi::v0_1::base::bindings::witlet::base },
        require_store_data_send: true,
    });
}

bindings!(PolicyPluginPre, PolicyPlugin);

pub(super) struct Driver {
    caller: Arc<Caller<PolicyPluginPre<State>>>,
    hooks: Hooks,
}

impl Driver {
    pub(super) fn new(
        engine: Arc<PluginEngine>,
        component: &Component,
        plugin: Arc<Plugin>,
        pre: InstancePre<State>,
    ) -> wasmtime::Result<Self> {
        let hooks = Hooks::find(&engine, component);
        Ok(Self {
            caller: Arc::new(Caller::new(engine, plugin, PolicyPluginPre::new(pre)?)),
            hooks,
        })
    }

    pub(super) fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        lifecycle::keeper(&self.caller)
    }
}

#[async_trait]
impl abi::Policy for Driver {
    async fn admit(&self, pod: &Arc<v1::Pod>) -> abi::Result<Review> {
        let pod = Arc::clone(pod);
        let review = self
            .caller
            .call("admit-pod", std::time::Duration::MAX, move |store, instance| {
                async move {
                    let handle = store.data_mut().table.push(handles::Pod(pod))?;
                    let lend = Resource::new_borrow(handle.rep());
                    let answer = instance
                        .witlet_policy_admission()
                        .call_admit_pod(&mut *store, lend)
                        .await?;
                    store.data_mut().table.delete(handle)?;
                    Ok(answer.map_err(Fault::from))
                }
                .boxed()
            })
            .await?;
        checked(review)
    }

    fn has_container_hook(&self) -> bool {
        self.hooks.container_create.is_some()
    }

    fn has_access_hook(&self) -> bool {
        self.hooks.access.is_some()
    }

    async fn container(
        &self,
        pod: &Arc<v1::Pod>,
        container: &Arc<v1::Container>,
        image: &str,
    ) -> abi::Result<Option<Review>> {
        self.hooks.container(&self.caller, pod, container, image).await
    }

    async fn access(&self, pod: &Arc<v1::Pod>, access: &Access) -> abi::Result<Option<Review>> {
        self.hooks.access(&self.caller, pod, access).await
    }
}

fn checked(review: guest::Review) -> abi::Result<Review> {
    let denied = match review.decision {
        guest::Decision::Allow => None,
        guest::Decision::Deny(denial) => Some((denial.reason, denial.message)),
    };
    answers::review(denied, review.warnings)
}
