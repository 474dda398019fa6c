//! `$(NAME)` in environment variables, commands, arguments and sub-paths.

/// Replaces each `$(NAME)` by what `mapping` says, and `$$` by `$`; anything else stays. The result has at most `limit` bytes.
pub(crate) fn expand(text: &str, limit: usize, mut mapping: impl FnMut(&str) -> String) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    // Looking for a `)` that does not exist once is enough.
    let mut closes = true;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = match rest.bytes().next() {
            Some(b'(') if closes => rest.find(')'),
            Some(b'$') => {
                rest = &rest[1..];
                None
            }
            _ => None,
        };
        match end {
            Some(end) => {
                out.push_str(&mapping(&rest[1..end]));
                rest = &rest[end + 1..];
            }
            None => {
                closes &= !rest.starts_with('(');
                out.push('$');
            }
        }
        if out.len() > limit {
            return Err(super::too_large());
        }
    }
    out.push_str(rest);
    if out.len() > limit {
        Err(super::too_large())
    } else {
        Ok(out)
    }
}
