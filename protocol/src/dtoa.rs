//! Doubles as text, byte for byte as Redis 7.2 and later and Valkey print scores.
//!
//! The digits come from Grisu2 (Florian Loitsch, "Printing Floating-Point Numbers Quickly and Accurately with Integers", 2010). It always
//! reads back as the same double, but in about one case of a thousand it is not the shortest or not the closest text that does; since
//! replies are compared byte for byte, a better algorithm (Ryu and its heirs) would be wrong here. For the same reason the choice of the
//! cached power, the rounding of products and the final adjustment of the last digit follow the variant that Redis uses.
//!
//! Layout of the text: integers up to 2^62 in full; else plain digits if that takes at most six more zeros than digits; else with a
//! point if the value has at least that form's exponent; else `d.ddde+x`. Redis before 7.2 printed `%.17g` instead.

/// The longest text is a sign, 17 digits, a point and an exponent, or `0.000001234…`; or an i64.
const LONGEST: usize = 32;

/// A double's text. Made by [`double_text`].
pub struct DoubleText {
    bytes: [u8; LONGEST],
    len: usize,
}

impl DoubleText {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub fn as_str(&self) -> &str {
        // Only ASCII is ever pushed.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_zeros(&mut self, count: usize) {
        self.bytes[self.len..self.len + count].fill(b'0');
        self.len += count;
    }
}

/// The text of `value` as ZSCORE shows it. RESP2 and RESP3 show the same.
pub fn double_text(value: f64) -> DoubleText {
    let mut text = DoubleText {
        bytes: [0; LONGEST],
        len: 0,
    };
    if value.is_nan() {
        text.push(b"nan");
        return text;
    }
    const EXACT: f64 = (1i64 << 62) as f64;
    // Not by `trunc`, which is a call of the C library.
    let whole = value as i64 as f64 == value;
    if value.abs() <= EXACT && whole && (value != 0.0 || value.is_sign_positive()) {
        text.push(itoa::Buffer::new().format(value as i64).as_bytes());
        return text;
    }
    if value.is_sign_negative() {
        text.push(b"-");
    }
    let value = value.abs();
    if value.is_infinite() {
        text.push(b"inf");
    } else if value == 0.0 {
        text.push(b"0");
    } else {
        let mut digits = [0; 18];
        let (count, exponent) = grisu2(value, &mut digits);
        layout(&mut text, &digits[..count], exponent);
    }
    text
}

/// Writes `digits` x 10^`exponent`.
fn layout(text: &mut DoubleText, digits: &[u8], exponent: i32) {
    let count = digits.len() as i32;
    // The exponent of the first digit.
    let first = exponent + count - 1;
    if exponent >= 0 && first < count + 7 {
        text.push(digits);
        text.push_zeros(exponent as usize);
    } else if exponent < 0 && (exponent > -7 || first.abs() < 4) {
        let whole = count + exponent;
        if whole <= 0 {
            text.push(b"0.");
            text.push_zeros(whole.unsigned_abs() as usize);
            text.push(digits);
        } else {
            let (whole, fraction) = digits.split_at(whole as usize);
            text.push(whole);
            text.push(b".");
            text.push(fraction);
        }
    } else {
        text.push(&digits[..1]);
        if count > 1 {
            text.push(b".");
            text.push(&digits[1..]);
        }
        text.push(if first < 0 { b"e-" } else { b"e+" });
        text.push(itoa::Buffer::new().format(first.unsigned_abs()).as_bytes());
    }
}

/// A number `fraction` x 2^`exponent`.
#[derive(Clone, Copy)]
struct Scaled {
    fraction: u64,
    exponent: i32,
}

impl Scaled {
    /// With the highest bit of the fraction set.
    fn normalized(self) -> Self {
        let shift = self.fraction.leading_zeros();
        Self {
            fraction: self.fraction << shift,
            exponent: self.exponent - shift as i32,
        }
    }

