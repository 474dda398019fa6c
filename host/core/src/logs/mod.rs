//! Container logs: what may be asked for, which container's file answers, and how the runtime's format is read
//! (the kubelet contract, pod 11).

mod decode;
mod options;
mod select;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, Fed, UnknownFormat, tail_start};
pub use options::{Invalid, LogOptions, LogStreams, parse};
pub use select::select;
