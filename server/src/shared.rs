//! What the cores have in common, beside the mail.

use crate::cluster::first_owners;
use crate::config::{Loaded, SharedConfig};
use crate::listening::Listening;
use crate::pubsub::directory::Directory;
use crate::sequencer::Sequencer;
use crate::stats::MemoryGauge;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

/// What all cores share, beside the mail.
pub struct Shared {
    pub acl: crate::acl::Directory,
    pub scripts: crate::scripts::Library,
    pub sequencer: Sequencer,
    /// Who does long commands.
    pub helpers: crate::aside::Helpers,
    pub touching: crate::touching::Touching,
    /// The newest configuration; cores hold snapshots of their own.
    pub config: Mutex<SharedConfig>,
    /// What the configuration file declared beside settings, and where it is.
    pub loaded: Loaded,
    /// Which cores have subscribers of what.
    pub directory: Directory,
    /// Slot to core.
    pub owners: Box<[u16]>,
    pub next_client: AtomicU64,
    /// Clients by core, counted from the moment they are assigned.
    pub clients: Box<[AtomicUsize]>,
    pub total_connections: AtomicU64,
    pub rejected_connections: AtomicU64,
    pub memory: MemoryGauge,
    pub persistence: crate::persist::State,
    pub aof: crate::aof::State,
    /// Where the first core accepts, and where it is to.
    pub listening: Mutex<Listening>,
    pub command_logs: crate::observe::command_log::CommandLogs,
    pub latency: crate::observe::latency::Latency,
    /// Keys whose readers are remembered ([`crate::tracking`]), on all cores, as of each one's last look.
    pub tracked_keys: AtomicU64,
    /// DEBUG PAUSE-CRON.
    pub cron_pauses: AtomicBool,
    pub run_id: String,
    /// The server ends: a core may be gone already.
    pub stopping: AtomicBool,
    /// Cores that have begun nothing more and whose mail is all on its way.
    pub ended: AtomicUsize,
    pub started_unix_ms: i64,
}

impl Shared {
    /// For so many cores, before anything has happened.
    pub fn new(loaded: Loaded, cores: usize) -> Self {
        Self {
            acl: Default::default(),
            scripts: Default::default(),
            sequencer: Sequencer::new(cores),
            helpers: Default::default(),
            touching: Default::default(),
            config: Mutex::new(Arc::new(loaded.config.clone())),
            loaded,
            directory: Directory::default(),
            owners: first_owners(cores),
            next_client: AtomicU64::new(1),
            clients: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            total_connections: AtomicU64::new(0),
            rejected_connections: AtomicU64::new(0),
            memory: MemoryGauge::new(cores),
            persistence: Default::default(),
            aof: Default::default(),
            listening: Default::default(),
            command_logs: Default::default(),
            latency: Default::default(),
            tracked_keys: AtomicU64::new(0),
            cron_pauses: AtomicBool::new(false),
            run_id: String::new(),
            stopping: AtomicBool::new(false),
            ended: AtomicUsize::new(0),
            started_unix_ms: 0,
        }
    }
}
