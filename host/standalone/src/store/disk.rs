//! The redb file: one table of objects, and the newest resource version beside them.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use super::txn::{Objects, empty_objects};
use super::{Change, Entry};
use crate::{meta, registry};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const VERSION: &str = "resourceVersion";
const FORMAT: &str = "format";
/// Raised when older programs could not read the file any more.
const FORMAT_NOW: u64 = 1;
/// All objects are in memory anyway; redb's page cache only serves the writes.
const CACHE: usize = 2 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error(transparent)]
    Io(std::io::Error),
    #[error(transparent)]
    Redb(Box<redb::Error>),
    #[error("the file was written by a newer version (format {0}, this program reads {FORMAT_NOW})")]
    Newer(u64),
}

/// redb has an error type per operation; all of them fold into its general one.
macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for DiskError {
            fn from(error: redb::$error) -> Self {
                Self::Redb(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(
    CommitError,
    DatabaseError,
    SetDurabilityError,
    StorageError,
    TableError,
    TransactionError
);

pub(super) struct Disk {
    db: Database,
}

impl Disk {
    /// The file, its objects, and the version that they have reached.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Objects>, u64), DiskError> {
        // Secrets lie in it: nobody else may read it, from its first byte on.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(DiskError::Io)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(DiskError::Io)?;
        drop(file);
        // The check reads the whole file, which is small, and turns damage into an error where a plain open may panic.
        let db = Database::builder()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .create(path)?;
        let disk = Self { db };
        let write = disk.db.begin_write()?;
        {
            write.open_table(OBJECTS)?;
            let mut meta = write.open_table(META)?;
            let format = meta.get(FORMAT)?.map(|v| v.value());
            match format {
                Some(format) if format > FORMAT_NOW => return Err(DiskError::Newer(format)),
                Some(_) => {}
                None => {
                    meta.insert(FORMAT, FORMAT_NOW)?;
                }
            }
        }
        write.commit()?;
        let (objects, rv) = disk.load()?;
        Ok((disk, objects, rv))
    }

    fn load(&self) -> Result<(Vec<Objects>, u64), DiskError> {
        let read = self.db.begin_read()?;
        let mut objects = empty_objects();
        // Version 0 means "any" to clients, so that real ones start at 1.
        let mut newest = read.open_table(META)?.get(VERSION)?.map_or(1, |v| v.value());
        for row in read.open_table(OBJECTS)?.iter()? {
            let (row_key, bytes) = row?;
            let row_key = row_key.value();
            let storage = row_key.split('\0').next().unwrap_or_default();
            let Some(resource) = registry::by_storage_name(storage) else {
                tracing::warn!(
                    storage,
                    "an object of a kind that this version does not serve is kept but not shown"
                );
                continue;
            };
            let Ok(value) = serde_json::from_slice::<Value>(bytes.value()) else {
                tracing::error!(key = row_key, "a stored object is not JSON and is left out");
                continue;
            };
            let rv = meta::text(&value, "/metadata/resourceVersion").parse().unwrap_or(0);
            newest = newest.max(rv);
            if let Ok(entry) = Entry::new(resource, &value, rv) {
                objects[resource.storage].insert(entry.key.clone(), Arc::new(entry));
            }
        }
        Ok((objects, newest))
    }

    /// Makes changes durable; when this returns without error, a power cut cannot take them back.
    pub(super) fn commit(&self, changes: &[(usize, Change)], rv: u64) -> Result<(), DiskError> {
        let mut write = self.db.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        {
            let mut objects = write.open_table(OBJECTS)?;
            for (storage, change) in changes {
                let key = format!("{}\0{}", registry::storage_name(*storage), change.new.key);
                if change.removed {
                    objects.remove(key.as_str())?;
                } else {
                    objects.insert(key.as_str(), change.new.json.as_ref())?;
                }
            }
            write.open_table(META)?.insert(VERSION, rv)?;
        }
        write.commit()?;
        Ok(())
    }
}
