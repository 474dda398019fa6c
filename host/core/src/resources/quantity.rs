//! Kubernetes quantities: exact numbers with a suffix, such as `100m`, `1.5`, `2Gi`, `1e3`.
//!
//! The kubelet rounds away from zero to 10⁻⁹, and prints the shortest form with an exponent that is a multiple of three
//! (or of ten, for powers of two). So does this. A number is an `i128` of 10⁻⁹ parts, and saturates at its ends: that is more
//! than 10²⁹ units, where Kubernetes itself no longer counts exactly.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

#[cfg(test)]
mod tests;

const NANOS: i128 = 1_000_000_000;

/// How a quantity is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// `n u m k M G T P E`
    #[default]
    DecimalSi,
    /// `e3`
    DecimalExponent,
    /// `Ki Mi Gi Ti Pi Ei`
    BinarySi,
}

/// Quantities compare by their value alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The texts are those of Kubernetes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    pub const fn from_units(units: i64) -> Self {
        Self {
            nanos: units as i128 * NANOS,
            format: Format::DecimalSi,
        }
    }

    /// A number of bytes, written with a power of two where that is exact.
    pub const fn from_bytes(bytes: i64) -> Self {
        Self {
            nanos: bytes as i128 * NANOS,
            format: Format::BinarySi,
        }
    }

    pub const fn from_millis(millis: i64) -> Self {
        Self {
            nanos: millis as i128 * (NANOS / 1000),
            format: Format::DecimalSi,
        }
    }

    /// A quantity of the API. What does not parse counts as zero: the API server has validated it, and a pod of any other
    /// source was validated when it was read.
    pub fn from_api(quantity: &ApiQuantity) -> Self {
        quantity.0.parse().unwrap_or(Self::ZERO)
    }

    pub fn to_api(self) -> ApiQuantity {
        ApiQuantity(self.to_string())
    }

    /// Whole units, rounded away from zero.
    pub fn value(self) -> i64 {
        saturate(round_up(self.nanos, NANOS))
    }

    /// Thousandths, rounded away from zero.
    pub fn millis(self) -> i64 {
        saturate(round_up(self.nanos, NANOS / 1000))
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn is_positive(self) -> bool {
        self.nanos > 0
    }

    pub fn format(self) -> Format {
        self.format
    }

    pub fn with_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// Keeps the format of the first that is not zero.
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            format,
        }
    }

    pub fn minus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self {
            nanos: self.nanos.saturating_sub(other.nanos),
            format,
        }
    }
}

fn round_up(nanos: i128, unit: i128) -> i128 {
    let whole = nanos / unit;
    if nanos % unit == 0 {
        whole
    } else {
        whole + nanos.signum()
    }
}

fn saturate(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

// === Order ===

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

// === Reading ===

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let whole = digits(rest);
        let after = &rest[whole.len()..];
        let fraction = after.strip_prefix('.').map_or("", digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(ParseError::Format);
        }
        let suffix = if after.starts_with('.') {
            &after[1 + fraction.len()..]
        } else {
            after
        };
        let (base_two, exponent, format) = suffix_of(suffix)?;

        let (number, dropped, sticky) = accumulate(whole, fraction, base_two);
        let scaled = if base_two { number << exponent } else { number };
        let ten = i64::from(if base_two { 0 } else { exponent }) - fraction.len() as i64 + dropped + 9;
        let mut nanos = scale(scaled, ten, sticky);
        let mut format = format;
        if base_two {
            nanos = nanos.min(i128::from(i64::MAX) * NANOS);
            if nanos > 0 && nanos < NANOS {
                format = Format::DecimalSi;
            }
        }
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }
}

fn digits(text: &str) -> &str {
    &text[..text.bytes().take_while(u8::is_ascii_digit).count()]
}

/// Whether the suffix is a power of two, the power, and the format it stands for.
fn suffix_of(suffix: &str) -> Result<(bool, i32, Format), ParseError> {
    let two = |power| Ok((true, power, Format::BinarySi));
    let ten = |power| Ok((false, power, Format::DecimalSi));
    match suffix {
        "" => ten(0),
        "n" => ten(-9),
        "u" => ten(-6),
        "m" => ten(-3),
        "k" => ten(3),
        "M" => ten(6),
        "G" => ten(9),
        "T" => ten(12),
        "P" => ten(15),
        "E" => ten(18),
        "Ki" => two(10),
        "Mi" => two(20),
        "Gi" => two(30),
        "Ti" => two(40),
        "Pi" => two(50),
        "Ei" => two(60),
        other => match other.strip_prefix(['e', 'E']) {
            Some(exponent) => exponent
                .parse()
                .map(|e| (false, e, Format::DecimalExponent))
                .map_err(|_| ParseError::Suffix),
            None => {
                let letters = other.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
                let number = letters.strip_prefix(['+', '-']).unwrap_or(letters);
                let wellformed = number.bytes().all(|b| b.is_ascii_digit());
                Err(if wellformed {
                    ParseError::Suffix
                } else {
                    ParseError::Format
                })
            }
        },
    }
}

/// All digits as one number; how many at the end did not fit; and whether one of those was not zero.
fn accumulate(whole: &str, fraction: &str, base_two: bool) -> (u128, i64, bool) {
    // A power of two is multiplied in afterwards, and must not overflow.
    let limit = if base_two { u128::MAX >> 61 } else { u128::MAX >> 1 };
    let (mut number, mut dropped, mut sticky) = (0u128, 0i64, false);
    for digit in whole.bytes().chain(fraction.bytes()).map(|b| u128::from(b - b'0')) {
        match number
            .checked_mul(10)
            .and_then(|n| n.checked_add(digit))
            .filter(|n| *n <= limit && dropped == 0)
        {
            Some(next) => number = next,
            None => {
                dropped += 1;
                sticky |= digit != 0;
            }
        }
    }
    (number, dropped, sticky)
}

/// `number × 10^ten`, rounded up, at most `i128::MAX`.
fn scale(number: u128, ten: i64, sticky: bool) -> i128 {
    let power = |n: u64| u32::try_from(n).ok().and_then(|n| 10u128.checked_pow(n));
    let result = if number == 0 {
        u128::from(sticky)
    } else if ten >= 0 {
        power(ten.unsigned_abs()).map_or(u128::MAX, |p| number.saturating_mul(p))
    } else {
        match power(ten.unsigned_abs()) {
            Some(p) => number / p + u128::from(sticky || !number.is_multiple_of(p)),
            None => 1,
        }
    };
    i128::try_from(result).unwrap_or(i128::MAX)
}

// === Writing ===

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANOS;
        if self.format == Format::BinarySi && !small && self.nanos % NANOS == 0 {
            let (mut number, mut power) = (self.nanos / NANOS, 0);
            while number % 1024 == 0 && power < 6 {
                number /= 1024;
                power += 1;
            }
            return write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 1000 == 0 && (exponent < 18 || self.format == Format::DecimalExponent) {
            number /= 1000;
            exponent += 3;
        }
        match self.format {
            Format::DecimalExponent if exponent == 0 => write!(f, "{number}"),
            Format::DecimalExponent => write!(f, "{number}e{exponent}"),
            _ => {
                let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                let index = usize::try_from((exponent + 9) / 3).unwrap_or(3);
                write!(f, "{number}{}", suffix.get(index).unwrap_or(&""))
            }
        }
    }
}

impl serde::Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
