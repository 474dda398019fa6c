//! The container hash: how a running container is recognised as the one that the spec asks for (the kubelet contract, pod 4.4).

use k8s_openapi::api::core::v1::Container;

/// Where the hash is kept on a container.
pub const ANNOTATION_HASH: &str = "io.kubernetes.container.hash";

const FNV32_OFFSET: u32 = 0x811c_9dc5;
const FNV32_PRIME: u32 = 0x0100_0193;

pub fn fnv32a(data: &[u8]) -> u32 {
    data.iter().fold(FNV32_OFFSET, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(FNV32_PRIME)
    })
}

/// Covers name and image only: nothing else of a running pod may change.
///
/// The odd text that is hashed is what the Go kubelet hashes. Being equal to it, containers that a kubelet made before
/// are taken over without a restart.
pub fn container_hash(container: &Container) -> u32 {
    use std::fmt::Write;

    let image = container.image.as_deref().unwrap_or_default();
    let json = format!("{{\"image\":{},\"name\":{}}}", go_json(image), go_json(&container.name));
    let mut text = String::from("([]uint8)[");
    for (i, byte) in json.bytes().enumerate() {
        let separator = if i == 0 { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{byte}");
    }
    text.push(']');
    fnv32a(text.as_bytes())
}

/// As the annotation holds it.
pub fn format_hash(hash: u32) -> String {
    format!("{hash:x}")
}

/// A missing or broken annotation reads as zero, as it does in the kubelet, so that such a container counts as changed.
pub fn parse_hash(annotation: Option<&str>) -> u32 {
    annotation
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0)
}

/// Go's JSON writes the characters of HTML, and the two line separators of JavaScript, as escapes.
fn go_json(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, image: &str) -> Container {
        Container {
            name: name.into(),
            image: Some(image.into()),
            ..Container::default()
        }
    }

    #[test]
    fn equals_the_kubelets_test_vector() {
        let hash = container_hash(&container("test_container", "foo/image:v1"));
        assert_eq!(format_hash(hash), "8e45cbd0");
        assert_eq!(parse_hash(Some("8e45cbd0")), hash);
    }

    #[test]
    fn depends_on_name_and_image_and_on_nothing_else() {
        let base = container("a", "b");
        let mut other = base.clone();
        other.command = Some(vec!["sleep".into()]);
        assert_eq!(container_hash(&base), container_hash(&other));
        assert_ne!(container_hash(&base), container_hash(&container("a", "c")));
        assert_ne!(container_hash(&base), container_hash(&container("c", "b")));
    }

    #[test]
    fn what_cannot_be_read_is_zero() {
        for text in [None, Some(""), Some("xyz"), Some("1ffffffff")] {
            assert_eq!(parse_hash(text), 0, "{text:?}");
        }
    }

    #[test]
    fn fnv_of_nothing_and_of_a_letter() {
        assert_eq!(fnv32a(b""), 0x811c_9dc5);
        assert_eq!(fnv32a(b"a"), 0xe40c_292c);
    }

    #[test]
    fn escapes_as_go_does() {
        assert_eq!(go_json("a<b>&\u{2028}\""), "\"a\\u003cb\\u003e\\u0026\\u2028\\\"\"");
    }
}
