//! Values of directives that take several words: save points, addresses, buffer limits, CPU lists.
//!
//! Invariant, as for every field: what `show` prints is read back, word by word, as the same value.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::value::{Args, Field, Limits, Line, Source, Text, memory_size, memory_text, single};

/// No argument, or a single empty one.
fn is_nothing(args: &Args) -> bool {
    match args {
        [] => true,
        [one] => one.is_empty(),
        _ => false,
    }
}

fn spaced<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push(' ');
        }
        let _ = write!(text, "{item}");
    }
    text
}

/// One snapshot rule: after `seconds` with at least `changes` changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    pub seconds: u64,
    pub changes: u64,
}

/// When to take snapshots. Lines of a file add up; the first one replaces the built-in rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Save(Arc<Vec<SavePoint>>);

impl Save {
    pub fn points(&self) -> &[SavePoint] {
        &self.0
    }
}

impl Field for Save {
    fn assign(&mut self, args: &Args, _: &Limits, source: Source) -> Result<(), String> {
        let reset = is_nothing(args);
        let args = if reset { &[] } else { args };
        let mut points = match source {
            Source::Load { again: true } if !reset => self.0.as_ref().clone(),
            _ => Vec::new(),
        };
        let (pairs, []) = args.as_chunks::<2>() else {
            return Err("Invalid save parameters".into());
        };
        for [seconds, changes] in pairs {
            let point = whole(seconds)
                .zip(whole(changes))
                .filter(|(seconds, _)| *seconds > 0);
            let (seconds, changes) = point.ok_or("Invalid save parameters")?;
            points.push(SavePoint { seconds, changes });
        }
        self.0 = Arc::new(points);
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        spaced(
            self.0
                .iter()
                .map(|point| format!("{} {}", point.seconds, point.changes)),
        )
        .into_bytes()
    }

    fn lines(&self, _: &Self, _: &Limits) -> Vec<Line> {
        // Always written: a file without any rule would mean the built-in ones to a later version with other defaults.
        let line = |value: String| Line {
            value: value.into_bytes(),
            force: true,
        };
        if self.0.is_empty() {
            return vec![line("\"\"".into())];
        }
        self.0
            .iter()
            .map(|point| line(format!("{} {}", point.seconds, point.changes)))
            .collect()
    }
}

/// A number of at least zero, of 63 bits. Unlike `decimal` it allows leading zeros and a plus, as C's strtoll does.
fn whole(text: &[u8]) -> Option<u64> {
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    u64::try_from(value).ok()
}

/// The addresses to listen on. A leading `-` makes an address optional; `*` is every IPv4 and `::*` every IPv6 one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind(Arc<Vec<Text>>);

impl Bind {
    /// Redis's bound on the number of addresses.
    pub const MAX: usize = 16;

    pub fn addresses(&self) -> &[Text] {
        &self.0
    }
}

impl Field for Bind {
    fn assign(&mut self, args: &Args, _: &Limits, _: Source) -> Result<(), String> {
        if args.len() > Self::MAX {
            return Err("Too many bind addresses specified.".into());
        }
        let args = if is_nothing(args) { &[] } else { args };
        self.0 = Arc::new(
            args.iter()
                .map(|address| Text::from(address.as_slice()))
                .collect(),
        );
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        self.0
            .iter()
            .map(|address| &address[..])
            .collect::<Vec<_>>()
            .join(&b' ')
    }

    fn lines(&self, default: &Self, _: &Limits) -> Vec<Line> {
        let words: Vec<Vec<u8>> = self
            .0
            .iter()
            .map(|address| bare_or_quoted(address))
            .collect();
        let value = if words.is_empty() {
            b"\"\"".to_vec()
        } else {
            words.join(&b' ')
        };
        vec![Line {
            value,
            force: self != default,
        }]
    }
}

/// A word as it stands, or in quotes where it would not be read back as one word.
fn bare_or_quoted(word: &[u8]) -> Vec<u8> {
    let plain = !word.is_empty()
        && word
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !b"\"'\\".contains(byte));
    if plain {
        word.to_vec()
    } else {
        super::value::quoted(word)
    }
}

/// The limits of one class of clients, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputBufferLimit {
    pub hard_bytes: u64,
    pub soft_bytes: u64,
    pub soft_seconds: u64,
}

/// When a client whose replies pile up is disconnected, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputBufferLimits {
    pub normal: OutputBufferLimit,
    pub replica: OutputBufferLimit,
    pub pubsub: OutputBufferLimit,
}

