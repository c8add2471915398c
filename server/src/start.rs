//! Starts the cores: binds the ports, makes a thread for each core, pins it, exchanges the wakers, and waits for the end.

use crate::aof;
use crate::cluster;
use crate::config::enums::IoEngine;
use crate::config::{Config, Loaded};
use crate::core::{Core, SHARD_LISTENER, Shared, settings};
use crate::io::{Io, World, net};
use crate::listening::{self, Listening};
use crate::mailbox::{Mailbox, mailboxes};
use crate::persist::loading::{self, Next, Share, Stopped};
use crate::process::supervisor::{self, Supervisor};
use crate::process::{oom, title};
use crate::registry::Registry;
use crate::scripts::debug::Post;
use ringwood_shard::keyspace::KeyHasher;
use ringwood_shard::shard::{Settings, Shard};
use ringwood_shard::slot_set::SlotSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{Error, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

type Waker = <World as Io>::Waker;

/// Random bits from the system's generator, as the standard library's hash seeds are.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The CPUs that the cores are pinned to. Where somebody chose them, cores share them if there are more; else nobody is pinned then.
struct Cpus {
    ids: Vec<usize>,
    chosen: bool,
}

impl Cpus {
    fn of(wanted: &[usize]) -> std::io::Result<Self> {
        if wanted.is_empty() {
            let usable = core_affinity::get_core_ids().unwrap_or_default();
            return Ok(Self {
                ids: usable.iter().map(|c| c.id).collect(),
                chosen: false,
            });
        }
        let ids = wanted.to_vec();
        // The mask that the process was started with says less: it may be left again.
        let may_use = |id| {
            // The library's sets hold no more.
            id < libc::CPU_SETSIZE as usize
                && core_affinity::set_for_current(core_affinity::CoreId { id })
        };
        let tried = ids.clone();
        let refused = std::thread::spawn(move || tried.into_iter().find(|id| !may_use(*id)));
        match refused.join().expect("a thread that only asks") {
            Some(cpu) => Err(Error::other(format!(
                "cpus: this process may not use CPU {cpu}, or there is none"
            ))),
            None => Ok(Self { ids, chosen: true }),
        }
    }

    /// Of one core of so many.
    fn of_core(&self, core: usize, cores: usize) -> Option<usize> {
        let pins = self.chosen || cores <= self.ids.len();
        pins.then(|| self.ids[core % self.ids.len()])
    }
}

/// The shards' ports as far as there are any.
fn shard_ports(config: &Config, cores: usize) -> std::io::Result<Vec<u16>> {
    if !config.shard_ports {
        return Ok(Vec::new());
    }
    let ports: Vec<u16> = (0..cores).map(|core| cluster::port(config, core)).collect();
    // They end at the highest there is, instead of wrapping.
    match ports.windows(2).any(|two| two[0] == two[1]) {
        true => Err(Error::other(format!(
            "shard-port-base: {cores} ports from {} on do not fit below 65536",
            ports[0]
        ))),
        false => Ok(ports),
    }
}

/// Serves until told to stop.
pub fn serve(loaded: Loaded) -> std::io::Result<()> {
    let wanted = loaded.config.supervised;
    let supervised = !matches!(supervisor::find(wanted), Supervisor::None);
    if loaded.config.daemonize && !supervised {
        daemonize()?;
    }
    crate::config::log::install(&loaded.config).map_err(Error::other)?;
    supervisor::greet(wanted);
    if !Registry::start(&loaded.renames) {
        // They would stay callable by their old names.
        return Err(Error::other(
            "commands are renamed after somebody used them",
        ));
    }
    let config = Arc::new(loaded.config.clone());
    let cpus = Cpus::of(config.cpus.cpus())?;
    let cores = match config.shards {
        0 => cpus.ids.len().clamp(1, crate::mailbox::CORES_MAX),
        n => n as usize,
    };
    crate::banner::greet(&loaded, cores);
    let ports = shard_ports(&config, cores)?;

    let listeners = bind(&loaded)?;
    let mut shard_listeners: Vec<Vec<net::Listener>> = (0..cores).map(|_| Vec::new()).collect();
    for (list, port) in shard_listeners.iter_mut().zip(ports) {
        *list = bind_tcp(&loaded, port)?;
    }

    title::follow(&config, loaded.file.as_deref());
    if let Err(error) = oom::follow(&config) {
        tracing::warn!("Unable to write oom_score_adj: {error}");
    }
    // With the ports bound: a second server on them must not write over the first one's file.
    let _pid_file = PidFile::write(&config);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64);
    let users = crate::acl::file::at_start(&loaded).map_err(Error::other)?;
    let shared = Arc::new(Shared {
        acl: crate::acl::Directory::new(users),
        scripts: crate::scripts::Library::watched(),
        listening: Mutex::new(Listening::new(&config, &listeners)?),
        run_id: format!("{:016x}{:016x}{:08x}", random(), random(), random() as u32),
        started_unix_ms: now,
        ..Shared::new(loaded, cores)
    });
    // From here, where no CPU is chosen yet.
    shared.persistence.start_writer();
    shared.helpers.start(cores)?;
    ringwood_shard::memory::arena::use_small_pages(cores);
    shared.touching.start()?;
    let newest = shared.clone();
    crate::crash::install(move || crate::crash::newest_of(&newest));
    let hasher = KeyHasher::new(random());
    let engine = World::choose(config.io_engine);
    let snapshot = Some(config.dir.path().join(config.dbfilename.as_path()));
    let snapshot = snapshot.filter(|path| !config.dbfilename.is_empty() && path.exists());
    // With a log, it says what there was.
    let log = match config.appendonly {
        true => Some(open_log(&config, &shared, cores).map_err(Error::other)?),
        false => None,
    };
    let snapshot = log.as_ref().map_or(snapshot, |plan| plan.base.clone());
    let is_read = log.as_ref().is_some_and(aof::replay::Plan::has_commands);
    let is_loading = snapshot.is_some() || is_read;
    shared.aof.loading.store(is_loading, Ordering::Release);
    let (source, shares) = match snapshot.is_some() {
        true => Some(loading::begin(cores)).unzip(),
        false => (None, None),
    };
    let mut shares = shares.into_iter().flatten();
    let mut sockets = Vec::new();
    let begun = Instant::now();
    let (inboxes, boxes) = mailboxes(cores);
    let post = Post {
        inboxes,
        shared: shared.clone(),
    };
    aof::commit::prepare_syncers(post, cores)?;
    let (wakers_out, wakers_in) = mpsc::channel::<(usize, Result<Waker, Error>)>();
    let mut listeners = Some(listeners);
    let mut threads = Vec::new();
    let mut starts = Vec::new();
    for (id, (mailbox, own)) in boxes.into_iter().zip(shard_listeners).enumerate() {
        let (start, started) = mpsc::channel::<Vec<Waker>>();
        let next = match (&log, is_read) {
            (None, _) => Next::Serve,
            (Some(_), false) => Next::Log,
            (Some(_), true) => {
                let (ours, theirs) = UnixStream::pair()?;
                sockets.push(ours);
                Next::Commands(theirs)
            }
        };
        let plan = Plan {
            id,
            engine,
            cpu: cpus.of_core(id, cores),
            mailbox,
            shared: shared.clone(),
            hasher: hasher.clone(),
            listeners: if id == 0 {
                listeners.take().unwrap_or_default()
            } else {
                Vec::new()
            },
            shard_listeners: own,
            share: shares.next(),
            next,
        };
        let out = wakers_out.clone();
        let thread = std::thread::Builder::new()
            .name(format!("shard-{id}"))
            .spawn(move || run_core(plan, &out, &started))?;
        threads.push(thread);
        starts.push(start);
    }
    drop(wakers_out);
    let mut wakers: Vec<Option<Waker>> = vec![None; cores];
    for (id, waker) in wakers_in.iter().take(cores) {
        wakers[id] = Some(waker?);
    }
    let wakers: Vec<Waker> = wakers.into_iter().flatten().collect();
    if wakers.len() < cores {
        return Err(Error::other("a core ended while it started"));
    }
    for start in &starts {
        start
            .send(wakers.clone())
            .map_err(|_| Error::other("a core ended while it started"))?;
    }
    tracing::info!("Server initialized");
    // Also without a log: one may begin later.
    aof::log::start_syncing(&shared)?;
    if is_loading {
        supervisor::tell("STATUS=Loading the data\n");
        let commands = log.as_ref().map_or(0, aof::replay::Plan::size);
        let load = Load {
            shared: &shared,
            config: &config,
            wakers: &wakers,
            commands,
        };
        if let (Some(path), Some(source)) = (&snapshot, source) {
            load.snapshot(source, path)?;
        } else {
            shared.persistence.progress.begin(commands);
        }
        if let Some(plan) = log.filter(|_| is_read) {
            load.commands(&plan, sockets)?;
        }
        if load.wait() && is_read {
            tracing::info!(
                "DB loaded from append only file: {:.3} seconds",
                begun.elapsed().as_secs_f64()
            );
        }
    }
    if config.port > 0 && !is_stopping(&shared) {
        tracing::info!("Ready to accept connections tcp");
    }
    if !config.unixsocket.is_empty() && !is_stopping(&shared) {
        tracing::info!("Ready to accept connections unix");
    }
    if !is_stopping(&shared) {
        supervisor::ready();
    }
    let mut result = Ok(());
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => result = Err(error),
            Err(_) => result = Err(Error::other("a core panicked")),
        }
    }
    tracing::warn!("Ringwood is now ready to exit, bye bye...");
    result
}

