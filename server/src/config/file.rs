//! The reader of configuration text: a redis.conf, standard input, and what the command line was turned into.
//!
//! A line is a comment (`#` first), or a directive and its words (see `protocol::quote`). Later lines win; `include` reads other
//! files in place, `*?[` in its name allowed. `user` lines, which only other parts can judge, are collected with their places, so
//! that an error found later still names its line.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ringwood_protocol::quote::split_words;

use super::directives::Config;
use super::table::{Directive, lookup};
use super::value::Source;
use super::{cli, system_error};
use crate::registry::Renames;

/// How deep includes may nest; a file that includes itself ends here.
const MAX_INCLUDE_DEPTH: usize = 16;

/// Directives of old versions that Redis still accepts, without effect.
const DEPRECATED: [&str; 3] = [
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
];

/// Where a piece of configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(PathBuf),
    Stdin,
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => write!(f, "'{}'", path.display()),
            Origin::Stdin => f.write_str("standard input"),
            Origin::CommandLine => f.write_str("the command line"),
        }
    }
}

/// A line of the configuration, for messages about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub origin: Origin,
    /// Counted from 1.
    pub line: usize,
    pub text: Vec<u8>,
}

/// A collected line: its words after the directive's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub words: Vec<Vec<u8>>,
    pub place: Place,
}

/// Why the server cannot start with this configuration. Displays as Redis prints it.
#[derive(Debug)]
pub enum StartError {
    /// A line is wrong.
    Line { place: Place, reason: String },
    /// The lines are right, but not together.
    Whole { reason: String },
    /// A file cannot be read.
    Unreadable { path: PathBuf, error: io::Error },
}

impl StartError {
    pub fn at(place: &Place, reason: impl Into<String>) -> StartError {
        StartError::Line {
            place: place.clone(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        match self {
            StartError::Line { place, reason } => {
                writeln!(f, "\n*** FATAL CONFIG FILE ERROR (Ringwood {version}) ***")?;
                writeln!(
                    f,
                    "Reading the configuration file, at line {} of {}",
                    place.line, place.origin
                )?;
                writeln!(f, ">>> '{}'", String::from_utf8_lossy(&place.text))?;
                f.write_str(reason)
            }
            StartError::Whole { reason } => {
                write!(
                    f,
                    "\n*** FATAL CONFIG FILE ERROR (Ringwood {version}) ***\n{reason}"
                )
            }
            StartError::Unreadable { path, error } => {
                write!(
                    f,
                    "Fatal error, can't open config file '{}': {}",
                    path.display(),
                    system_error(error)
                )
            }
        }
    }
}

impl std::error::Error for StartError {}

/// The configuration at start and what came with it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// The file given on the command line, absolute: the one that CONFIG REWRITE rewrites.
    pub file: Option<PathBuf>,
    /// `user` lines: name and rules.
    pub users: Vec<Declared>,
    /// What the `rename-command` lines say.
    pub renames: Renames,
    /// Names of what was given and does nothing here, each once, in order.
    pub without_effect: Vec<String>,
}

impl Loaded {
    /// One log line about the directives that do nothing, if there are any.
    pub fn without_effect_message(&self) -> Option<String> {
        let names = self.without_effect.join(", ");
        (!names.is_empty())
            .then(|| format!("Accepted directives that have no effect in Ringwood: {names}"))
    }
}

/// Opens files for the reader, so that tests and the fuzzer can do without a disk.
pub trait Files {
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>>;
    /// The existing files that a pattern with `*`, `?` or `[` matches, sorted.
    fn matching(&mut self, pattern: &str) -> Result<Vec<PathBuf>, String>;
}

/// The real files.
pub struct Disk;

impl Files for Disk {
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn matching(&mut self, pattern: &str) -> Result<Vec<PathBuf>, String> {
        let paths = glob::glob(pattern).map_err(|error| format!("invalid pattern: {error}"))?;
        paths
            .map(|path| path.map_err(|error| error.to_string()))
            .collect()
    }
}

/// Reads pieces of configuration, one after the other, into one `Loaded`.
pub struct Reader<'a> {
    loaded: Loaded,
    /// Names of the directives that have had a line.
    seen: HashSet<&'static str>,
    depth: usize,
    files: &'a mut dyn Files,
}

