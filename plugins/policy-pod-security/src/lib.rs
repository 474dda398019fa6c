//! The Pod Security Standards, kept by the node itself: also for pods that no API server has seen.
//!
//! Everything worth reading is in [`logic`]; here it is given a real host.

use witlet_sdk::policy::{self, Pod, Policy, Review};
use witlet_sdk::{Result, config};

pub mod logic;

#[derive(Default)]
struct PodSecurity;

#[policy::plugin(name = "policy-pod-security", capabilities = [])]
impl Policy for PodSecurity {
    fn admit_pod(&self, pod: &Pod) -> Result<Review> {
        logic::review(&config::get()?, &pod.json())
    }
}
