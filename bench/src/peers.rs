//! The servers that are measured: found, started apart from the load, and stopped again.
//!
//! Every server runs without persistence on 127.0.0.1 on a port of its own, in a directory of its own that is removed
//! afterwards, kept on the CPUs given. It is killed by its process id when its [`Server`] is dropped: at the end,
//! after an error, and after Ctrl-C (which is an error here, see `os::check_interrupt`).

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::conn::{Client, Greeting, Target};
use crate::floor;
use crate::os;

/// How a server is told what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `--port` and so on as Redis takes them.
    Redis,
    Ringwood,
    Dragonfly,
    Kevy,
}

/// A server that can be measured.
#[derive(Debug, Clone, Copy)]
struct Spec {
    /// What the user calls it.
    id: &'static str,
    title: &'static str,
    /// Names of its program: in the peers' `bin`, then on PATH.
    programs: &'static [&'static str],
    style: Style,
    /// Debian's jemalloc is preloaded: the program was built without.
    jemalloc: bool,
    install: &'static str,
}

impl Spec {
    const fn redis(
        id: &'static str,
        title: &'static str,
        programs: &'static [&'static str],
    ) -> Spec {
        let install = "bench/peers.sh puts it in ./peers";
        Spec {
            id,
            title,
            programs,
            style: Style::Redis,
            jemalloc: false,
            install,
        }
    }
}

const SPECS: &[Spec] = &[
    Spec {
        style: Style::Ringwood,
        install: "build it (`cargo build --release`) or give --ringwood PATH",
        ..Spec::redis("ringwood", "Ringwood", &["ringwood"])
    },
    Spec::redis(
        "redis-7.0",
        "Redis 7.0",
        &["redis-server-7.0", "redis-server"],
    ),
    Spec::redis("redis-8.2", "Redis 8.2", &["redis-server-8.2"]),
    Spec {
        jemalloc: true,
        ..Spec::redis(
            "valkey-9.1",
            "Valkey 9.1",
            &["valkey-server-9.1", "valkey-server"],
        )
    },
    Spec {
        style: Style::Dragonfly,
        install: "put its program in peers/bin",
        ..Spec::redis("dragonfly", "Dragonfly", &["dragonfly"])
    },
    Spec {
        style: Style::Kevy,
        install: "bench/peers.sh --all builds it",
        ..Spec::redis("kevy", "kevy 3.17", &["kevy"])
    },
];

/// Options about which servers to measure and where they are.
#[derive(Debug, Clone, clap::Args)]
pub struct PeerArgs {
    /// Servers to measure: ringwood, redis-7.0, redis-8.2, valkey-9.1, dragonfly, kevy [default: all that are found]
    #[arg(long, value_delimiter = ',')]
    pub servers: Vec<String>,
    /// Where bench/peers.sh put the peers [default: $RINGWOOD_PEERS, then ./peers, then PATH]
    #[arg(long, value_name = "DIR")]
    pub peers_dir: Option<PathBuf>,
    /// Ringwood's program [default: target/release/ringwood, then beside this program]
    #[arg(long, value_name = "PATH")]
    pub ringwood: Option<PathBuf>,
    /// Further arguments for Ringwood, as one word: --ringwood-args="--io-engine epoll"
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub ringwood_args: Option<String>,
    /// First of the ports for the servers
    #[arg(long, default_value_t = 22000)]
    pub base_port: u16,
}

/// A server that was found.
#[derive(Debug, Clone)]
pub struct Peer {
    pub id: &'static str,
    pub title: &'static str,
    program: PathBuf,
    style: Style,
    preload: Option<PathBuf>,
    libraries: Option<PathBuf>,
    extra: Vec<String>,
}

impl Peer {
    pub fn is_ringwood(&self) -> bool {
        self.style == Style::Ringwood
    }

    /// Whether it can be told how many threads to serve with.
    pub fn takes_shards(&self) -> bool {
        self.style != Style::Redis
    }

