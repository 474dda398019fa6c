//! The naming rules of the API. Each returns every complaint, in the API's words.

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn too_long(value: &str, limit: usize) -> Option<String> {
    (value.len() > limit).then(|| format!("must be no more than {limit} bytes"))
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Inner bytes by one rule, the ends by another. False for nothing.
fn shaped(text: &str, inner: impl Fn(u8) -> bool, ends: impl Fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        bytes @ [first, .., last] => ends(*first) && ends(*last) && bytes.iter().all(|b| inner(*b)),
        [only] => ends(*only),
    }
}

fn is_label(text: &str) -> bool {
    shaped(text, |b| lower(b) || b == b'-', lower)
}

pub(crate) fn dns_label(value: &str) -> Vec<String> {
    let shape = (!is_label(value)).then(|| LABEL.to_owned());
    too_long(value, 63).into_iter().chain(shape).collect()
}

pub(crate) fn dns_subdomain(value: &str) -> Vec<String> {
    let shape = (!value.split('.').all(is_label)).then(|| SUBDOMAIN.to_owned());
    too_long(value, 253).into_iter().chain(shape).collect()
}

fn is_name_part(text: &str) -> bool {
    shaped(
        text,
        |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b),
        |b| b.is_ascii_alphanumeric(),
    )
}

/// `[prefix/]name`
pub(crate) fn qualified_name(value: &str) -> Vec<String> {
    let (prefix, name) = match value.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, value),
    };
    let mut complaints = Vec::new();
    match prefix {
        Some("") => complaints.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => complaints.extend(dns_subdomain(prefix).into_iter().map(|c| format!("prefix part {c}"))),
        None => {}
    }
    if name.is_empty() {
        complaints.push("name part must be non-empty".to_owned());
    } else {
        complaints.extend(too_long(name, 63).map(|c| format!("name part {c}")));
    }
    if !is_name_part(name) {
        complaints.push(QUALIFIED.to_owned());
    }
    complaints
}

pub(crate) fn label_value(value: &str) -> Vec<String> {
    let shape = (!value.is_empty() && !is_name_part(value)).then(|| VALUE.to_owned());
    too_long(value, 63).into_iter().chain(shape).collect()
}

/// The name of a container port.
pub(crate) fn port_name(value: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if value.len() > 15 {
        complaints.push("must be no more than 15 characters".to_owned());
    }
    if !value.bytes().all(|b| lower(b) || b == b'-') {
        complaints.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        complaints.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        complaints.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        complaints.push("must not begin or end with a hyphen".to_owned());
    }
    complaints
}

pub(crate) fn env_name(value: &str) -> Vec<String> {
    if value.bytes().all(|b| (b.is_ascii_graphic() || b == b' ') && b != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// The key of a configMap or a secret.
pub(crate) fn data_key(value: &str) -> Vec<String> {
    let mut complaints: Vec<_> = too_long(value, 253).into_iter().collect();
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        complaints.push("a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')".to_owned());
    }
    if value == "." || value == ".." {
        complaints.push(format!("must not be '{value}'"));
    } else if value.starts_with("..") {
        complaints.push("must not start with '..'".to_owned());
    }
    complaints
}

pub(crate) fn is_uid(value: &str) -> bool {
    value.len() <= 63
        && shaped(
            value,
            |b| b.is_ascii_alphanumeric() || b == b'-',
            |b| b.is_ascii_alphanumeric(),
        )
}

pub(crate) fn is_sysctl(value: &str) -> bool {
    value.len() <= 253
        && value
            .split(['.', '/'])
            .all(|part| shaped(part, |b| lower(b) || b == b'-' || b == b'_', lower))
}
