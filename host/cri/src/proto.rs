//! The generated messages, clients and servers of `proto/*.proto`.

/// CRI v1.
#[allow(
    clippy::all,
    clippy::unwrap_used,
    missing_docs,
    unused_qualifications,
    unreachable_pub
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// containerd's event stream.
#[allow(
    clippy::all,
    clippy::unwrap_used,
    missing_docs,
    unused_qualifications,
    unreachable_pub
)]
pub mod events {
    tonic::include_proto!("containerd.services.events.v1");
}

// Requests are logged and shown by failed tests; credentials must not be.
impl std::fmt::Debug for v1::AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}
