//! Text to numbers, as strict or as lenient as Redis is in each place.
//!
//! | text | function | used for |
//! |---|---|---|
//! | integer, canonical form only | [`parse_i64`] | nearly every integer argument, integer-encoded strings |
//! | unsigned, as C's `strtoull` | [`parse_u64`] | stream IDs, SCAN cursors |
//! | double | [`parse_f64`] | scores, coordinates, weights |
//! | double, one end of a range | [`parse_range_end`] | ZRANGEBYSCORE, ZCOUNT … (after an optional `(`) |
//! | long double | [`LongDouble::parse`] | INCRBYFLOAT, HINCRBYFLOAT, timeouts of blocking commands |
//!
//! The other way: [`double_text`], [`LongDouble::append_text`], [`append_i64`]. The rules were read off Redis 8.2.3; where Redis 7.0.15 and
//! Valkey 9.1.2 differ, the function says so.

pub use crate::dtoa::{DoubleText, double_text};
use crate::long_double::HexFloat;
pub use crate::long_double::LongDouble;

/// The longest integer is `-9223372036854775808`.
const LONGEST_INTEGER: usize = 20;

/// Reads an integer in the one form in which Redis prints it: no plus sign, no leading zero, no `-0`, no space.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || text.len() > LONGEST_INTEGER {
        return None;
    }
    if digits[0] == b'0' {
        return (text.len() == 1).then_some(0);
    }
    let mut magnitude = 0u64;
    // Up to 19 digits cannot overflow a u64; only a 20th has to be checked.
    let (head, last) = digits.split_at(digits.len().min(19));
    for &byte in head {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit);
    }
    if !last.is_empty() {
        // More than 19 digits do not fit an i64.
        return None;
    }
    if negative {
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// Reads an unsigned integer as Redis reads stream IDs and cursors. A canonical integer that is negative is refused; any other text is
/// read as C's `strtoull` does: after white space, with a sign (a minus negates modulo 2^64) and leading zeros; bytes after a NUL are ignored.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    if let Some(n) = parse_i64(text) {
        return u64::try_from(n).ok();
    }
    let text = until_nul(text);
    let start = text
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'))?;
    let (negative, digits) = match &text[start..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let mut n = 0u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        n = n.checked_mul(10)?.checked_add(digit.into())?;
    }
    Some(if negative { n.wrapping_neg() } else { n })
}

/// Reads a double where Redis says "value is not a valid float" otherwise: decimal or hexadecimal (Valkey 9.1.2 refuses the latter), or
/// `inf`/`infinity` in any case; refuses NaN, white space, an overflow, and an underflow to zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    // Most scores are small integers.
    if text.len() <= 15
        && let Some(n) = parse_i64(text)
    {
        return Some(n as f64);
    }
    let (negative, unsigned) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    if let [b'0', b'x' | b'X', hex @ ..] = unsigned {
        let value = hex_to_f64(&HexFloat::parse(hex)?)?;
        return Some(if negative { -value } else { value });
    }
    let value = parse_decimal(text)?;
    let out_of_range = if value.is_infinite() {
        unsigned[0].is_ascii_digit() || unsigned[0] == b'.'
    } else {
        value == 0.0
            && unsigned
                .iter()
                .take_while(|byte| !matches!(byte, b'e' | b'E'))
                .any(|byte| matches!(byte, b'1'..=b'9'))
    };
    (!out_of_range).then_some(value)
}

/// Reads one end of a range of scores where Redis says "min or max is not a float" otherwise. More lenient than [`parse_f64`]: an empty
/// text is zero, what is too large is infinite and what is too small is zero; bytes after a NUL are ignored. But no hexadecimal.
/// (Redis 7.0.15 also takes hexadecimal and leading white space.)
pub fn parse_range_end(text: &[u8]) -> Option<f64> {
    match until_nul(text) {
        [] => Some(0.0),
        text => parse_decimal(text),
    }
}

/// Rust reads the same decimal texts as C, and rounds right; only NaN has to be refused.
fn parse_decimal(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!value.is_nan()).then_some(value)
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Rounds to nearest, ties to even; None if that overflows, or makes zero of something else.
fn hex_to_f64(hex: &HexFloat) -> Option<f64> {
    const FRACTION_BITS: i32 = 52;
    if hex.significand == 0 {
        return Some(0.0);
    }
    let shift = hex.significand.leading_zeros();
    let significand = hex.significand << shift;
    // The exponent of the top bit, and how many bits a double has at that size: fewer below its normal range.
    let top = hex.exponent + 127 - shift as i32;
    let subnormal = (-1022 - top).max(0);
    let precision = FRACTION_BITS + 1 - subnormal;
    if top > 1023 || precision < 0 {
        return None;
    }
    let cut = 128 - precision as u32;
    let (kept, rest) = if cut == 128 {
        (0, significand)
    } else {
        (significand >> cut, significand << (128 - cut))
    };
    const HALF: u128 = 1 << 127;
    let up = rest > HALF || (rest == HALF && (hex.sticky || kept % 2 == 1));
    let kept = kept as u64 + u64::from(up);
    // A carry out of the fraction goes on into the exponent, also from subnormal to normal and from the largest to infinity.
    let bits = if subnormal > 0 {
        kept
    } else {
        kept + (((top + 1022) as u64) << FRACTION_BITS)
    };
    let value = f64::from_bits(bits);
    (value != 0.0 && value.is_finite()).then_some(value)
}

