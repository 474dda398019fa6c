#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use proptest::prelude::*;

use super::*;

fn q(text: &str) -> Quantity {
    text.parse().unwrap()
}

#[test]
fn values() {
    for (text, value, millis) in [
        ("0", 0, 0),
        ("1", 1, 1000),
        ("100m", 1, 100),
        ("1500m", 2, 1500),
        ("1.5", 2, 1500),
        (".5", 1, 500),
        ("5.", 5, 5000),
        ("+3", 3, 3000),
        ("-1500m", -2, -1500),
        ("1Ki", 1024, 1_024_000),
        ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
        ("128Mi", 134_217_728, 134_217_728_000),
        ("1e3", 1000, 1_000_000),
        ("12E-1", 2, 1200),
        ("1E", 1_000_000_000_000_000_000, i64::MAX),
        ("100Ei", i64::MAX, i64::MAX),
        ("1u", 1, 1),
        ("0.0000000001", 1, 1),
        ("0001", 1, 1000),
    ] {
        assert_eq!((q(text).value(), q(text).millis()), (value, millis), "{text}");
    }
}

#[test]
fn canonical_form() {
    for (text, canonical) in [
        ("0", "0"),
        ("0Ki", "0"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("100000", "100k"),
        ("1024Ki", "1Mi"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1023Ki", "1023Ki"),
        ("0.5Ki", "512"),
        ("0.0001Ki", "102400u"),
        ("1.1Ki", "1126400m"),
        ("1e3", "1e3"),
        ("1000e0", "1e3"),
        ("12e0", "12"),
        ("0.1n", "1n"),
        ("-1Ki", "-1Ki"),
        ("1e25", "10e24"),
        ("999999999999E", "170141183460469231731687303715884105727n"),
    ] {
        assert_eq!(q(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn refused() {
    for text in ["", "-", "+", ".", "x", "1x", "1.2.3", "1 ", " 1", "1Ki1x", "٣", "1é"] {
        assert_eq!(text.parse::<Quantity>().unwrap_err(), ParseError::Format, "{text:?}");
    }
    for text in ["1ki", "1K", "1mm", "1e", "1eE", "1i", "1Ki2", "1e999999999999"] {
        assert_eq!(text.parse::<Quantity>().unwrap_err(), ParseError::Suffix, "{text:?}");
    }
}

proptest! {
    #[test]
    fn never_panics(text in "[-+]?[0-9.]{0,60}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,12}") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            let _ = (quantity.value(), quantity.millis(), quantity.to_string(), quantity.plus(quantity), quantity.minus(quantity));
        }
    }

    #[test]
    fn any_text(text in any::<String>()) {
        let _ = text.parse::<Quantity>();
    }

    #[test]
    fn round_trip(nanos in any::<i128>(), format in 0..3) {
        let format = [Format::DecimalSi, Format::DecimalExponent, Format::BinarySi][format as usize];
        // What a power of two may stand for ends at 2⁶³.
        let nanos = if format == Format::BinarySi { nanos % (i128::from(i64::MAX) * NANOS) } else { nanos };
        let quantity = Quantity { nanos, format };
        prop_assert_eq!(quantity.to_string().parse::<Quantity>().unwrap(), quantity);
    }

    #[test]
    fn whole_numbers_stay(value in any::<i64>()) {
        prop_assert_eq!(Quantity::from_units(value).value(), value);
        prop_assert_eq!(Quantity::from_bytes(value).to_string().parse::<Quantity>().unwrap().value(), value);
    }

    #[test]
    fn sums_are_exact(a in any::<i64>(), b in any::<i64>()) {
        let sum = Quantity::from_millis(a).plus(Quantity::from_millis(b));
        prop_assert_eq!(sum.minus(Quantity::from_millis(b)), Quantity::from_millis(a));
        prop_assert_eq!(sum > Quantity::from_millis(a), b > 0);
    }
}
