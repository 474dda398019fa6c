//! Connections, as several adapters have them: HTTP from clients, and TLS towards pods.
//!
//! What is asked and answered on them is their users' affair; nothing here knows of pods or of an API.

mod listen;
mod unverified;

pub use listen::{Http, accept, serve, shake_hands};
pub use unverified::unverified;