/// Appends the decimal text of `n`.
#[inline]
pub fn append_i64(out: &mut Vec<u8>, n: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// INCRBY of all three servers.
    #[test]
    fn integers() {
        for (text, value) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("18446744073709551616", None),
            ("99999999999999999999", None),
            ("-99999999999999999999", None),
            ("+1", None),
            ("-0", None),
            ("01", None),
            ("-01", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("-", None),
            ("1.0", None),
            ("0x1", None),
            ("1\0", None),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), value, "{text:?}");
        }
    }

    /// SCAN and XADD of Redis 8.2.3 and Valkey 9.1.2.
    #[test]
    fn unsigned_integers() {
        for (text, value) in [
            ("0", Some(0)),
            ("+0", Some(0)),
            ("00", Some(0)),
            (" 0", Some(0)),
            ("\t0", Some(0)),
            (" -0", Some(0)),
            ("007", Some(7)),
            (" +7", Some(7)),
            ("0\u{0}1", Some(0)),
            ("\u{0}0", None),
            ("-01", Some(u64::MAX)),
            ("-1", None),
            ("- 1", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("-18446744073709551615", Some(1)),
            ("18446744073709551616", None),
            ("-18446744073709551616", None),
            ("", None),
            (" ", None),
            ("+", None),
            ("0x0", None),
            ("1a", None),
        ] {
            assert_eq!(parse_u64(text.as_bytes()), value, "{text:?}");
        }
    }

    /// ZADD of Redis 8.2.3.
    #[test]
    fn doubles() {
        for (text, value) in [
            ("1", 1.0),
            ("+1", 1.0),
            ("01", 1.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("-.5", -0.5),
            ("1e5", 1e5),
            ("1E+5", 1e5),
            ("0x10", 16.0),
            ("0X1P3", 8.0),
            ("0x1.8p1", 3.0),
            ("-0x10", -16.0),
            ("0x1p-1074", 5e-324),
            ("0x1.8p-1075", 5e-324),
            ("0x1.fffffffffffff7p1023", f64::MAX),
            ("0x1.00000000000008p0", 1.0),
            (
                "0x1.000000000000080000000000000000000000001p0",
                1.0000000000000002,
            ),
            ("0x0.fffffffffffff8p-1022", f64::MIN_POSITIVE),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e308", 1e308),
            ("5e-324", 5e-324),
            ("0e400", 0.0),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text:?}");
        }
        for bad in [
            "",
            " 1",
            "1 ",
            "\n1",
            ".",
            "1e",
            "1e+",
            "0x",
            "0x1p",
            "nan",
            "-NAN",
            "nan(1)",
            "1e309",
            "-1e309",
            "1e-400",
            "2e-324",
            "0x1p-1080",
            "0x1p1024",
            "0x1.fffffffffffff8p1023",
            "1\0",
            "1_0",
            "1,5",
            "-",
            "+",
            "--1",
            "infinit",
            "\u{661}",
        ] {
            assert_eq!(parse_f64(bad.as_bytes()), None, "{bad:?}");
        }
    }

    /// ZCOUNT of Redis 8.2.3 and Valkey 9.1.2.
    #[test]
    fn range_ends() {
        for (text, value) in [
            ("", Some(0.0)),
            ("1\u{0}2", Some(1.0)),
            ("+1", Some(1.0)),
            ("+inf", Some(f64::INFINITY)),
            ("1e400", Some(f64::INFINITY)),
            ("-1e400", Some(f64::NEG_INFINITY)),
            ("1e-400", Some(0.0)),
            ("5.", Some(5.0)),
            (".", None),
            ("1e", None),
            ("nan", None),
            (" 1", None),
            ("1 ", None),
            ("0x10", None),
            ("(1", None),
        ] {
            assert_eq!(parse_range_end(text.as_bytes()), value, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn integers_read_back(n: i64) {
            let mut text = Vec::new();
            append_i64(&mut text, n);
            prop_assert_eq!(parse_i64(&text), Some(n));
            prop_assert_eq!(parse_u64(&text), u64::try_from(n).ok());
        }

        #[test]
        fn only_the_canonical_form_is_an_integer(text in "-?[0-9]{1,21}|.{0,22}") {
            let expected = text.parse::<i64>().ok().filter(|n| n.to_string() == text);
            prop_assert_eq!(parse_i64(text.as_bytes()), expected);
        }

        #[test]
        fn hexadecimal_reads_back(bits in 0u64..0x7ff0_0000_0000_0000) {
            let (exponent, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
            let text = if exponent == 0 {
                format!("0x{fraction:x}p-1074")
            } else {
                format!("0x{:x}p{}", fraction | 1 << 52, exponent - 1075)
            };
            prop_assert_eq!(parse_f64(text.as_bytes()).map(f64::to_bits), Some(bits));
        }
    }
}
