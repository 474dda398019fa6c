//! Policies: may this pod run on this node?

pub use witlet_sdk_macros::policy_plugin as plugin;

use self::bindings::exports::witlet::policy::admission::Guest;
pub use self::bindings::exports::witlet::policy::admission::{Decision, Denial, Review};
use crate::registration::{Exported, Registered, enter};
pub use crate::{Container, Pod};
use crate::{Error, Result};

pub trait Policy {
    /// Called before a pod is first started on the node, and again after a restart of the agent.
    fn admit_pod(&self, pod: &Pod) -> Result<Review>;
}

impl Review {
    pub fn allow() -> Self {
        Self {
            decision: Decision::Allow,
            warnings: Vec::new(),
        }
    }

    /// `reason` is CamelCase, `message` is for people.
    pub fn deny(reason: impl Into<String>, message: impl Into<String>) -> Self {
        let denial = Denial {
            reason: reason.into(),
            message: message.into(),
        };
        Self {
            decision: Decision::Deny(denial),
            warnings: Vec::new(),
        }
    }
}

impl<T: Policy + Registered> Guest for Exported<T> {
    fn admit_pod(pod: &Pod) -> Result<Review, Error> {
        enter();
        T::get().admit_pod(pod)
    }
}

/// What a hook answers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Why not; none if nothing speaks against it.
    pub denied: Option<String>,
    pub warnings: Vec<String>,
}

impl Verdict {
    pub fn allow() -> Self {
        Self::default()
    }

    /// For people.
    pub fn deny(message: impl Into<String>) -> Self {
        Self {
            denied: Some(message.into()),
            warnings: Vec::new(),
        }
    }
}

/// Optional: implement it, and add `hooks = ["container-create"]` to the plugin's attribute.
pub trait ContainerCreate {
    /// Before each container is created, when its image is on the node. `image` is the runtime's id or the digest of what the
    /// name in the spec led to.
    fn review_container(&self, pod: &Pod, container: &Container, image: &str) -> Result<Verdict>;
}

pub use self::access::bindings::exports::witlet::policy_hooks::access::Request as AccessRequest;

/// Optional: implement it, and add `hooks = ["access"]` to the plugin's attribute.
pub trait Access {
    /// Before somebody gets into a pod past its ports: `exec`, `attach`, `port-forward`.
    fn review_access(&self, pod: &Pod, request: &AccessRequest) -> Result<Verdict>;
}

#[doc(hidden)]
pub mod container_create {
    use self::bindings::exports::witlet::policy_hooks::container_create::{Guest, Review};
    use super::ContainerCreate;
    use crate::registration::{Exported, Registered, enter};
    use crate::{Container, Error, Pod};

    impl<T: ContainerCreate + Registered> Guest for Exported<T> {
        fn review_container(pod: &Pod, container: &Container, image: String) -> Result<Review, Error> {
            enter();
            let verdict = T::get().review_container(pod, container, &image)?;
            Ok(Review {
                denied: verdict.denied,
                warnings: verdict.warnings,
            })
        }
    }

    #[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
    pub mod bindings {
        wit_bindgen::generate!({
            path: ["../../wit/base/0.1", "../../wit/policy-hooks/0.1"],
            inline: "
                package witlet:sdk-container-create;
                world container-create { export witlet:policy-hooks/container-create@0.1.0; }
            ",
            world: "witlet:sdk-container-create/container-create",
            with: {
                "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
                "witlet:base/objects@0.1.0": crate::base::bindings::witlet::base::objects,
            },
            generate_all,
            additional_derives: [PartialEq, Clone],
            pub_export_macro: true,
            export_macro_name: "export_container_create",
            default_bindings_module: "::witlet_sdk::policy::container_create::bindings",
        });
    }
}

#[doc(hidden)]
pub mod access {
    use self::bindings::exports::witlet::policy_hooks::access::{Guest, Request, Review};
    use super::Access;
    use crate::registration::{Exported, Registered, enter};
    use crate::{Error, Pod};

    impl<T: Access + Registered> Guest for Exported<T> {
        fn review_access(pod: &Pod, request: Request) -> Result<Review, Error> {
            enter();
            let verdict = T::get().review_access(pod, &request)?;
            Ok(Review {
                denied: verdict.denied,
                warnings: verdict.warnings,
            })
        }
    }

    #[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
    pub mod bindings {
        wit_bindgen::generate!({
            path: ["../../wit/base/0.1", "../../wit/policy-hooks/0.1"],
            inline: "
                package witlet:sdk-access;
                world access { export witlet:policy-hooks/access@0.1.0; }
            ",
            world: "witlet:sdk-access/access",
            with: {
                "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
                "witlet:base/objects@0.1.0": crate::base::bindings::witlet::base::objects,
            },
            generate_all,
            additional_derives: [PartialEq, Clone],
            pub_export_macro: true,
            export_macro_name: "export_access",
            default_bindings_module: "::witlet_sdk::policy::access::bindings",
        });
    }
}

#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/policy/0.1"],
        world: "witlet:policy/policy-plugin@0.1.0",
        with: {
            "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
            "witlet:base/objects@0.1.0": crate::base::bindings::witlet::base::objects,
            "witlet:base/log@0.1.0": crate::base::bindings::witlet::base::log,
            "witlet:base/clock@0.1.0": crate::base::bindings::witlet::base::clock,
            "witlet:base/random@0.1.0": crate::base::bindings::witlet::base::random,
            "witlet:base/config@0.1.0": crate::base::bindings::witlet::base::config,
            "witlet:base/kv@0.1.0": crate::base::bindings::witlet::base::kv,
        },
        generate_all,
        additional_derives: [PartialEq, Clone],
        pub_export_macro: true,
        default_bindings_module: "::witlet_sdk::policy::bindings",
    });
}
