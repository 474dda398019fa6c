//! Compiles the interfaces under `proto/` without `protoc`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile([proto.join("cri.proto"), proto.join("events.proto")], [proto])?;
    tonic_prost_build::configure()
        .build_client(true)
        // For the fake runtime that tests talk to.
        .build_server(true)
        .build_transport(false)
        .generate_default_stubs(true)
        // The host's own types have ordered maps, so that two runs send the same bytes.
        .btree_map(".")
        // They carry passwords; see src/proto.rs.
        .skip_debug(["runtime.v1.AuthConfig"])
        .compile_fds(files)?;
    Ok(())
}
