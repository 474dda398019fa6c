#![allow(clippy::unwrap_used)]

mod containers;
mod merging;
mod pods;
mod resize;
