//! The command line, as redis-server's: `ringwood [FILE] [-] [--directive value ...]`.
//!
//! Idea: options are turned into configuration text that is read after the file and standard input. So every
//! directive is an option, with the file's syntax, checks and messages. clap knows options with a fixed number of
//! values; here `--save 60 1 --bind a b` takes whatever comes before the next `--`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use ringwood_protocol::quote::split_words;

use super::directives::DIRECTIVES;
use super::table::{HIDDEN, OURS};
use super::value::quoted;

/// What to start with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    pub file: Option<PathBuf>,
    /// Whether more configuration comes from standard input.
    pub stdin: bool,
    /// The options, as configuration text.
    pub options: Vec<u8>,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    Serve(Start),
    /// Print this and leave with success.
    Print(String),
    /// Print this on standard error and leave with failure.
    Refuse(String),
}

/// Reads the arguments that follow the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Invocation {
    let args: Vec<Vec<u8>> = args.into_iter().map(OsString::into_vec).collect();
    match args.first().map(Vec::as_slice) {
        Some(b"-v" | b"--version") => return Invocation::Print(version()),
        Some(b"-h" | b"--help") => return Invocation::Print(help()),
        Some(b"--test-memory") => {
            return Invocation::Refuse(
                "Ringwood has no memory test; memtester or memtest86+ do it better.".into(),
            );
        }
        Some(b"--check-system") => {
            return Invocation::Refuse(
                "Ringwood has no --check-system; it checks at every start and logs.".into(),
            );
        }
        _ => {}
    }
    let mut start = Start::default();
    let mut rest = args.as_slice();
    if let [first, tail @ ..] = rest
        && !first.starts_with(b"-")
    {
        start.file = Some(PathBuf::from(OsString::from_vec(first.clone())));
        rest = tail;
    }
    let first_index = args.len() - rest.len();
    // Whether a `--name` may come now; not right after another name, whose value it then is.
    let mut name_allowed = true;
    for (index, arg) in args.iter().enumerate().skip(first_index) {
        let next = args.get(index + 1);
        if arg == b"-" && (index == 0 || next.is_none()) {
            start.stdin = true;
        } else if let Some(name) = arg.strip_prefix(b"--").filter(|_| name_allowed) {
            if !start.options.is_empty() {
                start.options.push(b'\n');
            }
            start.options.extend_from_slice(name);
            start.options.push(b' ');
            // `"--port 6380"` in one argument is complete.
            name_allowed = split_words(arg).is_none_or(|words| words.len() != 1);
            // An empty list that a program puts after --save leaves nothing behind: no snapshots.
            let next_is_name = next.is_some_and(|next| next.starts_with(b"--"));
            if !name_allowed
                && name.eq_ignore_ascii_case(b"save")
                && (next.is_none() || next_is_name)
            {
                start.options.extend_from_slice(b"\"\"");
                name_allowed = true;
            }
        } else {
            start.options.extend(quoted(arg));
            start.options.push(b' ');
            name_allowed = true;
        }
    }
    Invocation::Serve(start)
}

/// Reads this process's own arguments.
pub fn parse_env() -> Invocation {
    parse(std::env::args_os().skip(1))
}

/// The text of `--version`.
pub fn version() -> String {
    format!(
        "Ringwood server v={} bits={}",
        env!("CARGO_PKG_VERSION"),
        usize::BITS
    )
}

