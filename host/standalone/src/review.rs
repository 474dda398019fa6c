//! Questions that are answered and not stored: tokens, reviews of tokens, and who may do what.

use serde_json::{Value, json};

use crate::auth::{Attributes, Identity, MASTERS, check_token, may};
use crate::meta;
use crate::registry::{self, Review};
use crate::status::{ApiError, ApiResult, Cause};
use crate::store::Store;
use crate::token::{AUDIENCE, ISSUER, Signer};

const SHORTEST: i64 = 600;
const USUAL: i64 = 3600;
const LONGEST: i64 = 1 << 32;

/// The `token` subresource of a service account: a token for the account, bound to a pod if so wished.
pub(crate) fn token_request(
    store: &Store,
    signer: &Signer,
    namespace: &str,
    name: &str,
    mut request: Value,
) -> ApiResult<Value> {
    let account = store.require(registry::service_accounts(), namespace, name)?.value()?;
    expect(&request, "authentication.k8s.io/v1", "TokenRequest")?;
    let spec = request.get("spec").cloned().unwrap_or_else(|| json!({}));
    let seconds = match &spec["expirationSeconds"] {
        Value::Null => USUAL,
        given => given
            .as_i64()
            .ok_or_else(|| ApiError::bad_request("spec.expirationSeconds must be an integer"))?,
    };
    let invalid = |field: &str, text: String| {
        ApiError::invalid("authentication.k8s.io", "TokenRequest", "", &[Cause::new(field, text)])
    };
    if seconds < SHORTEST {
        return Err(invalid(
            "spec.expirationSeconds",
            format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes"),
        ));
    }
    if seconds > LONGEST {
        return Err(invalid(
            "spec.expirationSeconds",
            format!("Invalid value: {seconds}: may not specify a duration larger than 2^32 seconds"),
        ));
    }
    let mut audiences = strings(&spec["audiences"]);
    if audiences.is_empty() {
        audiences.push(AUDIENCE.to_owned());
    }
    let now = meta::now().as_second();
    let mut about = json!({ "namespace": namespace, "serviceaccount": { "name": name, "uid": meta::uid(&account) } });
    if spec["boundObjectRef"].is_object() {
        bind(store, namespace, name, &spec["boundObjectRef"], &mut about)?;
    }
    let claims = json!({
        "iss": ISSUER, "sub": format!("system:serviceaccount:{namespace}:{name}"), "aud": audiences,
        "iat": now, "nbf": now, "exp": now + seconds, "jti": meta::new_uid(), "kubernetes.io": about,
    });
    let token = signer
        .sign(&claims)
        .ok_or_else(|| ApiError::internal("the token cannot be signed"))?;
    let end = jiff::Timestamp::from_second(now + seconds).map_err(ApiError::internal)?;
    let mut spec = spec;
    spec["audiences"] = audiences.into();
    spec["expirationSeconds"] = seconds.into();
    if spec.get("boundObjectRef").is_none() {
        spec["boundObjectRef"] = Value::Null;
    }
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["kind"] = "TokenRequest".into();
    request["metadata"] =
        json!({ "name": name, "namespace": namespace, "creationTimestamp": meta::rfc3339(meta::now()) });
    request["spec"] = spec;
    request["status"] = json!({ "token": token, "expirationTimestamp": meta::rfc3339(end) });
    Ok(request)
}

fn bind(store: &Store, namespace: &str, account: &str, reference: &Value, about: &mut Value) -> ApiResult<()> {
    let (kind, name, uid) = (
        meta::text(reference, "/kind"),
        meta::text(reference, "/name"),
        meta::text(reference, "/uid"),
    );
    let (key, resource, place) = match kind {
        "Pod" => ("pod", registry::pods(), namespace),
        "Secret" => ("secret", registry::secrets(), namespace),
        "Node" => ("node", registry::nodes(), ""),
        other => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to object of type {other:?}"
            )));
        }
    };
    let object = store.require(resource, place, name)?.value()?;
    let found = meta::uid(&object);
    if !uid.is_empty() && uid != found {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", resource.plural, name, &why));
    }
    if kind == "Pod" {
        let runs_as = meta::text(&object, "/spec/serviceAccountName");
        if runs_as != account {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
        let node = meta::text(&object, "/spec/nodeName");
        if let Some(entry) = store.get(registry::nodes(), "", node) {
            about["node"] = json!({ "name": node, "uid": meta::uid(&entry.value()?) });
        }
    }
    about[key] = json!({ "name": name, "uid": found });
    Ok(())
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default()
}

