//! Percent-encoding of paths and queries.

/// Decoded query parameters in their order.
pub(crate) fn parse(text: &str) -> Vec<(String, String)> {
    let pair = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (decode(key, true), decode(value, true))
    };
    text.split('&').filter(|p| !p.is_empty()).map(pair).collect()
}

/// The first value of a parameter.
pub(crate) fn get<'a>(query: &'a [(String, String)], key: &str) -> Option<&'a str> {
    query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

/// All values of a repeated parameter.
pub(crate) fn all<'a>(query: &'a [(String, String)], key: &'a str) -> impl Iterator<Item = &'a str> {
    query.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
}

/// What is no valid escape stays as it is. `plus`: in a query it means a blank.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, behind @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or(0) * 16 + hex(*low).unwrap_or(0));
                rest = behind;
            }
            (b'+', _) if plus => out.push(b' '),
            (other, _) => out.push(*other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// For a value in a query.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = parse("command=sh&command=-c&command=echo+a%26b%zz&empty=&flag&=x");
        assert_eq!(all(&query, "command").collect::<Vec<_>>(), ["sh", "-c", "echo a&b%zz"]);
        assert_eq!(
            (get(&query, "empty"), get(&query, "flag"), get(&query, "no")),
            (Some(""), Some(""), None)
        );
    }

    #[test]
    fn encoding_is_undone_by_decoding() {
        let text = "a b+c&d=e/ä%\n";
        assert_eq!(encode("a b/"), "a%20b%2F");
        assert_eq!(decode(&encode(text), true), text);
    }
}
