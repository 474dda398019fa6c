//! `witlet:volume-steps@0.1.0`: optional exports of volume plugins, and what those may import.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1;
use wasmtime::component::{Component, ComponentType, HasSelf, Lift, Linker, Resource};
use witlet_ports::volume::{Amount, Usage};

use self::bindings::witlet::volume_steps as wit;
use super::base::{Error, give};
use super::optional::{exported, function};
use crate::abi::{self, Placed, absent, answers};
use crate::capability::step::{Secret, Step};
use crate::capability::volume_dir::VolumeDir;
use crate::capability::{handles, mount};
use crate::engine::PluginEngine;
use crate::error::Fault;
use crate::grants::{Capability, Grants};
use crate::instance::{Bindings, Caller};
use crate::state::{State, not_granted};

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
        path: ["../../wit/base/0.1", "../../wit/volume/0.1", "../../wit/volume-steps/0.1"],
        inline: "
            package witlet:host-volume-steps;
            world steps {
                import witlet:volume-steps/steps@0.1.0;
                import witlet:volume-steps/volume-secrets@0.1.0;
                import witlet:volume-steps/bind@0.1.0;
            }
        ",
        world: "witlet:host-volume-steps/steps",
        imports: { default: async | trappable },
        with: {
            "witlet:base": crate::abi::v0_1::base::bindings::witlet::base,
            "witlet:volume/files@0.1.0": crate::abi::v0_1::volume::bindings::witlet::volume::files,
            "witlet:volume-steps/steps@0.1.0.step": crate::capability::step::Step,
        },
        require_store_data_send: true,
    });
}

