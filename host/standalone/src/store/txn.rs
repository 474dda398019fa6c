//! The writer's view of the objects during one batch, with roll-back per job.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use super::entry::key;
use super::{Change, Entry};
use crate::meta;
use crate::registry::{self, Resource};
use crate::status::{ApiError, ApiResult};

pub(super) type Objects = BTreeMap<Arc<str>, Arc<Entry>>;

/// The writer's own copy of all objects; runs ahead of what readers see by the batch that is not yet durable.
pub(super) struct Work {
    pub(super) objects: Vec<Objects>,
    pub(super) rv: u64,
    pub(super) changes: Vec<(usize, Change)>,
    pub(super) node_name: String,
}

/// Changes made by one job, all or nothing.
pub(crate) struct Txn<'a> {
    work: &'a mut Work,
    mark: usize,
    rv: u64,
    /// Only pretend: what was done is undone at the end.
    pub(crate) dry_run: bool,
}

impl<'a> Txn<'a> {
    pub(super) fn begin(work: &'a mut Work) -> Self {
        let (mark, rv) = (work.changes.len(), work.rv);
        Self {
            work,
            mark,
            rv,
            dry_run: false,
        }
    }

    pub(super) fn roll_back(self) {
        for (storage, change) in self.work.changes.drain(self.mark..).rev() {
            let objects = &mut self.work.objects[storage];
            match change.old {
                Some(old) => objects.insert(old.key.clone(), old),
                None => objects.remove(&change.new.key),
            };
        }
        self.work.rv = self.rv;
    }

    /// The node that this API is for.
    pub(crate) fn node_name(&self) -> &str {
        &self.work.node_name
    }

    pub(crate) fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.work.objects[resource.storage].get(&key(namespace, name)).cloned()
    }

    pub(crate) fn require(&self, resource: &Resource, namespace: &str, name: &str) -> ApiResult<Arc<Entry>> {
        self.get(resource, namespace, name)
            .ok_or_else(|| ApiError::not_found(resource.group, resource.plural, name))
    }

    /// All objects, or those of one namespace.
    pub(crate) fn list(&self, resource: &Resource, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        range(&self.work.objects[resource.storage], namespace)
            .cloned()
            .collect()
    }

    /// Stores an object under the next resource version.
    pub(crate) fn put(&mut self, resource: &Resource, value: &mut Value) -> ApiResult<Arc<Entry>> {
        let rv = self.work.rv + 1;
        meta::set_metadata(value, "resourceVersion", Some(rv.to_string().into()));
        let entry = Arc::new(Entry::new(resource, value, rv)?);
        self.work.rv = rv;
        let old = self.work.objects[resource.storage].insert(entry.key.clone(), entry.clone());
        self.work.changes.push((
            resource.storage,
            Change {
                rv,
                old,
                new: entry.clone(),
                removed: false,
            },
        ));
        Ok(entry)
    }

    /// Removes an object and answers its last state.
    pub(crate) fn remove(&mut self, resource: &Resource, value: &mut Value) -> ApiResult<Arc<Entry>> {
        let key = key(meta::namespace(value), meta::name(value));
        let rv = self.work.rv + 1;
        meta::set_metadata(value, "resourceVersion", Some(rv.to_string().into()));
        let last = Arc::new(Entry::new(resource, value, rv)?);
        let Some(old) = self.work.objects[resource.storage].remove(&key) else {
            return Ok(last);
        };
        self.work.rv = rv;
        self.work.changes.push((
            resource.storage,
            Change {
                rv,
                old: Some(old),
                new: last.clone(),
                removed: true,
            },
        ));
        Ok(last)
    }
}

/// The objects of a namespace stand together, since keys start with it.
pub(super) fn range<'a>(
    objects: &'a Objects,
    namespace: Option<&str>,
) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
    let bounds: (Bound<Arc<str>>, Bound<Arc<str>>) = match namespace {
        Some(ns) => (
            Bound::Included(format!("{ns}\0").into()),
            Bound::Excluded(format!("{ns}\u{1}").into()),
        ),
        None => (Bound::Unbounded, Bound::Unbounded),
    };
    objects.range::<Arc<str>, _>(bounds).map(|(_, entry)| entry)
}

pub(super) fn empty_objects() -> Vec<Objects> {
    vec![Objects::new(); registry::storages()]
}