    /// The product, rounded half up to 64 bits.
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.fraction) * u128::from(other.fraction);
        Self {
            fraction: ((product + (1 << 63)) >> 64) as u64,
            exponent: self.exponent + other.exponent + 64,
        }
    }
}

/// The digits of `value`, which is positive and finite, and the exponent of the last of them.
fn grisu2(value: f64, digits: &mut [u8; 18]) -> (usize, i32) {
    const FRACTION_BITS: u32 = 52;
    const HIDDEN: u64 = 1 << FRACTION_BITS;
    let bits = value.to_bits();
    let biased = (bits >> FRACTION_BITS) as i32;
    let exact = if biased == 0 {
        Scaled {
            fraction: bits,
            exponent: 1 - 1075,
        }
    } else {
        Scaled {
            fraction: (bits & (HIDDEN - 1)) | HIDDEN,
            exponent: biased - 1075,
        }
    };
    // Whatever lies strictly between the middles to the two neighbours reads back as `value`. Below a power of two the
    // neighbour is half as far away.
    let upper = Scaled {
        fraction: (exact.fraction << 1) + 1,
        exponent: exact.exponent - 1,
    }
    .normalized();
    let down = if exact.fraction == HIDDEN { 2 } else { 1 };
    let lower_exponent = exact.exponent - down;
    let lower = Scaled {
        fraction: ((exact.fraction << down) - 1) << (lower_exponent - upper.exponent),
        exponent: upper.exponent,
    };
    let (power, decimal) = cached_power(upper.exponent);
    let exact = exact.normalized().times(power);
    // The products are off by at most one unit, so the interval shrinks by one unit on both sides.
    let upper_fraction = upper.times(power).fraction - 1;
    let lower_fraction = lower.times(power).fraction + 1;
    let (count, exponent) = generate(
        Interval {
            high: upper_fraction,
            width: upper_fraction - lower_fraction,
            // How far the value itself lies below the upper end.
            value: upper_fraction - exact.fraction,
            shift: (-exact.exponent) as u32,
        },
        digits,
    );
    (count, exponent - decimal)
}

struct Interval {
    high: u64,
    width: u64,
    value: u64,
    /// All of them are multiples of 2^-shift.
    shift: u32,
}

/// Produces digits of the upper end until what remains of it lies inside the interval, then moves the last digit towards the value.
fn generate(mut interval: Interval, digits: &mut [u8; 18]) -> (usize, i32) {
    let one = 1u64 << interval.shift;
    let mut whole = interval.high >> interval.shift;
    let mut fraction = interval.high & (one - 1);
    let mut count = 0;
    let mut push = |digit: u64, count: &mut usize| {
        // Leading zeros are not digits.
        if digit != 0 || *count != 0 {
            digits[*count] = b'0' + digit as u8;
            *count += 1;
        }
    };
    let mut unit = 1_000_000_000u64;
    for exponent in (0..10).rev() {
        push(whole / unit, &mut count);
        whole %= unit;
        let rest = (whole << interval.shift) + fraction;
        if rest <= interval.width {
            nudge(
                &mut digits[count - 1],
                &interval,
                rest,
                unit << interval.shift,
            );
            return (count, exponent);
        }
        unit /= 10;
    }
    let mut exponent = 0;
    loop {
        fraction *= 10;
        interval.width *= 10;
        interval.value = interval.value.wrapping_mul(10);
        exponent -= 1;
        push(fraction >> interval.shift, &mut count);
        fraction &= one - 1;
        if fraction < interval.width {
            nudge(&mut digits[count - 1], &interval, fraction, one);
            return (count, exponent);
        }
    }
}

/// Lowers the last digit while that brings the text, which lies `rest` below the upper end, closer to the value and keeps it
/// inside the interval.
fn nudge(digit: &mut u8, interval: &Interval, mut rest: u64, unit: u64) {
    while rest < interval.value
        && interval.width - rest >= unit
        && (rest + unit < interval.value || interval.value - rest > rest + unit - interval.value)
    {
        *digit -= 1;
        rest += unit;
    }
}

