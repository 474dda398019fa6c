//! Quantities of bytes: `64Mi`, `1G`, `1.5Gi`, `1e3`.

use witlet_sdk::{Error, Result};

/// Rounded up to whole bytes.
pub(super) fn bytes(text: &str) -> Result<u64> {
    parse(text).ok_or_else(|| {
        Error::Invalid(format!(
            "{text:?}: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        ))
    })
}

fn parse(text: &str) -> Option<u64> {
    let text = text.trim().strip_prefix('+').unwrap_or(text.trim());
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || part.contains('.') {
        return None;
    }
    // value = digits × 10^exponent × 2^shift
    let digits: u128 = format!("{whole}{part}").parse().ok()?;
    let (exponent, shift) = match suffix {
        "" => (0, 0),
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        other => (other.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?, 0),
    };
    let exponent = exponent.checked_sub(i32::try_from(part.len()).ok()?)?;
    let value = digits.checked_mul(1 << shift)?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
    let value = if exponent < 0 {
        value.div_ceil(power)
    } else {
        value.checked_mul(power)?
    };
    u64::try_from(value).ok()
}
