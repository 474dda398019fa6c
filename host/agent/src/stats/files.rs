//! What pods' logs take up, and the file with their hosts.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;
use witlet_core::ids::PodUid;
use witlet_core::stats::assemble::Files;
use witlet_core::stats::reading::Usage;

/// Of every pod that has a directory of logs: `<logs>/<namespace>_<name>_<uid>/<container>/…`.
pub(super) fn look(root_dir: &Path, logs: &Path) -> BTreeMap<PodUid, Files> {
    let mut all = BTreeMap::new();
    for entry in entries(logs) {
        let name = entry.file_name();
        let Some((_, uid)) = name.to_str().and_then(|n| n.rsplit_once('_')) else {
            continue;
        };
        let hosts = fs::metadata(root_dir.join("pods").join(uid).join("etc-hosts"));
        let mut files = Files {
            hosts: hosts.map(|meta| usage(&meta)).unwrap_or_default(),
            ..Files::default()
        };
        for entry in entries(&entry.path()) {
            let Ok(meta) = entry.metadata() else { continue };
            match entry.file_name().to_str() {
                Some(container) if meta.is_dir() => {
                    files.logs.insert(container.to_owned(), below(&entry.path()));
                }
                _ => files.other_logs = files.other_logs.plus(usage(&meta)),
            }
        }
        all.insert(PodUid::from(uid), files);
    }
    all
}

fn below(dir: &Path) -> Usage {
    let none = Usage {
        at: Some(Timestamp::now()),
        ..Usage::default()
    };
    entries(dir)
        .filter_map(|e| e.metadata().ok())
        .fold(none, |sum, meta| sum.plus(usage(&meta)))
}

fn usage(meta: &Metadata) -> Usage {
    Usage {
        at: Some(Timestamp::now()),
        bytes: meta.blocks().saturating_mul(512),
        inodes: 1,
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}