/// SHUTDOWN may come while data are loaded.
fn is_stopping(shared: &Shared) -> bool {
    shared.stopping.load(Ordering::Acquire)
}

/// What is read while clients are told to wait.
struct Load<'s> {
    shared: &'s Shared,
    config: &'s Config,
    wakers: &'s [Waker],
    /// Bytes of the log's commands.
    commands: u64,
}

impl Load<'_> {
    fn snapshot(&self, source: loading::Source, path: &Path) -> std::io::Result<()> {
        let disk = &self.shared.aof.disk;
        let opened = disk.open(path).and_then(|file| Ok((file.size()?, file)));
        let fed = match opened {
            Ok((size, file)) => {
                self.shared.persistence.progress.begin(size + self.commands);
                source.feed(file, self.shared, self.config, self.wakers)
            }
            Err(error) => Err(Stopped::Broken(format!("cannot open it: {error}"))),
        };
        match fed {
            Err(Stopped::Broken(error)) => Err(Error::other(format!(
                "Fatal error loading the DB, check server logs. Exiting. {}: {error}. \
                 Terminating server after rdb file reading failure.",
                path.display()
            ))),
            // The cores end by themselves.
            Ok(()) | Err(Stopped::Ending) => Ok(()),
        }
    }
    fn commands(&self, plan: &aof::replay::Plan, sockets: Vec<UnixStream>) -> std::io::Result<()> {
        let fed = aof::replay::feed(plan, sockets, &self.shared.persistence.progress);
        match fed {
            Err(_) if is_stopping(self.shared) => Ok(()),
            fed => fed.map_err(Error::other),
        }
    }
    /// Waits until clients are let in. False: the server ends.
    fn wait(&self) -> bool {
        while self.shared.aof.loading.load(Ordering::Acquire) {
            if is_stopping(self.shared) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

/// Goes on in the background: in a child with its own session, its standard streams on /dev/null.
fn daemonize() -> std::io::Result<()> {
    // SAFETY: `daemon` forks, which is sound while the process has one thread; this is the first thing after reading the
    // configuration, before the log and the cores start theirs.
    match unsafe { libc::daemon(1, 0) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// The file with the process id, there as long as the process serves.
struct PidFile(PathBuf);

impl PidFile {
    /// Where `daemonize` puts it unless told otherwise.
    const DEFAULT: &str = "/var/run/ringwood.pid";

    /// As in Redis, a server that cannot write it starts all the same.
    fn write(config: &Config) -> Option<Self> {
        let path = match (config.pidfile.is_empty(), config.daemonize) {
            (true, false) => return None,
            (true, true) => PathBuf::from(Self::DEFAULT),
            (false, _) => config.dir.path().join(config.pidfile.as_path()),
        };
        match std::fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                tracing::warn!("Failed to write PID file {}: {error}", path.display());
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!("Failed to remove PID file {}: {error}", self.0.display());
        }
    }
}

/// What a core's thread starts from.
struct Plan {
    id: usize,
    engine: IoEngine,
    cpu: Option<usize>,
    mailbox: Mailbox,
    shared: Arc<Shared>,
    hasher: KeyHasher,
    listeners: Vec<net::Listener>,
    shard_listeners: Vec<net::Listener>,
    /// Of a snapshot, to be loaded first.
    share: Option<Share>,
    next: Next,
}

/// Looks through the log, and opens the files that are written next.
fn open_log(config: &Config, shared: &Shared, cores: usize) -> Result<aof::replay::Plan, String> {
    let (plan, files) = aof::replay::prepare(&shared.aof.disk, config, cores as u16)?;
    let started = shared.aof.start(files);
    started.map_err(|e| format!("Can't open the append-only file: {e}"))?;
    if plan.has_commands() {
        shared.aof.readers.store(cores, Ordering::Release);
    }
    Ok(plan)
}

fn run_core(
    plan: Plan,
    out: &mpsc::Sender<(usize, Result<Waker, Error>)>,
    started: &mpsc::Receiver<Vec<Waker>>,
) -> std::io::Result<()> {
    let Plan {
        id,
        engine,
        cpu,
        mailbox,
        shared,
        hasher,
        listeners,
        shard_listeners,
        share,
        next,
    } = plan;
    crate::crash::note_core(id);
    if let Some(cpu) = cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
    }
    let config = shared
        .config
        .lock()
        .unwrap_or_else(|e| e.into_inner())
        .clone();
    let mut io = match World::start(engine, shared.clients.len()) {
        Ok(io) => io,
        Err(error) => {
            let copy = Error::new(error.kind(), error.to_string());
            let _ = out.send((id, Err(error)));
            return Err(copy);
        }
    };
    let settings = Arc::new(settings(&config, &Settings::default()));
    let mut shard = Shard::new(settings, hasher, io.now().unix_ms, random());
    shard.transfer = shared.helpers.transfer();
    let owned = shared
        .owners
        .iter()
        .enumerate()
        .filter(|(_, o)| **o as usize == id);
    shard.owned = SlotSet::from_slots(owned.map(|(slot, _)| slot as u16));
    shard.keyspace.set_own_slots(&shard.owned);
    let _ = out.send((id, Ok(io.waker())));
    let Ok(wakers) = started.recv() else {
        return Ok(());
    };
    // Every core has the same ones.
    let _ = shared.scripts.wakers.set(wakers.clone());
    io.connect(wakers);
    if id == 0 {
        io.watch_signals()?;
    }
    for listener in listeners {
        let id = match listener.tcp_addr() {
            Some(_) => Listening::FIRST,
            None => Listening::FIXED,
        };
        io.listen(listener, id);
    }
    for listener in shard_listeners {
        io.listen(listener, SHARD_LISTENER);
    }
    let mut core = Core::new(id, io, shard, mailbox, shared);
    match (share, next) {
        (Some(share), next) => core.begin_loading(share, next),
        (None, Next::Serve) => {}
        (None, Next::Log) => core.start_logging(),
        (None, Next::Commands(stream)) => {
            core.shard.loading = true;
            core.adopt_loader(stream.into());
        }
    }
    core.run()
}

fn bind_tcp(loaded: &Loaded, port: u16) -> std::io::Result<Vec<net::Listener>> {
    let addresses = listening::addresses(&loaded.config);
    // The kernel takes a killed process's ring apart in the background, listening socket and all: a restart at once may
    // come before that is done.
    let patience = Instant::now() + Duration::from_millis(500);
    loop {
        match net::bind(&addresses, port, listening::tcp_options(&loaded.config)) {
            Ok(bound) => return Ok(bound.listeners),
            Err(e) if e.source.kind() == ErrorKind::AddrInUse && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) => {
                return Err(Error::other(format!(
                    "Could not create server TCP listening socket {}: {}",
                    e.addr, e.source
                )));
            }
        }
    }
}

fn bind(loaded: &Loaded) -> std::io::Result<Vec<net::Listener>> {
    let config = &loaded.config;
    let mut listeners = if config.port > 0 {
        bind_tcp(loaded, config.port)?
    } else {
        Vec::new()
    };
    if !config.unixsocket.is_empty() {
        let path = config.dir.path().join(config.unixsocket.as_path());
        let mode = (config.unixsocketperm > 0).then_some(config.unixsocketperm);
        let group = (!config.unixsocketgroup.is_empty()).then_some(&config.unixsocketgroup[..]);
        let listener =
            net::Listener::unix(&path, mode, group, config.tcp_backlog).map_err(|e| {
                Error::other(format!(
                    "Failed opening Unix socket {}: {e}",
                    path.display()
                ))
            })?;
        listeners.push(listener);
    }
    if listeners.is_empty() {
        return Err(Error::other("Configured to not listen anywhere, exiting."));
    }
    Ok(listeners)
}
