//! The x87 80-bit `long double`, as far as Redis uses it: INCRBYFLOAT and HINCRBYFLOAT read, add and print in this type, and timeouts
//! of blocking commands are read in it. A replica or a client compares the results byte for byte, so the 64-bit significand matters:
//! `0.1 + 0.2` is `0.3` here and would be `0.30000000000000004` in doubles.
//!
//! Idea: a value is a sign, a 64-bit significand with its top bit set, and a binary exponent. Every operation makes an exact result in
//! 128 bits plus a "sticky" bit (something non-zero was cut off below) and rounds once, to nearest, ties to even. Exponents are not
//! limited downwards: what the real type rounds to a subnormal prints as zero either way. Text of more than 19 digits or with large
//! exponents goes through big integers; its size is limited, so the time is too.

use num_bigint::BigUint;

/// Redis reads at most this many bytes (less one) as a long double.
const TEXT_LIMIT: usize = 5 * 1024;
/// Finite values are below 2^16384; half of the smallest subnormal is 2^-16446.
const TOP: i32 = 16384;
const BOTTOM: i32 = -16446;
/// The `exponent` of infinity.
const INFINITE: i32 = i32::MAX;

/// A long double that is not NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    /// Zero, or with the top bit set.
    significand: u64,
    exponent: i32,
}

impl LongDouble {
    pub const ZERO: Self = Self {
        negative: false,
        significand: 0,
        exponent: 0,
    };

    const fn infinity(negative: bool) -> Self {
        Self {
            negative,
            significand: 1 << 63,
            exponent: INFINITE,
        }
    }

    pub fn from_i64(n: i64) -> Self {
        let mut value = round(n.unsigned_abs().into(), 0, false);
        value.negative = n < 0;
        value
    }

    pub fn is_infinite(self) -> bool {
        self.exponent == INFINITE
    }