impl<'a> Reader<'a> {
    pub fn new(files: &'a mut dyn Files) -> Reader<'a> {
        let loaded = Loaded {
            config: Config::default(),
            file: None,
            users: Vec::new(),
            renames: Renames::default(),
            without_effect: Vec::new(),
        };
        Reader {
            loaded,
            seen: HashSet::new(),
            depth: 0,
            files,
        }
    }

    /// Reads one file.
    pub fn file(&mut self, path: &Path) -> Result<(), StartError> {
        let unreadable = |error| StartError::Unreadable {
            path: path.to_path_buf(),
            error,
        };
        let text = self.files.read(path).map_err(unreadable)?;
        self.text(&Origin::File(path.to_path_buf()), &text)
    }

    /// Reads configuration text.
    pub fn text(&mut self, origin: &Origin, text: &[u8]) -> Result<(), StartError> {
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = trim(line);
            if matches!(line, [] | [b'#', ..]) {
                continue;
            }
            let place = || Place {
                origin: origin.clone(),
                line: index + 1,
                text: line.to_vec(),
            };
            let words = split_words(line).ok_or_else(|| {
                StartError::at(&place(), "Unbalanced quotes in configuration line")
            })?;
            let mut words = words.into_iter();
            if let Some(name) = words.next() {
                self.directive(&name.to_ascii_lowercase(), words.collect(), &place)?;
            }
        }
        Ok(())
    }

    /// The checks that need the whole, and the result.
    pub fn finish(mut self) -> Result<Loaded, StartError> {
        let config = &mut self.loaded.config;
        if config.cluster_enabled && config.replicaof.primary().is_some() {
            return Err(StartError::Whole {
                reason: "replicaof directive not allowed in cluster mode".into(),
            });
        }
        config.correct();
        Ok(self.loaded)
    }

    fn directive(
        &mut self,
        name: &[u8],
        args: Vec<Vec<u8>>,
        place: &dyn Fn() -> Place,
    ) -> Result<(), StartError> {
        let refuse = |reason: &str| Err(StartError::at(&place(), reason));
        if let Some(directive) = lookup(name) {
            return self
                .assign(directive, &args)
                .map_err(|reason| StartError::at(&place(), reason));
        }
        match (name, args.len()) {
            (b"include", 1) => self.include(&args[0], place),
            (b"user", 1..) => {
                self.loaded.users.push(Declared {
                    words: args,
                    place: place(),
                });
                Ok(())
            }
            (b"rename-command", 2) => {
                let renamed = self.loaded.renames.add(&args[0], &args[1]);
                renamed.map_err(|reason| StartError::at(&place(), reason))
            }
            (b"loadmodule", 1..) => {
                refuse("Ringwood cannot load modules; remove the loadmodule directive")
            }
            (b"sentinel", _) => refuse("sentinel directive while not in sentinel mode"),
            (_, 1) if DEPRECATED.iter().any(|known| known.as_bytes() == name) => {
                self.note_without_effect(&String::from_utf8_lossy(name));
                Ok(())
            }
            _ if name.contains(&b'.') => {
                refuse("This is a module's directive, and Ringwood cannot load modules")
            }
            _ => refuse("Bad directive or wrong number of arguments"),
        }
    }

    fn assign(&mut self, directive: &'static Directive, args: &[Vec<u8>]) -> Result<(), String> {
        let again = !self.seen.insert(directive.name);
        directive.assign_line(&mut self.loaded.config, args, Source::Load { again })?;
        if !directive.has_effect() {
            self.note_without_effect(directive.name);
        }
        Ok(())
    }

    fn note_without_effect(&mut self, name: &str) {
        if !self.loaded.without_effect.iter().any(|known| known == name) {
            self.loaded.without_effect.push(name.to_string());
        }
    }

    fn include(&mut self, name: &[u8], place: &dyn Fn() -> Place) -> Result<(), StartError> {
        if self.depth == MAX_INCLUDE_DEPTH {
            return Err(StartError::at(
                &place(),
                format!("include goes deeper than {MAX_INCLUDE_DEPTH} files"),
            ));
        }
        // Redis has entered `dir` by now, so what follows a `dir` line is found from there.
        let path = self.loaded.config.dir.path().join(OsStr::from_bytes(name));
        let paths = if name.iter().any(|byte| b"*?[".contains(byte)) {
            let pattern = path
                .to_str()
                .ok_or_else(|| StartError::at(&place(), "an include pattern must be UTF-8"))?;
            self.files
                .matching(pattern)
                .map_err(|reason| StartError::at(&place(), reason))?
        } else {
            vec![path]
        };
        self.depth += 1;
        for path in paths {
            self.file(&path)?;
        }
        self.depth -= 1;
        Ok(())
    }
}

