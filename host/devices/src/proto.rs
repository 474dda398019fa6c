//! The generated messages, clients and servers of `proto/*.proto`.

macro_rules! packages {
    ($($(#[$doc:meta])* $name:ident $package:literal)+) => {
        $(
            $(#[$doc])*
            #[allow(clippy::all, clippy::unwrap_used, missing_docs, unused_qualifications, unreachable_pub)]
            pub mod $name {
                tonic::include_proto!($package);
            }
        )+
    };
}

packages! {
    /// Device plugins.
    device_plugin "v1beta1"
    /// Plugins that announce themselves.
    registration "pluginregistration"
    /// Pod resources.
    pod_resources "v1"
    /// Pod resources, as they were once.
    pod_resources_alpha "v1alpha1"
}
