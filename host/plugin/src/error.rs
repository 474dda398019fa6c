//! How a call of a plugin ends, and why a plugin does not load.

use std::fmt;
use std::time::Duration;

use witlet_ports::{Class, Error};

use crate::manifest::ManifestError;

/// The kinds of failure that WIT's `error` variant has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FaultKind {
    Invalid,
    NotFound,
    Denied,
    Unavailable,
    Timeout,
    Failed,
    Other,
}

/// A failure that crosses the border between guest and host, in either direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(FaultKind::Invalid, text)
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(FaultKind::NotFound, text)
    }

    pub(crate) fn denied(text: impl Into<String>) -> Self {
        Self::new(FaultKind::Denied, text)
    }

    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Self::new(FaultKind::Unavailable, text)
    }

    pub(crate) fn timeout(text: impl Into<String>) -> Self {
        Self::new(FaultKind::Timeout, text)
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::new(FaultKind::Failed, text)
    }

    /// The error of another port, for the guest.
    pub(crate) fn of_port(error: &Error) -> Self {
        let kind = match error.class {
            Class::Retry | Class::Conflict | Class::Exhausted => FaultKind::Unavailable,
            Class::Terminal | Class::Unimplemented | Class::Bug => FaultKind::Failed,
            Class::NotFound => FaultKind::NotFound,
            Class::Denied => FaultKind::Denied,
            Class::Timeout => FaultKind::Timeout,
        };
        Self::new(kind, error.message.clone())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A call that did not end with a value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The plugin answered with an error.
    #[error("{0}")]
    Guest(Fault),
    /// The guest broke: an unreachable instruction, an access out of bounds, a limit, a broken promise of the ABI.
    #[error("it trapped: {0}")]
    Trap(String),
    #[error("it used more than its {0:?} of processor time")]
    CpuTimeout(Duration),
    #[error("it did not answer within {0:?}")]
    WallTimeout(Duration),
    /// Its calls, or those of all plugins, take too long for their number.
    #[error("{0}")]
    Overload(String),
    /// What it answered cannot be used.
    #[error("its answer cannot be used: {0}")]
    Nonsense(String),
    #[error("the host failed: {0}")]
    Host(String),
    /// Its circuit breaker is open.
    #[error("it kept failing and is asked again in {}", shown(*.0))]
    Broken(Duration),
    /// Nothing is active under its name.
    #[error("{0}")]
    Absent(String),
}

/// To the tenth of a second.
fn shown(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

impl CallError {
    /// The value of the metric's label `outcome`.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Guest(Fault {
                kind: FaultKind::Denied,
                ..
            }) => "denied",
            Self::Guest(_) => "guest_error",
            Self::Trap(_) | Self::Nonsense(_) | Self::Host(_) => "trap",
            Self::CpuTimeout(_) => "cpu_timeout",
            Self::WallTimeout(_) => "wall_timeout",
            Self::Overload(_) => "overload",
            Self::Broken(_) => "refused",
            Self::Absent(_) => "absent",
        }
    }

    /// Is it the plugin that is broken, rather than what it was asked for?
    pub(crate) fn is_fault_of_plugin(&self) -> bool {
        !matches!(
            self,
            Self::Guest(_) | Self::Overload(_) | Self::Host(_) | Self::Absent(_)
        )
    }

    /// For the caller of a port. A guest's own words stay as they are: they are what users read in events.
    pub(crate) fn into_port(self, plugin: &str, func: &str) -> Error {
        let class = match &self {
            Self::Guest(fault) => {
                let class = match fault.kind {
                    FaultKind::Invalid => Class::Terminal,
                    FaultKind::NotFound => Class::NotFound,
                    FaultKind::Denied => Class::Denied,
                    FaultKind::Timeout => Class::Timeout,
                    FaultKind::Unavailable | FaultKind::Failed | FaultKind::Other => Class::Retry,
                };
                return Error::new(class, fault.text.clone());
            }
            Self::WallTimeout(_) => Class::Timeout,
            Self::Trap(_)
            | Self::CpuTimeout(_)
            | Self::Overload(_)
            | Self::Nonsense(_)
            | Self::Broken(_)
            | Self::Absent(_) => Class::Retry,
            Self::Host(_) => Class::Bug,
        };
        Error::new(class, format!("plugin {plugin}, {func}: {self}"))
            .with_reason("PluginFailed")
            .with_source(self)
    }
}

/// Why one plugin was not put to work.
#[derive(Debug, thiserror::Error)]
#[error("plugin {plugin} ({source_text}): {cause}")]
pub struct LoadError {
    pub plugin: String,
    /// Where it was to come from.
    pub source_text: String,
    pub cause: LoadCause,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadCause {
    #[error("{0}")]
    Read(String),
    /// It comes from elsewhere, and cannot be had now.
    #[error("{0}")]
    Fetch(String),
    #[error("{0}")]
    Signature(String),
    /// What it would leave, or was left by the active version, cannot be read by the other.
    #[error("{0}")]
    State(String),
    #[error("the file's sha256 is {found}, the configuration wants {wanted}")]
    Pin { found: String, wanted: String },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{0}")]
    Compile(String),
    #[error("{0}")]
    Link(String),
    #[error("its self-check failed: {0}")]
    SelfCheck(String),
    #[error("{0}")]
    Config(String),
}

/// Everything that is wrong with a set of plugins, at once.
#[derive(Debug)]
pub struct LoadErrors(pub Vec<LoadError>);

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadErrors {}

/// A guest's text as it may be shown: of bounded length, and without anything that moves a cursor.
pub(crate) fn clean(mut text: String, max: usize) -> String {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    if text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
        text = text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "\u{fffd}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_guests_are_harmless() {
        assert_eq!(
            clean("a\u{1b}[2Jb\r\u{0}c\nd\te".into(), 100),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\nd\te"
        );
        // Cut between characters, not within one.
        assert_eq!(clean("aé".repeat(10), 5), "aéa…");
        assert_eq!(clean("short".into(), 5), "short");
    }
}