    /// Reads what Redis accepts where it wants a long double: C's decimal and hexadecimal floats and `inf`/`infinity` in any case; no
    /// NaN, no white space, nothing after the number, no overflow, no underflow to zero, fewer than 5120 bytes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_LIMIT {
            return None;
        }
        let (negative, unsigned) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, text),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Some(Self::infinity(negative));
        }
        let mut value = match unsigned {
            [b'0', b'x' | b'X', hex @ ..] => {
                let hex = HexFloat::parse(hex)?;
                round(hex.significand, hex.exponent, hex.sticky)
            }
            _ => parse_decimal(unsigned)?,
        };
        let underflow = value.significand != 0
            && (value.exponent < BOTTOM - 63
                || (value.exponent == BOTTOM - 63 && value.significand == 1 << 63));
        if value.is_infinite() || underflow {
            return None;
        }
        value.negative = negative;
        Some(value)
    }

    /// The sum. Infinite if an operand is or if it is too large; None for what would be NaN.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        match (self.is_infinite(), other.is_infinite()) {
            (true, true) if self.negative != other.negative => return None,
            (true, _) => return Some(self),
            (_, true) => return Some(other),
            _ => {}
        }
        if self.significand == 0 {
            return Some(other);
        }
        if other.significand == 0 {
            return Some(self);
        }
        let (large, small) = if self.exponent >= other.exponent {
            (self, other)
        } else {
            (other, self)
        };
        let distance = large.exponent.abs_diff(small.exponent);
        // One bit above for the carry, 63 below. From two places of distance on, a difference loses at most one leading bit, so the bits
        // below are enough to round right.
        let a = u128::from(large.significand) << 63;
        let b = u128::from(small.significand) << 63;
        let (b, sticky) = if distance >= 127 {
            (0, true)
        } else {
            (b >> distance, b.trailing_zeros() < distance)
        };
        let exponent = large.exponent - 63;
        if large.negative == small.negative {
            let mut sum = round(a + b, exponent, sticky);
            sum.negative = large.negative;
            return Some(sum);
        }
        // What was cut off belongs to the subtrahend: take one unit more and say that a part of it is too much.
        let b = b + u128::from(sticky);
        let mut difference = if a >= b {
            round(a - b, exponent, sticky)
        } else {
            round(b - a, exponent, false)
        };
        difference.negative = if a >= b {
            large.negative
        } else {
            small.negative
        } && difference.significand != 0;
        Some(difference)
    }

    /// A number of seconds as whole milliseconds, rounded up; None if they do not fit an i64. The product is rounded as the type does.
    pub fn ceil_milliseconds(self) -> Option<i64> {
        if self.is_infinite() {
            return self.negative.then_some(i64::MIN);
        }
        if self.significand == 0 {
            return Some(0);
        }
        let product = round(u128::from(self.significand) * 1000, self.exponent, false);
        let magnitude = match product.exponent {
            1.. => u128::MAX,
            0 => u128::from(product.significand),
            shift => {
                let shift = shift.unsigned_abs();
                let whole = product.significand.checked_shr(shift).unwrap_or(0);
                let cut_off = product.significand.trailing_zeros() < shift;
                // Up is towards zero for a negative number.
                u128::from(whole) + u128::from(cut_off && !self.negative)
            }
        };
        if self.negative {
            Some(i64::try_from(magnitude).map_or(i64::MIN, |n| -n))
        } else {
            i64::try_from(magnitude).ok()
        }
    }

    /// Appends the text that INCRBYFLOAT stores and returns: at most 17 decimals (`%.17Lf`) without trailing zeros, never an exponent.
    pub fn append_text(self, out: &mut Vec<u8>) {
        let start = out.len();
        if self.negative {
            out.push(b'-');
        }
        if self.is_infinite() {
            out.extend_from_slice(b"inf");
            return;
        }
        let (whole, decimals) = self.split_at_point();
        match whole {
            Whole::Small(n) => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
            Whole::Large(n) => out.extend_from_slice(n.to_string().as_bytes()),
        }
        if decimals != 0 {
            let mut digits = [b'0'; 17];
            let mut rest = decimals;
            for digit in digits.iter_mut().rev() {
                *digit += (rest % 10) as u8;
                rest /= 10;
            }
            let kept = digits
                .iter()
                .rposition(|&digit| digit != b'0')
                .map_or(0, |last| last + 1);
            out.push(b'.');
            out.extend_from_slice(&digits[..kept]);
        } else if &out[start..] == b"-0" {
            out.remove(start);
        }
    }

    /// The integral part and the first 17 decimals, rounded to nearest, ties to even.
    fn split_at_point(self) -> (Whole, u64) {
        const DECIMALS: u64 = 100_000_000_000_000_000;
        if self.exponent >= 0 {
            return if self.exponent <= 64 {
                (
                    Whole::Small(u128::from(self.significand) << self.exponent),
                    0,
                )
            } else {
                (
                    Whole::Large(BigUint::from(self.significand) << self.exponent),
                    0,
                )
            };
        }
        let shift = self.exponent.unsigned_abs();
        let whole = self.significand.checked_shr(shift).unwrap_or(0);
        let fraction = if shift >= 64 {
            self.significand
        } else {
            self.significand & ((1 << shift) - 1)
        };
        // Below 2^121, so from 2^-123 on the result is less than half of the last decimal.
        let scaled = u128::from(fraction) * u128::from(DECIMALS);
        if shift >= 123 {
            return (Whole::Small(whole.into()), 0);
        }
        let (mut decimals, rest, half) = (
            (scaled >> shift) as u64,
            scaled & ((1 << shift) - 1),
            1u128 << (shift - 1),
        );
        if rest > half || (rest == half && decimals % 2 == 1) {
            decimals += 1;
        }
        if decimals == DECIMALS {
            (Whole::Small(u128::from(whole) + 1), 0)
        } else {
            (Whole::Small(whole.into()), decimals)
        }
    }
}

enum Whole {
    Small(u128),
    Large(BigUint),
}

/// `value` x 2^`exponent`, a little more if `sticky`, rounded to 64 bits, ties to even.
fn round(value: u128, exponent: i32, sticky: bool) -> LongDouble {
    if value == 0 {
        return LongDouble::ZERO;
    }
    let shift = value.leading_zeros();
    let value = value << shift;
    let rest = value as u64 | u64::from(sticky);
    let significand = (value >> 64) as u64;
    let mut exponent = exponent + 64 - shift as i32;
    const HALF: u64 = 1 << 63;
    let up = rest > HALF || (rest == HALF && significand % 2 == 1);
    let significand = match significand.checked_add(up.into()) {
        Some(significand) => significand,
        None => {
            exponent += 1;
            1 << 63
        }
    };
    if exponent + 64 > TOP {
        return LongDouble::infinity(false);
    }
    LongDouble {
        negative: false,
        significand,
        exponent,
    }
}

