//! CONFIG GET and CONFIG SET.
//!
//! A SET of many directives is all or nothing, in two steps. `Config::change` judges every name first, then every
//! value, on a copy. `Change::apply` then lets the server act on each directive that has a new value (listen on
//! another port, ...), in the order of the arguments; if one fails, those before it are taken back. Only then do the
//! cores get the new snapshot.

use std::fmt;
use std::sync::Arc;

use ringwood_protocol::error::CommandError;
use ringwood_protocol::glob::glob_match_ignore_case;
use ringwood_protocol::lossless;

use super::directives::{Config, DIRECTIVES};

use super::table::{DENY_LOADING, Directive, HIDDEN, IMMUTABLE, PROTECTED, lookup};

/// Why a CONFIG SET was refused. Displays as the error reply, without the leading `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    Unknown {
        name: Vec<u8>,
    },
    Refused {
        name: Vec<u8>,
        reason: String,
    },
    /// Not while the data set is being loaded.
    Loading,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unknown { name } => {
                let name = lossless::text(name);
                write!(
                    f,
                    "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
                )
            }
            ConfigError::Refused { name, reason } => {
                let name = lossless::text(name);
                write!(
                    f,
                    "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
                )
            }
            ConfigError::Loading => f.write_str("LOADING Redis is loading the dataset in memory"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> CommandError {
        CommandError::Text(error.to_string().into())
    }
}

/// What decides about a change besides the values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Situation {
    /// The data set is being loaded.
    pub loading: bool,
    /// The client is on this machine: a Unix socket or the loopback.
    pub local_client: bool,
}

/// A change that has been judged and not applied.
pub struct Change {
    old: Arc<Config>,
    new: Arc<Config>,
    /// The directives whose value is new, under the names that the client used.
    changed: Vec<(&'static Directive, Vec<u8>)>,
}

impl Change {
    /// The directives whose value is new.
    pub fn changed(&self) -> impl Iterator<Item = &'static Directive> + '_ {
        self.changed.iter().map(|(directive, _)| *directive)
    }

    /// Lets `act` do what each new value asks for, and gives the snapshot to publish. On failure `act` is called with
    /// the old configuration for all that it had acted on, the failed one included, and nothing has changed.
    pub fn apply(
        self,
        act: &mut dyn FnMut(&'static Directive, &Config) -> Result<(), String>,
    ) -> Result<Arc<Config>, ConfigError> {
        for (index, (directive, name)) in self.changed.iter().enumerate() {
            let Err(reason) = act(directive, &self.new) else {
                continue;
            };
            for (directive, _) in self.changed[..=index].iter().rev() {
                if let Err(reason) = act(directive, &self.old) {
                    tracing::warn!(
                        "Failed restoring '{}' after a failed CONFIG SET: {reason}",
                        directive.name
                    );
                }
            }
            return Err(ConfigError::Refused {
                name: name.clone(),
                reason,
            });
        }
        Ok(self.new)
    }
}

impl Config {
    /// The directives that any of the patterns matches, each once, with their values. Aliases count as directives.
    /// A name without wildcards is answered as it was written, also where it is hidden from patterns.
    pub fn get<P: AsRef<[u8]>>(&self, patterns: &[P]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |name: &[u8], directive: &Directive| {
            if !found
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
            {
                found.push((name.to_vec(), directive.show(self)));
            }
        };
        for pattern in patterns.iter().map(AsRef::as_ref) {
            if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
                if let Some(directive) = lookup(pattern) {
                    add(pattern, directive);
                }
                continue;
            }
            for directive in DIRECTIVES.iter().filter(|directive| !directive.has(HIDDEN)) {
                for name in [directive.name].iter().chain(directive.aliases) {
                    if glob_match_ignore_case(pattern, name.as_bytes()) {
                        add(name.as_bytes(), directive);
                    }
                }
            }
        }
        found
    }

    /// Sets one directive, if a CONFIG SET of an ordinary client may.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), ConfigError> {
        let change = Arc::new(self.clone()).change(&[(name, value)], Situation::default())?;
        *self = change.new.as_ref().clone();
        Ok(())
    }

