//! The volumes of the pod spec that a node makes by itself: `emptyDir`, `hostPath`, `configMap`, `secret`, `downwardAPI`
//! and `projected`.
//!
//! Everything worth reading is in [`logic`]; here it is given a real host.

use witlet_sdk::volume::{self, Node, Pod, Published, Volume, VolumeDir};
use witlet_sdk::{Result, random, time};

pub mod logic;

#[derive(Default)]
struct Standard;

#[volume::plugin(
    name = "volume-standard",
    capabilities = ["files", "mount", "host-path", "pod-objects", "downward"],
    drivers = [
        "kubernetes.io/empty-dir",
        "kubernetes.io/host-path",
        "kubernetes.io/configmap",
        "kubernetes.io/secret",
        "kubernetes.io/downward-api",
        "kubernetes.io/projected",
    ],
)]
impl Volume for Standard {
    fn publish(&self, pod: &Pod, volume: &str, target: &VolumeDir) -> Result<Published> {
        let host = logic::Host {
            pod: &pod.json(),
            objects: pod,
            paths: &Node,
            version: &|| logic::version_name(time::now(), u32::from_le_bytes(random::bytes())),
        };
        logic::publish(&host, volume, target)
    }

    fn unpublish(&self, target: &VolumeDir) -> Result<()> {
        logic::unpublish(target)
    }
}