fn expect(request: &Value, version: &str, kind: &str) -> ApiResult<()> {
    if !request.is_object() {
        return Err(ApiError::bad_request("the body must be an object"));
    }
    for (key, want) in [("apiVersion", version), ("kind", kind)] {
        let got = meta::text(request, &format!("/{key}"));
        if !got.is_empty() && got != want {
            return Err(ApiError::bad_request(format!(
                "the {key} in the data ({got}) does not match the expected {key} ({want})"
            )));
        }
    }
    match request.get("spec") {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => Err(ApiError::bad_request("spec must be an object")),
    }
}

/// Answers a review by filling in its status.
pub(crate) fn review(
    store: &Store,
    signer: &Signer,
    identity: &Identity,
    of: &Review,
    namespace: Option<&str>,
    mut request: Value,
) -> ApiResult<Value> {
    let version = format!("{}/v1", of.group);
    expect(&request, &version, of.kind)?;
    request["apiVersion"] = version.into();
    request["kind"] = of.kind.into();
    request["status"] = match of.kind {
        "SelfSubjectReview" => json!({ "userInfo": identity.to_value() }),
        "TokenReview" => {
            let wanted = strings(&request["spec"]["audiences"]);
            let audiences = if wanted.is_empty() {
                vec![AUDIENCE.to_owned()]
            } else {
                wanted
            };
            match check_token(store, signer, meta::text(&request, "/spec/token"), &audiences) {
                Ok((identity, audiences)) => {
                    json!({ "authenticated": true, "user": identity.to_value(), "audiences": audiences })
                }
                Err(why) => json!({ "authenticated": false, "user": {}, "error": why }),
            }
        }
        "SelfSubjectAccessReview" => access(identity, &request["spec"]),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let spec = &request["spec"];
            let about = meta::text(spec, "/resourceAttributes/namespace");
            if namespace.is_some_and(|ns| ns != about) {
                return Err(ApiError::bad_request(
                    "spec.resourceAttributes.namespace must match the namespace of the request",
                ));
            }
            let subject = Identity {
                user: meta::text(spec, "/user").into(),
                uid: String::new(),
                groups: strings(&spec["groups"]),
                extra: serde_json::Map::new(),
            };
            access(&subject, spec)
        }
        "SelfSubjectRulesReview" => rules(identity),
        _ => return Err(ApiError::no_such_path()),
    };
    Ok(request)
}

fn access(identity: &Identity, spec: &Value) -> Value {
    let of = |key: &str| meta::text(spec, &format!("/resourceAttributes/{key}"));
    let attributes = Attributes {
        verb: of("verb"),
        group: of("group"),
        resource: of("resource"),
        subresource: of("subresource"),
        namespace: of("namespace"),
        name: of("name"),
    };
    if may(identity, &attributes) {
        json!({ "allowed": true })
    } else {
        json!({ "allowed": false, "reason": format!("only the group {MASTERS} may do this on a node without a control plane") })
    }
}

fn rules(identity: &Identity) -> Value {
    if identity.is_master() {
        json!({
            "incomplete": false,
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
        })
    } else {
        json!({
            "incomplete": false,
            "resourceRules": [{ "verbs": ["create"], "apiGroups": ["authorization.k8s.io", "authentication.k8s.io"],
                "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"] }],
            "nonResourceRules": [{ "verbs": ["get"], "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/openapi/*", "/version", "/healthz", "/livez", "/readyz"] }],
        })
    }
}