impl OutputBufferLimits {
    fn classes(&self) -> [(&'static str, OutputBufferLimit); 3] {
        [
            ("normal", self.normal),
            ("slave", self.replica),
            ("pubsub", self.pubsub),
        ]
    }
}

impl Field for OutputBufferLimits {
    fn assign(&mut self, args: &Args, _: &Limits, _: Source) -> Result<(), String> {
        let (groups, []) = args.as_chunks::<4>() else {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        };
        let mut limits = *self;
        for [class, hard, soft, seconds] in groups {
            let slot = match class.to_ascii_lowercase().as_slice() {
                b"normal" => &mut limits.normal,
                b"slave" | b"replica" => &mut limits.replica,
                b"pubsub" => &mut limits.pubsub,
                _ => {
                    return Err(
                        "Invalid client class specified in buffer limit configuration.".into(),
                    );
                }
            };
            let (Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) =
                (memory_size(hard), memory_size(soft), whole(seconds))
            else {
                return Err(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration."
                        .into(),
                );
            };
            *slot = OutputBufferLimit {
                hard_bytes,
                soft_bytes,
                soft_seconds,
            };
        }
        *self = limits;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        let class = |(name, limit): (&str, OutputBufferLimit)| {
            format!(
                "{name} {} {} {}",
                limit.hard_bytes, limit.soft_bytes, limit.soft_seconds
            )
        };
        spaced(self.classes().map(class)).into_bytes()
    }

    fn lines(&self, default: &Self, _: &Limits) -> Vec<Line> {
        let line = |((name, limit), (_, default)): (
            (&str, OutputBufferLimit),
            (&str, OutputBufferLimit),
        )| {
            // CONFIG GET keeps the old name of the class, CONFIG REWRITE writes the new one.
            let name = if name == "slave" { "replica" } else { name };
            let (hard, soft) = (
                memory_text(limit.hard_bytes.into()),
                memory_text(limit.soft_bytes.into()),
            );
            Line {
                value: format!("{name} {hard} {soft} {}", limit.soft_seconds).into_bytes(),
                force: limit != default,
            }
        };
        self.classes()
            .into_iter()
            .zip(default.classes())
            .map(line)
            .collect()
    }
}

/// `oom-score-adj-values`: for a primary, a replica and a background child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OomScoreAdjValues(pub [i32; 3]);

impl Field for OomScoreAdjValues {
    fn assign(&mut self, args: &Args, _: &Limits, _: Source) -> Result<(), String> {
        let [primary, replica, child] = args else {
            return Err("wrong number of arguments".into());
        };
        let mut values = [0; 3];
        for (value, text) in values.iter_mut().zip([primary, replica, child]) {
            let (negative, digits) = match text.strip_prefix(b"-") {
                Some(digits) => (true, digits),
                None => (false, text.as_slice()),
            };
            *value = whole(digits)
                .and_then(|number| i32::try_from(number).ok())
                .map(|number| if negative { -number } else { number })
                .filter(|number| (-2000..=2000).contains(number))
                .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")?;
        }
        self.0 = values;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        spaced(self.0).into_bytes()
    }
}

/// The percentiles that INFO latencystats shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Percentiles(Arc<Vec<f64>>);

impl Percentiles {
    pub fn values(&self) -> &[f64] {
        &self.0
    }
}

impl Field for Percentiles {
    fn assign(&mut self, args: &Args, _: &Limits, _: Source) -> Result<(), String> {
        let args = if is_nothing(args) { &[] } else { args };
        let mut values = Vec::with_capacity(args.len());
        for text in args {
            let value = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse::<f64>().ok());
            let value = value
                .filter(|value| !value.is_nan())
                .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&value) {
                return Err(
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
                        .into(),
                );
            }
            // Shown with six decimals, so held with six: what CONFIG REWRITE writes is what is in force.
            values.push((value * 1e6).round() / 1e6);
        }
        self.0 = Arc::new(values);
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        spaced(self.0.iter()).into_bytes()
    }

    fn lines(&self, default: &Self, limits: &Limits) -> Vec<Line> {
        let value = if self.0.is_empty() {
            b"\"\"".to_vec()
        } else {
            self.show(limits)
        };
        vec![Line {
            value,
            force: self != default,
        }]
    }
}

/// The primary to follow at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaOf(Option<(Text, u16)>);

