//! Noticing a changed configuration. Plugin stanzas take effect at once; all else needs a restart, and that is said.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use witlet_plugin_host::PluginHost;

use crate::config::{Config, Source};

const LOOK: Duration = Duration::from_secs(1);

/// Runs until shutdown.
pub(crate) async fn watch(mut config: Config, plugins: Arc<PluginHost>, shutdown: CancellationToken) {
    let mut seen = stamps(&config.source);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = stamps(&config.source);
        if now == seen {
            continue;
        }
        seen = now;
        match Config::read(&config.source) {
            Ok(next) => {
                let restart = config.sections.changed(&next.sections);
                if !restart.is_empty() {
                    warn!(
                        sections = restart.join(", "),
                        "these changes take effect when witlet is restarted"
                    );
                }
                apply(&plugins, &next).await;
                config = next;
            }
            Err(problems) => error!("{problems}\n  the node keeps the configuration it has"),
        }
    }
}

async fn apply(plugins: &PluginHost, config: &Config) {
    let report = plugins.reload(config.plugins.clone()).await;
    for refused in report.refused() {
        error!(error = %refused, "the plugin is refused; the version that was active stays");
    }
    info!("the plugins' configuration was read again");
}

/// When each file of the configuration was last written.
fn stamps(source: &Source) -> BTreeMap<PathBuf, SystemTime> {
    let files = source.files().unwrap_or_default();
    files
        .into_iter()
        .filter_map(|file| Some((file.clone(), file.metadata().and_then(|m| m.modified()).ok()?)))
        .collect()
}
