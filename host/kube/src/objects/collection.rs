//! All objects of a kind, watched from the first use on.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;
use witlet_ports::{Error, Result};

use super::FIRST_SYNC;
use super::references::Name;
use crate::Client;
use crate::watching::watch;

type Known<K> = Arc<BTreeMap<Name, Arc<K>>>;

pub(super) struct Collection<K> {
    client: Client,
    kind: &'static str,
    shutdown: CancellationToken,
    state: OnceCell<watch::Receiver<Option<Known<K>>>>,
}

impl<K> Collection<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    pub(super) fn new(client: Client, kind: &'static str, shutdown: CancellationToken) -> Self {
        Self {
            client,
            kind,
            shutdown,
            state: OnceCell::new(),
        }
    }

    /// By namespace and name. An error until all were listed once.
    pub(super) async fn all(&self) -> Result<Known<K>> {
        let mut state = self.state.get_or_init(|| async { self.start() }).await.clone();
        match tokio::time::timeout(FIRST_SYNC, state.wait_for(Option::is_some)).await {
            Ok(Ok(known)) => Ok(known.clone().unwrap_or_default()),
            _ => Err(Error::retry(format!(
                "failed to sync {} cache: timed out waiting for the condition",
                self.kind
            ))),
        }
    }

    fn start(&self) -> watch::Receiver<Option<Known<K>>> {
        let (sender, receiver) = watch::channel(None);
        let (api, kind, shutdown) = (self.client.all::<K>(), self.kind, self.shutdown.clone());
        tokio::spawn(async move {
            let mut objects = BTreeMap::<Name, Arc<K>>::new();
            let mut listing = BTreeMap::new();
            let mut synced = false;
            watch(kind, api, None, &shutdown, |events| {
                for event in events {
                    match event {
                        Event::Init => listing.clear(),
                        Event::InitApply(object) => {
                            let (name, object) = lean(object);
                            listing.insert(name, object);
                        }
                        Event::InitDone => {
                            objects = std::mem::take(&mut listing);
                            synced = true;
                        }
                        Event::Apply(object) => {
                            let (name, object) = lean(object);
                            objects.insert(name, object);
                        }
                        Event::Delete(object) => {
                            objects.remove(&name_of(&object));
                        }
                    }
                }
                if synced {
                    sender.send_replace(Some(Arc::new(objects.clone())));
                }
                !sender.is_closed()
            })
            .await;
        });
        receiver
    }
}

fn name_of<K: Resource<DynamicType = ()>>(object: &K) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn lean<K: Resource<DynamicType = ()>>(mut object: K) -> (Name, Arc<K>) {
    object.meta_mut().managed_fields = None;
    (name_of(&object), Arc::new(object))
}
