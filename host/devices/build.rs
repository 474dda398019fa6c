//! Compiles the interfaces under `proto/` without `protoc`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");
    let files = [
        "device_plugin.proto",
        "plugin_registration.proto",
        "pod_resources_v1.proto",
        "pod_resources_v1alpha1.proto",
    ];
    let files = protox::compile(files.map(|file| proto.join(file)), [proto])?;
    tonic_prost_build::configure()
        // Both sides of all: tests are plugins, and ask.
        .build_client(true)
        .build_server(true)
        .build_transport(false)
        .generate_default_stubs(true)
        // What is kept of an answer is the same bytes each time.
        .btree_map(".")
        .compile_fds(files)?;
    Ok(())
}
