//! Tasks of this repository: `cargo xtask <task>`.

use std::path::Path;

mod wasm;

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    match std::env::args().nth(1).as_deref() {
        Some("plugins") => {
            println!("{}", wasm::build_plugins(root)?.display());
            Ok(())
        }
        _ => anyhow::bail!("usage: cargo xtask plugins"),
    }
}
