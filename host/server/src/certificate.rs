//! Where the serving certificate comes from: files, which are followed, or one that is made on the spot.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use witlet_core::x509;

use crate::tls::{ClientCa, Serving, TlsError};

const YEAR: u64 = 365 * 24 * 3600;

/// Shows the pair of two files.
pub fn from_files(serving: &Serving, certificate: &Path, key: &Path) -> Result<(), TlsError> {
    let read = |path: &Path| {
        fs::read(path).map_err(|source| TlsError::Write {
            path: path.display().to_string(),
            source,
        })
    };
    serving.set(&read(certificate)?, &read(key)?)
}

/// Shows `kubelet.crt` and `kubelet.key` of the directory, which are made if they are not there, unreadable or over.
pub fn self_signed(serving: &Serving, dir: &Path, name: &str, ips: &[IpAddr]) -> Result<(), TlsError> {
    let (certificate, key) = (dir.join("kubelet.crt"), dir.join("kubelet.key"));
    if is_good(&certificate) && from_files(serving, &certificate, &key).is_ok() {
        return Ok(());
    }
    let names = std::iter::once(name.to_owned()).chain(ips.iter().map(IpAddr::to_string));
    let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now();
    params.not_before = now.into();
    params.not_after = (now + Duration::from_secs(YEAR)).into();
    let own_key = KeyPair::generate()?;
    let pem = params.self_signed(&own_key)?.pem();
    let written = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| write(&key, &own_key.serialize_pem(), 0o600))
        .and_then(|()| write(&certificate, &pem, 0o644));
    written.map_err(|source| TlsError::Write {
        path: dir.display().to_string(),
        source,
    })?;
    from_files(serving, &certificate, &key)
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // One that an interrupted start left would keep its mode.
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    fs::rename(&temporary, path)
}

/// Whether it is readable and has not ended.
fn is_good(path: &Path) -> bool {
    use rustls::pki_types::pem::PemObject;
    let Ok(der) = rustls::pki_types::CertificateDer::from_pem_file(path) else {
        return false;
    };
    x509::read(&der).is_some_and(|c| c.not_after > jiff::Timestamp::now().as_second())
}

/// What is read again when it changes.
#[derive(Clone, Debug)]
pub struct Files {
    /// How often the files are looked at.
    pub every: Duration,
    /// Certificate and key.
    pub serving: Option<(PathBuf, PathBuf)>,
    pub client_ca: Option<PathBuf>,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            serving: None,
            client_ca: None,
        }
    }
}

/// Follows files that others renew. What cannot be read leaves the old in place. Runs until shutdown.
pub async fn follow(files: Files, serving: Arc<Serving>, clients: Arc<ClientCa>, shutdown: CancellationToken) {
    let state = |paths: &[&PathBuf]| -> Vec<_> {
        let of = |path: &&PathBuf| fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
        paths.iter().map(of).collect()
    };
    let pair: Vec<&PathBuf> = files.serving.iter().flat_map(|(c, k)| [c, k]).collect();
    let ca: Vec<&PathBuf> = files.client_ca.iter().collect();
    let mut seen = (state(&pair), state(&ca));
    loop {
        // Cancel-safe: it only waits.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(files.every) => {}
        }
        let now = (state(&pair), state(&ca));
        if let Some((certificate, key)) = files.serving.as_ref().filter(|_| now.0 != seen.0) {
            match from_files(&serving, certificate, key) {
                Ok(()) => info!(file = %certificate.display(), "the serving certificate changed"),
                Err(error) => warn!(%error, "the new serving certificate is not usable; the old one stays"),
            }
        }
        if let Some(path) = files.client_ca.as_ref().filter(|_| now.1 != seen.1) {
            match clients.load(path) {
                Ok(()) => info!(file = %path.display(), "the client CA changed"),
                Err(error) => warn!(%error, "the new client CA is not usable; the old one stays"),
            }
        }
        seen = now;
    }
}
