//! Who gets in.

use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::json;

use crate::client::{Api, Client, PODS, pod};

fn kubeconfig(api: &Api) -> String {
    std::fs::read_to_string(&api.server.kubeconfig).unwrap()
}

async fn token(client: &Client, spec: serde_json::Value) -> String {
    let request = json!({ "spec": spec });
    let answer = client
        .post("/api/v1/namespaces/default/serviceaccounts/default/token", &request)
        .await
        .ok();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_nameless_see_only_health_and_version() {
    let api = Api::start().await;
    let nobody = api.client().nobody(&kubeconfig(&api));
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(
            (nobody.get(path).await.code, nobody.get(path).await.body),
            (200, json!("ok"))
        );
    }
    assert!(
        nobody.get("/version").await.ok()["gitVersion"]
            .as_str()
            .unwrap()
            .starts_with("v1.36.")
    );
    for path in ["/api", "/apis", PODS, "/openapi/v3"] {
        nobody.get(path).await.refused(401, "Unauthorized");
    }
    nobody
        .with_token("nonsense")
        .get(PODS)
        .await
        .refused(401, "Unauthorized");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not_taken() {
    let api = Api::start().await;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "kubernetes-admin");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:masters");
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    let encode = |text: String| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let forged: String = kubeconfig(&api)
        .lines()
        .map(|line| match line.trim().split_once(": ") {
            Some(("client-certificate-data", _)) => format!("client-certificate-data: {}\n", encode(cert.pem())),
            Some(("client-key-data", _)) => format!("client-key-data: {}\n", encode(key.serialize_pem())),
            _ => format!("{line}\n"),
        })
        .collect();
    let client = Client::of(&forged);
    // With TLS 1.3 the server's refusal arrives after the client's handshake; either way no answer comes.
    let answer = tokio::spawn(async move { client.get(PODS).await.code }).await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn what_is_secret_is_only_for_the_owner() {
    let api = Api::start().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&api.server.kubeconfig), 0o600);
    let data = api.dir.path().join("data");
    assert_eq!((mode(&data), mode(&data.join("pki"))), (0o700, 0o700));
    for file in ["objects.redb", "pki/ca.key", "pki/admin.key", "pki/service-account.key"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn credentials_stay_good_after_a_restart() {
    let api = Api::start().await;
    let client = api.client();
    let token = token(&client, json!({})).await;
    let before = kubeconfig(&api);
    let api = api.restart().await;
    let line = |text: &str, key: &str| text.lines().find(|l| l.contains(key)).unwrap().to_owned();
    for key in [
        "certificate-authority-data",
        "client-certificate-data",
        "client-key-data",
    ] {
        assert_eq!(line(&before, key), line(&kubeconfig(&api), key));
    }
    let bearer = api.client().nobody(&kubeconfig(&api)).with_token(&token);
    bearer.get("/api").await.ok();
}

#[tokio::test]
async fn service_accounts_are_known_and_may_nearly_nothing() {
    let api = Api::start().await;
    let client = api.client();
    let token = token(&client, json!({ "expirationSeconds": 600 })).await;
    let account = client.nobody(&kubeconfig(&api)).with_token(&token);
    account.get("/api/v1").await.ok();
    let who = account
        .post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}))
        .await
        .ok();
    assert_eq!(
        who["status"]["userInfo"]["username"],
        "system:serviceaccount:default:default"
    );
    let message = account.get(PODS).await.refused(403, "Forbidden");
    assert!(
        message.contains("cannot list resource \"pods\" in API group \"\" in the namespace \"default\""),
        "{message}"
    );
    let question = json!({ "spec": { "resourceAttributes": { "verb": "list", "resource": "pods" } } });
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(account.post(reviews, &question).await.ok()["status"]["allowed"], false);
    assert_eq!(client.post(reviews, &question).await.ok()["status"]["allowed"], true);
    let headers = [("impersonate-user", "system:serviceaccount:default:default")];
    assert_eq!(
        client.send("GET", PODS, &headers, Vec::new()).await.status().as_u16(),
        403
    );
    assert_eq!(
        account
            .send("GET", PODS, &[("impersonate-user", "root")], Vec::new())
            .await
            .status()
            .as_u16(),
        403
    );
    let of = |user: &str, group: &str| json!({ "spec": { "user": user, "groups": [group], "resourceAttributes": { "verb": "get", "resource": "pods" } } });
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(
        client.post(reviews, &of("x", "y")).await.ok()["status"]["allowed"],
        false
    );
    assert_eq!(
        client.post(reviews, &of("x", "system:masters")).await.ok()["status"]["allowed"],
        true
    );
}

