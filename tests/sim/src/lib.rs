//! The whole agent in a world of its own: the real tasks against fakes of all ports, on a virtual clock.
//!
//! The world is a state behind a lock, and an agenda of what is to happen when. Every call of the agent takes time, may fail
//! before or after it had its effect, and may be the moment at which the agent is killed. Each life of the agent has an
//! async runtime of its own, which is dropped with everything in it; the world goes on.
//!
//! | file | what |
//! |---|---|
//! | `clock.rs` | one time for world and agent |
//! | `world.rs` | state, agenda, what becomes of a call |
//! | `runtime.rs` | the container runtime: sandboxes, containers that live and die by script, images, hints |
//! | `api.rs` | the API: pods with graceful deletion, node, events, objects; the pod sources |
//! | `node.rs` | cgroups, volumes, probes, policies, network |
//! | `pods.rs` | the pods that scenarios are made of, and what is to become of them |
//! | `rules.rs` | what must hold at every moment |
//! | `check.rs` | what must hold in the end |
//! | `scenario.rs` | scenarios and their course |

pub mod api;
pub mod check;
pub mod clock;
pub mod node;
pub mod pods;
mod rules;
pub mod runtime;
pub mod scenario;
pub mod world;
