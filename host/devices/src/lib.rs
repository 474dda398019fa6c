//! Device plugins and those who watch devices, on sockets of this machine (the kubelet contract, node F4 and F6).
//!
//! | file | what |
//! |---|---|
//! | `plugins.rs` | connections to device plugins: [`DevicePlugins`](witlet_ports::devices::DevicePlugins) |
//! | `server.rs` | where device plugins register |
//! | `convert.rs` | their messages, with what is believed of them |
//! | `registration.rs` | plugins of all kinds that announce themselves in `plugins_registry` |
//! | `pod_resources.rs` | who has what, for those who ask |
//! | `socket.rs` | connecting and listening |
//!
//! | task | count | in | out |
//! |---|---|---|---|
//! | registration server | 1 | calls of plugins | connections |
//! | connection | 1 per plugin | its lists of devices | events for the agent |
//! | registry | 1 | sockets in `plugins_registry`, each second | calls of registrants |
//! | pod resources server | 1 | calls | answers of the agent |

mod convert;
mod plugins;
pub mod pod_resources;
pub mod proto;
pub mod registration;
mod server;
mod socket;

use std::sync::LazyLock;

use witlet_ports::meter::{About, Counter};
use witlet_ports::sink::Family;

pub use plugins::Plugins;

macro_rules! counters {
    ($($name:ident $metric:literal $label:literal $help:literal)+) => {
        pub(crate) struct Meters {
            $(pub(crate) $name: Counter,)+
        }

        static METERS: LazyLock<Meters> = LazyLock::new(|| Meters {
            $($name: Counter::new(About::new($metric, $help, &[$label])),)+
        });

        /// What was asked of this crate.
        pub fn families() -> Vec<Family> {
            vec![$(METERS.$name.family(),)+]
        }
    };
}

counters! {
    registrations "kubelet_device_plugin_registration_total" "resource_name"
        "[ALPHA] Cumulative number of device plugin registrations. Broken down by resource name."
    requests "kubelet_pod_resources_endpoint_requests_total" "server_api_version"
        "[ALPHA] Cumulative number of requests to the PodResource endpoint. Broken down by server api version."
    lists "kubelet_pod_resources_endpoint_requests_list" "server_api_version"
        "[ALPHA] Number of requests to the PodResource List endpoint. Broken down by server api version."
    allocatables "kubelet_pod_resources_endpoint_requests_get_allocatable" "server_api_version"
        "[ALPHA] Number of requests to the PodResource GetAllocatableResources endpoint. Broken down by server api version."
    gets "kubelet_pod_resources_endpoint_requests_get" "server_api_version"
        "[ALPHA] Number of requests to the PodResource Get endpoint. Broken down by server api version."
    failed_lists "kubelet_pod_resources_endpoint_errors_list" "server_api_version"
        "[ALPHA] Number of requests to the PodResource List endpoint which returned error. Broken down by server api version."
    failed_allocatables "kubelet_pod_resources_endpoint_errors_get_allocatable" "server_api_version"
        "[ALPHA] Number of requests to the PodResource GetAllocatableResources endpoint which returned error. Broken down by server api version."
    failed_gets "kubelet_pod_resources_endpoint_errors_get" "server_api_version"
        "[ALPHA] Number of requests to the PodResource Get endpoint which returned error. Broken down by server api version."
}
