//! Which volumes pods of this node hold through claims: by the name of their directories.
//!
//! Filled whenever volumes are mounted, which they are again after a restart.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use witlet_core::ids::PodUid;
use witlet_core::resources::Quantity;

struct Held {
    /// The pod's own name for it.
    name: String,
    /// As large the pod has it.
    size: Option<Quantity>,
}

#[derive(Default)]
pub struct Claims(Mutex<HashMap<PodUid, BTreeMap<String, Held>>>);

impl Claims {
    fn lock(&self) -> MutexGuard<'_, HashMap<PodUid, BTreeMap<String, Held>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod's volume `name` is the persistent volume `found`. Refused if that is for one pod alone and another has it (the
    /// kubelet contract, volumes 2.7 e).
    pub fn hold(&self, uid: &PodUid, found: &str, name: &str, exclusive: bool) -> Result<(), String> {
        let mut held = self.lock();
        if exclusive && held.iter().any(|(other, all)| other != uid && all.contains_key(found)) {
            return Err("volume uses the ReadWriteOncePod access mode and is already in use by another pod".to_owned());
        }
        held.entry(uid.clone())
            .or_default()
            .entry(found.to_owned())
            .or_insert_with(|| Held {
                name: name.to_owned(),
                size: None,
            });
        Ok(())
    }

    /// The pod's name for what lies in the directory of a persistent volume.
    pub fn user(&self, uid: &PodUid, found: &str) -> Option<String> {
        self.lock().get(uid)?.get(found).map(|held| held.name.clone())
    }

    /// As large the pod has the volume; `initial` if that is asked for the first time.
    pub fn size(&self, uid: &PodUid, found: &str, initial: Quantity) -> Quantity {
        let mut held = self.lock();
        let held = held.get_mut(uid).and_then(|all| all.get_mut(found));
        held.map_or(initial, |held| *held.size.get_or_insert(initial))
    }

    /// The volume has that size here now.
    pub fn grew(&self, uid: &PodUid, found: &str, size: Quantity) {
        if let Some(held) = self.lock().get_mut(uid).and_then(|all| all.get_mut(found)) {
            held.size = Some(size);
        }
    }

    /// Nothing of the pod is mounted any more.
    pub fn release(&self, uid: &PodUid) {
        self.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_pod_alone() {
        let claims = Claims::default();
        let (a, b) = (PodUid::from("a"), PodUid::from("b"));
        claims.hold(&a, "pv", "data", true).unwrap();
        claims.hold(&a, "pv", "data", true).unwrap();
        assert!(
            claims
                .hold(&b, "pv", "disk", true)
                .unwrap_err()
                .contains("ReadWriteOncePod")
        );
        claims.hold(&b, "pv", "disk", false).unwrap();
        assert_eq!(claims.user(&b, "pv").as_deref(), Some("disk"));
        claims.release(&a);
        assert_eq!(claims.user(&a, "pv"), None);
        claims.hold(&b, "pv", "disk", true).unwrap();
    }
}
