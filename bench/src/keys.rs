//! Which key comes next: uniform or Zipf over a number of keys, and how a key is written.
//!
//! Idea: a key is a prefix and a zero-padded number of fixed width, so that a request's bytes can be made once and
//! only the digits be written anew. Zipf ranks are drawn by rejection-inversion (Hörmann and Derflinger 1996): no
//! table, constant time at any number of keys. A rank is then scattered by a bijection, because neighbouring ranks
//! should not be neighbouring keys.

use anyhow::{Result, bail};

/// How keys are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    Uniform,
    /// The exponent, 0.99 for YCSB's.
    Zipf(f64),
}

/// How keys are written.
#[derive(Debug, Clone)]
pub struct KeyShape {
    pub prefix: String,
    pub digits: usize,
}

impl KeyShape {
    /// Keys of `size` bytes that start with `prefix` and number at least `count`.
    pub fn new(prefix: &str, size: usize, count: u64) -> Result<KeyShape> {
        let digits = size.saturating_sub(prefix.len());
        let fits = u32::try_from(digits)
            .ok()
            .and_then(|d| 10u64.checked_pow(d))
            .is_none_or(|n| n >= count);
        if digits == 0 || digits > 18 || !fits {
            bail!(
                "{count} keys do not fit in {size} bytes with the prefix {prefix:?}: \
                 give a larger --key-size or a shorter --key-prefix"
            );
        }
        Ok(KeyShape {
            prefix: prefix.to_string(),
            digits,
        })
    }

    /// The shape for keys of `size` bytes: `key:` and digits, or a shorter prefix where the digits need the room.
    pub fn fitting(size: usize, count: u64) -> Result<KeyShape> {
        ["key:", "k:", "k"]
            .iter()
            .find_map(|prefix| KeyShape::new(prefix, size, count).ok())
            .map_or_else(|| KeyShape::new("k", size, count), Ok)
    }

    #[cfg(test)]
    pub fn key(&self, index: u64) -> Vec<u8> {
        let mut key = self.prefix.clone().into_bytes();
        key.resize(self.prefix.len() + self.digits, b'0');
        write_digits(&mut key[self.prefix.len()..], index);
        key
    }

    pub fn len(&self) -> usize {
        self.prefix.len() + self.digits
    }
}

const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut i = 0;
    while i < 100 {
        pairs[i] = [b'0' + (i / 10) as u8, b'0' + (i % 10) as u8];
        i += 1;
    }
    pairs
};

/// Writes `n`'s last `out.len()` decimal digits, zero-padded.
#[inline]
pub fn write_digits(out: &mut [u8], mut n: u64) {
    let mut pairs = out.rchunks_exact_mut(2);
    for pair in &mut pairs {
        pair.copy_from_slice(&PAIRS[(n % 100) as usize]);
        n /= 100;
    }
    if let [first] = pairs.into_remainder() {
        *first = b'0' + (n % 10) as u8;
    }
}

/// Draws key numbers below `count`.
#[derive(Debug, Clone)]
pub struct KeyPicker {
    count: u64,
    zipf: Option<Zipf>,
}

impl KeyPicker {
    pub fn new(distribution: Distribution, count: u64) -> Result<KeyPicker> {
        if count == 0 || count > u64::from(u32::MAX) {
            bail!("the number of keys must be between 1 and {}", u32::MAX);
        }
        let zipf = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipf(s) if s > 0.0 && s.is_finite() => Some(Zipf::new(s, count)),
            Distribution::Zipf(s) => bail!("the Zipf exponent must be above 0, not {s}"),
        };
        Ok(KeyPicker { count, zipf })
    }

    #[inline]
    pub fn pick(&self, rng: &mut fastrand::Rng) -> u64 {
        match &self.zipf {
            None => (u64::from(rng.u32(..)) * self.count) >> 32,
            Some(zipf) => scatter(zipf.rank(rng) - 1, self.count),
        }
    }
}

/// A bijection of the numbers below `count`: the factor is a prime above every count, so they share no divisor.
#[inline]
fn scatter(rank: u64, count: u64) -> u64 {
    const PRIME: u64 = 4_294_967_311;
    (u128::from(rank) * u128::from(PRIME) % u128::from(count)) as u64
}

/// Ranks from 1 to `n`, rank k with probability proportional to k^-s.
#[derive(Debug, Clone)]
pub struct Zipf {
    s: f64,
    n: f64,
    h_x1: f64,
    h_n: f64,
    squeeze: f64,
}

