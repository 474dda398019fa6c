//! One pod: its worker and what the worker does.

pub mod execute;
pub mod files;
pub mod gc;
mod hooks;
mod kill;
pub mod observe;
mod start;
mod subpath;
pub mod volumes;
pub mod worker;
