//! One certificate signing request: made, sent, and waited for (the kubelet contract, node rules 27, 28, 30).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::watcher::Event;
use rcgen::{CertificateParams, DnType, DnValue, KeyPair, PublicKeyData, SanType};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha512_256};
use tokio_util::sync::CancellationToken;
use witlet_core::certificate::Wanted;
use witlet_core::x509;

use super::key::{Pair, ec_pem, pem};
use crate::client::chain;
use crate::watching::watch;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("cannot create certificate signing request: {}", chain(.0))]
    Create(#[source] Box<kube::Error>),
    #[error(
        "certificate signing request {name} is denied, reason: {reason:?}, message: {message:?}; see `kubectl describe csr {name}`"
    )]
    Denied {
        name: String,
        reason: String,
        message: String,
    },
    #[error("certificate signing request {name} failed, reason: {reason:?}, message: {message:?}")]
    Failed {
        name: String,
        reason: String,
        message: String,
    },
    #[error(
        "certificate signing request {name} was not approved and signed within {}s; approve it with `kubectl certificate approve {name}`", .waited.as_secs()
    )]
    TimedOut { name: String, waited: Duration },
    #[error("certificate signing request {name} belongs to another key; delete it with `kubectl delete csr {name}`")]
    Foreign { name: String },
    #[error("what was signed for request {name} cannot be used: {why}")]
    Unusable { name: String, why: String },
    #[error("a certificate signing request cannot be made: {0}")]
    Make(String),
}

impl RequestError {
    /// Whether the API server is well, as far as the answer shows (what the agent may end for).
    pub(super) fn server_healthy(&self) -> Option<bool> {
        let Self::Create(error) = self else { return None };
        let healthy = |code| matches!(code, 401 | 403 | 404);
        Some(matches!(error.as_ref(), kube::Error::Api(status) if healthy(status.code)))
    }
}

/// Sends a request and waits until it is signed. With a name, one that was sent before with the same key is waited for.
pub(super) async fn certificate(
    kube: &kube::Client,
    wanted: &Wanted,
    key: &KeyPair,
    name: Option<String>,
    wait: Duration,
) -> Result<Pair, RequestError> {
    let api = Api::<CertificateSigningRequest>::all(kube.clone());
    let request = build(wanted, key, name)?;
    let sent = match api.create(&PostParams::default(), &request).await {
        Ok(sent) => sent,
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" && request.metadata.name.is_some() => {
            existing(&api, &request).await?
        }
        Err(error) => return Err(RequestError::Create(Box::new(error))),
    };
    let name = sent.metadata.name.clone().unwrap_or_default();
    tracing::info!(
        request = name,
        signer = wanted.usage.signer(),
        "waiting until the certificate is signed"
    );
    let text = signed(api, &name, sent.metadata.uid.as_deref(), wait).await?;
    let unusable = |why| RequestError::Unusable {
        name: name.clone(),
        why,
    };
    let key = ec_pem(key).map_err(RequestError::Make)?;
    Pair::parse(&text, &key).map_err(unusable)
}

/// One that has the same name must have the same key.
async fn existing(
    api: &Api<CertificateSigningRequest>,
    request: &CertificateSigningRequest,
) -> Result<CertificateSigningRequest, RequestError> {
    let name = request.metadata.name.clone().unwrap_or_default();
    let found = api.get(&name).await.map_err(|e| RequestError::Create(Box::new(e)))?;
    let key = |request: &CertificateSigningRequest| {
        let der = CertificateSigningRequestDer::from_pem_slice(&request.spec.request.0).ok()?;
        x509::request_public_key(&der).map(<[u8]>::to_vec)
    };
    if key(&found) == key(request) && found.spec.signer_name == request.spec.signer_name {
        Ok(found)
    } else {
        Err(RequestError::Foreign { name })
    }
}

/// Watches the request until it is decided.
async fn signed(
    api: Api<CertificateSigningRequest>,
    name: &str,
    uid: Option<&str>,
    wait: Duration,
) -> Result<String, RequestError> {
    let fields = format!("metadata.name={name}");
    let mut decided = None;
    // Ends with this function.
    let never = CancellationToken::new();
    let watching = watch(
        "the certificate signing request",
        api,
        Some(&fields),
        &never,
        |events| {
            for event in events {
                if let Event::Apply(request) | Event::InitApply(request) = event
                    && request.metadata.name.as_deref() == Some(name)
                    && request.metadata.uid.as_deref() == uid
                {
                    decided = decision(name, &request);
                }
            }
            decided.is_none()
        },
    );
    let timed_out = tokio::time::timeout(wait, watching).await.is_err();
    match decided {
        Some(result) => result,
        None if timed_out => Err(RequestError::TimedOut {
            name: name.to_owned(),
            waited: wait,
        }),
        None => Err(RequestError::Make("the watch ended".into())),
    }
}

