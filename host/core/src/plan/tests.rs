#![allow(clippy::unwrap_used)]

pub(crate) mod fixture;
mod golden;
mod properties;
mod resize;
mod simulator;
mod table;