/// The text of `--help`, from the table.
pub fn help() -> String {
    let program = std::env::args_os()
        .next()
        .unwrap_or_else(|| "ringwood".into());
    let program = String::from_utf8_lossy(program.as_bytes()).into_owned();
    let mut text = format!(
        "Usage: {program} [/path/to/redis.conf] [options] [-]\n       \
         {program} - (read config from stdin)\n       \
         {program} -v or --version\n       \
         {program} -h or --help\n\n\
         Examples:\n       \
         {program} (run with the built-in values, one shard per CPU)\n       \
         echo 'maxmemory 128mb' | {program} -\n       \
         {program} /etc/redis/6379.conf\n       \
         {program} --port 7777 --shards 4\n       \
         {program} /etc/myredis.conf --loglevel verbose --save 60 1000 -\n\n\
         Every directive of a redis.conf is an option; the file is read first, then standard input, then the options.\n"
    );
    let mut section = |title: &str, ours: bool| {
        let _ = writeln!(text, "\n{title}:");
        let shown = |directive: &&super::Directive| {
            directive.has(OURS) == ours && !directive.has(HIDDEN) && directive.has_effect()
        };
        for directive in DIRECTIVES.iter().filter(shown) {
            let default = if directive.default.is_empty() {
                "\"\""
            } else {
                directive.default
            };
            let _ = writeln!(
                text,
                "  --{} [{default}]\n        {}",
                directive.name, directive.doc
            );
        }
    };
    section(
        "Ringwood's own directives, with their built-in values",
        true,
    );
    section("Redis's directives", false);
    let quiet: Vec<&str> = DIRECTIVES
        .iter()
        .filter(|row| !row.has_effect() && !row.has(HIDDEN))
        .map(|row| row.name)
        .collect();
    let _ = writeln!(text, "\nAccepted, without effect in this version:");
    let mut line = String::from(" ");
    for name in quiet {
        if line.len() + name.len() > 100 {
            let _ = writeln!(text, "{line}");
            line = String::from(" ");
        }
        let _ = write!(line, " {name}");
    }
    let _ = write!(text, "{line}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(args: &[&str]) -> Start {
        match parse(args.iter().map(OsString::from)) {
            Invocation::Serve(start) => start,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn options(args: &[&str]) -> String {
        String::from_utf8(start(args).options).unwrap()
    }

    #[test]
    fn a_file_comes_first_and_standard_input_first_or_last() {
        assert_eq!(start(&["a.conf"]).file, Some(PathBuf::from("a.conf")));
        assert_eq!(
            start(&["-"]),
            Start {
                stdin: true,
                ..Start::default()
            }
        );
        assert!(start(&["a.conf", "-"]).stdin);
        assert!(start(&["a.conf", "--port", "1", "-"]).stdin);
        // In between it is a value.
        assert_eq!(
            options(&["--requirepass", "-", "--port", "1"]),
            "requirepass \"-\" \nport \"1\" "
        );
    }

    /// The lines were printed by redis-server 7.0.15 in its errors.
    #[test]
    fn options_become_lines() {
        assert_eq!(
            options(&["--port", "7000", "--shards", "4"]),
            "port \"7000\" \nshards \"4\" "
        );
        assert_eq!(
            options(&["--port 7000", "--hz", "5"]),
            "port 7000 \nhz \"5\" "
        );
        assert_eq!(
            options(&["--save", "60", "1", "--save", "30", "2"]),
            "save \"60\" \"1\" \nsave \"30\" \"2\" "
        );
        assert_eq!(
            options(&["--save", "--port", "1"]),
            "save \"\"\nport \"1\" "
        );
        assert_eq!(
            options(&["--port", "1", "--save"]),
            "port \"1\" \nsave \"\""
        );
        assert_eq!(options(&["--save", ""]), "save \"\" ");
        // Right after a name, what looks like a name is its value.
        assert_eq!(
            options(&["--appendonly", "--timeout", "4"]),
            "appendonly \"--timeout\" \"4\" "
        );
    }

    #[test]
    fn questions_are_answered() {
        let ask = |arg: &str| parse([OsString::from(arg)]);
        assert!(
            matches!(ask("-v"), Invocation::Print(text) if text.starts_with("Ringwood server v="))
        );
        assert!(
            matches!(ask("--help"), Invocation::Print(text) if text.contains("--shards [0]\n"))
        );
        assert!(matches!(ask("--test-memory"), Invocation::Refuse(_)));
        assert!(matches!(ask("--check-system"), Invocation::Refuse(_)));
    }
}