/// `digits [. digits] [e [sign] digits]`, with at least one digit before the exponent.
fn parse_decimal(text: &[u8]) -> Option<LongDouble> {
    let mut digits = Vec::new();
    let mut small = 0u64;
    let (mut seen, mut point, mut index) = (false, None, 0);
    while let Some(&byte) = text.get(index) {
        match byte {
            b'0'..=b'9' => {
                seen = true;
                // Leading zeros would only make the text look long.
                if byte != b'0' || !digits.is_empty() {
                    digits.push(byte);
                    small = small.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                }
            }
            b'.' if point.is_none() => point = Some(index + 1),
            _ => break,
        }
        index += 1;
    }
    if !seen {
        return None;
    }
    let fraction_digits = point.map_or(0, |point| index - point);
    let exponent = match text.get(index) {
        None => 0,
        Some(b'e' | b'E') => parse_exponent(&text[index + 1..])?,
        Some(_) => return None,
    };
    if digits.is_empty() {
        return Some(LongDouble::ZERO);
    }
    // Both terms are far from the limits of an i64.
    let exponent = exponent - fraction_digits as i64;
    if digits.len() <= 19 && exponent.abs() <= 27 {
        return Some(scale_small(small, exponent as i32));
    }
    // The number lies between 10^(magnitude - 1) and 10^magnitude. Outside these bounds it over- or underflows for certain.
    let magnitude = exponent + digits.len() as i64;
    if magnitude > 4940 {
        return Some(LongDouble::infinity(false));
    }
    if magnitude < -4960 {
        return None;
    }
    let digits = BigUint::parse_bytes(&digits, 10)?;
    let ten = BigUint::from(10u8).pow(exponent.unsigned_abs() as u32);
    Some(if exponent >= 0 {
        quotient(digits * ten, BigUint::from(1u8))
    } else {
        quotient(digits, ten)
    })
}

/// `digits` x 10^`exponent` where the power of five fits 63 bits.
fn scale_small(digits: u64, exponent: i32) -> LongDouble {
    let five = 5u64.pow(exponent.unsigned_abs());
    if exponent >= 0 {
        return round(u128::from(digits) * u128::from(five), exponent, false);
    }
    // Dividend of 128 bits, divisor of at most 63: the quotient has at least 65.
    let shift = digits.leading_zeros() + 64;
    let (dividend, divisor) = (u128::from(digits) << shift, u128::from(five));
    round(
        dividend / divisor,
        exponent - shift as i32,
        dividend % divisor != 0,
    )
}

fn quotient(dividend: BigUint, divisor: BigUint) -> LongDouble {
    let shift = (divisor.bits() + 66).saturating_sub(dividend.bits());
    let dividend = dividend << shift;
    let whole = &dividend / &divisor;
    let rest = dividend - &whole * &divisor;
    let surplus = whole.bits().saturating_sub(128);
    let sticky = rest.bits() != 0 || whole.trailing_zeros().is_some_and(|zeros| zeros < surplus);
    // The shift leaves at most 128 bits.
    let top = u128::try_from(whole >> surplus).unwrap_or(u128::MAX);
    round(top, surplus as i32 - shift as i32, sticky)
}

/// `[sign] digits`, limited to a range that no text length can bring back into a float's range.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut exponent = 0i64;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        exponent = (exponent * 10 + i64::from(byte - b'0')).min(1 << 40);
    }
    Some(if negative { -exponent } else { exponent })
}

/// The part of a hexadecimal float after `0x`: `significand` x 2^`exponent`, a little more if `sticky`.
pub(crate) struct HexFloat {
    pub significand: u128,
    pub exponent: i32,
    pub sticky: bool,
}