/// A power of ten 10^`.1` which brings a number with this binary exponent into the range where [`generate`] works: the product's
/// exponent lies between -60 and -32.
fn cached_power(exponent: i32) -> (Scaled, i32) {
    const LOG10_OF_2: f64 = 0.30102999566398114;
    let estimate = (f64::from(-(exponent + POWERS.len() as i32)) * LOG10_OF_2) as i32;
    let mut index = (estimate - FIRST_POWER) / POWER_STEP;
    loop {
        let (fraction, binary) = POWERS[index as usize];
        let product = exponent + binary + 64;
        if product < -60 {
            index += 1;
        } else if product > -32 {
            index -= 1;
        } else {
            let power = Scaled {
                fraction,
                exponent: binary,
            };
            return (power, FIRST_POWER + index * POWER_STEP);
        }
    }
}

const FIRST_POWER: i32 = -348;
const POWER_STEP: i32 = 8;

/// 10^-348, 10^-340 … 10^340, rounded to 64 bits: fraction and binary exponent. Checked by a test against exact arithmetic.
#[rustfmt::skip]
static POWERS: [(u64, i32); 87] = [
    (0xfa8fd5a0081c0288, -1220),
    (0xbaaee17fa23ebf76, -1193),
    (0x8b16fb203055ac76, -1166),
    (0xcf42894a5dce35ea, -1140),
    (0x9a6bb0aa55653b2d, -1113),
    (0xe61acf033d1a45df, -1087),
    (0xab70fe17c79ac6ca, -1060),
    (0xff77b1fcbebcdc4f, -1034),
    (0xbe5691ef416bd60c, -1007),
    (0x8dd01fad907ffc3c, -980),
    (0xd3515c2831559a83, -954),
    (0x9d71ac8fada6c9b5, -927),
    (0xea9c227723ee8bcb, -901),
    (0xaecc49914078536d, -874),
    (0x823c12795db6ce57, -847),
    (0xc21094364dfb5637, -821),
    (0x9096ea6f3848984f, -794),
    (0xd77485cb25823ac7, -768),
    (0xa086cfcd97bf97f4, -741),
    (0xef340a98172aace5, -715),
    (0xb23867fb2a35b28e, -688),
    (0x84c8d4dfd2c63f3b, -661),
    (0xc5dd44271ad3cdba, -635),
    (0x936b9fcebb25c996, -608),
    (0xdbac6c247d62a584, -582),
    (0xa3ab66580d5fdaf6, -555),
    (0xf3e2f893dec3f126, -529),
    (0xb5b5ada8aaff80b8, -502),
    (0x87625f056c7c4a8b, -475),
    (0xc9bcff6034c13053, -449),
    (0x964e858c91ba2655, -422),
    (0xdff9772470297ebd, -396),
    (0xa6dfbd9fb8e5b88f, -369),
    (0xf8a95fcf88747d94, -343),
    (0xb94470938fa89bcf, -316),
    (0x8a08f0f8bf0f156b, -289),
    (0xcdb02555653131b6, -263),
    (0x993fe2c6d07b7fac, -236),
    (0xe45c10c42a2b3b06, -210),
    (0xaa242499697392d3, -183),
    (0xfd87b5f28300ca0e, -157),
    (0xbce5086492111aeb, -130),
    (0x8cbccc096f5088cc, -103),
    (0xd1b71758e219652c, -77),
    (0x9c40000000000000, -50),
    (0xe8d4a51000000000, -24),
    (0xad78ebc5ac620000, 3),
    (0x813f3978f8940984, 30),
    (0xc097ce7bc90715b3, 56),
    (0x8f7e32ce7bea5c70, 83),
    (0xd5d238a4abe98068, 109),
    (0x9f4f2726179a2245, 136),
    (0xed63a231d4c4fb27, 162),
    (0xb0de65388cc8ada8, 189),
    (0x83c7088e1aab65db, 216),
    (0xc45d1df942711d9a, 242),
    (0x924d692ca61be758, 269),
    (0xda01ee641a708dea, 295),
    (0xa26da3999aef774a, 322),
    (0xf209787bb47d6b85, 348),
    (0xb454e4a179dd1877, 375),
    (0x865b86925b9bc5c2, 402),
    (0xc83553c5c8965d3d, 428),
    (0x952ab45cfa97a0b3, 455),
    (0xde469fbd99a05fe3, 481),
    (0xa59bc234db398c25, 508),
    (0xf6c69a72a3989f5c, 534),
    (0xb7dcbf5354e9bece, 561),
    (0x88fcf317f22241e2, 588),
    (0xcc20ce9bd35c78a5, 614),
    (0x98165af37b2153df, 641),
    (0xe2a0b5dc971f303a, 667),
    (0xa8d9d1535ce3b396, 694),
    (0xfb9b7cd9a4a7443c, 720),
    (0xbb764c4ca7a44410, 747),
    (0x8bab8eefb6409c1a, 774),
    (0xd01fef10a657842c, 800),
    (0x9b10a4e5e9913129, 827),
    (0xe7109bfba19c0c9d, 853),
    (0xac2820d9623bf429, 880),
    (0x80444b5e7aa7cf85, 907),
    (0xbf21e44003acdd2d, 933),
    (0x8e679c2f5e44ff8f, 960),
    (0xd433179d9c8cb841, 986),
    (0x9e19db92b4e31ba9, 1013),
    (0xeb96bf6ebadf77d9, 1039),
    (0xaf87023b9bf0ee6b, 1066),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Replies of ZSCORE, Redis 8.2.3 and Valkey 9.1.2.
    #[test]
    fn text_as_redis_answers() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (0.1, "0.1"),
            (1e17, "100000000000000000"),
            (4611686018427387904.0, "4611686018427387904"),
            (9223372036854775808.0, "9223372036854776000"),
            (-9223372036854775808.0, "-9223372036854776000"),
            (1e19, "1e+19"),
            (18446744073709551616.0, "18446744073709552000"),
            (1e23, "99999999999999990000000"),
            (1.1e20, "1.1e+20"),
            (1e-4, "0.0001"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-5, "0.000015"),
            (1.23456e-7, "1.23456e-7"),
            (0.00012345678901234567, "1.2345678901234567e-4"),
            (1.0 / 3.0, "0.3333333333333333"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(double_text(value).as_str(), text);
        }
    }

    #[test]
    fn powers_are_rounded_exactly() {
        use num_bigint::BigUint;
        for (row, &(fraction, exponent)) in POWERS.iter().enumerate() {
            let decimal = FIRST_POWER + row as i32 * POWER_STEP;
            // 2 x fraction - 1 <= 2 x 10^decimal / 2^exponent <= 2 x fraction + 1, without fractions.
            let ten = BigUint::from(10u8).pow(decimal.unsigned_abs());
            let two = BigUint::from(1u8) << exponent.unsigned_abs();
            let mut exact = BigUint::from(2u8);
            let mut unit = BigUint::from(1u8);
            if decimal >= 0 {
                exact *= &ten
            } else {
                unit *= &ten
            }
            if exponent >= 0 {
                unit *= &two
            } else {
                exact *= &two
            }
            let double = BigUint::from(fraction) * 2u8;
            assert!(
                (&double - 1u8) * &unit <= exact && exact <= (&double + 1u8) * &unit,
                "10^{decimal}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn text_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = double_text(value);
            prop_assert_eq!(text.as_str().parse::<f64>().unwrap().to_bits(), bits, "{}", text.as_str());
        }
    }
}