    /// Whether its shards can have ports of their own.
    pub fn takes_shard_ports(&self) -> bool {
        matches!(self.style, Style::Ringwood | Style::Kevy)
    }

    /// Where its program is, for the record.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

/// The servers to measure, in the order of the table; those not found are named on standard error.
pub fn find(args: &PeerArgs) -> Result<Vec<Peer>> {
    if let Some(id) = args
        .servers
        .iter()
        .find(|id| !SPECS.iter().any(|s| s.id == **id))
    {
        let ids: Vec<_> = SPECS.iter().map(|s| s.id).collect();
        bail!("there is no server {id:?}; there are: {}", ids.join(" "));
    }
    let mut peers = Vec::new();
    for spec in SPECS {
        let asked = args.servers.iter().any(|id| id == spec.id);
        if !asked && !args.servers.is_empty() {
            continue;
        }
        match locate(spec, args) {
            Some(peer) => peers.push(peer),
            None if asked => bail!("{}: not found; {}", spec.title, spec.install),
            None => eprintln!("left out: {} ({})", spec.title, spec.install),
        }
    }
    if peers.is_empty() {
        bail!("no server was found");
    }
    Ok(peers)
}

fn locate(spec: &Spec, args: &PeerArgs) -> Option<Peer> {
    let dirs: Vec<PathBuf> = match &args.peers_dir {
        Some(dir) => vec![dir.clone()],
        None => env::var_os("RINGWOOD_PEERS")
            .map(PathBuf::from)
            .into_iter()
            .chain(["peers".into()])
            .collect(),
    };
    let program = if spec.style == Style::Ringwood {
        let beside = env::current_exe()
            .ok()
            .and_then(|p| Some(p.parent()?.join("ringwood")));
        args.ringwood.clone().or_else(|| {
            [Some(PathBuf::from("target/release/ringwood")), beside]
                .into_iter()
                .flatten()
                .find(|p| p.is_file())
        })?
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        let places: Vec<PathBuf> = dirs
            .iter()
            .map(|d| d.join("bin"))
            .chain(env::split_paths(&path))
            .collect();
        // A peer's own name first, wherever it is: `redis-server` on PATH may be of any version.
        let mut files = spec
            .programs
            .iter()
            .flat_map(|p| places.iter().map(move |d| d.join(p)));
        files.find(|p| p.is_file())?
    };
    let mut preload = None;
    if spec.jemalloc {
        let places = dirs
            .iter()
            .map(|d| d.join("lib"))
            .chain(["/usr/lib/x86_64-linux-gnu".into()]);
        preload = places
            .map(|d: PathBuf| d.join("libjemalloc.so.2"))
            .find_map(|p| fs::canonicalize(p).ok());
        if preload.is_none() {
            eprintln!(
                "{}: no libjemalloc.so.2 to preload, its figures will be worse than they could be",
                spec.title
            );
        }
    }
    let extra = args
        .ringwood_args
        .as_deref()
        .filter(|_| spec.style == Style::Ringwood);
    Some(Peer {
        id: spec.id,
        title: spec.title,
        // The server starts in a directory of its own, so a relative path would not do.
        program: fs::canonicalize(&program).unwrap_or(program),
        style: spec.style,
        preload,
        libraries: dirs
            .iter()
            .find_map(|d| fs::canonicalize(d.join("lib")).ok()),
        extra: extra
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_string)
            .collect(),
    })
}

/// How a server is to run.
#[derive(Debug, Clone)]
pub struct Setup {
    pub port: u16,
    /// The CPUs that it may use.
    pub cpus: Vec<usize>,
    /// Threads, for servers that have them.
    pub shards: usize,
    /// A port per shard too, from `port + 1`.
    pub shard_ports: bool,
    /// It begins with this snapshot, which may take so long.
    pub snapshot: Option<(PathBuf, Duration)>,
}

