//! What a control plane's controllers do elsewhere, as far as one node needs it.
//!
//! Tasks: one. In: the store's change notices, a timer. Out: jobs for the store. It keeps no position: each pass looks at the
//! objects as they are.
//! - every namespace has its default service account and the CA's config map;
//! - pods that wait for a node are bound when it registers (or is uncordoned);
//! - a deleted namespace is emptied and removed;
//! - events are removed after an hour.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::meta;
use crate::registry;
use crate::rest::create::{create, furnish};
use crate::rest::delete::sweep_namespaces;
use crate::status::ApiResult;
use crate::store::{Store, Txn};
use crate::strategy::cluster::BUILT_IN;
use crate::strategy::pod;

const EVENT_LIFE: i64 = 3600;
const EVENT_SWEEP: Duration = Duration::from_secs(60);
/// Events removed by one job; the writer serves others in between.
const EVENT_CHUNK: usize = 200;

/// Makes what exists from the start; run before the API is served.
pub(crate) async fn prepare(store: &Store, ca: &str) -> ApiResult<()> {
    let ca = ca.to_owned();
    store
        .write(move |txn| {
            for name in BUILT_IN {
                if txn.get(registry::namespaces(), "", name).is_none() {
                    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
                    create(txn, registry::namespaces(), "", namespace)?;
                }
            }
            for entry in txn.list(registry::namespaces(), None) {
                if !meta::is_deleting(&entry.value()?) {
                    furnish(txn, entry.name(), Some(&ca))?;
                }
            }
            Ok(())
        })
        .await
}

pub(crate) async fn run(store: Store, ca: String, stop: CancellationToken) {
    let mut namespaces = store.subscribe(registry::namespaces());
    let mut nodes = store.subscribe(registry::nodes());
    let mut pods = store.subscribe(registry::pods());
    let mut accounts = store.subscribe(registry::service_accounts());
    let mut maps = store.subscribe(registry::config_maps());
    let mut sweep = interval_at(Instant::now() + EVENT_SWEEP, EVENT_SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What a crash may have left half done.
    report(finish_namespaces(&store).await);
    report(bind_waiting(&store).await);
    loop {
        // All arms only wait for a notice, which stays until it is seen.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = namespaces.changed() => {
                if changed.is_err() { return }
                report(finish_namespaces(&store).await);
            }
            _ = pods.changed() => report(finish_namespaces(&store).await),
            _ = nodes.changed() => report(bind_waiting(&store).await),
            _ = accounts.changed() => report(refurnish(&store, &ca).await),
            _ = maps.changed() => report(refurnish(&store, &ca).await),
            _ = sweep.tick() => report(expire_events(&store, meta::now().as_second()).await),
        }
    }
}

fn report(result: ApiResult<()>) {
    if let Err(error) = result {
        tracing::warn!(
            reason = error.reason,
            message = error.message,
            "the standalone API's housekeeping failed; it is tried again with the next change"
        );
    }
}

async fn finish_namespaces(store: &Store) -> ApiResult<()> {
    let terminating = store
        .list(registry::namespaces(), None)
        .entries
        .iter()
        .any(|e| e.fields.first().is_some_and(|phase| &**phase == "Terminating"));
    if terminating {
        store.write(sweep_namespaces).await
    } else {
        Ok(())
    }
}

async fn bind_waiting(store: &Store) -> ApiResult<()> {
    let unbound = store
        .list(registry::pods(), None)
        .entries
        .iter()
        .any(|e| e.fields.first().is_some_and(|node| node.is_empty()));
    if unbound { store.write(bind_all).await } else { Ok(()) }
}

fn bind_all(txn: &mut Txn<'_>) -> ApiResult<()> {
    for entry in txn.list(registry::pods(), None) {
        if !entry.fields.first().is_some_and(|node| node.is_empty()) {
            continue;
        }
        let before = entry.value()?;
        let mut after = before.clone();
        pod::schedule(txn, &mut after);
        if after != before {
            txn.put(registry::pods(), &mut after)?;
        }
    }
    Ok(())
}

/// What somebody deleted or damaged by hand comes back.
async fn refurnish(store: &Store, ca: &str) -> ApiResult<()> {
    let complete = |ns: &str| {
        store.get(registry::service_accounts(), ns, "default").is_some()
            && store.get(registry::config_maps(), ns, "kube-root-ca.crt").is_some()
    };
    let active = store.list(registry::namespaces(), None).entries;
    let bare: Vec<String> = active
        .iter()
        .filter(|e| e.fields.first().is_some_and(|phase| &**phase == "Active") && !complete(e.name()))
        .map(|e| e.name().to_owned())
        .collect();
    if bare.is_empty() {
        return Ok(());
    }
    let ca = ca.to_owned();
    store
        .write(move |txn| {
            for name in bare {
                // It may have gone in the meantime.
                let Some(entry) = txn.get(registry::namespaces(), "", &name) else {
                    continue;
                };
                if !meta::is_deleting(&entry.value()?) {
                    furnish(txn, &name, Some(&ca))?;
                }
            }
            Ok(())
        })
        .await
}

pub(crate) async fn expire_events(store: &Store, now: i64) -> ApiResult<()> {
    let old: Vec<_> = store
        .list(registry::events(), None)
        .entries
        .into_iter()
        .filter(|e| e.touched + EVENT_LIFE < now)
        .collect();
    for chunk in old.chunks(EVENT_CHUNK) {
        let chunk = chunk.to_vec();
        store
            .write(move |txn| {
                for entry in chunk {
                    let current = txn.get(registry::events(), entry.namespace(), entry.name());
                    // One that was repeated in the meantime lives on.
                    if current.is_some_and(|c| c.rv == entry.rv) {
                        txn.remove(registry::events(), &mut entry.value()?)?;
                    }
                }
                Ok(())
            })
            .await?;
    }
    Ok(())
}
