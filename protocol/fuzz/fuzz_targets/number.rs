//! No text makes a parser panic; what is printed is read back; sums do not depend on the order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood_protocol::number::{
    LongDouble, append_i64, double_text, parse_f64, parse_i64, parse_range_end, parse_u64,
};

fn text(value: LongDouble) -> Vec<u8> {
    let mut out = Vec::new();
    value.append_text(&mut out);
    out
}

fuzz_target!(|data: &[u8]| {
    let (first, second) = match data.iter().position(|&byte| byte == b' ') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &data[..0]),
    };

    let canonical = std::str::from_utf8(first)
        .ok()
        .and_then(|text| text.parse::<i64>().ok().filter(|n| n.to_string() == text));
    assert_eq!(parse_i64(first), canonical);
    if let Some(n) = canonical {
        let mut out = Vec::new();
        append_i64(&mut out, n);
        assert_eq!(out, first);
        assert_eq!(parse_f64(first), Some(n as f64));
        assert_eq!(LongDouble::parse(first), Some(LongDouble::from_i64(n)));
        assert_eq!(text(LongDouble::from_i64(n)), first);
        assert_eq!(parse_u64(first), u64::try_from(n).ok());
    }
    parse_u64(first);

    if let Some(value) = parse_f64(first) {
        assert_eq!(
            parse_f64(double_text(value).as_bytes()).map(f64::to_bits),
            Some(value.to_bits())
        );
        assert!(
            LongDouble::parse(first).is_some() || first.len() >= 5120,
            "a double is a long double too"
        );
    }
    if let Some(end) = parse_range_end(first) {
        assert!(!end.is_nan());
    }
    if let Ok(bits) = <[u8; 8]>::try_from(first) {
        let value = f64::from_bits(u64::from_le_bytes(bits));
        if !value.is_nan() {
            assert_eq!(
                parse_f64(double_text(value).as_bytes()).map(f64::to_bits),
                Some(value.to_bits())
            );
        }
    }

    let Some(a) = LongDouble::parse(first) else {
        return;
    };
    if !a.is_infinite() && text(a).len() < 5120 {
        assert_eq!(LongDouble::parse(&text(a)).map(text), Some(text(a)));
    }
    a.ceil_milliseconds();
    let Some(b) = LongDouble::parse(second) else {
        return;
    };
    let sum = a.checked_add(b).map(text);
    assert_eq!(sum, b.checked_add(a).map(text));
});
