//! The agent: actors that bring pods from what is to what should be.
//!
//! | task | count | in | out |
//! |---|---|---|---|
//! | [`supervisor`] | 1 | pod sources, the runtime's pod list | workers: spawns, feeds, joins; the only writer of the pod map |
//! | [`pod::worker`] | 1 per pod | desired pod, nudges | actions on ports, statuses |
//! | [`pleg`] | 1 | runtime events, relist timer | nudges to workers, the set of pods the runtime has |
//! | [`probes`] | 1 per probe | facts of a pod | results, nudges |
//! | [`qos`] | 1 | the weight of Burstable pods | the cgroups above the pods' |
//! | [`images`] | - | workers | limited, de-duplicated pulls |
//! | [`images::gc`] | 1 | the runtime's images, the disk | removed images |
//! | [`garbage`] | 1 | the runtime's containers, logs | removed containers, sandboxes, logs |
//! | [`status`] | 1 + bounded writes | statuses of all pods | API patches; workers never wait for the API |
//! | [`allocations`] | 1 | what pods were allocated and given | two files |
//! | [`devices`] | 1 | device plugins, pods that are admitted | who has which devices, in a file |
//! | [`managers`] | 1 | pods that are admitted and gone | cpus and NUMA nodes of containers, two files |
//! | [`mirrors`] | 1 | static pods, API pods | mirror pods |
//! | [`node`] | 1 | runtime status, machine facts | node object, lease, [`witlet_core::plan::Rules`] |
//! | [`cni`] | 1 + 1 per call | the runtime's CNI calls | network plugin |
//! | [`sinks`] | 1 per sink | log files, metrics | log and metric sink plugins |
//! | [`serve`] | - | the node's server | pods, logs, addresses of streams into containers |
//! | [`turns`] | - | workers | sandboxes set up a few at a time |
//! | [`rotation`] | 1 | the runtime's containers | rotated logs |
//! | [`stats`] | 2 | the runtime, the kernel, files | the node's pressure; counts of volumes; the rest when asked |
//! | [`http`] | 1 + 1 per connection | | `/healthz`, `/metrics`, `/stats/summary` |

pub mod allocations;
pub mod app;
pub mod claims;
pub mod clock;
pub mod cni;
pub mod context;
pub mod devices;
pub mod garbage;
pub mod http;
pub mod images;
pub mod managers;
pub mod metrics;
pub mod mirrors;
pub mod node;
pub mod pleg;
pub mod pod;
pub mod probes;
pub mod qos;
pub mod rotation;
pub mod serve;
pub mod sinks;
pub mod stats;
pub mod status;
pub mod supervisor;
pub mod turns;
pub mod users;
