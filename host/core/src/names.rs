//! The forms of names that Kubernetes requires, and its words for what does not have them.

const LABEL_FORM: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                          and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                          '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_FORM: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                              and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
                              validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED_FORM: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                              alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation \
                              is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const PARTS_FORM: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                          with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                          validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and \
                          '/' (e.g. 'example.com/MyName')";

/// What is wrong with a DNS label; nothing if it is right.
pub(crate) fn dns_label_problems(value: &str) -> Vec<String> {
    let mut problems = too_long(value, 63);
    if !is_label(value) {
        problems.push(LABEL_FORM.to_owned());
    }
    problems
}

pub(crate) fn dns_subdomain_problems(value: &str) -> Vec<String> {
    let mut problems = too_long(value, 253);
    if !value.split('.').all(is_label) {
        problems.push(SUBDOMAIN_FORM.to_owned());
    }
    problems
}

/// Of the key of a label or an annotation.
pub(crate) fn qualified_name_problems(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, rest)) if rest.contains('/') => return vec![PARTS_FORM.to_owned()],
        Some(("", name)) => {
            problems.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            problems.extend(
                dns_subdomain_problems(prefix)
                    .iter()
                    .map(|p| format!("prefix part {p}")),
            );
            name
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    }
    problems.extend(too_long(name, 63).iter().map(|p| format!("name part {p}")));
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !(name.chars().all(inner) && end(name.chars().next()) && end(name.chars().next_back())) {
        problems.push(format!("name part {QUALIFIED_FORM}"));
    }
    problems
}

fn too_long(value: &str, max: usize) -> Vec<String> {
    if value.len() > max {
        vec![format!("must be no more than {max} bytes")]
    } else {
        Vec::new()
    }
}

fn is_label(value: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = value.as_bytes();
    bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
        && bytes.first().is_some_and(|b| alphanumeric(*b))
        && bytes.last().is_some_and(|b| alphanumeric(*b))
}
