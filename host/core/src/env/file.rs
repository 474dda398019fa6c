//! Environment files: `NAME='value'`, where a value may go on over lines (the kubelet contract, pod 5.5 rule 30).

/// The value of the last definition of `name`. An error if the file is malformed anywhere.
pub(super) fn find(content: &str, name: &str) -> Result<Option<String>, Malformed> {
    let mut found = None;
    let mut rest = content;
    while !rest.is_empty() {
        let line = rest.split('\n').next().unwrap_or_default();
        let trimmed = line.trim_start_matches([' ', '\t', '\r']);
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = after(rest, line.len());
            continue;
        }
        let (key, _) = trimmed.split_once('=').ok_or(Malformed)?;
        if key.is_empty() || key.contains(|c: char| c.is_whitespace() || c == '\'') {
            return Err(Malformed);
        }
        // From here on the value may leave the line.
        let value_at = line.len() - trimmed.len() + key.len() + 1;
        let value = &rest[value_at..];
        let (text, length) = match value.strip_prefix('\'') {
            Some(quoted) => {
                let end = quoted.find('\'').ok_or(Malformed)?;
                (&quoted[..end], end + 2)
            }
            // `NAME= 'value'` defines an empty variable.
            None if value.starts_with([' ', '\t', '\n', '\r']) || value.is_empty() => ("", 0),
            None => return Err(Malformed),
        };
        let tail = value[length..].split('\n').next().unwrap_or_default();
        let ending = tail.trim();
        if length > 0 && !ending.is_empty() && !(ending.starts_with('#') && tail.starts_with([' ', '\t'])) {
            return Err(Malformed);
        }
        if key == name {
            found = Some(text.to_owned());
        }
        rest = after(&value[length..], tail.len());
    }
    Ok(found)
}

/// What follows a line of this length.
fn after(text: &str, length: usize) -> &str {
    text.get(length + 1..).unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;
