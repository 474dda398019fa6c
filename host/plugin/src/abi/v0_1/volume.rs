//! `witlet:volume@0.1.0`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use k8s_openapi::api::core::v1;
use wasmtime::StoreContextMut;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker, Resource, ResourceType};
use witlet_core::downward;
use witlet_ports::volume::Usage;

use self::bindings::witlet::volume as wit;
use self::bindings::{VolumePlugin, VolumePluginPre};
use super::base::{Error, give};
use super::lifecycle;
use super::volume_steps::Steps;
use crate::abi::{self, Abilities, Keeper, Placed, answers};
use crate::capability::step::Step;
use crate::capability::volume_dir::VolumeDir;
use crate::capability::{files, handles, host_path, mount, nfs, pod_objects};
use crate::engine::PluginEngine;
use crate::error::Fault;
use crate::grants::{Capability, Grants};
use crate::instance::{Caller, bindings};
use crate::state::{Plugin, State, not_granted};

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::unwrap_used,
    clippy::large_futures
)]
pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: ["../../wit/base/0.1", "../../wit/volume/0.1"],
        world: "witlet:volume/volume-plugin@0.1.0",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "witlet:base": crate::abi::v0_1::base::bindings::witlet::base,
            "witlet:volume/files@0.1.0.volume-dir": crate::capability::volume_dir::VolumeDir,
        },
        require_store_data_send: true,
    });
}

