//! A policy: what an image's name led to when the node first ran it is what it leads to for good. A tag that was moved is noticed
//! before anything of it runs; a pod that means the new one says so.
//!
//! ```toml
//! [plugin.policy-image-pins]
//! kind = "policy"
//! source = "file:/etc/witlet/plugins/policy-image-pins.wasm"
//! grants = { kv = { keys = 1000, bytes = "1MiB" } }
//! ```

use serde::Deserialize;
use witlet_sdk::kv::{self, Store};
use witlet_sdk::lifecycle::SelfCheck;
use witlet_sdk::policy::{self, Container, ContainerCreate, Pod, Policy, Review, Verdict};
use witlet_sdk::{Error, Result};

/// The image that a pod accepts under a name that led to another before.
pub const ACCEPT: &str = "pins.witlet.dev/accept";

#[derive(Default)]
struct Pins;

#[policy::plugin(name = "policy-image-pins", capabilities = ["kv"], hooks = ["container-create", "self-check"])]
impl Policy for Pins {
    /// Every policy is asked this; this one waits until it is known what the names lead to.
    fn admit_pod(&self, _: &Pod) -> Result<Review> {
        Ok(Review::allow())
    }
}

impl ContainerCreate for Pins {
    fn review_container(&self, pod: &Pod, container: &Container, image: &str) -> Result<Verdict> {
        let accepted = pod.annotation(ACCEPT);
        review(&kv::Host, &name_in(&container.json())?, image, accepted.as_deref())
    }
}

impl SelfCheck for Pins {
    fn self_check(&self) -> Result<(), String> {
        let pins = kv::Host.keys("").map_err(|e| e.message().to_owned())?;
        witlet_sdk::info!("{} images are pinned", pins.len());
        Ok(())
    }
}

fn name_in(container: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Object {
        #[serde(default)]
        image: String,
    }
    let object: Object = serde_json::from_str(container).map_err(|e| Error::Failed(format!("the container: {e}")))?;
    Ok(object.image)
}

/// `image` is what `name` leads to now.
pub fn review(store: &impl Store, name: &str, image: &str, accepted: Option<&str>) -> Result<Verdict> {
    // A name with a digest cannot lead anywhere else, and none leads nowhere.
    if name.is_empty() || name.contains('@') {
        return Ok(Verdict::allow());
    }
    // Whoever is first decides, also among containers that are created at the same time.
    if store.replace(name, None, Some(image.as_bytes()))? {
        return Ok(Verdict::allow());
    }
    let known = store.get(name)?.unwrap_or_default();
    if known == image.as_bytes() {
        return Ok(Verdict::allow());
    }
    if accepted == Some(image) {
        store.replace(name, Some(&known), Some(image.as_bytes()))?;
        return Ok(Verdict::allow());
    }
    let known = String::from_utf8_lossy(&known);
    Ok(Verdict::deny(format!(
        "{name} was {known} when this node first ran it, and is {image} now; if that is meant, annotate the pod with {ACCEPT}: \"{image}\""
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use witlet_sdk_testing::FakeKv;

    use super::*;

    #[test]
    fn a_moved_tag_needs_to_be_accepted() {
        let store = FakeKv::default();
        let ask = |name, image, accepted| review(&store, name, image, accepted).unwrap().denied;
        assert_eq!(ask("app:1", "sha256:a", None), None);
        assert_eq!(ask("app:1", "sha256:a", None), None, "again");
        assert_eq!(ask("app:2", "sha256:b", None), None, "another name");
        let denied = ask("app:1", "sha256:b", None).unwrap();
        assert!(
            denied.starts_with("app:1 was sha256:a when this node first ran it, and is sha256:b now"),
            "{denied}"
        );
        assert!(
            ask("app:1", "sha256:b", Some("sha256:c")).is_some(),
            "another was accepted"
        );
        assert_eq!(ask("app:1", "sha256:b", Some("sha256:b")), None);
        assert_eq!(ask("app:1", "sha256:b", None), None, "from now on");
        assert!(ask("app:1", "sha256:a", None).is_some());
    }

    #[test]
    fn what_cannot_move_is_not_kept() {
        let store = FakeKv::default();
        for name in ["app@sha256:a", ""] {
            assert_eq!(review(&store, name, "sha256:a", None).unwrap(), Verdict::allow());
        }
        assert_eq!(store.keys("").unwrap(), [""; 0]);
        assert_eq!(name_in(r#"{"name": "c", "image": "app:1"}"#).unwrap(), "app:1");
    }
}