pub(super) fn trim(line: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| b" \t\r\n".contains(byte);
    let start = line
        .iter()
        .position(|byte| !is_blank(byte))
        .unwrap_or(line.len());
    let end = line
        .iter()
        .rposition(|byte| !is_blank(byte))
        .map_or(start, |last| last + 1);
    &line[start..end]
}

/// Reads what the command line asks for: the file, then standard input, then the options.
pub fn load(start: &cli::Start, stdin: &mut dyn Read) -> Result<Loaded, StartError> {
    let mut disk = Disk;
    let mut reader = Reader::new(&mut disk);
    if let Some(file) = &start.file {
        let path = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        reader.file(&path)?;
        reader.loaded.file = Some(path);
    }
    if start.stdin {
        let mut text = Vec::new();
        let unreadable = |error| StartError::Unreadable {
            path: PathBuf::from("-"),
            error,
        };
        stdin.read_to_end(&mut text).map_err(unreadable)?;
        reader.text(&Origin::Stdin, &text)?;
    }
    reader.text(&Origin::CommandLine, &start.options)?;
    let loaded = reader.finish()?;
    check_logfile(&loaded.config)?;
    Ok(loaded)
}

/// A log that cannot be written is found before the server has nowhere to say so.
fn check_logfile(config: &Config) -> Result<(), StartError> {
    if config.logfile.is_empty() {
        return Ok(());
    }
    let path = config.dir.path().join(config.logfile.as_path());
    match std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
    {
        Ok(_) => Ok(()),
        Err(error) => Err(StartError::Whole {
            reason: format!("Can't open the log file: {}", system_error(&error)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Files that exist only in a test.
    #[derive(Default)]
    struct Memory(BTreeMap<PathBuf, Vec<u8>>);

    impl Files for Memory {
        fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
            self.0
                .get(path)
                .cloned()
                .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
        }

        fn matching(&mut self, pattern: &str) -> Result<Vec<PathBuf>, String> {
            let pattern = glob::Pattern::new(pattern).map_err(|error| error.to_string())?;
            Ok(self
                .0
                .keys()
                .filter(|path| pattern.matches_path(path))
                .cloned()
                .collect())
        }
    }

    fn read(text: &str) -> Result<Loaded, String> {
        read_with(text, &mut Memory::default())
    }

    fn read_with(text: &str, files: &mut Memory) -> Result<Loaded, String> {
        files
            .0
            .insert(PathBuf::from("/etc/redis.conf"), text.as_bytes().to_vec());
        let mut reader = Reader::new(files);
        let done = reader
            .file(Path::new("/etc/redis.conf"))
            .and_then(|()| reader.finish());
        done.map_err(|error| error.to_string())
    }

    fn show(loaded: &Loaded, name: &str) -> String {
        loaded
            .config
            .get(&[name])
            .iter()
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    #[test]
    fn lines_set_directives() {
        let text = "# a comment\n\n  PORT 7000 \r\nmaxmemory 1gb\nrequirepass \"a b\\x00\"\nslave-read-only no\n\
                    client-output-buffer-limit normal 1 2 3\nclient-output-buffer-limit replica 1kb 2 3\n";
        let loaded = read(text).unwrap();
        assert_eq!(loaded.config.port, 7000);
        assert_eq!(loaded.config.maxmemory, 1 << 30);
        assert_eq!(&loaded.config.requirepass[..], b"a b\0");
        assert!(!loaded.config.replica_read_only);
        let limits = "normal 1 2 3 slave 1024 2 3 pubsub 33554432 8388608 60";
        assert_eq!(show(&loaded, "client-output-buffer-limit"), limits);
        assert_eq!(loaded.without_effect, ["replica-read-only"]);
    }

    /// The results are redis-server 7.0.15's.
    #[test]
    fn save_lines_add_up_and_replace_the_built_in_ones() {
        let cases = [
            ("port 1", "3600 1 300 100 60 10000"),
            ("save \"3600 1 300 100\"", "3600 1 300 100"),
            ("save 60 1\nsave 30 2", "60 1 30 2"),
            ("save 60 1\nsave \"\"", ""),
            ("save \"\"\nsave 5 5", "5 5"),
            ("save", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(show(&read(text).unwrap(), "save"), expected, "{text}");
        }
    }

    /// The reasons are redis-server 7.0.15's, but for modules.
    #[test]
    fn a_wrong_line_is_named() {
        let cases = [
            ("foo", "Bad directive or wrong number of arguments"),
            ("include", "Bad directive or wrong number of arguments"),
            (
                "lua-replicate-commands",
                "Bad directive or wrong number of arguments",
            ),
            ("port", "wrong number of arguments"),
            ("port 1 2", "wrong number of arguments"),
            ("port \"12", "Unbalanced quotes in configuration line"),
            ("bind \"'a\"", "Unbalanced quotes in configuration line"),
            ("save \"\" 60 1", "Invalid save parameters"),
            (
                "unixsocketperm 888",
                "argument couldn't be parsed as an octal number",
            ),
            (
                "unixsocketperm 1777",
                "argument must be between 0 and 777 inclusive",
            ),
            ("dir /nonexist", "No such file or directory"),
            ("dir /etc/passwd", "Not a directory"),
            ("replicaof a", "wrong number of arguments"),
            ("replicaof a x", "Invalid master port"),
            (
                "sentinel x",
                "sentinel directive while not in sentinel mode",
            ),
            (
                "loadmodule /x.so",
                "Ringwood cannot load modules; remove the loadmodule directive",
            ),
            (
                "search.timeout 5",
                "This is a module's directive, and Ringwood cannot load modules",
            ),
        ];
        for (line, reason) in cases {
            let expected = format!(
                "\n*** FATAL CONFIG FILE ERROR (Ringwood {}) ***\n\
                 Reading the configuration file, at line 3 of '/etc/redis.conf'\n>>> '{line}'\n{reason}",
                env!("CARGO_PKG_VERSION")
            );
            assert_eq!(
                read(&format!("hz 20\n# two\n {line}\nhz 30")).err(),
                Some(expected)
            );
        }
        let whole = read("cluster-enabled yes\nreplicaof a 5").err().unwrap();
        assert!(
            whole.ends_with("***\nreplicaof directive not allowed in cluster mode"),
            "{whole}"
        );
    }

    #[test]
    fn includes_are_read_in_place() {
        let mut files = Memory::default();
        for (path, text) in [
            ("/tmp/conf.d/a.conf", "hz 20\nport 1"),
            ("/tmp/conf.d/b.conf", "hz 30"),
            ("/tmp/x", "hz x"),
        ] {
            files
                .0
                .insert(PathBuf::from(path), text.as_bytes().to_vec());
        }
        let text = "port 5\ninclude /tmp/conf.d/*.conf\ninclude /tmp/none*\ndir /tmp\ntimeout 7";
        let loaded = read_with(text, &mut files).unwrap();
        assert_eq!(
            (loaded.config.port, loaded.config.hz, loaded.config.timeout),
            (1, 30, 7)
        );
        // After `dir`, names are relative to it; an error names the included file.
        let error = read_with("dir /tmp\ninclude x", &mut files).err().unwrap();
        assert!(
            error.contains("at line 1 of '/tmp/x'\n>>> 'hz x'"),
            "{error}"
        );
        let error = read_with("include /none", &mut files).err().unwrap();
        assert_eq!(
            error,
            "Fatal error, can't open config file '/none': No such file or directory"
        );
        let error = read_with("include /etc/redis.conf", &mut files)
            .err()
            .unwrap();
        assert!(
            error.contains("include goes deeper than 16 files"),
            "{error}"
        );
    }

    #[test]
    fn lines_for_others_are_collected() {
        let loaded =
            read("user a on >x\nrename-command FLUSHALL \"\"\nlist-max-ziplist-value 64\n")
                .unwrap();
        assert_eq!(loaded.users[0].words, [&b"a"[..], b"on", b">x"]);
        assert_eq!(
            (loaded.users[0].place.line, loaded.renames.is_empty()),
            (1, false)
        );
        let message = "Accepted directives that have no effect in Ringwood: list-max-ziplist-value";
        assert_eq!(loaded.without_effect_message().as_deref(), Some(message));
        assert_eq!(read("port 1").unwrap().without_effect_message(), None);
    }

    #[test]
    fn options_come_after_the_file_and_standard_input() {
        let file =
            std::env::temp_dir().join(format!("ringwood-config-{}.conf", std::process::id()));
        std::fs::write(&file, "port 1\ntimeout 1\nhz 11\nsave 60 1").unwrap();
        let args = [
            file.as_os_str().to_owned(),
            "--hz".into(),
            "13".into(),
            "--save".into(),
            "70 2".into(),
            "-".into(),
        ];
        let cli::Invocation::Serve(start) = cli::parse(args) else {
            panic!("not a start")
        };
        let loaded = load(&start, &mut &b"timeout 2\nhz 12"[..]).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(
            (loaded.config.port, loaded.config.timeout, loaded.config.hz),
            (1, 2, 13)
        );
        assert_eq!(show(&loaded, "save"), "60 1 70 2");
        assert_eq!(loaded.file, Some(file));
    }
}
