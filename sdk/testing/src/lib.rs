//! A host to test a plugin's logic against, natively and without WebAssembly.
//!
//! What answers (network, programs, HTTP) is a [`Script`]: it gives prepared answers in order and keeps what it was asked.
//! What has a state (a volume's directory, a store of keys and values) is a small model of the real thing.

mod dir;
mod kv;
mod network;
mod objects;
mod script;

pub use dir::{FakeDir, Node};
pub use kv::FakeKv;
pub use network::{FakeConnection, FakePodNet};
pub use objects::FakeObjects;
pub use script::{FakeBody, Script};
