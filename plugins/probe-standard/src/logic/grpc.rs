//! The gRPC health protocol, `grpc.health.v1.Health/Check`.

use std::time::Duration;

use serde::Deserialize;
use witlet_sdk::probe::{GrpcRequest, Outcome, PodNet};
use witlet_sdk::{Error, Result};

use super::{IntOrString, Target, USER_AGENT, go};

const METHOD: &str = "/grpc.health.v1.Health/Check";
const DEADLINE_EXCEEDED: u32 = 4;
const UNIMPLEMENTED: u32 = 12;

#[derive(Deserialize)]
pub(super) struct GrpcAction {
    port: i64,
    service: Option<String>,
}

pub(super) fn check<N: PodNet, E>(
    target: &Target<'_, N, E>,
    action: &GrpcAction,
    timeout: Duration,
) -> Result<Outcome> {
    let port = super::port(&IntOrString::Int(action.port), || target.container())?;
    let address = go::join_host_port(target.pod_ip()?, port);
    let request = GrpcRequest {
        port,
        method: METHOD.to_owned(),
        metadata: vec![("user-agent".to_owned(), USER_AGENT.to_owned())],
        message: encode_request(action.service.as_deref().unwrap_or_default()),
        timeout_ms: witlet_sdk::time::millis(timeout),
    };
    let within = go::duration(timeout);
    let message = match target.net.grpc_unary(&request) {
        Ok(reply) if reply.code == 0 => match decode_status(&reply.message) {
            Some(1) => return Ok(Outcome::pass("service healthy")),
            Some(status) => format!("service unhealthy (responded with {})", go::quote(&status_name(status))),
            None => "error: health rpc probe failed: rpc error: code = Internal desc = grpc: failed to unmarshal the \
                     received message"
                .to_owned(),
        },
        Ok(reply) => match reply.code {
            UNIMPLEMENTED => format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                reply.status_message
            ),
            DEADLINE_EXCEEDED => format!("timeout: health rpc did not complete within {within}"),
            code => format!(
                "error: health rpc probe failed: rpc error: code = {} desc = {}",
                code_name(code),
                reply.status_message
            ),
        },
        Err(error @ (Error::Denied(_) | Error::Invalid(_))) => return Err(error),
        Err(Error::Timeout(why)) if !why.starts_with("dial tcp") && !why.starts_with("lookup") => {
            format!("timeout: health rpc did not complete within {within}")
        }
        Err(Error::Timeout(_)) => {
            format!(
                "timeout: failed to connect service {} within {within}: context deadline exceeded",
                go::quote(&address)
            )
        }
        // gRPC clients try to connect until their time is up, and then tell what they last ran into.
        Err(error @ Error::Unavailable(_)) => format!(
            "timeout: failed to connect service {} within {within}: context deadline exceeded: connection error: \
             desc = \"transport: Error while dialing: {}\"",
            go::quote(&address),
            go::dial_error(&address, &error)
        ),
        Err(error) => format!("error: health rpc probe failed: {}", error.message()),
    };
    Ok(Outcome::fail(message))
}

/// `HealthCheckRequest { string service = 1; }`
fn encode_request(service: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if !service.is_empty() {
        out.push(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(service.as_bytes());
    }
    out
}

/// `HealthCheckResponse { ServingStatus status = 1; }`; none if the message is broken.
fn decode_status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => _ = varint(&mut message)?,
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn status_name(status: u64) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        1 => "SERVING".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}

fn code_name(code: u32) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    match NAMES.get(code as usize) {
        Some(name) => (*name).to_owned(),
        None => format!("Code({code})"),
    }
}
