//! What tests of several crates share.

pub mod arbitrary_pod;
pub mod fake_cri;
pub mod fake_device_plugin;
