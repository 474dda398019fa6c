//! The few fields of a certificate that this API needs: who it is for and when it ends. Certificates were verified by rustls
//! before they get here; this only reads, and answers `None` to anything unexpected.

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) common_name: String,
    pub(crate) organizations: Vec<String>,
    /// Unix seconds.
    pub(crate) not_after: i64,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

pub(crate) fn read(der: &[u8]) -> Option<Certificate> {
    let (tag, certificate, _) = element(der)?;
    let (tbs_tag, mut tbs, _) = element(certificate)?;
    if tag != SEQUENCE || tbs_tag != SEQUENCE {
        return None;
    }
    // An explicit version comes first where it is not 1.
    if tbs.first() == Some(&0xa0) {
        tbs = element(tbs)?.2;
    }
    let (_, _, rest) = element(tbs)?; // serial number
    let (_, _, rest) = element(rest)?; // signature algorithm
    let (_, _, rest) = element(rest)?; // issuer
    let (_, validity, rest) = element(rest)?;
    let (_, subject, _) = element(rest)?;
    let (_, _, after) = element(validity)?;
    let (kind, not_after, _) = element(after)?;
    let mut found = Certificate {
        common_name: String::new(),
        organizations: Vec::new(),
        not_after: time(kind, not_after)?,
    };
    let mut names = subject;
    while !names.is_empty() {
        let (tag, set, rest) = element(names)?;
        names = rest;
        if tag != SET {
            return None;
        }
        let mut set = set;
        while !set.is_empty() {
            let (_, pair, rest) = element(set)?;
            set = rest;
            let (tag, oid, value) = element(pair)?;
            let text = String::from_utf8(element(value)?.1.to_vec()).ok()?;
            match oid {
                COMMON_NAME if tag == OID => found.common_name = text,
                ORGANIZATION if tag == OID => found.organizations.push(text),
                _ => {}
            }
        }
    }
    Some(found)
}

/// Tag, content, and what follows.
pub(crate) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(count)?;
        (bytes.iter().fold(0_usize, |n, b| (n << 8) | usize::from(*b)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let full = match tag {
        // Two digits of the year: 1950 to 2049.
        0x17 if text.len() == 12 => format!(
            "{}{text}",
            if text.starts_with(['0', '1', '2', '3', '4']) {
                "20"
            } else {
                "19"
            }
        ),
        0x18 if text.len() == 14 => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| full.get(from..to);
    let written = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?
    );
    crate::meta::parse_time(&written).map(|t| t.as_second())
}
