//! `witlet:base@0.1.0`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::TryRngCore;
use wasmtime::component::{HasSelf, Linker, Resource};

use self::bindings::witlet::base as wit;
use crate::capability::{egress, handles, kv, log as log_lines};
use crate::error::{Fault, FaultKind};
use crate::grants::{Capability, Grants};
use crate::state::{State, not_granted};

/// What one call of `random.bytes` gives at most.
const MAX_RANDOM: u32 = 65_536;

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
        path: ["../../wit/base/0.1"],
        inline: "
            package witlet:host;
            world base {
                import witlet:base/types@0.1.0;
                import witlet:base/objects@0.1.0;
                import witlet:base/log@0.1.0;
                import witlet:base/clock@0.1.0;
                import witlet:base/random@0.1.0;
                import witlet:base/config@0.1.0;
                import witlet:base/kv@0.1.0;
                import witlet:base/egress-http@0.1.0;
            }
        ",
        world: "witlet:host/base",
        imports: {
            "witlet:base/egress-http@0.1.0": async | trappable,
            "witlet:base/kv@0.1.0": async | trappable,
            default: trappable,
        },
        with: {
            "witlet:base/objects@0.1.0.pod": crate::capability::handles::Pod,
            "witlet:base/objects@0.1.0.container": crate::capability::handles::Container,
            "witlet:base/egress-http@0.1.0.response": crate::capability::egress::Response,
        },
        require_store_data_send: true,
    });
}

pub(super) use wit::types::Error;

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let text = fault.text;
        match fault.kind {
            FaultKind::Invalid => Self::Invalid(text),
            FaultKind::NotFound => Self::NotFound(text),
            FaultKind::Denied => Self::Denied(text),
            FaultKind::Unavailable => Self::Unavailable(text),
            FaultKind::Timeout => Self::Timeout(text),
            FaultKind::Failed => Self::Failed(text),
            FaultKind::Other => Self::Other(text),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (kind, text) = match error {
            Error::Invalid(text) => (FaultKind::Invalid, text),
            Error::NotFound(text) => (FaultKind::NotFound, text),
            Error::Denied(text) => (FaultKind::Denied, text),
            Error::Unavailable(text) => (FaultKind::Unavailable, text),
            Error::Timeout(text) => (FaultKind::Timeout, text),
            Error::Failed(text) => (FaultKind::Failed, text),
            Error::Other(text) => (FaultKind::Other, text),
        };
        Self::new(kind, text)
    }
}

/// A capability's result as the guest gets it, counted.
pub(super) fn give<T>(
    state: &State,
    capability: Capability,
    result: Result<T, Fault>,
) -> wasmtime::Result<Result<T, Error>> {
    Ok(state.used(capability, result).map_err(Error::from))
}

pub(super) fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

/// What needs no grant, and of `egress-http` and `kv` what was given.
pub(super) fn add(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    wit::types::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    wit::objects::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    wit::log::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    wit::clock::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    wit::random::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    wit::config::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    if grants.has(Capability::EgressHttp) {
        wit::egress_http::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    if grants.has(Capability::Kv) {
        wit::kv::add_to_linker::<State, HasSelf<State>>(linker, |s| s)?;
    }
    Ok(())
}

impl wit::types::Host for State {}

impl wit::objects::Host for State {}

impl wit::objects::HostPod for State {
    fn name(&mut self, pod: Resource<handles::Pod>) -> wasmtime::Result<String> {
        Ok(self.table.get(&pod)?.0.metadata.name.clone().unwrap_or_default())
    }

    fn namespace(&mut self, pod: Resource<handles::Pod>) -> wasmtime::Result<String> {
        Ok(self.table.get(&pod)?.0.metadata.namespace.clone().unwrap_or_default())
    }

    fn uid(&mut self, pod: Resource<handles::Pod>) -> wasmtime::Result<String> {
        Ok(self.table.get(&pod)?.0.metadata.uid.clone().unwrap_or_default())
    }

    fn label(&mut self, pod: Resource<handles::Pod>, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self
            .table
            .get(&pod)?
            .0
            .metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(&key).cloned()))
    }

    fn annotation(&mut self, pod: Resource<handles::Pod>, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self
            .table
            .get(&pod)?
            .0
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(&key).cloned()))
    }

    fn ips(&mut self, pod: Resource<handles::Pod>) -> wasmtime::Result<Vec<String>> {
        Ok(handles::addresses(&self.table.get(&pod)?.0))
    }

    fn json(&mut self, pod: Resource<handles::Pod>) -> wasmtime::Result<String> {
        Ok(serde_json::to_string(&self.table.get(&pod)?.0)?)
    }

    fn drop(&mut self, pod: Resource<handles::Pod>) -> wasmtime::Result<()> {
        self.table.delete(pod)?;
        Ok(())
    }
}

impl wit::objects::HostContainer for State {
    fn name(&mut self, container: Resource<handles::Container>) -> wasmtime::Result<String> {
        Ok(self.table.get(&container)?.container.name.clone())
    }

