//! Patterns of registries (the kubelet contract, pod 6.2 rule 13).

/// Is an entry, such as `*.registry.example:5000/team`, for this repository? Both without scheme.
pub fn matches(entry: &str, repository: &str) -> bool {
    let (entry_host, entry_path) = entry.split_once('/').unwrap_or((entry, ""));
    let (host, path) = repository.split_once('/').unwrap_or((repository, ""));
    let (entry_host, entry_port) = port(entry_host);
    let (host, its_port) = port(host);
    entry_port == its_port
        && entry_host.split('.').count() == host.split('.').count()
        && entry_host.split('.').zip(host.split('.')).all(|(e, h)| glob(e, h))
        && path.starts_with(entry_path)
}

fn port(host: &str) -> (&str, Option<&str>) {
    host.split_once(':')
        .map_or((host, None), |(host, port)| (host, Some(port)))
}

/// `*` stands for any number of characters. In linear time: what fits between two stars is found as early as possible.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "abc", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("a**c", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!glob(&"a*".repeat(2000), &"a".repeat(1999)));
    }

    proptest! {
        #[test]
        fn never_panics(entry in "[a-z*.:/é]{0,20}", repository in "[a-z.:/é]{0,20}") {
            let _ = matches(&entry, &repository);
            if !entry.contains('*') && !entry.is_empty() {
                prop_assert!(matches(&entry, &entry));
            }
        }
    }
}
