//! What a plugin is told of a volume at one of its steps.

use std::fmt;
use std::sync::Arc;

/// Names and contents of the keys of a Secret.
pub(crate) type Secret = Vec<(String, Vec<u8>)>;

#[allow(unreachable_pub)] // Bindings re-export it.
#[derive(Clone)]
pub struct Step {
    /// The v1 Volume as JSON.
    pub(crate) volume: Arc<str>,
    pub(crate) block: bool,
    /// Read only where the plugin may have it.
    pub(crate) secret: Arc<Secret>,
}

/// Secrets are shown nowhere.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("block", &self.block)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let step = Step {
            volume: "{}".into(),
            block: false,
            secret: Arc::new(vec![("password".to_owned(), b"hunter2".to_vec())]),
        };
        let text = format!("{step:?}");
        assert!(
            !text.contains("104") && !text.contains("hunter2") && !text.contains("password"),
            "{text}"
        );
    }
}
