//! One watch for each object that pods refer to.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use witlet_ports::{Error, Result};

use super::FIRST_SYNC;
use super::references::Name;
use crate::Client;
use crate::watching::watch;

/// An object that may promise never to change.
pub(super) trait Immutable {
    fn is_immutable(&self) -> bool;
}

impl Immutable for ConfigMap {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

impl Immutable for Secret {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

#[derive(Clone, Debug)]
enum State<K> {
    Unknown,
    Missing,
    Present(Arc<K>),
}

struct Entry<K> {
    /// Pods that refer to it.
    count: usize,
    state: watch::Receiver<State<K>>,
    stop: CancellationToken,
}

pub(super) struct Singles<K> {
    client: Client,
    /// As errors name it: `configmap`.
    kind: &'static str,
    shutdown: CancellationToken,
    entries: Mutex<HashMap<Name, Entry<K>>>,
}

impl<K> Singles<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Immutable,
    K: Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    pub(super) fn new(client: Client, kind: &'static str, shutdown: CancellationToken) -> Self {
        Self {
            client,
            kind,
            shutdown,
            entries: Mutex::default(),
        }
    }

    /// Another pod refers to it; the first one starts the watch.
    pub(super) fn acquire(&self, name: Name) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&name) {
            entry.count += 1;
            return;
        }
        let stop = self.shutdown.child_token();
        let (sender, state) = watch::channel(State::Unknown);
        entries.insert(
            name.clone(),
            Entry {
                count: 1,
                state,
                stop: stop.clone(),
            },
        );
        let (client, kind) = (self.client.clone(), self.kind);
        tokio::spawn(async move { follow(client, kind, name, sender, stop).await });
    }

    /// A pod less; the last one ends the watch.
    pub(super) fn release(&self, name: &Name) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(name) {
            entry.count -= 1;
            if entry.count == 0 {
                entry.stop.cancel();
                entries.remove(name);
            }
        }
    }

    pub(super) async fn get(&self, namespace: &str, name: &str) -> Result<Arc<K>> {
        let state = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries
                .get(&(namespace.to_owned(), name.to_owned()))
                .map(|entry| entry.state.clone())
        };
        let Some(mut state) = state else {
            return Err(Error::retry(format!(
                "object \"{namespace}\"/\"{name}\" not registered"
            )));
        };
        let known = state.wait_for(|state| !matches!(state, State::Unknown));
        match tokio::time::timeout(FIRST_SYNC, known).await {
            Ok(Ok(state)) => match &*state {
                State::Present(object) => Ok(object.clone()),
                _ => Err(Error::not_found(format!("{} {name:?} not found", self.kind))),
            },
            // Nobody answers any more, or not yet.
            _ => Err(Error::retry(format!(
                "failed to sync {} cache: timed out waiting for the condition",
                self.kind
            ))),
        }
    }

    #[cfg(test)]
    pub(super) fn watched(&self) -> Vec<Name> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = entries.keys().cloned().collect();
        names.sort();
        names
    }
}

async fn follow<K>(
    client: Client,
    kind: &str,
    (namespace, name): Name,
    state: watch::Sender<State<K>>,
    stop: CancellationToken,
) where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Immutable,
    K: Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let what = format!("{kind} {namespace}/{name}");
    let fields = format!("metadata.name={name}");
    let mut listed = None;
    watch(
        &what,
        client.namespaced::<K>(&namespace),
        Some(&fields),
        &stop,
        |events| {
            let mut next = None;
            for event in events {
                match event {
                    Event::Init => listed = None,
                    // The selector is the API's to apply; another name must not slip in where it does not.
                    Event::InitApply(object) if object.name_any() == name => listed = Some(lean(object)),
                    Event::InitDone => next = Some(listed.take().map_or(State::Missing, State::Present)),
                    Event::Apply(object) if object.name_any() == name => next = Some(State::Present(lean(object))),
                    Event::Delete(object) if object.name_any() == name => next = Some(State::Missing),
                    Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => {}
                }
            }
            let Some(next) = next else { return true };
            let done = matches!(&next, State::Present(object) if object.is_immutable());
            state.send_replace(next);
            !done
        },
    )
    .await;
    // An immutable object is served until nobody refers to it.
    stop.cancelled().await;
}

fn lean<K: Resource>(mut object: K) -> Arc<K> {
    object.meta_mut().managed_fields = None;
    Arc::new(object)
}
