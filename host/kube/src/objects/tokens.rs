//! Service account tokens (the kubelet contract, volumes rule 85).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest as ApiRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use witlet_core::ids::PodUid;
use witlet_ports::api::{Token, TokenRequest};
use witlet_ports::{Error, Result};

use crate::Client;
use crate::error::Call;

pub(super) struct Tokens {
    client: Client,
    /// Few: one for each pod and audience.
    cached: Mutex<HashMap<Key, Cached>>,
}

/// Everything a token depends on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Key {
    namespace: String,
    service_account: String,
    audience: Option<String>,
    expiration_seconds: Option<i64>,
    pod_name: String,
    pod_uid: PodUid,
}

#[derive(Clone)]
struct Cached {
    token: Token,
    /// Seconds that the API granted.
    lifetime: Option<i64>,
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

impl Cached {
    /// In the last fifth of its life, or older than a day. `jitter` spreads the nodes of a cluster.
    fn wants_refresh(&self, now: Timestamp, jitter: SignedDuration) -> bool {
        let Some(lifetime) = self.lifetime else { return false };
        let expires = self.token.expires;
        let before = |at: Timestamp, by: SignedDuration| at.checked_sub(by).unwrap_or(Timestamp::MIN);
        let issued = before(expires, SignedDuration::from_secs(lifetime));
        let old = issued.checked_add(DAY).unwrap_or(Timestamp::MAX);
        let late = before(expires, SignedDuration::from_secs(lifetime / 5));
        now > before(old, jitter) || now > before(late, jitter)
    }

    fn is_expired(&self, now: Timestamp) -> bool {
        now > self.token.expires
    }
}

impl Tokens {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            cached: Mutex::default(),
        }
    }

    pub(super) async fn get(&self, request: &TokenRequest) -> Result<Token> {
        let key = Key {
            namespace: request.namespace.clone(),
            service_account: request.service_account.clone(),
            audience: request.audience.clone(),
            expiration_seconds: request.expiration_seconds,
            pod_name: request.pod_name.clone(),
            pod_uid: request.pod_uid.clone(),
        };
        let now = Timestamp::now();
        let cached = self
            .cached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        let jitter = SignedDuration::from_secs(rand::random_range(0..10));
        if let Some(cached) = cached.as_ref().filter(|c| !c.wants_refresh(now, jitter)) {
            return Ok(cached.token.clone());
        }
        match (self.fetch(request).await, cached) {
            (Ok(fresh), _) => {
                let token = fresh.token.clone();
                let mut all = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|_, cached| !cached.is_expired(now));
                all.insert(key, fresh);
                Ok(token)
            }
            (Err(error), None) => {
                Err(Error::new(error.class, format!("failed to fetch token: {error}")).with_source(error))
            }
            (Err(error), Some(old)) if old.is_expired(now) => {
                let name = format!("{}/{}", key.namespace, key.service_account);
                let message = format!("token {name:?} expired and refresh failed: {error}");
                Err(Error::new(error.class, message).with_source(error))
            }
            (Err(error), Some(old)) => {
                tracing::warn!(account = key.service_account, namespace = key.namespace, %error, "cannot refresh a token; the old one serves on");
                Ok(old.token)
            }
        }
    }

    pub(super) fn forget(&self, uid: &PodUid) {
        self.cached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|key, _| key.pod_uid != *uid);
    }

    async fn fetch(&self, request: &TokenRequest) -> Result<Cached> {
        let body = ApiRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(request.audience.iter().cloned().collect()),
                expiration_seconds: request.expiration_seconds,
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(request.pod_name.clone()),
                    uid: Some(request.pod_uid.as_str().to_owned()),
                }),
            }),
            ..ApiRequest::default()
        };
        let api = self.client.namespaced::<ServiceAccount>(&request.namespace);
        let params = PostParams::default();
        let call = Call::new("request token of service account", &request.service_account);
        let answer = self
            .client
            .request(call, api.create_token_request(&request.service_account, &params, &body))
            .await?;
        let lifetime = answer.spec.as_ref().and_then(|s| s.expiration_seconds);
        let status = answer.status.unwrap_or_default();
        match (status.token.filter(|t| !t.is_empty()), status.expiration_timestamp) {
            (Some(token), Some(expires)) => Ok(Cached {
                token: Token {
                    token,
                    expires: expires.0,
                },
                lifetime,
            }),
            _ => Err(Error::retry("the API answered a token request without a token")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tokens_are_renewed_in_time() {
        let at = |s: i64| Timestamp::from_second(1_000_000 + s).unwrap();
        let cached = |lifetime: i64| Cached {
            token: Token {
                token: "t".into(),
                expires: at(lifetime),
            },
            lifetime: Some(lifetime),
        };
        let wants = |c: &Cached, s: i64, jitter: i64| c.wants_refresh(at(s), SignedDuration::from_secs(jitter));
        let hour = cached(3600);
        assert!(!wants(&hour, 2880, 0) && wants(&hour, 2881, 0));
        assert!(!wants(&hour, 2871, 9) && wants(&hour, 2872, 9));
        let year = cached(365 * 86_400);
        assert!(
            !wants(&year, 86_400, 0) && wants(&year, 86_401, 0),
            "a day is the longest"
        );
        let endless = Cached {
            lifetime: None,
            ..cached(3600)
        };
        assert!(!wants(&endless, 10_000, 0));
        assert!(!hour.is_expired(at(3600)) && hour.is_expired(at(3601)));
    }
}
