//! Command templates: requests made once as bytes, of which only a few are written anew for each use.
//!
//! A template is text: words, `"quoted words"`, and a new line for the next command of the same request (MULTI … EXEC).
//! In words:
//! - `__key__`: a key; `__n__`: only its digits (for members and fields);
//! - `__data__`: a value of the chosen size;
//! - `__ms__`: the time in milliseconds;
//! - `__dN__`: N random decimal digits, zero-padded (`1__d6__` is a number without a leading zero);
//! - `__qN.S__`: the N digits of a number that stand above its S lowest ones: of the sequence's number while filling, else
//!   random ones. So a number is split into that of a collection and that of a member of it.
//!
//! Invariant: every use of a template has the same length, so a batch of one template is patched in place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, bail};

use crate::cluster::OwnerMap;
use crate::keys::{KeyPicker, KeyShape, write_digits};

/// What is written at an offset of the request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hole {
    /// A key's digits: a new draw.
    KeyDigits,
    /// Random digits below this bound.
    Random(u64),
    /// A sequence's number divided by `over`, below `bound`; random without a sequence.
    Part { over: u64, bound: u64 },
    /// Milliseconds since 1970, as applications give scripts the time.
    Time,
}

/// Digits of the time, for some centuries to come.
const TIME_DIGITS: usize = 13;

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as u64)
}

/// A request's bytes and what varies in them.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    /// Offset, width and kind, in order.
    holes: Vec<(usize, usize, Hole)>,
    /// Commands in the request, which is also how many replies it gets.
    pub commands: usize,
    /// How many keys it draws.
    pub keys: usize,
}

impl Template {
    pub fn parse(text: &str, shape: &KeyShape, value_size: usize) -> Result<Template> {
        let mut template = Template {
            bytes: Vec::new(),
            holes: Vec::new(),
            commands: 0,
            keys: 0,
        };
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            let words = split_words(line)?;
            template
                .bytes
                .extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
            for word in words {
                template.word(&word, shape, value_size)?;
            }
            template.commands += 1;
        }
        if template.commands == 0 {
            bail!("the command is empty");
        }
        Ok(template)
    }

    fn word(&mut self, word: &str, shape: &KeyShape, value_size: usize) -> Result<()> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut holes = Vec::new();
        let mut rest = word;
        while let Some(start) = rest.find("__") {
            bytes.extend_from_slice(&rest.as_bytes()[..start]);
            let tail = &rest[start + 2..];
            let end = tail
                .find("__")
                .ok_or_else(|| anyhow!("{word:?}: a placeholder is not closed"))?;
            match &tail[..end] {
                name @ ("key" | "n") => {
                    if name == "key" {
                        bytes.extend_from_slice(shape.prefix.as_bytes());
                        self.keys += 1;
                    }
                    holes.push((bytes.len(), shape.digits, Hole::KeyDigits));
                    bytes.resize(bytes.len() + shape.digits, b'0');
                }
                "data" => bytes.extend(value(value_size)),
                "ms" => {
                    holes.push((bytes.len(), TIME_DIGITS, Hole::Time));
                    bytes.resize(bytes.len() + TIME_DIGITS, b'0');
                }
                name => {
                    let (width, hole) = digits(name)?;
                    holes.push((bytes.len(), width, hole));
                    bytes.resize(bytes.len() + width, b'0');
                }
            }
            rest = &tail[end + 2..];
        }
        bytes.extend_from_slice(rest.as_bytes());
        self.bytes
            .extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
        let base = self.bytes.len();
        self.holes.extend(
            holes
                .into_iter()
                .map(|(at, width, hole)| (base + at, width, hole)),
        );
        self.bytes.extend_from_slice(&bytes);
        self.bytes.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Bytes of one request.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn patch(&self, request: &mut [u8], source: &mut Source) {
        let fixed = source.next_in_sequence();
        for &(at, width, hole) in &self.holes {
            let n = match hole {
                Hole::KeyDigits => fixed.unwrap_or_else(|| source.key()),
                Hole::Random(bound) => source.rng.u64(..bound),
                Hole::Part { over, bound } => match fixed {
                    Some(n) => n / over % bound,
                    None => source.rng.u64(..bound),
                },
                Hole::Time => unix_ms(),
            };
            write_digits(&mut request[at..at + width], n);
        }
    }
}