    fn id(&mut self, container: Resource<handles::Container>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&container)?.id.as_deref().map(str::to_owned))
    }

    fn json(&mut self, container: Resource<handles::Container>) -> wasmtime::Result<String> {
        Ok(serde_json::to_string(&self.table.get(&container)?.container)?)
    }

    fn drop(&mut self, container: Resource<handles::Container>) -> wasmtime::Result<()> {
        self.table.delete(container)?;
        Ok(())
    }
}

impl wit::log::Host for State {
    fn log(&mut self, level: wit::log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            wit::log::Level::Error => log_lines::Level::Error,
            wit::log::Level::Warn => log_lines::Level::Warn,
            wit::log::Level::Info => log_lines::Level::Info,
            wit::log::Level::Debug => log_lines::Level::Debug,
            wit::log::Level::Trace => log_lines::Level::Trace,
        };
        log_lines::write(&self.plugin, level, message);
        Ok(())
    }
}

impl wit::clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn monotonic(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.plugin.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

impl wit::random::Host for State {
    fn bytes(&mut self, len: u32) -> wasmtime::Result<Vec<u8>> {
        if len > MAX_RANDOM {
            wasmtime::bail!("random.bytes: {len} bytes at once, the limit is {MAX_RANDOM}");
        }
        let mut bytes = vec![0; usize::try_from(len)?];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes)?;
        Ok(bytes)
    }
}

impl wit::config::Host for State {
    fn get(&mut self) -> wasmtime::Result<String> {
        Ok(self.plugin.config.clone())
    }
}

impl State {
    /// Runs something on the plugin's store where it may block. It is not cut off at the deadline.
    async fn kept<T, F>(&mut self, work: F) -> wasmtime::Result<Result<T, Error>>
    where
        T: Send + 'static,
        F: FnOnce(&kv::Store, &crate::grants::Kv) -> Result<T, Fault> + Send + 'static,
    {
        let result = match (self.plugin.kv.clone(), self.plugin.grants.kv.clone()) {
            (Some(store), Some(grant)) => tokio::task::spawn_blocking(move || work(&store, &grant)).await?,
            _ => Err(not_granted(Capability::Kv)),
        };
        give(self, Capability::Kv, result)
    }
}

type Kept<T> = wasmtime::Result<Result<T, Error>>;

impl wit::kv::Host for State {
    async fn get(&mut self, key: String) -> Kept<Option<Vec<u8>>> {
        self.kept(move |store, _| store.get(&key)).await
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Kept<()> {
        self.kept(move |store, grant| store.set(grant, &key, &value)).await
    }

    async fn delete(&mut self, key: String) -> Kept<bool> {
        self.kept(move |store, _| store.delete(&key)).await
    }

    async fn keys(&mut self, prefix: String) -> Kept<Vec<String>> {
        self.kept(move |store, _| store.keys(&prefix)).await
    }

    async fn replace(&mut self, key: String, expected: Option<Vec<u8>>, value: Option<Vec<u8>>) -> Kept<bool> {
        self.kept(move |store, grant| store.replace(grant, &key, expected.as_deref(), value.as_deref()))
            .await
    }
}

fn outgoing(request: wit::egress_http::Request, timeout: Duration) -> egress::Outgoing {
    egress::Outgoing {
        method: request.method,
        url: request.url,
        headers: request.headers,
        body: request.body,
        timeout,
    }
}

impl wit::egress_http::HostResponse for State {
    async fn status(&mut self, response: Resource<egress::Response>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&response)?.status())
    }

    async fn headers(&mut self, response: Resource<egress::Response>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.table.get(&response)?.headers())
    }

    async fn read(
        &mut self,
        response: Resource<egress::Response>,
        max: u32,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        let timeout = self.remaining(millis(timeout_ms));
        let result = self.table.get_mut(&response)?.read(max, timeout).await;
        give(self, Capability::EgressHttp, result)
    }

    async fn drop(&mut self, response: Resource<egress::Response>) -> wasmtime::Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}

impl wit::egress_http::Host for State {
    async fn open(
        &mut self,
        request: wit::egress_http::Request,
    ) -> wasmtime::Result<Result<Resource<egress::Response>, Error>> {
        let timeout = self.remaining(millis(request.timeout_ms));
        let result = match &self.plugin.grants.egress_http {
            Some(grant) => egress::open(grant, outgoing(request, timeout)).await,
            None => Err(not_granted(Capability::EgressHttp)),
        };
        match give(self, Capability::EgressHttp, result)? {
            Ok(response) => Ok(Ok(self.table.push(response)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn send(
        &mut self,
        request: wit::egress_http::Request,
    ) -> wasmtime::Result<Result<wit::egress_http::Reply, Error>> {
        let timeout = self.remaining(millis(request.timeout_ms));
        let result = match &self.plugin.grants.egress_http {
            Some(grant) => egress::send(grant, outgoing(request, timeout)).await,
            None => Err(not_granted(Capability::EgressHttp)),
        };
        let reply = |r: crate::capability::pod_net::HttpReply| wit::egress_http::Reply {
            status: r.status,
            headers: r.headers,
            body: r.body,
        };
        give(self, Capability::EgressHttp, result.map(reply))
    }
}
