//! The one error that crosses a port.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Trying again may help.
    Retry,
    /// Trying again does not help until something else changes.
    Terminal,
    /// There is no such thing.
    NotFound,
    /// Somebody else changed it first.
    Conflict,
    /// Not permitted.
    Denied,
    /// A deadline passed; the effect is unknown.
    Timeout,
    /// Too much at once; later it may work.
    Exhausted,
    /// The other side does not have the call.
    Unimplemented,
    /// Our own mistake.
    Bug,
}

/// `message` is what users see; the source is for the log.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    pub class: Class,
    /// The CamelCase word for events and statuses, where the failed layer knows a better one than its caller.
    pub reason: Option<&'static str>,
    pub message: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            reason: None,
            message: message.into(),
            source: None,
        }
    }

    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Class::Retry, message)
    }

    pub fn terminal(message: impl Into<String>) -> Self {
        Self::new(Class::Terminal, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Class::NotFound, message)
    }

    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(Class::Denied, message)
    }

    pub fn with_reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn is_not_found(&self) -> bool {
        self.class == Class::NotFound
    }
}
