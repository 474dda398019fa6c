//! From gRPC's errors to the port's.

use std::error::Error as _;
use std::path::Path;

use tonic::{Code, Status};
use witlet_ports::{Class, Error, Result};

/// What can be done about an answer of the runtime. Most of its failures come as `Unknown` or `Internal`: they say nothing
/// but that it did not work this time.
fn class(code: Code) -> Class {
    match code {
        Code::NotFound => Class::NotFound,
        Code::AlreadyExists => Class::Conflict,
        Code::DeadlineExceeded => Class::Timeout,
        Code::Unimplemented => Class::Unimplemented,
        Code::PermissionDenied | Code::Unauthenticated => Class::Denied,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::DataLoss => Class::Terminal,
        Code::Ok | Code::Unknown | Code::Internal | Code::Unavailable | Code::Aborted | Code::Cancelled => Class::Retry,
        Code::ResourceExhausted => Class::Exhausted,
    }
}

/// The runtime's own message where it answered; where it did not, what went wrong on the way to it.
pub(crate) fn error(status: Status, socket: &Path) -> Error {
    // Only what happened on this side has a source: a status that was received has none.
    let Some(cause) = status.source().map(root) else {
        let message = match status.message() {
            "" => format!("the container runtime answered {:?} without a message", status.code()),
            message => message.to_owned(),
        };
        return Error::new(class(status.code()), message).with_source(status);
    };
    if cause.is::<tonic::TimeoutExpired>() {
        return deadline_exceeded();
    }
    let message = format!("cannot talk to the container runtime at {}: {cause}", socket.display());
    Error::retry(message).with_source(status)
}

/// The words are those of other agents, which tests and people look for.
pub(crate) fn deadline_exceeded() -> Error {
    Error::new(Class::Timeout, "context deadline exceeded")
}

/// An answer without something it must have: the call counts as failed (the kubelet contract, pod 12.3).
pub(crate) fn incomplete(what: &str, field: &str) -> Error {
    Error::retry(format!(
        "the container runtime's answer is incomplete: {what} has no {field}"
    ))
}

/// Where there is nothing (any more) to do something to, it is done.
pub(crate) fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(e) if e.is_not_found() => Ok(()),
        result => result,
    }
}

fn root<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn codes_become_classes() {
        let table = [
            (Code::NotFound, Class::NotFound),
            (Code::DeadlineExceeded, Class::Timeout),
            (Code::Unimplemented, Class::Unimplemented),
            (Code::Unavailable, Class::Retry),
            (Code::Unknown, Class::Retry),
            (Code::Internal, Class::Retry),
            (Code::InvalidArgument, Class::Terminal),
            (Code::AlreadyExists, Class::Conflict),
            (Code::PermissionDenied, Class::Denied),
            (Code::ResourceExhausted, Class::Exhausted),
        ];
        for (code, expected) in table {
            let error = error(Status::new(code, "text of the runtime"), Path::new("/run/x.sock"));
            assert_eq!(error.class, expected, "{code:?}");
            assert_eq!(error.message, "text of the runtime");
        }
    }

    #[test]
    fn a_status_without_words_gets_some() {
        let error = error(Status::new(Code::Internal, ""), Path::new("/run/x.sock"));
        assert_eq!(
            error.message,
            "the container runtime answered Internal without a message"
        );
    }

    #[test]
    fn a_failure_on_the_way_names_the_socket_and_the_root_cause() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = error(Status::from_error(Box::new(refused)), Path::new("/run/x.sock"));
        assert_eq!(error.class, Class::Retry);
        assert_eq!(
            error.message,
            "cannot talk to the container runtime at /run/x.sock: connection refused"
        );
    }

    #[test]
    fn gone_is_fine_but_nothing_else() {
        assert!(gone_is_fine(Ok(())).is_ok());
        assert!(gone_is_fine(Err(Error::not_found("x"))).is_ok());
        assert_eq!(gone_is_fine(Err(Error::retry("x"))).unwrap_err().class, Class::Retry);
    }
}