impl ReplicaOf {
    /// What REPLICAOF leaves behind for CONFIG GET and REWRITE.
    pub fn new(primary: Option<(&[u8], u16)>) -> ReplicaOf {
        ReplicaOf(primary.map(|(host, port)| (Text::from(host), port)))
    }

    /// Host and port of the primary.
    pub fn primary(&self) -> Option<(&Text, u16)> {
        self.0.as_ref().map(|(host, port)| (host, *port))
    }
}

impl Field for ReplicaOf {
    fn assign(&mut self, args: &Args, _: &Limits, _: Source) -> Result<(), String> {
        let [host, port] = args else {
            if is_nothing(args) {
                self.0 = None;
                return Ok(());
            }
            return Err("wrong number of arguments".into());
        };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            self.0 = None;
            return Ok(());
        }
        let port = whole(port)
            .and_then(|port| u16::try_from(port).ok())
            .ok_or("Invalid master port")?;
        self.0 = Some((Text::from(host.as_slice()), port));
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        match &self.0 {
            Some((host, port)) => [host, format!(" {port}").as_bytes()].concat(),
            None => Vec::new(),
        }
    }

    fn lines(&self, _: &Self, _: &Limits) -> Vec<Line> {
        let line = |(host, port): &(Text, u16)| Line {
            value: [bare_or_quoted(host), format!(" {port}").into_bytes()].concat(),
            force: true,
        };
        self.0.iter().map(line).collect()
    }
}

/// The working directory, always absolute; a relative one is taken from where it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory(PathBuf);

impl Directory {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Directory {
    fn default() -> Self {
        // A process whose directory was removed under it still has to start.
        Directory(std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")))
    }
}

impl Field for Directory {
    fn assign(&mut self, args: &Args, _: &Limits, _: Source) -> Result<(), String> {
        let argument = Text::from(single(args)?);
        if argument.is_empty() {
            return Err(super::system_error(&std::io::Error::from_raw_os_error(
                libc::ENOENT,
            )));
        }
        let path = self.0.join(argument.as_path());
        // Redis enters the directory here; listing it asks for the same kind of file and follows links alike.
        let real = path
            .canonicalize()
            .map_err(|error| super::system_error(&error))?;
        if !real.is_dir() {
            return Err(super::system_error(&std::io::Error::from_raw_os_error(
                libc::ENOTDIR,
            )));
        }
        self.0 = real;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        self.0.as_os_str().as_bytes().to_vec()
    }

    fn lines(&self, _: &Self, limits: &Limits) -> Vec<Line> {
        // Always written, or the next start from another place would look for the data there.
        vec![Line {
            value: super::value::quoted(&self.show(limits)),
            force: true,
        }]
    }

    fn built_in(_: &str, _: &Limits) -> Self {
        Directory::default()
    }
}

/// A set of CPUs, written `0-7,9`; empty for all that the process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(Arc<Vec<usize>>);

impl CpuList {
    /// Above any machine there is, below what would take memory to list.
    const MAX_CPU: usize = 8191;

    /// The CPUs in the order given, each once.
    pub fn cpus(&self) -> &[usize] {
        &self.0
    }
}

impl Field for CpuList {
    fn assign(&mut self, args: &Args, _: &Limits, _: Source) -> Result<(), String> {
        let text = std::str::from_utf8(single(args)?)
            .map_err(|_| "argument must be a list of CPUs such as 0-7,9")?;
        let mut cpus: Vec<usize> = Vec::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let cpu = |text: &str| whole(text.as_bytes()).and_then(|cpu| usize::try_from(cpu).ok());
            let (Some(first), Some(last)) = (cpu(first), cpu(last)) else {
                return Err("argument must be a list of CPUs such as 0-7,9".into());
            };
            if first > last || last > Self::MAX_CPU {
                return Err(format!(
                    "CPU range {part} must go upwards and stay below {}",
                    Self::MAX_CPU + 1
                ));
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(format!("CPU {cpu} is listed twice"));
                }
                cpus.push(cpu);
            }
        }
        self.0 = Arc::new(cpus);
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for &cpu in self.0.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        let range = |&(first, last): &(usize, usize)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        };
        ranges
            .iter()
            .map(range)
            .collect::<Vec<_>>()
            .join(",")
            .into_bytes()
    }

    fn lines(&self, default: &Self, limits: &Limits) -> Vec<Line> {
        if self.0.is_empty() {
            return Vec::new();
        }
        vec![Line {
            value: self.show(limits),
            force: self != default,
        }]
    }
}
