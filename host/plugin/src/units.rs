//! Sizes and durations as people write them: `16MiB`, `20ms`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

/// A length of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(pub Duration);

const SIZES: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

const SPANS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Whole numbers with a unit: `16MiB`, `512KiB`, `1GB`, `100B`.
pub fn parse_size(text: &str) -> Result<Size, String> {
    let bytes = scaled(text, &SIZES).ok_or_else(|| {
        format!(
            "{text:?} is not a size: write a whole number and one of B, KiB, MiB, GiB, kB, MB, GB, such as \"16MiB\""
        )
    })?;
    Ok(Size(bytes))
}

/// Whole numbers with their units: `20ms`, `1s`, `1h30m`.
pub fn parse_span(text: &str) -> Result<Span, String> {
    let nanos = sum(text).ok_or_else(|| {
        format!(
            "{text:?} is not a duration: write whole numbers with ns, us, ms, s, m or h, such as \"20ms\" or \"1h30m\""
        )
    })?;
    Ok(Span(Duration::from_nanos(nanos)))
}

/// Of all parts; each ends where the next number begins.
fn sum(mut text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    loop {
        let mut unit = text.bytes().enumerate().skip_while(|(_, b)| b.is_ascii_digit());
        let next = unit.find(|(_, b)| b.is_ascii_digit()).map(|(at, _)| at);
        let (part, rest) = text.split_at_checked(next.unwrap_or(text.len()))?;
        total = total.checked_add(scaled(part, &SPANS)?)?;
        if next.is_none() {
            return Some(total);
        }
        text = rest;
    }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
            .into_iter()
            .find(|(_, n)| self.0 >= *n && self.0.is_multiple_of(*n))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_size(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_span(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("16MiB", 16 << 20),
            ("1 GiB", 1 << 30),
            ("100B", 100),
            ("2kB", 2000),
            ("0B", 0),
        ] {
            assert_eq!(parse_size(text).unwrap(), Size(bytes), "{text}");
        }
        for text in ["", "16", "MiB", "16mib", "-1B", "1.5MiB", "99999999999GiB", "16MiBs"] {
            assert!(parse_size(text).unwrap_err().contains("is not a size"), "{text}");
        }
        assert_eq!(Size(16 << 20).to_string(), "16MiB");
        assert_eq!(Size(1000).to_string(), "1000B");
        assert_eq!(Size(0).to_string(), "0B");
    }

    #[test]
    fn spans() {
        for (text, millis) in [
            ("20ms", 20),
            ("1s", 1000),
            ("2m", 120_000),
            ("5000us", 5),
            ("4h", 4 * 3_600_000),
            ("1h30m", 90 * 60_000),
            ("1m0s5ms", 60_005),
        ] {
            assert_eq!(parse_span(text).unwrap(), Span(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "20",
            "ms",
            "1d",
            "-5s",
            "0.5s",
            "1h30",
            "h30m",
            "1h-30m",
            "ä1s",
            "9999999h9999999h",
            "1h ä",
        ] {
            assert!(parse_span(text).unwrap_err().contains("is not a duration"), "{text}");
        }
    }
}
