//! What plugins can do through the host, one file a capability, without any binding's types.
//!
//! Each file decides for itself what its grant allows; the linker (in `abi`) only offers what was granted at all.

pub(crate) mod address;
pub(crate) mod container_exec;
pub(crate) mod egress;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod grpc;
pub(crate) mod handles;
pub(crate) mod host_path;
pub(crate) mod kv;
pub(crate) mod log;
pub(crate) mod mount;
pub(crate) mod nfs;
pub(crate) mod output_file;
pub(crate) mod pod_net;
pub(crate) mod pod_objects;
pub(crate) mod step;
pub(crate) mod tls;
pub(crate) mod volume_dir;
pub(crate) mod wasi;
