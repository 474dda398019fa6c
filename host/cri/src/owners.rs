//! Which sandbox a container is in. A container's status does not say it, only the list does; it never changes, so it is
//! remembered instead of asking for a list each time.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use witlet_core::observed::Container;

/// How many containers that are gone may be remembered beside those that are there.
const SLACK: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Owners(Mutex<HashMap<String, String>>);

impl Owners {
    fn map(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, container: &str) -> Option<String> {
        self.map().get(container).cloned()
    }

    pub(crate) fn learn(&self, container: &str, sandbox: &str) {
        self.map().insert(container.to_owned(), sandbox.to_owned());
    }

    pub(crate) fn forget(&self, container: &str) {
        self.map().remove(container);
    }

    /// From a list; `all` says that there are no others.
    pub(crate) fn listed(&self, containers: &[Container], all: bool) {
        let mut map = self.map();
        for container in containers {
            if !map.contains_key(&container.id) {
                map.insert(container.id.clone(), container.sandbox_id.clone());
            }
        }
        // One that is created just now may be dropped here; then it is looked up.
        if all && map.len() > containers.len() + SLACK {
            let there: HashSet<&str> = containers.iter().map(|c| c.id.as_str()).collect();
            map.retain(|id, _| there.contains(id.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use witlet_core::observed::ContainerState;

    use super::*;

    fn container(n: usize) -> Container {
        let item = crate::proto::v1::Container {
            id: format!("c{n}"),
            pod_sandbox_id: format!("s{n}"),
            metadata: Some(crate::proto::v1::ContainerMetadata::default()),
            labels: [(crate::encode::LABEL_POD_UID.to_owned(), "u".to_owned())].into(),
            ..Default::default()
        };
        let container = crate::decode::listed_container(item).unwrap();
        assert_eq!(container.state, ContainerState::Created);
        container
    }

    #[test]
    fn what_is_gone_is_forgotten_in_the_end() {
        let owners = Owners::default();
        let many: Vec<_> = (0..SLACK * 2).map(container).collect();
        owners.listed(&many, true);
        assert_eq!(owners.of("c7").unwrap(), "s7");
        // The list of one pod says nothing about the others.
        owners.listed(&many[..1], false);
        assert_eq!(owners.map().len(), SLACK * 2);
        owners.listed(&many[..1], true);
        assert_eq!(owners.map().len(), 1);
        owners.forget("c0");
        assert_eq!(owners.of("c0"), None);
    }
}