impl HexFloat {
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (mut significand, mut exponent, mut sticky) = (0u128, 0i64, false);
        let (mut seen, mut point) = (false, false);
        let mut index = 0;
        while let Some(&byte) = text.get(index) {
            index += 1;
            match char::from(byte).to_digit(16) {
                Some(digit) => {
                    seen = true;
                    if significand >> 124 == 0 {
                        significand = significand << 4 | u128::from(digit);
                        exponent -= if point { 4 } else { 0 };
                    } else {
                        sticky |= digit != 0;
                        exponent += if point { 0 } else { 4 };
                    }
                }
                None if byte == b'.' && !point => point = true,
                None if matches!(byte, b'p' | b'P') && seen => {
                    exponent += parse_exponent(&text[index..])?;
                    break;
                }
                None => return None,
            }
        }
        // Far beyond every float's range, and safe to add to.
        let exponent = exponent.clamp(-(1 << 24), 1 << 24) as i32;
        seen.then_some(Self {
            significand,
            exponent,
            sticky,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: LongDouble) -> String {
        let mut out = Vec::new();
        value.append_text(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn sum(a: &str, b: &str) -> String {
        let value = LongDouble::parse(a.as_bytes()).unwrap();
        text(
            value
                .checked_add(LongDouble::parse(b.as_bytes()).unwrap())
                .unwrap(),
        )
    }

    /// INCRBYFLOAT of Redis 8.2.3. Seeded random cases; 100,000 more were compared when this was written.
    #[test]
    fn sums_as_redis_answers() {
        for (a, b, text) in [
            ("0.1", "0.2", "0.3"),
            ("3.0e3", "5", "3005"),
            (
                "28846057848356927629087",
                "7715145357",
                "28846057848364642775040",
            ),
            ("-79621500.21922019", "682876e13", "6828759999920378500"),
            ("-83.0000000000009579", "-0x4dp20", "-80740435"),
            (
                "6.712158196025640e-3850",
                "1563553836909e13",
                "15635538369090000000122880",
            ),
            ("-1e-17", "-8138978875678137", "-8138978875678137"),
            ("0.107", "0x1b998d600f2f1p-102", "0.1070000000000001"),
            (
                "0.88181069448236",
                "861011641503553",
                "861011641503553.8818359375",
            ),
            ("2.5e-17", "0x3d7p16", "64421888"),
            (
                "0x4a7a00be28a3e25c89p-44",
                "0x7dd372aec17p30",
                "9284317767395569016832",
            ),
            ("0xae3f1d91485175p-43", "6121", "11696.88943726061427242"),
            (
                "381.00000900912",
                "-700421298589e22",
                "-7004212985889999999991652441653248",
            ),
            (
                "0x12b1079ad9p-112",
                "-985121807799240655719467",
                "-985121807799240655699968",
            ),
            ("-62370244", "0xe44c9p-25", "-62370243.97213146090507507"),
            ("-9007199254740993", "0.114", "-9007199254740992.8857421875"),
            ("-82.0000904", "-0.3985400", "-82.3986304"),
            ("0.3", "-847511046", "-847511045.70000000001164153"),
            (
                "6695.0000164662342573",
                "-04509143136",
                "-4509136440.99998353375121951",
            ),
            (
                "0.650650714977059334407580",
                "-0x245p-119",
                "0.65065071497705933",
            ),
            ("-0.8268077790318", "-1e-17", "-0.82680777903180001"),
            (
                "0.5993696",
                "-0.271587384845506555290595",
                "0.32778221515449344",
            ),
            (
                "-0.14551491541889122534",
                "9062722291824540",
                "9062722291824539.8544921875",
            ),
            (
                "-9.907401824959313e-05",
                "18446744073709551615",
                "18446744073709551615",
            ),
            ("-52.95953569323", "-0.2", "-53.15953569323"),
            ("96.38383892512841", "-1e8", "-99999903.61616107487498084"),
            (
                "-8.0244140625",
                "762.3644391721829035",
                "754.3400251096829035",
            ),
            (
                "-0xb64b835d946ab5p63",
                "-0.5",
                "-473264808412216358349244581552324608",
            ),
            ("-0x2a98465ep8", "-0.5", "-182943374848.5"),
            (
                "17179869184.009765625",
                "7660605808070645701",
                "7660605825250514885",
            ),
        ] {
            assert_eq!(sum(a, b), text, "{a} + {b}");
        }
    }

    #[test]
    fn refused_texts() {
        for bad in [
            "",
            " 1",
            "1 ",
            "\t1",
            ".",
            "1e",
            "1e+",
            "1e5.5",
            "-",
            "+",
            "--1",
            "+-1",
            "0x",
            "0x1p",
            "nan",
            "-nan",
            "nan(1)",
            "infinit",
            "1_0",
            "1,5",
            "1d",
            "1p3",
            "1\0",
            "1e5000",
            "-1e5000",
            "1e-5000",
            "1e1000000000000",
            "0x1p-16446",
            "0x1p16384",
            "1..2",
            "0x.p1",
        ] {
            assert_eq!(LongDouble::parse(bad.as_bytes()), None, "{bad:?}");
        }
        let long = |length: usize| [b"0.", "1".repeat(length - 2).as_bytes()].concat();
        assert!(LongDouble::parse(&long(5119)).is_some());
        assert_eq!(LongDouble::parse(&long(5120)), None);
    }

    #[test]
    fn infinity_is_read_and_told() {
        for (good, negative) in [("inf", false), ("-Infinity", true), ("+INF", false)] {
            let value = LongDouble::parse(good.as_bytes()).unwrap();
            assert!(value.is_infinite() && value.negative == negative);
        }
        let infinite = LongDouble::infinity(false);
        assert_eq!(infinite.checked_add(LongDouble::infinity(true)), None);
        assert!(
            infinite
                .checked_add(LongDouble::from_i64(-1))
                .unwrap()
                .is_infinite()
        );
        let largest = LongDouble::parse(b"1.18e4932").unwrap();
        assert!(largest.checked_add(largest).unwrap().is_infinite());
    }

    #[test]
    fn timeouts_round_up() {
        for (seconds, milliseconds) in [
            ("0", Some(0)),
            ("0.0001", Some(1)),
            ("1e-4000", Some(1)),
            ("-0.0001", Some(0)),
            ("-0.5", Some(-500)),
            ("1.5", Some(1500)),
            ("0.1", Some(100)),
            ("9223372036854775.807", Some(i64::MAX)),
            ("9223372036854775.808", None),
            ("1e20", None),
            ("inf", None),
            ("-inf", Some(i64::MIN)),
        ] {
            assert_eq!(
                LongDouble::parse(seconds.as_bytes())
                    .unwrap()
                    .ceil_milliseconds(),
                milliseconds,
                "{seconds}"
            );
        }
    }

    /// The same sum by exact integers: both numbers as multiples of the smaller exponent's unit.
    fn exact_sum(a: LongDouble, b: LongDouble) -> LongDouble {
        let unit = a.exponent.min(b.exponent);
        let wide = |v: LongDouble| {
            num_bigint::BigInt::from_biguint(
                if v.negative {
                    num_bigint::Sign::Minus
                } else {
                    num_bigint::Sign::Plus
                },
                BigUint::from(v.significand) << (v.exponent - unit) as usize,
            )
        };
        let (sign, magnitude) = (wide(a) + wide(b)).into_parts();
        let surplus = magnitude.bits().saturating_sub(128);
        let sticky = magnitude
            .trailing_zeros()
            .is_some_and(|zeros| zeros < surplus);
        let mut value = round(
            u128::try_from(magnitude >> surplus).unwrap(),
            unit + surplus as i32,
            sticky,
        );
        value.negative = sign == num_bigint::Sign::Minus;
        value
    }

    prop_compose! {
        /// Significands with long runs of equal bits, where rounding is hardest, and exponents close together.
        fn value()(negative: bool, bits: u64, mask in 0u32..64, fill: bool, exponent in -140i32..140) -> LongDouble {
            let low = (1u64 << mask) - 1;
            LongDouble { negative, significand: 1 << 63 | if fill { bits | low } else { bits & !low }, exponent }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn sums_are_exact_then_rounded(a in value(), b in value()) {
            prop_assert_eq!(a.checked_add(b).unwrap(), exact_sum(a, b));
        }

        #[test]
        fn short_and_long_way_agree(digits: u64, exponent in -27i32..=27) {
            let short = scale_small(digits.max(1), exponent);
            let big = BigUint::from(digits.max(1));
            let ten = BigUint::from(10u8).pow(exponent.unsigned_abs());
            let long = if exponent >= 0 { quotient(big * ten, BigUint::from(1u8)) } else { quotient(big, ten) };
            prop_assert_eq!(short, long);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+]?(0[xX])?[0-9a-fA-F.pPeE+-]{0,30}|.{0,10}") {
            if let Some(value) = LongDouble::parse(text.as_bytes()) {
                value.append_text(&mut Vec::new());
                value.ceil_milliseconds();
            }
        }
    }
}
