//! Who asks, and whether they may.
//!
//! Client certificates of the API's CA and tokens of service accounts are accepted. There is no role-based access control: the
//! group `system:masters` may do everything, everybody else who proved who they are may look at what the API offers and ask
//! about themselves, and the nameless see only health and version.

use http::HeaderMap;
use serde_json::{Map, Value, json};

use crate::meta;
use crate::registry;
use crate::status::ApiError;
use crate::store::Store;
use crate::token::{AUDIENCE, ISSUER, Signer};
use witlet_core::x509;

pub(crate) const MASTERS: &str = "system:masters";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: Map<String, Value>,
}

impl Identity {
    /// From a certificate that TLS has verified.
    pub(crate) fn of_certificate(der: &[u8]) -> Option<Self> {
        let certificate = x509::read(der)?;
        if certificate.common_name.is_empty() {
            return None;
        }
        let mut groups = certificate.organizations;
        groups.push("system:authenticated".into());
        Some(Self {
            user: certificate.common_name,
            uid: String::new(),
            groups,
            extra: Map::new(),
        })
    }

    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|g| g == MASTERS)
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut info = json!({ "username": self.user, "groups": self.groups });
        if !self.uid.is_empty() {
            info["uid"] = self.uid.as_str().into();
        }
        if !self.extra.is_empty() {
            info["extra"] = Value::Object(self.extra.clone());
        }
        info
    }
}

/// The bearer token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whose token this is, if it is good now: signed here, in time, for one of the audiences, and everything that it is bound to
/// still exists. Also the audiences that fit.
pub(crate) fn check_token(
    store: &Store,
    signer: &Signer,
    token: &str,
    audiences: &[String],
) -> Result<(Identity, Vec<String>), String> {
    let claims = signer.verify(token).ok_or("invalid bearer token")?;
    let now = meta::now().as_second();
    let number = |key: &str| claims[key].as_i64();
    if claims["iss"] != ISSUER {
        return Err("the token is of another issuer".into());
    }
    if number("exp").is_none_or(|exp| exp <= now) {
        return Err("the token has expired".into());
    }
    // A little slack for clocks that were set back.
    if number("nbf").is_some_and(|nbf| nbf > now + 60) {
        return Err("the token is not valid yet".into());
    }
    let fitting: Vec<String> = match &claims["aud"] {
        Value::Array(of) => of
            .iter()
            .filter_map(Value::as_str)
            .filter(|a| audiences.iter().any(|w| w == a))
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    };
    if fitting.is_empty() {
        return Err(format!(
            "token audiences {} is invalid for the target audiences {audiences:?}",
            claims["aud"]
        ));
    }
    let about = &claims["kubernetes.io"];
    let namespace = meta::text(about, "/namespace");
    let account = bound(store, registry::service_accounts(), namespace, &about["serviceaccount"])?;
    let mut extra = Map::new();
    for (key, resource) in [("pod", registry::pods()), ("secret", registry::secrets())] {
        if about[key].is_object() {
            bound(store, resource, namespace, &about[key])?;
            extra.insert(
                format!("authentication.kubernetes.io/{key}-name"),
                json!([about[key]["name"]]),
            );
            extra.insert(
                format!("authentication.kubernetes.io/{key}-uid"),
                json!([about[key]["uid"]]),
            );
        }
    }
    if about["node"].is_object() {
        extra.insert(
            "authentication.kubernetes.io/node-name".into(),
            json!([about["node"]["name"]]),
        );
    }
    if let Some(id) = claims["jti"].as_str() {
        extra.insert(
            "authentication.kubernetes.io/credential-id".into(),
            json!([format!("JTI={id}")]),
        );
    }
    let groups = vec![
        "system:serviceaccounts".into(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".into(),
    ];
    let identity = Identity {
        user: format!("system:serviceaccount:{namespace}:{account}"),
        uid: meta::text(about, "/serviceaccount/uid").into(),
        groups,
        extra,
    };
    Ok((identity, fitting))
}

/// The object that a token is bound to must still be the same one.
fn bound(store: &Store, resource: &registry::Resource, namespace: &str, reference: &Value) -> Result<String, String> {
    let (name, uid) = (meta::text(reference, "/name"), meta::text(reference, "/uid"));
    let gone = || format!("{} {namespace}/{name} of the token does not exist", resource.singular);
    let object = store
        .get(resource, namespace, name)
        .ok_or_else(gone)?
        .value()
        .map_err(|e| e.message)?;
    if meta::uid(&object) != uid {
        return Err(format!(
            "{} {namespace}/{name} of the token was replaced",
            resource.singular
        ));
    }
    Ok(name.to_owned())
}

pub(crate) fn authenticate(
    store: &Store,
    signer: &Signer,
    peer: Option<Identity>,
    headers: &HeaderMap,
) -> Result<Identity, ApiError> {
    let identity = match (peer, bearer(headers)) {
        (Some(peer), _) => peer,
        (None, None) => return Err(ApiError::unauthorized()),
        (None, Some(token)) => {
            check_token(store, signer, token, &[AUDIENCE.to_owned()])
                .map_err(|why| {
                    tracing::debug!(why, "refused a bearer token");
                    ApiError::unauthorized()
                })?
                .0
        }
    };
    impersonate(identity, headers)
}

/// Whoever may do everything may also do it in another's name (`kubectl --as`).
fn impersonate(identity: Identity, headers: &HeaderMap) -> Result<Identity, ApiError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let user = text("impersonate-user");
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .map(str::to_owned)
        .collect();
    if user.is_empty() {
        if groups.is_empty() {
            return Ok(identity);
        }
        return Err(ApiError::bad_request("requested groups without impersonating a user"));
    }
    if !identity.is_master() {
        let why = format!(
            "User {:?} cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
            identity.user
        );
        return Err(ApiError::forbidden("", "users", user, &why));
    }
    let mut groups = groups;
    if user != "system:anonymous" && !groups.iter().any(|g| g == "system:authenticated") {
        groups.push("system:authenticated".into());
    }
    Ok(Identity {
        user: user.into(),
        uid: text("impersonate-uid").into(),
        groups,
        extra: Map::new(),
    })
}

/// What a request does, in the words of an authorizer.
#[derive(Debug, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl Attributes<'_> {
    /// What everybody who is somebody may do.
    fn is_about_oneself(&self) -> bool {
        self.verb == "create"
            && matches!(
                (self.group, self.resource),
                (
                    "authorization.k8s.io",
                    "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
                ) | ("authentication.k8s.io", "selfsubjectreviews")
            )
    }
}

pub(crate) fn may(identity: &Identity, attributes: &Attributes<'_>) -> bool {
    identity.is_master() || attributes.is_about_oneself()
}

pub(crate) fn authorize(identity: &Identity, a: &Attributes<'_>) -> Result<(), ApiError> {
    if may(identity, a) {
        return Ok(());
    }
    let resource = if a.subresource.is_empty() {
        a.resource.to_owned()
    } else {
        format!("{}/{}", a.resource, a.subresource)
    };
    let place = if a.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", a.namespace)
    };
    let why = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
        identity.user, a.verb, a.group
    );
    let mut error = ApiError::forbidden(a.group, a.resource, a.name, &why);
    if a.name.is_empty() {
        error.message = format!(
            "{} is forbidden: {why}",
            if a.group.is_empty() {
                a.resource.to_owned()
            } else {
                format!("{}.{}", a.resource, a.group)
            }
        );
    }
    Err(error)
}
