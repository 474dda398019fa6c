//! The few fields of certificates and of requests for them that decisions are made of. Nothing is verified here; TLS does that.
//! Anything unexpected is `None`, never a panic.

use std::net::IpAddr;

use jiff::Timestamp;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// Unix seconds.
    pub not_before: i64,
    pub not_after: i64,
    pub dns_names: Vec<String>,
    pub ips: Vec<IpAddr>,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

pub fn read(der: &[u8]) -> Option<Certificate> {
    let (certificate, _) = of(SEQUENCE, der)?;
    let (mut tbs, _) = of(SEQUENCE, certificate)?;
    // An explicit version comes first where it is not 1.
    if tbs.first() == Some(&0xa0) {
        tbs = element(tbs)?.2;
    }
    let (_, _, rest) = element(tbs)?; // serial number
    let (_, _, rest) = element(rest)?; // signature algorithm
    let (_, _, rest) = element(rest)?; // issuer
    let (_, validity, rest) = element(rest)?;
    let (_, subject, rest) = element(rest)?;
    let (_, _, mut rest) = element(rest)?; // public key
    let (before_kind, not_before, after) = element(validity)?;
    let (after_kind, not_after, _) = element(after)?;
    let mut found = Certificate {
        not_before: time(before_kind, not_before)?,
        not_after: time(after_kind, not_after)?,
        ..Certificate::default()
    };
    read_subject(subject, &mut found)?;
    while !rest.is_empty() {
        let (tag, content, after) = element(rest)?;
        rest = after;
        if tag == EXTENSIONS {
            read_extensions(of(SEQUENCE, content)?.0, &mut found)?;
        }
    }
    Some(found)
}

/// The public key (its `SubjectPublicKeyInfo`) in a request for a certificate.
pub fn request_public_key(der: &[u8]) -> Option<&[u8]> {
    let (request, _) = of(SEQUENCE, der)?;
    let (info, _) = of(SEQUENCE, request)?;
    let (_, _, rest) = element(info)?; // version
    let (_, _, key) = element(rest)?; // subject
    let (tag, _, after) = element(key)?;
    (tag == SEQUENCE).then(|| &key[..key.len() - after.len()])
}

fn read_subject(mut names: &[u8], found: &mut Certificate) -> Option<()> {
    while !names.is_empty() {
        let (mut set, rest) = of(SET, names)?;
        names = rest;
        while !set.is_empty() {
            let (_, pair, rest) = element(set)?;
            set = rest;
            let (tag, oid, value) = element(pair)?;
            let text = || String::from_utf8(element(value)?.1.to_vec()).ok();
            match oid {
                COMMON_NAME if tag == OID => found.common_name = text()?,
                ORGANIZATION if tag == OID => found.organizations.push(text()?),
                _ => {}
            }
        }
    }
    Some(())
}

fn read_extensions(mut list: &[u8], found: &mut Certificate) -> Option<()> {
    while !list.is_empty() {
        let (extension, rest) = of(SEQUENCE, list)?;
        list = rest;
        let (oid, mut value) = of(OID, extension)?;
        if oid != SUBJECT_ALT_NAME {
            continue;
        }
        if value.first() == Some(&BOOLEAN) {
            value = element(value)?.2;
        }
        let (mut names, _) = of(SEQUENCE, of(OCTETS, value)?.0)?;
        while !names.is_empty() {
            let (tag, name, rest) = element(names)?;
            names = rest;
            match tag {
                DNS_NAME => found.dns_names.push(String::from_utf8(name.to_vec()).ok()?),
                IP_ADDRESS => found.ips.push(ip(name)?),
                _ => {}
            }
        }
    }
    Some(())
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Content of the element, which must have this tag, and what follows.
fn of(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content, and what follows.
pub fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
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
    written.parse::<Timestamp>().ok().map(|t| t.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_checked() {
        assert_eq!(element(&[0x30, 0x02, 1, 2, 3]), Some((0x30, &[1, 2][..], &[3][..])));
        assert_eq!(element(&[0x30, 0x81, 0x01, 9]), Some((0x30, &[9][..], &[][..])));
        for broken in [
            &[][..],
            &[0x30],
            &[0x30, 0x02, 1],
            &[0x30, 0x80, 1],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 1],
        ] {
            assert_eq!(element(broken), None);
        }
    }

    #[test]
    fn times_of_both_kinds_are_read() {
        assert_eq!(time(0x17, b"700101000000Z"), Some(0));
        assert_eq!(time(0x18, b"20510203000000Z"), time(0x18, b"20510203000000Z"));
        assert!(time(0x17, b"500101000000Z").is_some_and(|t| t < 0), "1950");
        for broken in [&b"7001010000Z"[..], b"700101000000", b"709901000000Z", b"\xff\xff"] {
            assert_eq!(time(0x17, broken), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = request_public_key(&bytes);
        }
    }
}