pub(super) fn add(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    if grants.has(Capability::Files) {
        wit::files::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    } else {
        // Every volume plugin's own functions mention the type, also of one that needs no files.
        linker.instance("witlet:volume/files@0.1.0")?.resource(
            "volume-dir",
            ResourceType::host::<VolumeDir>(),
            |mut store: StoreContextMut<'_, State>, rep| {
                store.data_mut().table.delete(Resource::<VolumeDir>::new_own(rep))?;
                Ok(())
            },
        )?;
    }
    if grants.has(Capability::Mount) {
        wit::mount::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    if grants.has(Capability::HostPath) {
        wit::host_path::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    if grants.has(Capability::PodObjects) {
        wit::pod_objects::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    if grants.has(Capability::Downward) {
        wit::downward::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    Ok(())
}

bindings!(VolumePluginPre, VolumePlugin);

pub(super) struct Driver(Arc<Caller<VolumePluginPre<State>>>, Steps);

impl Driver {
    pub(super) fn new(
        engine: Arc<PluginEngine>,
        component: &Component,
        plugin: Arc<Plugin>,
        pre: InstancePre<State>,
    ) -> wasmtime::Result<Self> {
        let steps = Steps::find(&engine, component);
        let caller = Caller::new(engine, plugin, VolumePluginPre::new(pre)?);
        Ok(Self(Arc::new(caller), steps))
    }

    pub(super) fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        lifecycle::keeper(&self.0)
    }
}

#[async_trait]
impl abi::Volume for Driver {
    async fn publish(&self, pod: &Arc<v1::Pod>, volume: String, dir: VolumeDir) -> abi::Result<Placed> {
        let pod = Arc::clone(pod);
        let published = self
            .0
            .call("publish", Duration::MAX, move |store, instance| {
                async move {
                    let pod = store.data_mut().table.push(handles::Pod(pod))?;
                    let dir = store.data_mut().table.push(dir)?;
                    let lend = (Resource::new_borrow(pod.rep()), Resource::new_borrow(dir.rep()));
                    let answer = instance
                        .witlet_volume_driver()
                        .call_publish(&mut *store, lend.0, &volume, lend.1)
                        .await?;
                    let table = &mut store.data_mut().table;
                    table.delete(pod)?;
                    table.delete(dir)?;
                    Ok(answer.map_err(Fault::from))
                }
                .boxed()
            })
            .await?;
        answers::placed(Placed {
            host_path: published.host_path,
            read_only: published.read_only,
            follows_source: published.follows_source,
        })
    }

    async fn unpublish(&self, dir: VolumeDir) -> abi::Result<()> {
        self.0
            .call("unpublish", Duration::MAX, move |store, instance| {
                async move {
                    let dir = store.data_mut().table.push(dir)?;
                    let lend = Resource::new_borrow(dir.rep());
                    let answer = instance
                        .witlet_volume_driver()
                        .call_unpublish(&mut *store, lend)
                        .await?;
                    store.data_mut().table.delete(dir)?;
                    Ok(answer.map_err(Fault::from))
                }
                .boxed()
            })
            .await
    }

    fn abilities(&self) -> Abilities {
        self.1.abilities()
    }

    async fn stage(&self, step: Step, staging: VolumeDir) -> abi::Result<()> {
        self.1.stage(&self.0, step, staging).await
    }

    async fn publish_staged(
        &self,
        pod: &Arc<v1::Pod>,
        step: Step,
        staging: Option<VolumeDir>,
        dir: VolumeDir,
    ) -> abi::Result<Placed> {
        self.1.publish(&self.0, Arc::clone(pod), step, staging, dir).await
    }

    async fn unstage(&self, staging: VolumeDir) -> abi::Result<()> {
        self.1.unstage(&self.0, staging).await
    }

    async fn expand(&self, step: Step, staging: Option<VolumeDir>, dir: VolumeDir, bytes: u64) -> abi::Result<()> {
        self.1.expand(&self.0, step, staging, dir, bytes).await
    }

    async fn usage(&self, dir: VolumeDir) -> abi::Result<Usage> {
        self.1.usage(&self.0, dir).await
    }
}

type Dir = Resource<VolumeDir>;
type Given<T> = wasmtime::Result<Result<T, Error>>;

impl State {
    /// Runs file operations where they may block. They are not cut off at the deadline: half a rename helps nobody.
    async fn blocking<T, F>(&mut self, capability: Capability, work: F) -> Given<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Fault> + Send + 'static,
    {
        let result = tokio::task::spawn_blocking(work).await?;
        give(self, capability, result)
    }

    async fn files<T, F>(&mut self, dir: &Dir, work: F) -> Given<T>
    where
        T: Send + 'static,
        F: FnOnce(&VolumeDir) -> Result<T, Fault> + Send + 'static,
    {
        let dir = self.table.get(dir)?.clone();
        self.blocking(Capability::Files, move || work(&dir)).await
    }
}

impl From<files::Kind> for wit::files::Kind {
    fn from(kind: files::Kind) -> Self {
        match kind {
            files::Kind::File => Self::File,
            files::Kind::Directory => Self::Directory,
            files::Kind::Symlink => Self::Symlink,
            files::Kind::Socket => Self::Socket,
            files::Kind::CharDevice => Self::CharDevice,
            files::Kind::BlockDevice => Self::BlockDevice,
            files::Kind::Other => Self::Other,
        }
    }
}

impl wit::files::Host for State {}

impl wit::files::HostVolumeDir for State {
    async fn name(&mut self, dir: Dir) -> wasmtime::Result<String> {
        Ok(self.table.get(&dir)?.name().to_owned())
    }

    async fn exists(&mut self, dir: Dir) -> wasmtime::Result<bool> {
        Ok(self.table.get(&dir)?.exists())
    }

    async fn create(&mut self, dir: Dir, mode: u32) -> Given<()> {
        self.files(&dir, move |d| d.create(mode)).await
    }

    async fn destroy(&mut self, dir: Dir) -> Given<()> {
        self.files(&dir, VolumeDir::destroy).await
    }

    async fn mounted(&mut self, dir: Dir) -> Given<Option<String>> {
        self.files(&dir, VolumeDir::mounted).await
    }

    async fn ready(&mut self, dir: Dir) -> wasmtime::Result<bool> {
        Ok(self.table.get(&dir)?.ready())
    }

    async fn set_ready(&mut self, dir: Dir, ready: bool) -> Given<()> {
        self.files(&dir, move |d| d.set_ready(ready)).await
    }

    async fn make_dir(&mut self, dir: Dir, path: String, mode: u32) -> Given<()> {
        self.files(&dir, move |d| files::make_dir(d, &path, mode)).await
    }

    async fn write(&mut self, dir: Dir, path: String, data: Vec<u8>, mode: u32) -> Given<()> {
        self.files(&dir, move |d| files::write(d, &path, &data, mode)).await
    }

    async fn append(&mut self, dir: Dir, path: String, data: Vec<u8>) -> Given<()> {
        self.files(&dir, move |d| files::append(d, &path, &data)).await
    }

    async fn read(&mut self, dir: Dir, path: String) -> Given<Vec<u8>> {
        self.files(&dir, move |d| files::read(d, &path)).await
    }

    async fn symlink(&mut self, dir: Dir, target: String, path: String) -> Given<()> {
        self.files(&dir, move |d| files::symlink(d, &target, &path)).await
    }

    async fn read_link(&mut self, dir: Dir, path: String) -> Given<String> {
        self.files(&dir, move |d| files::read_link(d, &path)).await
    }

    async fn rename(&mut self, dir: Dir, source: String, target: String) -> Given<()> {
        self.files(&dir, move |d| files::rename(d, &source, &target)).await
    }

    async fn remove(&mut self, dir: Dir, path: String) -> Given<()> {
        self.files(&dir, move |d| files::remove(d, &path)).await
    }

    async fn remove_tree(&mut self, dir: Dir, path: String) -> Given<()> {
        self.files(&dir, move |d| files::remove_tree(d, &path)).await
    }

    async fn list(&mut self, dir: Dir, path: String) -> Given<Vec<wit::files::Entry>> {
        self.files(&dir, move |d| {
            let entries = files::list(d, &path)?;
            Ok(entries
                .into_iter()
                .map(|(name, kind)| wit::files::Entry {
                    name,
                    kind: kind.into(),
                })
                .collect())
        })
        .await
    }

    async fn stat(&mut self, dir: Dir, path: String) -> Given<wit::files::Metadata> {
        self.files(&dir, move |d| {
            let files::Metadata {
                kind,
                mode,
                uid,
                gid,
                size,
            } = files::stat(d, &path)?;
            Ok(wit::files::Metadata {
                kind: kind.into(),
                mode,
                uid,
                gid,
                size,
            })
        })
        .await
    }

    async fn chown(&mut self, dir: Dir, path: String, uid: Option<u32>, gid: Option<u32>) -> Given<()> {
        self.files(&dir, move |d| files::chown(d, &path, uid, gid)).await
    }

    async fn chmod(&mut self, dir: Dir, path: String, mode: u32) -> Given<()> {
        self.files(&dir, move |d| files::set_mode(d, &path, mode)).await
    }

    async fn apply_fs_group(&mut self, dir: Dir, gid: u32, read_only: bool) -> Given<()> {
        self.files(&dir, move |d| d.apply_fs_group(gid, read_only)).await
    }

    async fn drop(&mut self, dir: Dir) -> wasmtime::Result<()> {
        self.table.delete(dir)?;
        Ok(())
    }
}

impl wit::mount::Host for State {
    async fn tmpfs(&mut self, target: Dir, size: Option<u64>) -> Given<()> {
        let dir = self.table.get(&target)?.clone();
        let allocatable = Arc::clone(&self.plugin.deps.allocatable);
        let grant = self.plugin.grants.mount.clone();
        self.blocking(Capability::Mount, move || match grant {
            Some(grant) => mount::tmpfs(&grant, &dir, size, &allocatable),
            None => Err(not_granted(Capability::Mount)),
        })
        .await
    }

    async fn hugetlbfs(&mut self, target: Dir, page_size: u64) -> Given<()> {
        let dir = self.table.get(&target)?.clone();
        let grant = self.plugin.grants.mount.clone();
        self.blocking(Capability::Mount, move || match grant {
            Some(grant) => mount::hugetlbfs(&grant, &dir, page_size),
            None => Err(not_granted(Capability::Mount)),
        })
        .await
    }

    async fn nfs(&mut self, target: Dir, source: String, options: Vec<String>) -> Given<()> {
        let dir = self.table.get(&target)?.clone();
        let timeout = self.remaining(nfs::LONGEST);
        let result = match &self.plugin.grants.mount {
            Some(grant) => nfs::mount(grant, &self.plugin.deps.mount_program, &dir, &source, &options, timeout).await,
            None => Err(not_granted(Capability::Mount)),
        };
        give(self, Capability::Mount, result)
    }

    async fn unmount(&mut self, target: Dir) -> Given<()> {
        let dir = self.table.get(&target)?.clone();
        self.blocking(Capability::Mount, move || mount::unmount(&dir)).await
    }
}

impl State {
    async fn host_path<T, F>(&mut self, path: String, work: F) -> Given<T>
    where
        T: Send + 'static,
        F: FnOnce(&std::path::Path) -> Result<T, Fault> + Send + 'static,
    {
        let grant = self.plugin.grants.host_path.clone();
        let kept = self.plugin.deps.cache_dir.clone();
        self.blocking(Capability::HostPath, move || {
            let grant = grant.ok_or_else(|| not_granted(Capability::HostPath))?;
            work(&host_path::allowed(&grant, &kept, &path)?)
        })
        .await
    }
}

impl wit::host_path::Host for State {
    async fn kind_of(&mut self, path: String) -> Given<Option<wit::files::Kind>> {
        self.host_path(path, |p| Ok(host_path::kind_of(p)?.map(Into::into)))
            .await
    }

    async fn make_dirs(&mut self, path: String, mode: u32) -> Given<()> {
        self.host_path(path, move |p| host_path::make_dirs(p, mode)).await
    }

    async fn create_file(&mut self, path: String, mode: u32) -> Given<()> {
        self.host_path(path, move |p| host_path::create_file(p, mode)).await
    }
}

impl wit::pod_objects::Host for State {
    async fn config_map(&mut self, pod: Resource<handles::Pod>, name: String) -> Given<String> {
        let pod = Arc::clone(&self.table.get(&pod)?.0);
        let result = pod_objects::config_map(&self.plugin.deps.objects, &pod, &name).await;
        give(self, Capability::PodObjects, result)
    }

    async fn secret(&mut self, pod: Resource<handles::Pod>, name: String) -> Given<String> {
        let pod = Arc::clone(&self.table.get(&pod)?.0);
        let result = pod_objects::secret(&self.plugin.deps.objects, &pod, &name).await;
        give(self, Capability::PodObjects, result)
    }

    async fn service_account_token(
        &mut self,
        pod: Resource<handles::Pod>,
        audience: Option<String>,
        expiration_seconds: Option<i64>,
    ) -> Given<String> {
        let pod = Arc::clone(&self.table.get(&pod)?.0);
        let result = pod_objects::token(&self.plugin.deps.objects, &pod, audience, expiration_seconds).await;
        give(self, Capability::PodObjects, result)
    }
}

impl wit::downward::Host for State {
    async fn field(&mut self, pod: Resource<handles::Pod>, path: String) -> Given<String> {
        let pod = Arc::clone(&self.table.get(&pod)?.0);
        give(
            self,
            Capability::Downward,
            downward::field(&pod, &path).map_err(Fault::invalid),
        )
    }

    async fn resource(
        &mut self,
        pod: Resource<handles::Pod>,
        container: String,
        name: String,
        divisor: String,
    ) -> Given<String> {
        let pod = Arc::clone(&self.table.get(&pod)?.0);
        let allocatable = (self.plugin.deps.allocatable)();
        let result = downward::resource(&pod, &container, &name, &divisor, &allocatable).map_err(Fault::invalid);
        give(self, Capability::Downward, result)
    }
}