impl Zipf {
    pub fn new(s: f64, n: u64) -> Zipf {
        let n = n as f64;
        let mut zipf = Zipf {
            s,
            n,
            h_x1: 0.0,
            h_n: 0.0,
            squeeze: 0.0,
        };
        zipf.h_x1 = zipf.h_integral(1.5) - 1.0;
        zipf.h_n = zipf.h_integral(n + 0.5);
        zipf.squeeze = 2.0 - zipf.h_integral_inverse(zipf.h_integral(2.5) - zipf.h(2.0));
        zipf
    }

    fn h(&self, x: f64) -> f64 {
        (-self.s * x.ln()).exp()
    }

    /// An antiderivative of `h`, written so that it also holds at s = 1.
    fn h_integral(&self, x: f64) -> f64 {
        let log = x.ln();
        exp_minus_one_over((1.0 - self.s) * log) * log
    }

    fn h_integral_inverse(&self, x: f64) -> f64 {
        let t = (x * (1.0 - self.s)).max(-1.0);
        (log_one_plus_over(t) * x).exp()
    }

    #[inline]
    pub fn rank(&self, rng: &mut fastrand::Rng) -> u64 {
        loop {
            let u = self.h_n + rng.f64() * (self.h_x1 - self.h_n);
            let x = self.h_integral_inverse(u);
            let k = x.round().clamp(1.0, self.n);
            if k - x <= self.squeeze || u >= self.h_integral(k + 0.5) - self.h(k) {
                return k as u64;
            }
        }
    }
}

/// (e^x - 1) / x, also near 0.
fn exp_minus_one_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.exp_m1() / x
    } else {
        1.0 + x / 2.0
    }
}

/// ln(1 + x) / x, also near 0.
fn log_one_plus_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.ln_1p() / x
    } else {
        1.0 - x / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_size() {
        let shape = KeyShape::fitting(11, 100_000).unwrap();
        assert_eq!(shape.key(1), b"key:0000001");
        let shape = KeyShape::fitting(11, 20_000_000).unwrap();
        assert_eq!(shape.key(19_999_999), b"k:019999999");
        assert!(KeyShape::new("key:", 8, 10_001).is_err());
        assert!(KeyShape::new("key:", 8, 10_000).is_ok());
        assert!(KeyShape::new("key:", 4, 1).is_err());
    }

    #[test]
    fn digits_are_zero_padded() {
        for (width, n, expect) in [
            (1, 7, "7"),
            (5, 42, "00042"),
            (6, 123_456, "123456"),
            (3, 1234, "234"),
        ] {
            let mut out = vec![b'x'; width];
            write_digits(&mut out, n);
            assert_eq!(out, expect.as_bytes());
        }
    }

    #[test]
    fn scatter_is_a_bijection() {
        for count in [1u64, 2, 7919, 10_000, 65_536] {
            let mut seen = vec![false; count as usize];
            for rank in 0..count {
                seen[scatter(rank, count) as usize] = true;
            }
            assert!(seen.iter().all(|&s| s), "{count}");
        }
    }

    #[test]
    fn uniform_reaches_every_key() {
        let picker = KeyPicker::new(Distribution::Uniform, 10).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            counts[picker.pick(&mut rng) as usize] += 1;
        }
        assert!(
            counts.iter().all(|c| (9_500..10_500).contains(c)),
            "{counts:?}"
        );
    }

    /// Each rank's share is within four standard deviations of its exact probability.
    #[test]
    fn zipf_has_its_probabilities() {
        for s in [0.5, 0.99, 1.0, 1.3] {
            let (n, draws) = (1000u64, 400_000u32);
            let zipf = Zipf::new(s, n);
            let mut rng = fastrand::Rng::with_seed(7);
            let mut counts = vec![0u32; n as usize + 1];
            for _ in 0..draws {
                counts[zipf.rank(&mut rng) as usize] += 1;
            }
            let total: f64 = (1..=n).map(|k| (k as f64).powf(-s)).sum();
            for k in [1u64, 2, 3, 5, 10, 30, 100, 300, 1000] {
                let p = (k as f64).powf(-s) / total;
                let expect = p * f64::from(draws);
                let sd = (expect * (1.0 - p)).sqrt();
                let got = f64::from(counts[k as usize]);
                assert!(
                    (got - expect).abs() < 4.0 * sd + 1.0,
                    "s {s} rank {k}: {got}, expected {expect:.0}"
                );
            }
        }
    }
}