#[tokio::test]
async fn tokens_are_for_their_audience_and_end_with_their_pod() {
    let api = Api::start().await;
    let client = api.client();
    let made = client.post(PODS, &pod("web")).await.ok();
    let bound = json!({ "kind": "Pod", "apiVersion": "v1", "name": "web", "uid": made["metadata"]["uid"] });
    let own = token(&client, json!({ "boundObjectRef": bound })).await;
    let vault = token(&client, json!({ "audiences": ["vault"], "boundObjectRef": bound })).await;
    let nobody = client.nobody(&kubeconfig(&api));
    nobody.with_token(&own).get("/api").await.ok();
    nobody.with_token(&vault).get("/api").await.refused(401, "Unauthorized");
    let review = |token: &str, audience: &str| json!({ "spec": { "token": token, "audiences": [audience] } });
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let good = client.post(reviews, &review(&vault, "vault")).await.ok();
    assert_eq!(
        (&good["status"]["authenticated"], &good["status"]["audiences"]),
        (&json!(true), &json!(["vault"]))
    );
    assert_eq!(
        good["status"]["user"]["extra"]["authentication.kubernetes.io/pod-name"],
        json!(["web"])
    );
    assert_eq!(
        client.post(reviews, &review(&vault, "other")).await.ok()["status"]["authenticated"],
        false
    );

    client.delete(&format!("{PODS}/web"), &json!({})).await.ok();
    assert_eq!(
        client.post(reviews, &review(&vault, "vault")).await.ok()["status"]["authenticated"],
        false
    );
    nobody.with_token(&own).get("/api").await.refused(401, "Unauthorized");
    client.pod("web").await;
    nobody.with_token(&own).get("/api").await.refused(401, "Unauthorized");

    let tokens = "/api/v1/namespaces/default/serviceaccounts/default/token";
    client
        .post(tokens, &json!({ "spec": { "boundObjectRef": bound } }))
        .await
        .refused(409, "Conflict");
    client
        .post(tokens, &json!({ "spec": { "expirationSeconds": 5 } }))
        .await
        .refused(422, "Invalid");
    client
        .post(&tokens.replace("/default/token", "/ghost/token"), &json!({}))
        .await
        .refused(404, "NotFound");
}

#[tokio::test]
async fn discovery_and_openapi() {
    let api = Api::start().await;
    let client = api.client();
    let core = client.get("/api/v1").await.ok();
    let pods = core["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"] == "pods")
        .unwrap()
        .clone();
    assert_eq!(
        (&pods["kind"], &pods["shortNames"], &pods["namespaced"]),
        (&json!("Pod"), &json!(["po"]), &json!(true))
    );
    for group in client.get("/apis").await.ok()["groups"].as_array().unwrap() {
        let version = group["preferredVersion"]["groupVersion"].as_str().unwrap();
        let list = client.get(&format!("/apis/{version}")).await.ok();
        assert_eq!(
            (&list["groupVersion"], list["resources"].as_array().unwrap().is_empty()),
            (&json!(version), false)
        );
    }
    let accept = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    )];
    let response = client.send("GET", "/apis", &accept, Vec::new()).await;
    assert_eq!(
        response.headers()["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let index = client.get("/openapi/v3").await.ok();
    let url = index["paths"]["api/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let document = client.get(&url).await.ok();
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({ "group": "", "version": "v1", "kind": "Pod" })
    );
    assert!(
        patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p["name"] == "fieldValidation")
    );
    assert_eq!(client.get("/openid/v1/jwks").await.ok()["keys"][0]["kty"], "EC");
}
