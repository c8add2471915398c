//! The log: events of `tracing`, printed as Redis prints its log.
//!
//! ```text
//! 1234:M 21 Nov 2026 09:50:34.162 * Ready to accept connections
//! pid  role  local time           level  message
//! ```
//!
//! `log-format` and `log-timestamp-format` choose other forms of a line, as Valkey has them.
//!
//! Levels: warning `#` (ERROR and WARN), notice `*` (INFO), verbose `-` (DEBUG), debug `.` (TRACE). A line is one
//! write. A log file is opened for every line, as in Redis, so that it may be moved away at any time.
//!
//! Invariant: the level is one atomic that every disabled event is checked against through tracing's cached interest;
//! `set_level` drops that cache.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::directives::Config;
use super::enums::{LogFormat, LogLevel, LogTimestampFormat, SyslogFacility};

/// Events of this target are printed without a prefix.
pub const RAW: &str = "raw";

/// The level in force, as an index into `LEVELS`.
static LEVEL: AtomicU8 = AtomicU8::new(2);
/// The form of lines and of their times.
static FORM: Mutex<(LogFormat, LogTimestampFormat)> =
    Mutex::new((LogFormat::Legacy, LogTimestampFormat::Legacy));
/// The letter of the process's role.
static ROLE: AtomicU8 = AtomicU8::new(b'M');

const LEVELS: [(LogLevel, LevelFilter); 5] = [
    (LogLevel::Debug, LevelFilter::TRACE),
    (LogLevel::Verbose, LevelFilter::DEBUG),
    (LogLevel::Notice, LevelFilter::INFO),
    (LogLevel::Warning, LevelFilter::WARN),
    (LogLevel::Nothing, LevelFilter::OFF),
];

/// What the process is, for the letter in front of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
}

pub fn set_role(role: Role) {
    let letter = match role {
        Role::Primary => b'M',
        Role::Replica => b'S',
    };
    ROLE.store(letter, Ordering::Relaxed);
}

