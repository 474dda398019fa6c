//! The kubeconfig that makes `kubectl` and the agent the administrator of this API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::pki::Pki;

pub(crate) fn render(pki: &Pki, listen: SocketAddr) -> String {
    // A server that listens everywhere is reached here.
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let server = SocketAddr::new(ip, listen.port());
    let (ca, cert, key) = (
        STANDARD.encode(&pki.ca),
        STANDARD.encode(&pki.admin.cert),
        STANDARD.encode(&pki.admin.key),
    );
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: witlet
  cluster:
    server: https://{server}
    certificate-authority-data: {ca}
users:
- name: admin
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
contexts:
- name: witlet
  context:
    cluster: witlet
    user: admin
current-context: witlet
"
    )
}