    /// Judges a CONFIG SET of these names and values.
    pub fn change<B: AsRef<[u8]>>(
        self: &Arc<Self>,
        pairs: &[(B, B)],
        situation: Situation,
    ) -> Result<Change, ConfigError> {
        let mut directives: Vec<&'static Directive> = Vec::with_capacity(pairs.len());
        for (name, _) in pairs {
            let name = name.as_ref();
            let refuse = |reason: &str| ConfigError::Refused {
                name: name.to_vec(),
                reason: reason.into(),
            };
            let directive = lookup(name).ok_or_else(|| ConfigError::Unknown {
                name: name.to_vec(),
            })?;
            if directive.has(IMMUTABLE) {
                return Err(refuse("can't set immutable config"));
            }
            if directive.has(PROTECTED)
                && !self.enable_protected_configs.allows(situation.local_client)
            {
                return Err(refuse("can't set protected config"));
            }
            if directive.has(DENY_LOADING) && situation.loading {
                return Err(ConfigError::Loading);
            }
            // Two names of one directive are no duplicate: as in Redis the later one wins.
            let is_same = |(earlier, _): &(B, B)| earlier.as_ref().eq_ignore_ascii_case(name);
            if pairs[..directives.len()].iter().any(is_same) {
                return Err(refuse("duplicate parameter"));
            }
            directives.push(directive);
        }
        let mut new = self.as_ref().clone();
        for (directive, (name, value)) in directives.iter().zip(pairs) {
            let refuse = |reason| ConfigError::Refused {
                name: name.as_ref().to_vec(),
                reason,
            };
            directive
                .assign_value(&mut new, value.as_ref())
                .map_err(refuse)?;
        }
        new.correct();
        let mut changed: Vec<(&'static Directive, Vec<u8>)> = Vec::new();
        for (directive, (name, _)) in directives.into_iter().zip(pairs) {
            let is_known = changed
                .iter()
                .any(|(known, _)| known.name == directive.name);
            if !is_known && !directive.same(self, &new) {
                changed.push((directive, name.as_ref().to_vec()));
            }
        }
        Ok(Change {
            old: self.clone(),
            new: Arc::new(new),
            changed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(config: &mut Config, name: &str, value: &str) -> Result<(), String> {
        config
            .set(name.as_bytes(), value.as_bytes())
            .map_err(|error| error.to_string())
    }

    fn get(config: &Config, name: &str) -> String {
        config
            .get(&[name])
            .iter()
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// Every text below was printed by redis-server 7.0.15.
    #[test]
    fn refusals_have_redis_texts() {
        let cases = [
            ("save", "1 2 3", "Invalid save parameters"),
            ("save", "0 1", "Invalid save parameters"),
            ("save", " 3600  1", "Invalid save parameters"),
            ("port", "abc", "argument couldn't be parsed into an integer"),
            (
                "port",
                "70000",
                "argument must be between 0 and 65535 inclusive",
            ),
            ("maxmemory", "1t", "argument must be a memory value"),
            ("maxmemory", "-1", "argument must be a memory value"),
            (
                "maxmemory-clients",
                "101%",
                "percentage argument must be less or equal to 100",
            ),
            (
                "maxmemory",
                "8589934592gb",
                "argument must be greater or equal to 0",
            ),
            (
                "maxmemory-clients",
                "9223372036854775808",
                "percentage argument must be less or equal to 100",
            ),
            (
                "maxmemory-clients",
                "-5",
                "argument must be a memory or percent value",
            ),
            (
                "maxmemory-clients",
                "05%",
                "argument must be a memory or percent value",
            ),
            (
                "maxmemory-policy",
                "foo",
                "argument(s) must be one of the following: volatile-lru, volatile-lfu, volatile-random, \
                 volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction",
            ),
            ("appendonly", "maybe", "argument must be 'yes' or 'no'"),
            ("databases", "3", "can't set immutable config"),
            ("dbfilename", "x", "can't set protected config"),
            (
                "notify-keyspace-events",
                "q",
                "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
            ),
            (
                "client-output-buffer-limit",
                "normal 1 2",
                "Wrong number of arguments in buffer limit configuration.",
            ),
            (
                "client-output-buffer-limit",
                "foo 1 2 3",
                "Invalid client class specified in buffer limit configuration.",
            ),
            (
                "client-output-buffer-limit",
                "normal 1x 2 3",
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            ),
            ("oom-score-adj-values", "1 2", "wrong number of arguments"),
            (
                "oom-score-adj-values",
                "1 2 3000",
                "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
            ),
            (
                "latency-tracking-info-percentiles",
                "50 101",
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
            ),
            (
                "latency-tracking-info-percentiles",
                "nan",
                "Invalid latency-tracking-info-percentiles parameters",
            ),
            ("hz", "+5", "argument couldn't be parsed into an integer"),
            ("hz", "007", "argument couldn't be parsed into an integer"),
            (
                "shutdown-on-sigint",
                "save nosave",
                "shutdown options SAVE and NOSAVE can't be used simultaneously",
            ),
            (
                "proc-title-template",
                "{x}",
                "template format is invalid or contains unknown variables",
            ),
            (
                "cluster-announce-hostname",
                "a b",
                "Hostnames may only contain alphanumeric characters, hyphens or dots",
            ),
            (
                "repl-backlog-size",
                "0",
                "argument must be between 1 and 9223372036854775807 inclusive",
            ),
            (
                "proto-max-bulk-len",
                "1",
                "argument must be between 1048576 and 9223372036854775807 inclusive",
            ),
            (
                "slowlog-max-len",
                "99999999999999999999",
                "argument couldn't be parsed into an integer",
            ),
            (
                "list-max-listpack-size",
                "12345678901",
                "argument must be between -2147483648 and 2147483647 inclusive",
            ),
            (
                "maxclients",
                "0",
                "argument must be between 1 and 4294967295 inclusive",
            ),
        ];
        for (name, value, reason) in cases {
            let mut config = Config::default();
            let expected =
                format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}");
            assert_eq!(
                set(&mut config, name, value),
                Err(expected),
                "{name} {value}"
            );
            assert_eq!(config, Config::default(), "{name} {value} left a trace");
        }
        let unknown = "ERR Unknown option or number of arguments for CONFIG SET - 'foo'";
        assert_eq!(
            set(&mut Config::default(), "foo", "bar"),
            Err(unknown.into())
        );
    }

    /// As redis-server 7.0.15 answers CONFIG GET after this CONFIG SET.
    #[test]
    fn values_are_shown_in_redis_form() {
        let cases = [
            ("maxmemory", "1KB", "1024"),
            ("maxmemory", "2m", "2000000"),
            ("maxmemory", "", "0"),
            ("maxmemory", "9223372036854775807", "9223372036854775807"),
            ("maxmemory-clients", "5%", "5%"),
            ("notify-keyspace-events", "KEA", "AKE"),
            ("notify-keyspace-events", "AKExn", "AKE"),
            ("notify-keyspace-events", "zgmnd", "gzdnm"),
            (
                "client-output-buffer-limit",
                "slave 1kb 2 3",
                "normal 0 0 0 slave 1024 2 3 pubsub 33554432 8388608 60",
            ),
            (
                "client-output-buffer-limit",
                "",
                "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
            ),
            ("oom-score-adj-values", "05 2 3", "5 2 3"),
            (
                "latency-tracking-info-percentiles",
                "1e1 99.123456789",
                "10 99.123457",
            ),
            ("latency-tracking-info-percentiles", "", ""),
            ("hz", "1000", "500"),
            ("hz", "0", "1"),
            ("shutdown-on-sigint", "now FORCE", "now force"),
            ("save", "03600 +1", "3600 1"),
            ("save", "", ""),
            ("appendonly", "YES", "yes"),
            ("bind", "127.0.0.1 -::1", "127.0.0.1 -::1"),
            ("BIND", "", ""),
        ];
        for (name, value, shown) in cases {
            let mut config = Config::default();
            assert_eq!(set(&mut config, name, value), Ok(()), "{name} {value}");
            assert_eq!(get(&config, name), shown, "{name} {value}");
        }
    }

    #[test]
    fn many_are_set_together_or_not_at_all() {
        let config = Arc::new(Config::default());
        let change = |pairs: &[(&str, &str)]| {
            config
                .change(pairs, Situation::default())
                .map_err(|error| error.to_string())
        };
        let failed = |name: &str, reason: &str| {
            Some(format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
            ))
        };
        assert_eq!(
            change(&[("timeout", "5"), ("Timeout", "6")]).err(),
            failed("Timeout", "duplicate parameter")
        );
        let not_a_number = "argument couldn't be parsed into an integer";
        assert_eq!(
            change(&[("timeout", "9"), ("hz", "x")]).err(),
            failed("hz", not_a_number)
        );
        // Names are judged before values.
        let immutable = "can't set immutable config";
        assert_eq!(
            change(&[("hz", "x"), ("databases", "4")]).err(),
            failed("databases", immutable)
        );
        let both = change(&[
            ("lua-time-limit", "1"),
            ("busy-reply-threshold", "2"),
            ("timeout", "0"),
        ])
        .unwrap();
        assert_eq!(
            both.changed()
                .map(|directive| directive.name)
                .collect::<Vec<_>>(),
            ["busy-reply-threshold"]
        );
        assert_eq!(
            both.apply(&mut |_, _| Ok(())).unwrap().busy_reply_threshold,
            2
        );
    }

    #[test]
    fn a_failed_action_takes_the_earlier_ones_back() {
        let config = Arc::new(Config::default());
        let pairs = [("timeout", "9"), ("PORT", "7000"), ("hz", "20")];
        let mut acts = Vec::new();
        let change = config.change(&pairs, Situation::default()).unwrap();
        let error = change.apply(&mut |directive, config| {
            acts.push((
                directive.name,
                String::from_utf8(directive.show(config)).unwrap(),
            ));
            if config.port == 7000 && directive.name == "port" {
                return Err("Unable to listen on this port. Check server logs.".into());
            }
            Ok(())
        });
        let reason = "ERR CONFIG SET failed (possibly related to argument 'PORT') - Unable to listen on this port. \
                      Check server logs.";
        assert_eq!(
            error.err().map(|error| error.to_string()),
            Some(reason.into())
        );
        let expected = [
            ("timeout", "9"),
            ("port", "7000"),
            ("port", "6379"),
            ("timeout", "0"),
        ];
        assert_eq!(
            acts,
            expected.map(|(name, value)| (name, value.to_string()))
        );
    }

    #[test]
    fn get_takes_patterns_and_names() {
        let config = Config::default();
        let names = |patterns: &[&str]| -> Vec<String> {
            config
                .get(patterns)
                .into_iter()
                .map(|(name, _)| String::from_utf8(name).unwrap())
                .collect()
        };
        assert_eq!(names(&["POR?", "timeout", "Port"]), ["port", "timeout"]);
        assert_eq!(names(&["PORT"]), ["PORT"]);
        assert_eq!(
            names(&["*-ziplist-v*"]),
            ["hash-max-ziplist-value", "zset-max-ziplist-value"]
        );
        assert_eq!(names(&["watchdog*"]), [""; 0]);
        assert_eq!(names(&["watchdog-period", "nothing"]), ["watchdog-period"]);
    }

    #[test]
    fn protected_directives_follow_enable_protected_configs() {
        let protected = |setting| {
            let config = Arc::new(Config {
                enable_protected_configs: setting,
                ..Config::default()
            });
            let may = |local_client| {
                let situation = Situation {
                    local_client,
                    ..Situation::default()
                };
                config.change(&[("dbfilename", "x.rdb")], situation).is_ok()
            };
            (may(false), may(true))
        };
        use crate::config::enums::ProtectedAction::{Local, No, Yes};
        assert_eq!(
            [protected(No), protected(Local), protected(Yes)],
            [(false, false), (false, true), (true, true)]
        );
    }

    /// As redis-server 7.0.15 answers while it loads.
    #[test]
    fn some_directives_wait_for_the_end_of_loading() {
        let loading = Situation {
            loading: true,
            ..Situation::default()
        };
        let config = Arc::new(Config::default());
        let change = |pairs: &[(&str, &str)]| {
            config
                .change(pairs, loading)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        let refused = Err("LOADING Redis is loading the dataset in memory".to_string());
        assert_eq!(change(&[("timeout", "4"), ("appendonly", "yes")]), refused);
        let protected = "ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config";
        assert_eq!(change(&[("dir", "/tmp")]), Err(protected.to_string()));
        assert_eq!(change(&[("timeout", "4")]), Ok(()));
    }

    #[test]
    fn names_are_unique_and_fields_follow_them() {
        let mut names = std::collections::HashSet::new();
        for directive in DIRECTIVES {
            assert_eq!(directive.field, directive.name.replace('-', "_"));
            assert!(directive.doc.ends_with('.'), "{}", directive.name);
            for name in [directive.name].iter().chain(directive.aliases) {
                assert!(names.insert(*name), "{name} twice");
            }
        }
    }

    /// What is shown is accepted and means the same, for every directive.
    #[test]
    fn shown_values_are_read_back() {
        for directive in DIRECTIVES {
            let config = Config::default();
            let mut again = config.clone();
            if let Err(reason) = directive.assign_value(&mut again, &directive.show(&config)) {
                panic!("{}: {reason}", directive.name);
            }
            assert_eq!(again, config, "{}", directive.name);
        }
    }
}