impl Setup {
    /// On its ordinary port alone.
    pub fn new(port: u16, cpus: Vec<usize>, shards: usize) -> Self {
        Self {
            port,
            cpus,
            shards,
            shard_ports: false,
            snapshot: None,
        }
    }
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Server {
    pub pid: u32,
    pub target: Target,
    /// Name and version by its own word.
    pub version: String,
    child: Child,
    dir: PathBuf,
    title: String,
    start_limit: Duration,
}

const START_LIMIT: Duration = Duration::from_secs(20);

impl Server {
    /// Starts a peer and waits until it answers.
    pub fn start(peer: &Peer, setup: &Setup) -> Result<Server> {
        let mut command = Command::new(&peer.program);
        if let Some(preload) = &peer.preload {
            command.env("LD_PRELOAD", preload);
        }
        if let Some(libraries) = &peer.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.args(arguments(peer.style, setup)).args(&peer.extra);
        let mut server = Server::spawn(command, peer.title, setup)?;
        let mut client = server.wait_until_ready(|target| {
            let mut client = Client::connect(target, &Greeting::default(), START_LIMIT)?;
            client.call(&["PING"])?;
            Ok(client)
        })?;
        server.version = version(&mut client).unwrap_or_else(|| peer.title.to_string());
        Ok(server)
    }

    /// Starts an echo floor as a process of its own. Without a request size it looks for each request's start.
    pub fn start_floor(
        kind: floor::Kind,
        reply: usize,
        request: Option<usize>,
        setup: &Setup,
    ) -> Result<Server> {
        let mut command = Command::new(env::current_exe().context("this program's own path")?);
        command.arg("floor-server").args(["--kind", kind.arg()]);
        for (option, value) in [
            ("--port", usize::from(setup.port)),
            ("--reply-size", reply),
            ("--request-size", request.unwrap_or(0)),
        ] {
            command.args([option, &value.to_string()]);
        }
        let mut server = Server::spawn(command, kind.name(), setup)?;
        // A floor answers nothing but whole requests of its size: that it accepts is enough.
        server.wait_until_ready(|target| {
            Client::connect(target, &Greeting::default(), START_LIMIT)
        })?;
        Ok(server)
    }

    fn spawn(mut command: Command, title: &str, setup: &Setup) -> Result<Server> {
        let target = Target::local(setup.port);
        wait_until_free(&target)?;
        let dir = env::temp_dir().join(format!(
            "ringwood-bench-{}-{}",
            std::process::id(),
            setup.port
        ));
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let log = File::create(dir.join("log")).context("the server's log")?;
        let mut start_limit = START_LIMIT;
        if let Some((snapshot, limit)) = &setup.snapshot {
            std::os::unix::fs::symlink(snapshot, dir.join("dump.rdb")).context("the snapshot")?;
            start_limit = *limit;
        }
        command
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let what = command.get_program().to_string_lossy().into_owned();
        // The child inherits the CPUs that this thread has at the moment.
        let child = os::pinned(&setup.cpus, || command.spawn())?
            .with_context(|| format!("starting {what}"))?;
        let pid = child.id();
        Ok(Server {
            pid,
            target,
            version: title.to_string(),
            child,
            dir,
            title: title.to_string(),
            start_limit,
        })
    }

    fn wait_until_ready<T>(&mut self, ready: impl Fn(&Target) -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + self.start_limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended at its start ({status}):\n{}",
                    self.title,
                    self.log_tail()
                );
            }
            match ready(&self.target) {
                Ok(value) => return Ok(value),
                Err(e) if Instant::now() > deadline => {
                    return Err(e.context(format!(
                        "{} does not answer:\n{}",
                        self.title,
                        self.log_tail()
                    )));
                }
                Err(_) => os::sleep(Duration::from_millis(20))?,
            }
        }
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// The better error, if the server has ended: how, and its last words instead of "connection reset".
    pub fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        match self.child.try_wait() {
            Ok(Some(status)) => anyhow!("{} ended ({status}):\n{}", self.title, self.log_tail()),
            _ => error.context(self.title.clone()),
        }
    }

    pub fn client(&self) -> Result<Client> {
        Client::connect(&self.target, &Greeting::default(), crate::data::PATIENCE)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is to be kept; an error here means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The kernel closes the sockets of a ring some time after its process has gone, so a port may stay in use briefly.
fn wait_until_free(target: &Target) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(3);
    while Client::connect(target, &Greeting::default(), Duration::from_secs(1)).is_ok() {
        if Instant::now() > deadline {
            bail!("something already listens on {target}: give another --base-port");
        }
        os::sleep(Duration::from_millis(20))?;
    }
    Ok(())
}