/// Changes what is logged from now on.
pub fn set_level(level: LogLevel) {
    let index = LEVELS
        .iter()
        .position(|(known, _)| *known == level)
        .unwrap_or(2);
    LEVEL.store(index as u8, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Changes how lines are written from now on.
pub fn set_form(config: &Config) {
    *crate::commands::lock(&FORM) = (config.log_format, config.log_timestamp_format);
}

fn filter() -> LevelFilter {
    LEVELS[usize::from(LEVEL.load(Ordering::Relaxed))].1
}

/// Makes all events of the process go where the configuration says. To be called once, before threads start.
pub fn install(config: &Config) -> Result<(), String> {
    set_level(config.loglevel);
    set_form(config);
    let output = Output::new(config)?;
    let subscriber = tracing_subscriber::registry().with(output);
    tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())
}

/// Where lines go.
struct Output {
    /// Nothing for standard output.
    file: Option<PathBuf>,
    syslog: Option<Syslog>,
}

impl Output {
    fn new(config: &Config) -> Result<Output, String> {
        let file =
            (!config.logfile.is_empty()).then(|| config.dir.path().join(config.logfile.as_path()));
        let syslog = if config.syslog_enabled {
            let ident = config.syslog_ident.to_string();
            let socket = UnixDatagram::unbound()
                .map_err(|error| format!("cannot open the system log: {error}"))?;
            Some(Syslog {
                socket,
                address: PathBuf::from("/dev/log"),
                ident,
                facility: facility_number(config.syslog_facility),
            })
        } else {
            None
        };
        Ok(Output { file, syslog })
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        match &self.file {
            Some(path) => OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)?
                .write_all(line),
            None => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line)?;
                stdout.flush()
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Output {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() <= filter() {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= filter()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(filter())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let Message { mut text, fields } = message;
        text.push_str(&fields);
        let level = *event.metadata().level();
        let raw = event.metadata().target() == RAW;
        let line = if raw {
            format!("{text}\n")
        } else {
            line(level, &text)
        };
        if let Err(error) = self.write(line.as_bytes()) {
            // The last place to say it. When standard error is on the same full disk, the line is lost: `eprint!`
            // would end the server for it.
            _ = write!(io::stderr(), "cannot write the log: {error}: {line}");
        }
        if let Some(syslog) = self.syslog.as_ref().filter(|_| !raw) {
            syslog.send(level, &text);
        }
    }
}

fn line(level: Level, text: &str) -> String {
    let form = *crate::commands::lock(&FORM);
    let role = ROLE.load(Ordering::Relaxed);
    line_at(form, &chrono::Local::now(), role, level, text)
}

fn line_at(
    (format, time): (LogFormat, LogTimestampFormat),
    now: &chrono::DateTime<chrono::Local>,
    role: u8,
    level: Level,
    text: &str,
) -> String {
    let time = match time {
        LogTimestampFormat::Legacy => now.format("%d %b %Y %H:%M:%S%.3f").to_string(),
        LogTimestampFormat::Iso8601 => now.format("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string(),
        LogTimestampFormat::Milliseconds => now.timestamp_millis().to_string(),
    };
    let pid = std::process::id();
    let name = match role {
        b'M' => "primary",
        _ => "replica",
    };
    let level_name = match level {
        Level::ERROR | Level::WARN => "warning",
        Level::INFO => "notice",
        Level::DEBUG => "verbose",
        Level::TRACE => "debug",
    };
    match format {
        LogFormat::Legacy => format!(
            "{pid}:{} {time} {} {text}\n",
            char::from(role),
            level_mark(level)
        ),
        // Valkey escapes nothing here: what would end the value or the line becomes something that does not.
        LogFormat::Logfmt => format!(
            "pid={pid} role={name} timestamp=\"{time}\" level={level_name} message=\"{}\"\n",
            text.replace('"', "'").replace(['\n', '\r'], " ")
        ),
        LogFormat::Json => format!(
            "{{\"pid\":{pid},\"role\":\"{name}\",\"timestamp\":\"{time}\",\"level\":\"{level_name}\",\"message\":\"{}\"}}\n",
            json(text)
        ),
    }
}

/// A text as it stands in JSON, without the quotes.
fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    out
}

fn level_mark(level: Level) -> char {
    match level {
        Level::ERROR | Level::WARN => '#',
        Level::INFO => '*',
        Level::DEBUG => '-',
        Level::TRACE => '.',
    }
}

/// Collects an event's message, and its other fields as ` name=value`.
#[derive(Default)]
struct Message {
    text: String,
    fields: String,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.text.push_str(value),
            name => {
                let _ = write!(self.fields, " {name}={value}");
            }
        }
    }
}

/// The system log, in the old protocol that every syslog daemon and journald takes.
struct Syslog {
    socket: UnixDatagram,
    /// The daemon's socket.
    address: PathBuf,
    ident: String,
    facility: u32,
}

impl Syslog {
    fn send(&self, level: Level, text: &str) {
        let severity = match level {
            Level::ERROR | Level::WARN => 4,
            Level::INFO => 5,
            Level::DEBUG => 6,
            Level::TRACE => 7,
        };
        let priority = self.facility * 8 + severity;
        let line = format!("<{priority}>{}[{}]: {text}", self.ident, std::process::id());
        // Without a daemon the lines are lost, as with syslog(3); they are in the log proper too.
        let _ = self.socket.send_to(line.as_bytes(), &self.address);
    }
}

