//! The words that directives of a fixed choice accept, as Rust enums.
//!
//! The order of the variants is the order in which an error lists them, which is Redis's; the first one is not the
//! default: the table's row says that.

use super::value::{Args, Field, Limits, Source, words};

words!(MaxmemoryPolicy {
    VolatileLru = "volatile-lru",
    VolatileLfu = "volatile-lfu",
    VolatileRandom = "volatile-random",
    VolatileTtl = "volatile-ttl",
    AllkeysLru = "allkeys-lru",
    AllkeysLfu = "allkeys-lfu",
    AllkeysRandom = "allkeys-random",
    NoEviction = "noeviction",
});
words!(SyslogFacility {
    User = "user",
    Local0 = "local0",
    Local1 = "local1",
    Local2 = "local2",
    Local3 = "local3",
    Local4 = "local4",
    Local5 = "local5",
    Local6 = "local6",
    Local7 = "local7",
});
words!(LogLevel {
    Debug = "debug",
    Verbose = "verbose",
    Notice = "notice",
    Warning = "warning",
    Nothing = "nothing",
});
words!(LogFormat { Legacy = "legacy", Logfmt = "logfmt", Json = "json" });
words!(LogTimestampFormat { Legacy = "legacy", Iso8601 = "iso8601", Milliseconds = "milliseconds" });
words!(Supervised { Upstart = "upstart", Systemd = "systemd", Auto = "auto", No = "no" });
words!(AppendFsync { Everysec = "everysec", Always = "always", No = "no" });
words!(DisklessLoad {
    Disabled = "disabled",
    OnEmptyDb = "on-empty-db",
    Swapdb = "swapdb",
    FlushBeforeLoad = "flush-before-load",
});
words!(TlsAuthClients { No = "no", Yes = "yes", Optional = "optional" });
words!(TlsAuthClientsUser { Cn = "CN", Uri = "URI", Off = "off" });
words!(OomScoreAdj { No = "no", Yes = "yes", Relative = "relative", Absolute = "absolute" });
words!(AclPubsubDefault { Allchannels = "allchannels", Resetchannels = "resetchannels" });
words!(SanitizePayload { No = "no", Yes = "yes", Clients = "clients" });
words!(ProtectedAction { No = "no", Yes = "yes", Local = "local" });
words!(PreferredEndpoint { Ip = "ip", Hostname = "hostname", UnknownEndpoint = "unknown-endpoint" });
words!(PropagationError { Ignore = "ignore", Panic = "panic", PanicOnReplicas = "panic-on-replicas" });
words!(RdbVersionCheck { Strict = "strict", Relaxed = "relaxed" });
words!(ClusterConfigSave { Sync = "sync", BestEffort = "best-effort" });
words!(
    /// Which system interface the event loops use.
    IoEngine { Auto = "auto", Uring = "uring", Epoll = "epoll" }
);
words!(
    /// What a pipeline's commands on different keys may do.
    PipelineOrder { Relaxed = "relaxed", Strict = "strict" }
);

impl ProtectedAction {
    /// Whether a client may do the protected thing; `local` says that it came over a Unix socket or the loopback.
    pub fn allows(self, local: bool) -> bool {
        match self {
            ProtectedAction::No => false,
            ProtectedAction::Yes => true,
            ProtectedAction::Local => local,
        }
    }
}

/// What SIGINT or SIGTERM does: any of the words of SHUTDOWN, `default` for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownOnSignal {
    pub save: bool,
    pub nosave: bool,
    pub now: bool,
    pub force: bool,
    pub safe: bool,
    pub failover: bool,
}

impl ShutdownOnSignal {
    const WORDS: [&'static str; 7] = [
        "default", "save", "nosave", "now", "force", "safe", "failover",
    ];

    fn flag(&mut self, word: &[u8]) -> Option<&mut bool> {
        match word.to_ascii_lowercase().as_slice() {
            b"save" => Some(&mut self.save),
            b"nosave" => Some(&mut self.nosave),
            b"now" => Some(&mut self.now),
            b"force" => Some(&mut self.force),
            b"safe" => Some(&mut self.safe),
            b"failover" => Some(&mut self.failover),
            _ => None,
        }
    }
}

impl Field for ShutdownOnSignal {
    fn assign(&mut self, args: &Args, _: &Limits, _: Source) -> Result<(), String> {
        let mut value = ShutdownOnSignal::default();
        let unknown = || {
            format!(
                "argument(s) must be one of the following: {}",
                Self::WORDS.join(", ")
            )
        };
        if args.is_empty() {
            return Err(unknown());
        }
        for word in args {
            match value.flag(word) {
                Some(flag) => *flag = true,
                None if word.eq_ignore_ascii_case(b"default") => {}
                None => return Err(unknown()),
            }
        }
        if value.save && value.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
        }
        *self = value;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        let set = [
            self.save,
            self.nosave,
            self.now,
            self.force,
            self.safe,
            self.failover,
        ];
        let words: Vec<&str> = Self::WORDS[1..]
            .iter()
            .zip(set)
            .filter(|(_, set)| *set)
            .map(|(word, _)| *word)
            .collect();
        if words.is_empty() {
            b"default".to_vec()
        } else {
            words.join(" ").into_bytes()
        }
    }
}
