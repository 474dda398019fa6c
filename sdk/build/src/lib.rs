//! From source to component: what `cargo xtask plugins` and the authors' tool `witlet-plugin` share.
//!
//! - `rust`, `c`, `javascript`, `python`: how each language becomes a component, and what must be installed for it.
//! - `encode`: a core module becomes a component; a component gets its manifest.
//! - `shape`: what a component shows of itself.
//! - `tools`: programs that are called, and those that are fetched once.

pub mod c;
pub mod encode;
pub mod javascript;
pub mod python;
pub mod rust;
pub mod shape;
pub mod tools;
