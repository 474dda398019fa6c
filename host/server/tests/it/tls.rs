//! Certificates on both sides.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use witlet_server::certificate::{self, Files};
use witlet_server::tls::{self, ClientCa, MinVersion, Serving};
use witlet_server::{Handlers, Side};

use crate::fakes::{Server, ask, guard, serve};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "ca");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key, in PEM form.
fn issue(by: &Issuer, name: &str) -> (String, String) {
    let mut params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, "people");
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

/// What a server has, and a client that trusts it.
pub(crate) struct Tls {
    ca: Issuer,
    dir: tempfile::TempDir,
    serving: Arc<Serving>,
    clients: Arc<ClientCa>,
}

impl Tls {
    pub(crate) fn new() -> Self {
        let this = Self::without_certificate();
        this.show("first");
        this
    }

    fn without_certificate() -> Self {
        let (ca, dir) = (authority(), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
        let clients = Arc::new(ClientCa::default());
        clients.load(&dir.path().join("ca.crt")).unwrap();
        Self {
            ca,
            dir,
            serving: Arc::default(),
            clients,
        }
    }

    fn show(&self, name: &str) {
        let (certificate, key) = issue(&self.ca, name);
        self.serving.set(certificate.as_bytes(), key.as_bytes()).unwrap();
    }

    pub(crate) fn side(&self) -> Side {
        self.side_from(MinVersion::Tls12)
    }

    fn side_from(&self, min: MinVersion) -> Side {
        Side::Https {
            tls: tls::config(self.serving.clone(), &self.clients, min, &[]).unwrap(),
            clients: self.clients.clone(),
            guard: guard(),
        }
    }

    /// With a certificate of that name, by this authority.
    pub(crate) fn client(&self, certificate: Option<(&str, &Issuer)>) -> ClientConfig {
        self.client_of(certificate, &[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    fn client_of(
        &self,
        certificate: Option<(&str, &Issuer)>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca.pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some((name, issuer)) => {
                let (certificate, key) = issue(issuer, name);
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        // A session that is taken up again shows the certificate with which it began.
        config.resumption = rustls::client::Resumption::disabled();
        config
    }
}

pub(crate) async fn connect(server: &Server, client: &ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address).await?;
    let connector = TlsConnector::from(Arc::new(client.clone()));
    connector.connect(ServerName::try_from("node").unwrap(), stream).await
}

/// The name in the certificate that the server shows; none if it shows none.
async fn shown(server: &Server, client: &ClientConfig) -> Option<String> {
    let stream = connect(server, client).await.ok()?;
    let chain = stream.get_ref().1.peer_certificates()?;
    Some(witlet_core::x509::read(chain.first()?)?.common_name)
}

#[tokio::test]
async fn a_certificate_may_come_late_and_change() {
    let tls = Tls::without_certificate();
    let server = serve(tls.side(), Handlers::default(), String::new()).await;
    let client = tls.client(None);
    assert_eq!(shown(&server, &client).await, None);
    for name in ["first", "second"] {
        tls.show(name);
        assert_eq!(shown(&server, &client).await.as_deref(), Some(name));
    }
    assert!(tls.serving.set(b"", b"").is_err());
    assert_eq!(shown(&server, &client).await.as_deref(), Some("second"));
}

#[tokio::test]
async fn clients_are_asked_for_certificates_and_heard_without() {
    let tls = Tls::new();
    let server = serve(tls.side(), Handlers::default(), String::new()).await;
    let strangers = authority();
    let good = "Authorization: Bearer good\r\n";
    for (certificate, headers, status) in [
        (None, "", 401),
        (None, good, 200),
        (Some(("ann", &tls.ca)), "", 200),
        (Some(("", &tls.ca)), "", 401),
        (Some(("ann", &strangers)), "", 401),
        // A good token heals a bad certificate.
        (Some(("ann", &strangers)), good, 200),
    ] {
        for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
            let stream = connect(&server, &tls.client_of(certificate, &versions)).await.unwrap();
            let (got, body) = ask(stream, "GET /pods", headers).await;
            let who = certificate.map(|(name, _)| name);
            assert_eq!(got, status, "{who:?} {headers} {body}");
        }
    }
}

#[tokio::test]
async fn the_server_speaks_both_versions() {
    let tls = Tls::new();
    let server = serve(tls.side(), Handlers::default(), String::new()).await;
    for protocol in ["h2", "http/1.1"] {
        let mut client = tls.client(None);
        client.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = connect(&server, &client).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    }
    let strict = serve(tls.side_from(MinVersion::Tls13), Handlers::default(), String::new()).await;
    assert!(
        connect(&strict, &tls.client_of(None, &[&rustls::version::TLS12]))
            .await
            .is_err()
    );
    assert!(connect(&strict, &tls.client(None)).await.is_ok());

    let config = |ciphers: &[&str]| {
        let ciphers: Vec<String> = ciphers.iter().map(|c| (*c).to_owned()).collect();
        tls::config(tls.serving.clone(), &tls.clients, MinVersion::Tls12, &ciphers)
    };
    assert!(config(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]).is_ok());
    let error = config(&["TLS_RSA_WITH_RC4_128_SHA"]).unwrap_err().to_string();
    assert!(
        error.contains("TLS_RSA_WITH_RC4_128_SHA") && error.contains("choose among TLS_ECDHE"),
        "{error}"
    );
}

#[tokio::test]
async fn files_are_followed() {
    let tls = Tls::without_certificate();
    let (cert, key) = (tls.dir.path().join("a.crt"), tls.dir.path().join("a.key"));
    let write = |name: &str| {
        let pair = issue(&tls.ca, name);
        std::fs::write(&key, pair.1).unwrap();
        std::fs::write(&cert, pair.0).unwrap();
    };
    write("first");
    certificate::from_files(&tls.serving, &cert, &key).unwrap();
    let ca = tls.dir.path().join("ca.crt");
    let files = Files {
        every: Duration::from_millis(20),
        serving: Some((cert.clone(), key.clone())),
        client_ca: Some(ca.clone()),
    };
    let stop = CancellationToken::new();
    tokio::spawn(certificate::follow(
        files,
        tls.serving.clone(),
        tls.clients.clone(),
        stop.clone(),
    ));
    let server = serve(tls.side(), Handlers::default(), String::new()).await;
    let newcomers = authority();
    let stranger = tls.client(Some(("ann", &newcomers)));
    assert_eq!(shown(&server, &stranger).await.as_deref(), Some("first"));
    assert_eq!(
        ask(connect(&server, &stranger).await.unwrap(), "GET /pods", "").await.0,
        401
    );

    // The task may look between two writes; what it then cannot use changes nothing.
    tokio::time::sleep(Duration::from_millis(50)).await;
    write("a-longer-name");
    std::fs::write(&ca, tls.ca.pem() + &newcomers.pem()).unwrap();
    let due = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let name = shown(&server, &stranger).await;
        let (status, _) = ask(connect(&server, &stranger).await.unwrap(), "GET /pods", "").await;
        if name.as_deref() == Some("a-longer-name") && status == 200 {
            break;
        }
        assert!(std::time::Instant::now() < due, "{name:?} {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
}

#[test]
fn a_certificate_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let ips = ["192.0.2.1".parse().unwrap()];
    let serving = Serving::default();
    certificate::self_signed(&serving, &pki, "node-1", &ips).unwrap();
    let first = std::fs::read(pki.join("kubelet.crt")).unwrap();
    certificate::self_signed(&serving, &pki, "node-1", &ips).unwrap();
    assert_eq!(std::fs::read(pki.join("kubelet.crt")).unwrap(), first);
    let read = witlet_core::x509::read(&CertificateDer::from_pem_slice(&first).unwrap()).unwrap();
    assert_eq!(
        (read.common_name.as_str(), read.dns_names, read.ips),
        ("node-1", vec!["node-1".to_owned()], ips.to_vec())
    );
    std::fs::write(pki.join("kubelet.key"), "spoilt").unwrap();
    certificate::self_signed(&serving, &pki, "node-1", &ips).unwrap();
    assert_ne!(std::fs::read(pki.join("kubelet.crt")).unwrap(), first);
}
