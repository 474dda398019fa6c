//! How the node's plugins are, as a whole.

pub trait Plugins: Send + Sync + 'static {
    /// What is wrong now, one line for each plugin that is not well. Empty: nothing.
    fn problems(&self) -> Vec<String>;
}

/// No plugins at all.
impl Plugins for () {
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}
