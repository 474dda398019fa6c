//! From the API's errors to the port's.

use std::fmt;
use std::time::Duration;

use witlet_ports::{Class, Error, Result};

use crate::client::chain;

/// What a request is about, for messages.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) verb: &'static str,
    pub(crate) what: &'a (dyn fmt::Display + Sync),
}

impl<'a> Call<'a> {
    pub(crate) fn new(verb: &'static str, what: &'a (dyn fmt::Display + Sync)) -> Self {
        Self { verb, what }
    }
}

/// The result of a request, or `Class::Timeout`.
pub(crate) async fn bounded<T>(
    call: Call<'_>,
    limit: Duration,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit, request).await {
        Ok(result) => result.map_err(|e| convert(call, e)),
        Err(_) => Err(Error::new(
            Class::Timeout,
            format!(
                "{} {}: no answer from the API within {}s",
                call.verb,
                call.what,
                limit.as_secs()
            ),
        )),
    }
}

pub(crate) fn convert(call: Call<'_>, error: kube::Error) -> Error {
    let class = class(&error);
    // What the API says is what users know from kubectl.
    let message = match &error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => format!("{} {}: {}", call.verb, call.what, chain(other)),
    };
    Error::new(class, message).with_source(error)
}

fn class(error: &kube::Error) -> Class {
    match error {
        kube::Error::Api(status) => match status.code {
            404 => Class::NotFound,
            409 => Class::Conflict,
            401 | 403 => Class::Denied,
            400 | 405 | 406 | 413 | 415 | 422 => Class::Terminal,
            504 => Class::Timeout,
            _ => Class::Retry,
        },
        kube::Error::BuildRequest(_) => Class::Bug,
        _ => Class::Retry,
    }
}

/// `AlreadyExists` is a conflict of another kind.
pub(crate) fn already_exists(error: &Error) -> bool {
    reason_is(error, "AlreadyExists")
}

/// The API refused what a request says in this field.
pub(crate) fn is_about(error: &Error, field: &str) -> bool {
    let source = error.source.as_ref().and_then(|s| s.downcast_ref::<kube::Error>());
    let Some(kube::Error::Api(status)) = source else {
        return false;
    };
    let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.field == field)
}

fn reason_is(error: &Error, reason: &str) -> bool {
    let source = error.source.as_ref().and_then(|s| s.downcast_ref::<kube::Error>());
    matches!(source, Some(kube::Error::Api(status)) if status.reason == reason)
}
