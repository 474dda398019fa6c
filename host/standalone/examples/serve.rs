//! Serves the API alone, to look at it with kubectl: `cargo run -p witlet-standalone --example serve -- <directory> [port]`.

use tokio_util::sync::CancellationToken;
use witlet_standalone::{Config, Error, start};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let dir = std::path::PathBuf::from(arguments.next().unwrap_or_else(|| "standalone-data".into()));
    let port: u16 = arguments.next().and_then(|p| p.parse().ok()).unwrap_or(6443);
    let shutdown = CancellationToken::new();
    let config = Config {
        listen: ([127, 0, 0, 1], port).into(),
        kubeconfig: dir.join("kubeconfig"),
        data_dir: dir,
        node_name: "node".into(),
    };
    let server = start(config, shutdown.clone()).await?;
    println!("export KUBECONFIG={}", server.kubeconfig.display());
    let _ = tokio::signal::ctrl_c().await;
    shutdown.cancel();
    server.wait().await
}
