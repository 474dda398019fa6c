//! From a bootstrap kubeconfig to one that names the node's own certificate (the kubelet contract, node rules 25-27).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube::config::Kubeconfig;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tracing::{info, warn};
use witlet_core::certificate::{Wanted, expired};
use witlet_core::x509;

use super::CertificateError;
use super::key::{Pair, ec_pem, key_from_pem};
use super::request;
use super::store::{Store, write_private};

/// For the API server to come up before the request is sent.
const HEALTHY_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(2);
const SIGNED_WITHIN: Duration = Duration::from_secs(3600);
/// A key whose request may be under way.
const PENDING_KEY: &str = "kubelet-client.key.tmp";

/// What a kubeconfig says of the node's credentials.
#[derive(Default)]
pub(super) struct Found {
    /// It has a certificate that can be used and has not expired.
    pub(super) valid: bool,
    /// The pair inside it.
    pub(super) data: Option<Pair>,
    /// The pair that it names.
    pub(super) files: Option<(PathBuf, PathBuf)>,
}

pub(super) fn look(kubeconfig: &Path, now: Timestamp) -> Found {
    let Some(user) = user(kubeconfig) else {
        return Found::default();
    };
    let text = |key: &str| user[key].as_str();
    let inline = |key: &str| String::from_utf8(STANDARD.decode(text(key)?).ok()?).ok();
    let read = |key: &str| inline(&format!("{key}-data")).or_else(|| fs::read_to_string(text(key)?).ok());
    let pair = read("client-certificate")
        .zip(read("client-key"))
        .and_then(|(certificate, key)| Pair::parse(&certificate, &key).ok());
    let fresh = |pair: &Pair| {
        CertificateDer::pem_slice_iter(pair.certificate_pem.as_bytes())
            .all(|der| der.is_ok_and(|der| x509::read(&der).is_some_and(|c| !expired(&c, now))))
    };
    Found {
        valid: pair.as_ref().is_some_and(fresh),
        data: pair
            .filter(|_| text("client-certificate-data").is_some())
            .map(|pair| Pair {
                bootstrap: true,
                ..pair
            }),
        files: text("client-certificate")
            .zip(text("client-key"))
            .map(|(certificate, key)| (certificate.into(), key.into())),
    }
}

/// The user of the current context, as the file has it.
fn user(kubeconfig: &Path) -> Option<Value> {
    let file = Kubeconfig::read_from(kubeconfig).ok()?;
    let context = file
        .contexts
        .iter()
        .find(|c| Some(&c.name) == file.current_context.as_ref())?;
    let name = context.context.as_ref()?.user.clone()?;
    let user = file.auth_infos.iter().find(|a| a.name == name)?;
    serde_json::to_value(user.auth_info.as_ref()?).ok()
}

/// The bootstrap file's cluster, with the node's own certificate as its user. The certificate need not be there yet.
pub(super) fn write_kubeconfig(bootstrap: &Path, path: &Path, certificate: &Path) -> Result<(), CertificateError> {
    let broken = |why: String| CertificateError::Bootstrap {
        path: bootstrap.to_owned(),
        why,
    };
    let file = Kubeconfig::read_from(bootstrap).map_err(|e| broken(e.to_string()))?;
    let context = file
        .contexts
        .iter()
        .find(|c| Some(&c.name) == file.current_context.as_ref())
        .and_then(|c| c.context.as_ref())
        .ok_or_else(|| broken("its current-context names no context".into()))?;
    let cluster = file
        .clusters
        .iter()
        .find(|c| c.name == context.cluster)
        .and_then(|c| c.cluster.as_ref())
        .ok_or_else(|| broken(format!("it has no cluster {:?}", context.cluster)))?;
    let mut cluster = serde_json::to_value(cluster).map_err(|e| broken(e.to_string()))?;
    if let Some(cluster) = cluster.as_object_mut() {
        cluster.retain(|_, value| !value.is_null());
    }
    let user = json!({"client-certificate": certificate, "client-key": certificate});
    let context = json!({"cluster": "default-cluster", "namespace": "default", "user": "default-auth"});
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{"name": "default-auth", "user": user}],
        "contexts": [{"name": "default-context", "context": context}],
        "current-context": "default-context",
    });
    let failed = |source| CertificateError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    // JSON is YAML.
    let temporary = path.with_extension("new");
    write_private(&temporary, &format!("{kubeconfig:#}\n")).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    info!(kubeconfig = %path.display(), "written for the node's own certificate");
    Ok(())
}

/// Waits for one certificate, which is not renewed afterwards. A start that is interrupted goes on with the same request.
pub(super) async fn once(
    kube: &kube::Client,
    store: &Store,
    dir: &Path,
    wanted: &Wanted,
) -> Result<(), CertificateError> {
    let pending = dir.join(PENDING_KEY);
    let key = key(store, &pending)?;
    until_healthy(kube).await;
    let name = request::name(wanted, &key);
    let pair = request::certificate(kube, wanted, &key, Some(name), SIGNED_WITHIN)
        .await
        .map_err(CertificateError::Request)?;
    store
        .update(&pair, Timestamp::now())
        .map_err(|source| CertificateError::Write {
            path: store.current_path(),
            source,
        })?;
    if let Err(error) = fs::remove_file(&pending)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(%error, file = %pending.display(), "cannot remove the key of the request, which is not needed any more");
    }
    Ok(())
}

/// That of the certificate at hand, of the request under way, or a new one.
fn key(store: &Store, pending: &Path) -> Result<KeyPair, CertificateError> {
    if let Some(key) = store.current().and_then(|pair| key_from_pem(&pair.key_pem).ok()) {
        return Ok(key);
    }
    match fs::read_to_string(pending).map(|text| key_from_pem(&text)) {
        Ok(Ok(key)) => return Ok(key),
        Ok(Err(why)) => warn!(file = %pending.display(), why, "the key is damaged; making a new one"),
        Err(_) => {}
    }
    let make = |why| CertificateError::Request(request::RequestError::Make(why));
    let key = KeyPair::generate().map_err(|e| make(e.to_string()))?;
    write_private(pending, &ec_pem(&key).map_err(make)?).map_err(|source| CertificateError::Write {
        path: pending.to_owned(),
        source,
    })?;
    Ok(key)
}

/// Until the API server says that it is well, but not for ever: it may not let the node look.
async fn until_healthy(kube: &kube::Client) {
    let healthy = async {
        loop {
            let request = http::Request::get("/healthz").body(Vec::new());
            if let Ok(request) = request
                && kube.request_text(request).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(HEALTHY_WITHIN, healthy).await.is_err() {
        warn!("the API server does not say that it is well; asking for a certificate all the same");
    }
}
