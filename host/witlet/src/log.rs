//! The log, whose level can be changed while the agent runs.

use std::io::IsTerminal;

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};
use witlet_core::kubelet::log_level;
use witlet_ports::trace::TARGET;

use crate::config::{Log, LogFormat};

/// The way to the level.
#[derive(Clone)]
pub(crate) struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// As with a kubelet's `-v`, until the next start. An error says what is wrong with the text.
    pub(crate) fn set(&self, verbosity: &str) -> Result<(), String> {
        // In Go's words, which is where these come from.
        let number: i32 = verbosity
            .parse()
            .map_err(|_| format!("strconv.ParseInt: parsing {verbosity:?}: invalid syntax"))?;
        let level = log_level(number.into());
        let filter = filter(level).map_err(|e| e.to_string())?;
        self.0.reload(filter).map_err(|e| e.to_string())?;
        tracing::info!(level, "the log level is changed");
        Ok(())
    }
}

/// Spans for a collector are not for the log.
fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    let own = format!("{TARGET}=off").parse()?;
    Ok(EnvFilter::builder().parse(directives)?.add_directive(own))
}

/// For the whole process, with what else is to see spans.
pub(crate) fn start<L>(log: &Log, traces: Option<L>) -> Result<Level, String>
where
    L: Layer<Registry> + Send + Sync + 'static,
{
    let filter = filter(&log.level).map_err(|e| format!("log.level: {e}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let all = vec![Some(lines.with_filter(filter).boxed()), traces.map(Layer::boxed)];
    let all: Vec<_> = all.into_iter().flatten().collect();
    tracing_subscriber::registry()
        .with(all)
        .try_init()
        .map_err(|e| format!("the log cannot be started: {e}"))?;
    Ok(Level(handle))
}