fn facility_number(facility: SyslogFacility) -> u32 {
    match facility {
        SyslogFacility::User => 1,
        SyslogFacility::Local0 => 16,
        SyslogFacility::Local1 => 17,
        SyslogFacility::Local2 => 18,
        SyslogFacility::Local3 => 19,
        SyslogFacility::Local4 => 20,
        SyslogFacility::Local5 => 21,
        SyslogFacility::Local6 => 22,
        SyslogFacility::Local7 => 23,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Text;

    #[test]
    fn the_system_log_gets_priority_and_name() {
        let address = std::env::temp_dir().join(format!("ringwood-syslog-{}", std::process::id()));
        let daemon = UnixDatagram::bind(&address).unwrap();
        daemon
            .set_read_timeout(Some(std::time::Duration::from_secs(10)))
            .unwrap();
        let config = Config {
            syslog_enabled: true,
            ..Config::default()
        };
        let mut syslog = Output::new(&config).unwrap().syslog.unwrap();
        syslog.address = address.clone();
        syslog.send(Level::INFO, "Ready");
        let mut line = [0; 100];
        let length = daemon.recv(&mut line).unwrap();
        std::fs::remove_file(&address).unwrap();
        // local0 is 16, a notice 5.
        let expected = format!("<133>redis[{}]: Ready", std::process::id());
        assert_eq!(std::str::from_utf8(&line[..length]), Ok(expected.as_str()));
    }

    /// As valkey-server 9.1.2 writes them.
    #[test]
    fn lines_have_the_form_that_is_wanted() {
        let utc = chrono::DateTime::from_timestamp_millis(1_795_350_282_530).unwrap();
        let now = utc.with_timezone(&chrono::Local);
        let said = |format, time| {
            let text = "a \"quoted\" \\ \n new = x\ttab\u{1} é";
            let line = line_at((format, time), &now, b'M', Level::WARN, text);
            line.replace(&std::process::id().to_string(), "PID")
        };
        let ms = LogTimestampFormat::Milliseconds;
        assert_eq!(
            said(LogFormat::Legacy, ms),
            "PID:M 1795350282530 # a \"quoted\" \\ \n new = x\ttab\u{1} é\n"
        );
        assert_eq!(
            said(LogFormat::Logfmt, ms),
            "pid=PID role=primary timestamp=\"1795350282530\" level=warning message=\"a 'quoted' \\   new = x\ttab\u{1} é\"\n"
        );
        assert_eq!(
            said(LogFormat::Json, ms),
            "{\"pid\":PID,\"role\":\"primary\",\"timestamp\":\"1795350282530\",\"level\":\"warning\",\
             \"message\":\"a \\\"quoted\\\" \\\\ \\n new = x\\ttab\\u0001 é\"}\n"
        );
        let line = said(LogFormat::Legacy, LogTimestampFormat::Iso8601);
        let time = line.split(' ').nth(1).unwrap();
        let read = chrono::DateTime::parse_from_rfc3339(time).unwrap();
        assert_eq!(read, now, "{line}");
    }

    /// One test for all, as the level is the process's.
    #[test]
    fn events_become_redis_lines_and_the_level_can_change() {
        let name = format!("ringwood-log-{}", std::process::id());
        let config = Config {
            logfile: Text::from(name.as_bytes()),
            ..Config::default()
        };
        let config = Config {
            loglevel: LogLevel::Notice,
            ..config
        };
        set_level(config.loglevel);
        let output = Output::new(&config).unwrap();
        let path = output.file.clone().unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(output), || {
            let speak = || {
                tracing::trace!("trace");
                tracing::debug!("debug");
                tracing::info!("Ready to accept connections {}", "tcp");
                tracing::warn!(port = 6379, reason = "in use", "cannot listen");
            };
            for level in [
                LogLevel::Notice,
                LogLevel::Warning,
                LogLevel::Debug,
                LogLevel::Nothing,
            ] {
                set_level(level);
                speak();
            }
            set_level(LogLevel::Notice);
            tracing::info!(target: RAW, "banner");
        });
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let info = "* Ready to accept connections tcp";
        let warn = "# cannot listen port=6379 reason=in use";
        let expected = [info, warn, warn, ". trace", "- debug", info, warn];
        assert_eq!(lines.len(), expected.len() + 1, "{text}");
        for (line, end) in lines.iter().zip(expected) {
            let (process, rest) = line.split_once(' ').unwrap();
            assert_eq!(process, format!("{}:M", std::process::id()));
            let (time, message) = rest.split_at("21 Nov 2026 09:50:34.162 ".len());
            assert!(
                chrono::NaiveDateTime::parse_from_str(time.trim_end(), "%d %b %Y %H:%M:%S%.3f")
                    .is_ok(),
                "{line}"
            );
            assert_eq!(message, end);
        }
        assert_eq!(lines.last(), Some(&"banner"));
    }
}