/// The width and kind of `d6` and `q2.4`.
fn digits(name: &str) -> Result<(usize, Hole)> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n <= 18);
    let hole = match name.split_at_checked(1) {
        Some(("d", width)) => number(width).map(|w| (w, Hole::Random(10u64.pow(w)))),
        Some(("q", parts)) => parts.split_once('.').and_then(|(width, skip)| {
            let (width, skip) = (number(width)?, number(skip)?);
            let part = Hole::Part {
                over: 10u64.pow(skip),
                bound: 10u64.pow(width),
            };
            Some((width, part))
        }),
        _ => None,
    };
    match hole {
        Some((width, hole)) if width > 0 => Ok((width as usize, hole)),
        _ => bail!(
            "__{name}__: known are __key__, __n__, __data__, __ms__, __d1__ to __d18__ and __q1.0__ to __q18.18__"
        ),
    }
}

/// Words of a command line, with double quotes around words that hold spaces and `\"` inside of them.
fn split_words(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut word = String::new();
        match chars.peek() {
            None => return Ok(words),
            Some('"') => {
                chars.next();
                loop {
                    match chars.next() {
                        None => bail!("{line:?}: a quote is not closed"),
                        Some('"') => break,
                        Some('\\') => word.extend(chars.next()),
                        Some(c) => word.push(c),
                    }
                }
            }
            Some(_) => {
                while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                    word.push(c);
                }
            }
        }
        words.push(word);
    }
}

/// A value: letters only, so that a server that looks for `*` to count requests finds none in it.
pub fn value(size: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(42);
    (0..size).map(|_| rng.alphanumeric() as u8).collect()
}

/// Where key numbers come from.
#[derive(Debug, Clone)]
pub enum Keys {
    Pick(KeyPicker),
    /// One after the other, shared by all connections, the same number throughout a request: for filling.
    Sequence(Arc<AtomicU64>),
}

/// One connection's or thread's source of keys and random digits.
#[derive(Debug)]
pub struct Source {
    pub keys: Keys,
    pub rng: fastrand::Rng,
    /// Only keys of this node, for connections to one owner.
    pub only: Option<(Arc<OwnerMap>, u8)>,
}

impl Source {
    #[inline]
    fn wanted(&self, key: u64) -> bool {
        self.only
            .as_ref()
            .is_none_or(|(owners, node)| owners.owner(key) == *node)
    }

    #[inline]
    fn next_in_sequence(&self) -> Option<u64> {
        let Keys::Sequence(next) = &self.keys else {
            return None;
        };
        loop {
            let key = next.fetch_add(1, Ordering::Relaxed);
            if self.wanted(key) {
                return Some(key);
            }
        }
    }

    #[inline]
    fn key(&mut self) -> u64 {
        let Keys::Pick(picker) = &self.keys else {
            return 0;
        };
        loop {
            let key = picker.pick(&mut self.rng);
            if self.wanted(key) {
                return key;
            }
        }
    }
}

/// The requests of a run: one template, or several with weights.
#[derive(Debug, Clone)]
pub struct Mix {
    templates: Vec<Template>,
    /// Cumulative shares of 2^32, as many as templates.
    upto: Vec<u64>,
}

impl Mix {
    pub fn one(template: Template) -> Mix {
        Mix {
            templates: vec![template],
            upto: vec![1 << 32],
        }
    }

    /// Templates with their weights; those without weight are left out.
    pub fn weighted(parts: Vec<(Template, f64)>) -> Result<Mix> {
        let total: f64 = parts.iter().map(|p| p.1).sum();
        if parts.iter().any(|p| !p.1.is_finite() || p.1 < 0.0) || total <= 0.0 {
            bail!("the shares of the commands must be positive");
        }
        let mut mix = Mix {
            templates: Vec::new(),
            upto: Vec::new(),
        };
        let mut sum = 0.0;
        for (template, weight) in parts.into_iter().filter(|p| p.1 > 0.0) {
            sum += weight;
            mix.templates.push(template);
            mix.upto
                .push((sum / total * (1u64 << 32) as f64).round() as u64);
        }
        Ok(mix)
    }

    /// The length of every request, if all have the same.
    pub fn request_len(&self) -> Option<usize> {
        let len = self.templates[0].len();
        self.templates.iter().all(|t| t.len() == len).then_some(len)
    }

    /// The same bytes, of which every request gets one reply: for a server that answers requests, not commands.
    pub fn into_one_command(mut self) -> Mix {
        self.templates.iter_mut().for_each(|t| t.commands = 1);
        self
    }

