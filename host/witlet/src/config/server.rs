//! `[server]`: the node's HTTPS API, and the plain health port.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use witlet_plugin_host::units::Span;

/// An address, or `off`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Listen(pub(crate) Option<SocketAddr>);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "off" {
            return Ok(Self(None));
        }
        let parsed = text.parse().map(|address| Self(Some(address)));
        parsed.map_err(|_| {
            serde::de::Error::custom(format!(
                "{text:?} is neither an address such as \"127.0.0.1:10248\" nor \"off\""
            ))
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub(crate) enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    pub(crate) listen: Option<Listen>,
    pub(crate) read_only: Listen,
    pub(crate) healthz: Listen,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) tls_bootstrap: bool,
    pub(crate) tls_min_version: TlsVersion,
    pub(crate) tls_ciphers: Vec<String>,
    pub(crate) client_ca: Option<PathBuf>,
    pub(crate) debugging: bool,
    pub(crate) system_logs: bool,
    pub(crate) system_log_query: bool,
    pub(crate) profiling: bool,
    pub(crate) debug_flags: bool,
    pub(crate) split_log_streams: bool,
    pub(crate) max_connections: usize,
    pub(crate) max_streams: usize,
    pub(crate) stream_idle: Span,
    pub(crate) authentication: Authentication,
    pub(crate) authorization: Authorization,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: None,
            read_only: Listen(None),
            healthz: Listen(Some(SocketAddr::from(([127, 0, 0, 1], 10248)))),
            tls_cert: None,
            tls_key: None,
            tls_bootstrap: false,
            tls_min_version: TlsVersion::default(),
            tls_ciphers: Vec::new(),
            client_ca: None,
            debugging: true,
            system_logs: true,
            system_log_query: false,
            profiling: false,
            debug_flags: true,
            split_log_streams: false,
            max_connections: 1000,
            max_streams: 1000,
            stream_idle: Span(Duration::from_secs(4 * 3600)),
            authentication: Authentication::default(),
            authorization: Authorization::default(),
        }
    }
}

impl Server {
    pub(super) fn problems(&self, cluster: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            problems.push("server.tls_cert and server.tls_key belong together: write both or neither".into());
        }
        if self.tls_bootstrap && self.tls_cert.is_some() {
            problems.push("server.tls_bootstrap and server.tls_cert exclude each other: remove one of them".into());
        }
        if self.tls_bootstrap && !cluster {
            problems.push("server.tls_bootstrap = true: only a cluster signs certificates, so it needs [api]".into());
        }
        if self.system_log_query && !self.system_logs {
            problems.push("server.system_log_query = true needs server.system_logs = true".into());
        }
        if self.max_connections == 0 || self.max_streams == 0 {
            problems.push("server.max_connections and server.max_streams must be at least 1".into());
        }
        if self.stream_idle.0.is_zero() {
            problems.push("server.stream_idle must be longer than 0".into());
        }
        let paths = [
            ("server.tls_cert", &self.tls_cert),
            ("server.tls_key", &self.tls_key),
            ("server.client_ca", &self.client_ca),
        ];
        for (key, path) in paths {
            if let Some(path) = path.as_ref().filter(|p| !p.is_absolute()) {
                problems.push(format!("{key} = {path:?}: must be an absolute path"));
            }
        }
        problems
    }
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Authentication {
    pub(crate) anonymous: bool,
    pub(crate) tokens: bool,
    pub(crate) token_ttl: Span,
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            anonymous: false,
            tokens: true,
            token_ttl: Span(Duration::from_secs(120)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AuthorizationMode {
    #[default]
    Webhook,
    AlwaysAllow,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Authorization {
    pub(crate) mode: AuthorizationMode,
    pub(crate) allowed_ttl: Span,
    pub(crate) denied_ttl: Span,
}

impl Default for Authorization {
    fn default() -> Self {
        Self {
            mode: AuthorizationMode::default(),
            allowed_ttl: Span(Duration::from_secs(300)),
            denied_ttl: Span(Duration::from_secs(30)),
        }
    }
}