pub(super) fn add(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    // Every step mentions it.
    wit::steps::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    if grants.has(Capability::Mount) {
        wit::bind::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    if grants.has(Capability::VolumeSecrets) {
        wit::volume_secrets::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    Ok(())
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Published {
    #[component(name = "host-path")]
    host_path: Option<String>,
    #[component(name = "read-only")]
    read_only: bool,
    #[component(name = "follows-source")]
    follows_source: bool,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct OneUsage {
    total: u64,
    available: u64,
    used: u64,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct VolumeUsage {
    bytes: OneUsage,
    inodes: Option<OneUsage>,
}

impl From<OneUsage> for Amount {
    fn from(usage: OneUsage) -> Self {
        Self {
            total: usage.total,
            available: usage.available,
            used: usage.used,
        }
    }
}

type Answer<T> = (Result<T, Error>,);
type Dir = Resource<VolumeDir>;

fn lend<T>(handle: &Resource<T>) -> Resource<T>
where
    T: 'static,
{
    Resource::new_borrow(handle.rep())
}

/// The names of the interfaces that the component exports.
#[derive(Default)]
pub(super) struct Steps {
    staging: Option<Arc<str>>,
    expansion: Option<Arc<str>>,
    statistics: Option<Arc<str>>,
}

impl Steps {
    pub(super) fn find(engine: &PluginEngine, component: &Component) -> Self {
        let find = |name: &str| exported(engine, component, &format!("witlet:volume-steps/{name}")).map(Arc::from);
        Self {
            staging: find("staging"),
            expansion: find("expansion"),
            statistics: find("statistics"),
        }
    }

    pub(super) fn abilities(&self) -> abi::Abilities {
        abi::Abilities {
            stages: self.staging.is_some(),
            expands: self.expansion.is_some(),
            measures: self.statistics.is_some(),
        }
    }

    pub(super) async fn stage<B: Bindings>(
        &self,
        caller: &Caller<B>,
        step: Step,
        staging: VolumeDir,
    ) -> abi::Result<()> {
        let export = self.staging.clone().ok_or_else(absent)?;
        let call = caller.call_any("stage", Duration::MAX, move |store, instance| {
            async move {
                let (instance, index) = function(store, instance, &export, "stage")?;
                let stage = instance.get_typed_func::<(Resource<Step>, Dir), Answer<()>>(&mut *store, index)?;
                let table = &mut store.data_mut().table;
                let (step, staging) = (table.push(step)?, table.push(staging)?);
                let lent = (lend(&step), lend(&staging));
                let (answer,) = stage.call_async(&mut *store, lent).await?;
                let table = &mut store.data_mut().table;
                table.delete(step)?;
                table.delete(staging)?;
                Ok(answer.map_err(Fault::from))
            }
            .boxed()
        });
        call.await
    }

    pub(super) async fn publish<B: Bindings>(
        &self,
        caller: &Caller<B>,
        pod: Arc<v1::Pod>,
        step: Step,
        staging: Option<VolumeDir>,
        target: VolumeDir,
    ) -> abi::Result<Placed> {
        type Params = (Resource<handles::Pod>, Resource<Step>, Option<Dir>, Dir);
        let export = self.staging.clone().ok_or_else(absent)?;
        let call = caller.call_any("publish", Duration::MAX, move |store, instance| {
            async move {
                let (instance, index) = function(store, instance, &export, "publish")?;
                let publish = instance.get_typed_func::<Params, Answer<Published>>(&mut *store, index)?;
                let table = &mut store.data_mut().table;
                let (pod, step) = (table.push(handles::Pod(pod))?, table.push(step)?);
                let staging = staging.map(|dir| table.push(dir)).transpose()?;
                let target = table.push(target)?;
                let lent = (lend(&pod), lend(&step), staging.as_ref().map(lend), lend(&target));
                let (answer,) = publish.call_async(&mut *store, lent).await?;
                let table = &mut store.data_mut().table;
                table.delete(pod)?;
                table.delete(step)?;
                staging.map(|dir| table.delete(dir)).transpose()?;
                table.delete(target)?;
                Ok(answer.map_err(Fault::from))
            }
            .boxed()
        });
        let published = call.await?;
        answers::placed(Placed {
            host_path: published.host_path,
            read_only: published.read_only,
            follows_source: published.follows_source,
        })
    }

    pub(super) async fn unstage<B: Bindings>(&self, caller: &Caller<B>, staging: VolumeDir) -> abi::Result<()> {
        let export = self.staging.clone().ok_or_else(absent)?;
        let call = caller.call_any("unstage", Duration::MAX, move |store, instance| {
            async move {
                let (instance, index) = function(store, instance, &export, "unstage")?;
                let unstage = instance.get_typed_func::<(Dir,), Answer<()>>(&mut *store, index)?;
                let staging = store.data_mut().table.push(staging)?;
                let (answer,) = unstage.call_async(&mut *store, (lend(&staging),)).await?;
                store.data_mut().table.delete(staging)?;
                Ok(answer.map_err(Fault::from))
            }
            .boxed()
        });
        call.await
    }

    pub(super) async fn expand<B: Bindings>(
        &self,
        caller: &Caller<B>,
        step: Step,
        staging: Option<VolumeDir>,
        target: VolumeDir,
        bytes: u64,
    ) -> abi::Result<()> {
        let export = self.expansion.clone().ok_or_else(absent)?;
        let call = caller.call_any("expand", Duration::MAX, move |store, instance| {
            async move {
                type Params = (Resource<Step>, Option<Dir>, Dir, u64);
                let (instance, index) = function(store, instance, &export, "expand")?;
                let expand = instance.get_typed_func::<Params, Answer<()>>(&mut *store, index)?;
                let table = &mut store.data_mut().table;
                let step = table.push(step)?;
                let staging = staging.map(|dir| table.push(dir)).transpose()?;
                let target = table.push(target)?;
                let lent = (lend(&step), staging.as_ref().map(lend), lend(&target), bytes);
                let (answer,) = expand.call_async(&mut *store, lent).await?;
                let table = &mut store.data_mut().table;
                table.delete(step)?;
                staging.map(|dir| table.delete(dir)).transpose()?;
                table.delete(target)?;
                Ok(answer.map_err(Fault::from))
            }
            .boxed()
        });
        call.await
    }

    pub(super) async fn usage<B: Bindings>(&self, caller: &Caller<B>, target: VolumeDir) -> abi::Result<Usage> {
        let export = self.statistics.clone().ok_or_else(absent)?;
        let call = caller.call_any("usage", Duration::MAX, move |store, instance| {
            async move {
                let (instance, index) = function(store, instance, &export, "usage")?;
                let usage = instance.get_typed_func::<(Dir,), Answer<VolumeUsage>>(&mut *store, index)?;
                let target = store.data_mut().table.push(target)?;
                let (answer,) = usage.call_async(&mut *store, (lend(&target),)).await?;
                store.data_mut().table.delete(target)?;
                Ok(answer.map_err(Fault::from))
            }
            .boxed()
        });
        let VolumeUsage { bytes, inodes } = call.await?;
        Ok(Usage {
            bytes: bytes.into(),
            inodes: inodes.map(Into::into),
        })
    }
}

impl wit::steps::Host for State {}

impl wit::steps::HostStep for State {
    async fn volume(&mut self, step: Resource<Step>) -> wasmtime::Result<String> {
        Ok(self.table.get(&step)?.volume.to_string())
    }

    async fn block(&mut self, step: Resource<Step>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&step)?.block)
    }

    async fn drop(&mut self, step: Resource<Step>) -> wasmtime::Result<()> {
        self.table.delete(step)?;
        Ok(())
    }
}

impl wit::volume_secrets::Host for State {
    async fn get(&mut self, step: Resource<Step>) -> wasmtime::Result<Secret> {
        let secret = Arc::clone(&self.table.get(&step)?.secret);
        let given = self.used(Capability::VolumeSecrets, Ok(()));
        Ok(given.map_or_else(|_| Secret::new(), |()| (*secret).clone()))
    }
}

impl wit::bind::Host for State {
    async fn bind(&mut self, staging: Dir, target: Dir, read_only: bool) -> wasmtime::Result<Result<(), Error>> {
        let (staging, target) = (self.table.get(&staging)?.clone(), self.table.get(&target)?.clone());
        let grant = self.plugin.grants.mount.clone();
        let work = move || match grant {
            Some(grant) => mount::bind(&grant, &staging, &target, read_only),
            None => Err(not_granted(Capability::Mount)),
        };
        let result = tokio::task::spawn_blocking(work).await?;
        give(self, Capability::Mount, result)
    }
}