fn arguments(style: Style, setup: &Setup) -> Vec<String> {
    let port = setup.port.to_string();
    let shards = setup.shards.to_string();
    let cpus: Vec<String> = setup.cpus.iter().map(usize::to_string).collect();
    let cpus = cpus.join(",");
    let mut words: Vec<&str> = match style {
        Style::Redis | Style::Ringwood => {
            vec![
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--maxclients",
                "15000",
            ]
        }
        Style::Dragonfly => vec![
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--dbfilename",
            "",
            "--logtostderr",
        ],
        Style::Kevy => vec![
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--no-aof",
            "--threads",
            &shards,
        ],
    };
    match style {
        Style::Ringwood => {
            words.extend(["--shards", &shards]);
            if !cpus.is_empty() {
                words.extend(["--cpus", &cpus]);
            }
            if setup.shard_ports {
                words.extend(["--shard-ports", "yes"]);
            }
        }
        Style::Dragonfly => words.extend(["--proactor_threads", &shards]),
        Style::Kevy if setup.shard_ports => words.push("--cluster"),
        Style::Redis | Style::Kevy => {}
    }
    words.into_iter().map(str::to_string).collect()
}

/// What the server says that it is. Ringwood and Valkey also claim a Redis version, for clients' sake.
fn version(client: &mut Client) -> Option<String> {
    for (field, name) in [
        ("ringwood_version", "Ringwood"),
        ("valkey_version", "Valkey"),
        ("dragonfly_version", "Dragonfly"),
        ("redis_version", "Redis"),
    ] {
        if let Ok(Some(version)) = client.info("server", field) {
            return Some(format!("{name} {version}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_each_style() {
        let setup = Setup {
            shard_ports: true,
            ..Setup::new(7000, vec![0, 1], 2)
        };
        let line = |style| arguments(style, &setup).join(" ");
        assert!(
            line(Style::Redis).starts_with("--port 7000 --bind 127.0.0.1 --save  --appendonly no")
        );
        assert!(line(Style::Ringwood).ends_with("--shards 2 --cpus 0,1 --shard-ports yes"));
        assert!(line(Style::Kevy).ends_with("--threads 2 --cluster"));
        assert!(line(Style::Dragonfly).ends_with("--proactor_threads 2"));
    }

    #[test]
    fn unknown_servers_are_named() {
        let args = PeerArgs {
            servers: vec!["memcached".into()],
            peers_dir: None,
            ringwood: None,
            ringwood_args: None,
            base_port: 0,
        };
        assert!(find(&args).unwrap_err().to_string().contains("memcached"));
    }

    /// A server that ends at once is an error with its output, and leaves nothing behind.
    #[test]
    fn a_failed_start_shows_the_log() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo no luck >&2; exit 3"]);
        let setup = Setup::new(1, vec![], 1);
        let mut server = Server::spawn(command, "Test", &setup).unwrap();
        let dir = server.dir.clone();
        let connect = |target: &Target| Client::connect(target, &Greeting::default(), START_LIMIT);
        let error = server.wait_until_ready(connect).err().unwrap().to_string();
        assert!(error.contains("no luck") && error.contains('3'), "{error}");
        drop(server);
        assert!(!dir.exists());
    }
}