fn decision(name: &str, request: &CertificateSigningRequest) -> Option<Result<String, RequestError>> {
    let status = request.status.as_ref()?;
    let name = name.to_owned();
    let conditions = status.conditions.iter().flatten();
    for condition in conditions.clone() {
        let reason = condition.reason.clone().unwrap_or_default();
        let message = condition.message.clone().unwrap_or_default();
        match condition.type_.as_str() {
            "Denied" => return Some(Err(RequestError::Denied { name, reason, message })),
            "Failed" => return Some(Err(RequestError::Failed { name, reason, message })),
            _ => {}
        }
    }
    let approved = conditions.into_iter().any(|c| c.type_ == "Approved");
    let certificate = status.certificate.as_ref().filter(|c| approved && !c.0.is_empty())?;
    Some(
        String::from_utf8(certificate.0.clone()).map_err(|_| RequestError::Unusable {
            name,
            why: "it is not PEM".into(),
        }),
    )
}

fn build(wanted: &Wanted, key: &KeyPair, name: Option<String>) -> Result<CertificateSigningRequest, RequestError> {
    let make = |e: rcgen::Error| RequestError::Make(e.to_string());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let text = |value: &str| DnValue::Utf8String(value.to_owned());
    params
        .distinguished_name
        .push(DnType::OrganizationName, text(&wanted.organization));
    params
        .distinguished_name
        .push(DnType::CommonName, text(&wanted.common_name));
    for name in &wanted.dns_names {
        let name = name.as_str().try_into().map_err(make)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params
        .subject_alt_names
        .extend(wanted.ips.iter().copied().map(SanType::IpAddress));
    let der = params.serialize_request(key).map_err(make)?;
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: name.is_none().then(|| "csr-".into()),
            name,
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem("CERTIFICATE REQUEST", der.der()).into_bytes()),
            signer_name: wanted.usage.signer().into(),
            usages: Some(usages(wanted).into_iter().map(str::to_owned).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    })
}

/// New keys are never RSA.
fn usages(wanted: &Wanted) -> Vec<&'static str> {
    wanted.usage.key_usages(false)
}

/// The same for the same key and the same wish, so that an agent that starts again waits for what it asked before.
pub(super) fn name(wanted: &Wanted, key: &KeyPair) -> String {
    let mut hash = Sha512_256::new();
    // The separator is no letter of the alphabet, so that no two lists make the same text.
    let mut write = |part: &[u8]| {
        hash.update(URL_SAFE_NO_PAD.encode(part));
        hash.update("|");
    };
    write(&key.subject_public_key_info());
    write(wanted.common_name.as_bytes());
    write(wanted.organization.as_bytes());
    for usage in usages(wanted) {
        write(usage.as_bytes());
    }
    format!("node-csr-{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_says_what_the_signer_looks_for() {
        let key = KeyPair::generate().unwrap();
        let request = build(&Wanted::client("n1"), &key, None).unwrap();
        assert_eq!(request.metadata.generate_name.as_deref(), Some("csr-"));
        assert_eq!(request.spec.signer_name, "kubernetes.io/kube-apiserver-client-kubelet");
        assert_eq!(request.spec.usages.unwrap(), ["digital signature", "client auth"]);
        assert_eq!(request.spec.expiration_seconds, None);
        let der = CertificateSigningRequestDer::from_pem_slice(&request.spec.request.0).unwrap();
        assert_eq!(
            x509::request_public_key(&der).unwrap(),
            key.subject_public_key_info().as_slice()
        );
    }

    #[test]
    fn names_are_those_of_the_same_wish() {
        let key = KeyPair::generate().unwrap();
        let (a, b) = (Wanted::client("a"), Wanted::client("b"));
        let first = name(&a, &key);
        assert!(first.starts_with("node-csr-") && first.len() == 9 + 43, "{first}");
        assert_eq!(first, name(&a, &key));
        assert_ne!(first, name(&b, &key));
        assert_ne!(first, name(&a, &KeyPair::generate().unwrap()));
    }

    #[test]
    fn a_request_is_decided_by_its_conditions() {
        let decide = |status: serde_json::Value| {
            let request = json!({"metadata": {}, "spec": {"request": "", "signerName": "s"}, "status": status});
            decision("csr-1", &serde_json::from_value(request).unwrap())
        };
        let condition = |kind: &str| json!([{"type": kind, "status": "True", "reason": "R", "message": "m"}]);
        assert!(decide(json!({})).is_none());
        assert!(
            decide(json!({"conditions": condition("Approved")})).is_none(),
            "not signed yet"
        );
        assert!(decide(json!({"certificate": "YQ=="})).is_none(), "not approved");
        let good = decide(json!({"conditions": condition("Approved"), "certificate": "YQ=="}));
        assert_eq!(good.unwrap().unwrap(), "a");
        let denied = decide(json!({"conditions": condition("Denied")})).unwrap().unwrap_err();
        assert_eq!(
            denied.to_string(),
            "certificate signing request csr-1 is denied, reason: \"R\", message: \"m\"; see `kubectl describe csr csr-1`"
        );
        let failed = decide(json!({"conditions": condition("Failed")})).unwrap().unwrap_err();
        assert!(matches!(failed, RequestError::Failed { .. }));
    }
}
