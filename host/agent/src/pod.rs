//! One pod: its worker and what the worker does.

pub mod count;
mod env_files;
pub mod execute;
mod expand;
pub mod files;
pub mod gc;
mod hooks;
pub mod image_volumes;
mod kill;
mod objects;
pub mod observe;
mod resize;
mod sandbox;
mod source;
mod start;
mod subpath;
pub mod volumes;
pub mod worker;
