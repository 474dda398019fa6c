//! Image references (the kubelet contract, pod 6.1 rule 1).

use k8s_openapi::api::core::v1::Container;

use crate::quote::quote;

#[cfg(test)]
mod tests;

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";
const MAX_PATH: usize = 255;

/// A reference whose parts are known to be well-formed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// `docker.io` if the text has none.
    pub domain: String,
    /// `library/busybox`
    pub path: String,
    pub tag: Option<String>,
    /// `sha256:…`
    pub digest: Option<String>,
}

/// The texts are those of the container ecosystem's reference library.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseError {
    #[error("invalid reference format")]
    Format,
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("repository name must not be more than {MAX_PATH} characters")]
    TooLong,
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
    #[error("invalid checksum digest length")]
    DigestLength,
}

impl Reference {
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(ParseError::Identifier(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let path_end = rest.find(':').unwrap_or(rest.len());
        if rest[..path_end].chars().any(char::is_uppercase) {
            return Err(ParseError::Uppercase(rest[..path_end].to_owned()));
        }
        let (named, digest) = match rest.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match named.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (named, None),
        };
        let well_formed = is_domain(&domain)
            && path.split('/').all(is_path_component)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest);
        if !well_formed {
            return Err(ParseError::Format);
        }
        if path.len() > MAX_PATH {
            return Err(ParseError::TooLong);
        }
        if let Some(digest) = digest {
            check_digest(digest)?;
        }
        Ok(Self {
            domain,
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// Without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }
}

/// Surfaces as `InvalidImageName`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("couldn't parse image name {}: {error}", quote(text))]
pub struct NameError {
    text: String,
    error: ParseError,
}

/// The reference as the runtime is given it: `:latest` is appended where neither tag nor digest is said, and no registry ever
/// is.
pub fn normalise(text: &str) -> Result<String, NameError> {
    let reference = Reference::parse(text).map_err(|error| NameError {
        text: text.to_owned(),
        error,
    })?;
    let named = reference.tag.is_some() || reference.digest.is_some();
    Ok(if named {
        text.to_owned()
    } else {
        format!("{text}:latest")
    })
}

/// What registry credentials are matched with: the full name without tag and digest (the kubelet contract, pod 6.2). The text
/// itself if it is no reference.
pub fn repository(text: &str) -> String {
    Reference::parse(text).map_or_else(|_| text.to_owned(), |r| r.repository())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// The container's own policy, or the default for its image.
pub fn pull_policy(container: &Container) -> PullPolicy {
    policy(
        container.image_pull_policy.as_deref(),
        container.image.as_deref().unwrap_or_default(),
    )
}

/// The policy of this name, or the default for the image.
pub fn policy(name: Option<&str>, image: &str) -> PullPolicy {
    match name {
        Some("Always") => PullPolicy::Always,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        Some("Never") => PullPolicy::Never,
        _ => default_pull_policy(image),
    }
}

/// `Always` for what changes under the same name, else `IfNotPresent`.
pub fn default_pull_policy(text: &str) -> PullPolicy {
    match Reference::parse(text) {
        Ok(Reference {
            tag: None,
            digest: None,
            ..
        }) => PullPolicy::Always,
        Ok(Reference { tag: Some(tag), .. }) if tag == "latest" => PullPolicy::Always,
        _ => PullPolicy::IfNotPresent,
    }
}

/// Reason and message for a pull that failed with this message of the runtime (the kubelet contract, pod 6.1 rule 4).
pub fn pull_error(text: &str, message: &str) -> (&'static str, String) {
    let known = [
        ("RegistryUnavailable", "the registry is unavailable"),
        ("SignatureValidationFailed", "the signature validation failed"),
    ];
    for (reason, cause) in known {
        if let Some(rest) = message.strip_prefix(reason) {
            return (reason, format!("image pull failed for {text} because {cause}{rest}"));
        }
    }
    ("ErrImagePull", message.to_owned())
}

/// The registry, and the rest. The first part is a registry only if it looks like one.
fn split_domain(text: &str) -> (String, String) {
    let first = text.split_once('/').filter(|(first, _)| {
        first.contains(['.', ':']) || *first == "localhost" || first.chars().any(char::is_uppercase)
    });
    let (domain, rest) = match first {
        Some(("index.docker.io", rest)) => (DEFAULT_DOMAIN, rest),
        Some((domain, rest)) => (domain, rest),
        None => (DEFAULT_DOMAIN, text),
    };
    let official = domain == DEFAULT_DOMAIN && !rest.contains('/');
    (
        domain.to_owned(),
        if official {
            format!("{OFFICIAL}{rest}")
        } else {
            rest.to_owned()
        },
    )
}

fn is_domain(domain: &str) -> bool {
    let port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = domain.strip_prefix('[') {
        let Some((ip, after)) = rest.split_once(']') else {
            return false;
        };
        let hex = !ip.is_empty() && ip.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        return hex && (after.is_empty() || after.strip_prefix(':').is_some_and(port));
    }
    let (host, number) = domain.split_once(':').map_or((domain, None), |(h, p)| (h, Some(p)));
    let component = |c: &str| {
        let bytes = c.as_bytes();
        bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
    };
    host.split('.').all(component) && number.is_none_or(port)
}

/// Small letters and digits, with one of `.` `_` `__` or any number of `-` between them.
fn is_path_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !(bytes.first().is_some_and(|b| word(*b)) && bytes.last().is_some_and(|b| word(*b))) {
        return false;
    }
    let separators = component
        .split(|c: char| c.is_ascii() && word(c as u8))
        .filter(|s| !s.is_empty());
    separators
        .into_iter()
        .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    (1..=128).contains(&bytes.len()) && word(bytes[0]) && bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let component = |c: &str| {
        c.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && c.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['+', '.', '_', '-']).all(component)
        && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn check_digest(digest: &str) -> Result<(), ParseError> {
    let (algorithm, hex) = digest.split_once(':').ok_or(ParseError::Format)?;
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(ParseError::DigestAlgorithm),
    };
    if hex.len() != length {
        return Err(ParseError::DigestLength);
    }
    if hex.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ParseError::Format);
    }
    Ok(())
}
