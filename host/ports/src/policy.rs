//! May a pod run here? Behind it stand policy plugins.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};
use witlet_core::desired::Rejection;

use crate::Result;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Review {
    /// The first plugin that denied, in the order of the configuration.
    pub denied: Option<Rejection>,
    pub warnings: Vec<String>,
}

/// A way into a pod past its ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Exec,
    Attach,
    PortForward,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "port-forward",
        }
    }
}

/// Somebody asks to be let into a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    pub verb: Verb,
    /// Empty for `PortForward`.
    pub container: String,
    pub command: Vec<String>,
    pub stdin: bool,
    pub tty: bool,
    pub ports: Vec<u16>,
}

#[async_trait]
pub trait Policies: Send + Sync + 'static {
    /// An error means that a plugin which must answer did not: the pod waits and is asked for again.
    async fn admit(&self, pod: &Arc<Pod>) -> Result<Review>;

    /// Before a container is created from `image`, what its image's name led to. Nobody is asked where no policy has the hook.
    async fn container(&self, _pod: &Arc<Pod>, _container: &Container, _image: &str) -> Result<Review> {
        Ok(Review::default())
    }

    /// Before a stream into a pod is opened.
    async fn access(&self, _pod: &Arc<Pod>, _access: &Access) -> Result<Review> {
        Ok(Review::default())
    }
}