    pub fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// Makes `buf` hold `pipeline` requests and returns how many replies they get. `buf` is either empty or what an
    /// earlier call with the same `pipeline` made.
    pub fn fill(&self, buf: &mut Vec<u8>, pipeline: usize, source: &mut Source) -> usize {
        if let [template] = &self.templates[..] {
            let len = template.len();
            if buf.len() != len * pipeline {
                *buf = template.bytes.repeat(pipeline);
            }
            if !template.holes.is_empty() {
                for request in buf.chunks_exact_mut(len) {
                    template.patch(request, source);
                }
            }
            return template.commands * pipeline;
        }
        buf.clear();
        let mut replies = 0;
        for _ in 0..pipeline {
            let draw = u64::from(source.rng.u32(..));
            let index = self
                .upto
                .iter()
                .position(|&upto| draw < upto)
                .unwrap_or(self.upto.len() - 1);
            let template = &self.templates[index];
            let at = buf.len();
            buf.extend_from_slice(&template.bytes);
            template.patch(&mut buf[at..], source);
            replies += template.commands;
        }
        replies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Distribution;

    fn shape() -> KeyShape {
        KeyShape::new("key:", 11, 100).unwrap()
    }

    fn sequence() -> Source {
        Source {
            keys: Keys::Sequence(Arc::default()),
            rng: fastrand::Rng::with_seed(1),
            only: None,
        }
    }

    fn text(template: &str, pipeline: usize) -> String {
        let mix = Mix::one(Template::parse(template, &shape(), 3).unwrap());
        let mut buf = Vec::new();
        mix.fill(&mut buf, pipeline, &mut sequence());
        String::from_utf8(buf).unwrap()
    }

    #[test]
    fn writes_resp() {
        let value = String::from_utf8(value(3)).unwrap();
        let got = text("SET __key__ __data__", 2);
        let expect =
            |n: u32| format!("*3\r\n$3\r\nSET\r\n$11\r\nkey:000000{n}\r\n$3\r\n{value}\r\n");
        assert_eq!(got, expect(0) + &expect(1));
        // A sequence stays at one number within a request.
        let got = text("MGET __key__ __key__", 2);
        assert_eq!(got.matches("key:0000000").count(), 2);
        assert_eq!(got.matches("key:0000001").count(), 2);
    }

    #[test]
    fn quotes_and_several_commands() {
        assert_eq!(
            text("EVAL \"return \\\"x\\\"\" 0\nPING", 1),
            "*3\r\n$4\r\nEVAL\r\n$10\r\nreturn \"x\"\r\n$1\r\n0\r\n*1\r\n$4\r\nPING\r\n"
        );
    }

    #[test]
    fn placeholders_inside_words() {
        assert_eq!(
            text("SADD s m:__n__", 1),
            "*3\r\n$4\r\nSADD\r\n$1\r\ns\r\n$9\r\nm:0000000\r\n"
        );
        let got = text("X 1__d6__", 50);
        assert!(got.matches("$7\r\n1").count() == 50, "{got}");
    }

    #[test]
    fn a_sequence_is_split_into_collection_and_member() {
        let mix = Mix::one(Template::parse("k:__q1.0__ m:__q2.1__", &shape(), 3).unwrap());
        let (mut buf, mut source) = (Vec::new(), sequence());
        mix.fill(&mut buf, 124, &mut source);
        let text = String::from_utf8(buf).unwrap();
        let last = text.rsplit_terminator("*2\r\n").next().unwrap();
        assert_eq!(last, "$3\r\nk:3\r\n$4\r\nm:12\r\n");
        // Without a sequence both are drawn.
        source.keys = Keys::Pick(KeyPicker::new(Distribution::Uniform, 1).unwrap());
        let mut buf = Vec::new();
        mix.fill(&mut buf, 1000, &mut source);
        let text = String::from_utf8(buf).unwrap();
        assert!((0..10).all(|n| text.contains(&format!("k:{n}\r\n"))));
    }

    #[test]
    fn wrong_templates_are_refused() {
        for bad in [
            "",
            "GET __nokey__",
            "GET __key",
            "GET \"x",
            "GET __d0__",
            "GET __q0.1__",
            "GET __q1__",
            "GET ____",
            "GET __d19__",
        ] {
            assert!(Template::parse(bad, &shape(), 3).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_mix_has_its_shares() {
        let part = |t| Template::parse(t, &shape(), 3).unwrap();
        let mix =
            Mix::weighted(vec![(part("A"), 0.9), (part("B"), 0.1), (part("C"), 0.0)]).unwrap();
        let mut source = sequence();
        source.keys = Keys::Pick(KeyPicker::new(Distribution::Uniform, 100).unwrap());
        let mut buf = Vec::new();
        assert_eq!(mix.fill(&mut buf, 10_000, &mut source), 10_000);
        let b = buf.iter().filter(|&&c| c == b'B').count();
        assert!((850..1150).contains(&b), "{b}");
        assert!(!buf.contains(&b'C'));
        assert!(Mix::weighted(vec![(part("A"), 0.0)]).is_err());
    }
}
