//! The configuration beside real servers: names, built-in values, CONFIG SET's answers, start errors, CONFIG REWRITE.
//!
//! Each test starts its own peer on a free port in a folder of its own, asks it and `ringwood::config` the same, and
//! compares. Intended differences are listed with their reasons.

mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringwood::config::enums::ProtectedAction;
use ringwood::config::{self, Config, DIRECTIVES, Loaded, Situation, cli, file};

/// The peers: name under $RINGWOOD_PEERS/bin, name on the PATH, and what its --version has to contain.
const REDIS_7_0: (&str, &str, &str) = ("redis-server-7.0", "redis-server", "v=7.0.");
const REDIS_8_2: (&str, &str, &str) = ("redis-server-8.2", "redis-server-8.2", "v=8.2.");
const VALKEY_9_1: (&str, &str, &str) = ("valkey-server-9.1", "valkey-server", "v=9.1.");

/// The program of a peer. Without it a test does nothing, except under ./check, where it fails.
fn program((own, path, version): (&str, &str, &str)) -> Option<PathBuf> {
    let own =
        std::env::var_os("RINGWOOD_PEERS").map(|folder| Path::new(&folder).join("bin").join(own));
    let found = own
        .into_iter()
        .chain([PathBuf::from(path)])
        .find(|program| {
            let output = Command::new(program).arg("--version").output();
            output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(version))
        });
    if found.is_none() {
        let message = format!("no {path} {version}: run bench/peers.sh");
        assert!(
            std::env::var_os("RINGWOOD_REQUIRE_PEERS").is_none(),
            "{message}"
        );
        eprintln!("skipped: {message}");
    }
    found
}

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("ringwood-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path.canonicalize().unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A connection to a server that has answered on it: one that only listens so far may still close it.
fn answering(port: u16) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0; 7];
    stream.read_exact(&mut reply)?;
    match &reply {
        b"+PONG\r\n" => Ok(stream),
        other => Err(std::io::Error::other(format!("{:?}", other.escape_ascii()))),
    }
}

/// A running peer and a connection to it.
struct Peer {
    child: Child,
    connection: BufReader<TcpStream>,
}

impl Peer {
    fn start(program: &Path, folder: &Folder, args: &[&str]) -> Peer {
        let port = ports::free_ports(1);
        let mut command = Command::new(program);
        command
            .args(args)
            .args(["--port", &port.to_string()])
            .current_dir(&folder.0);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match answering(port) {
                Ok(stream) => break stream,
                Err(error) => assert!(
                    Instant::now() < deadline,
                    "{} does not answer: {error}",
                    program.display()
                ),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        Peer {
            child,
            connection: BufReader::new(stream),
        }
    }

    /// Sends a command; a status, an error or the items of a flat array.
    fn call(&mut self, args: &[&str]) -> Result<Vec<String>, String> {
        let mut request = format!("*{}\r\n", args.len());
        for arg in args {
            request += &format!("${}\r\n{arg}\r\n", arg.len());
        }
        self.connection
            .get_mut()
            .write_all(request.as_bytes())
            .unwrap();
        let head = self.line();
        let (kind, rest) = head.split_at(1);
        match kind {
            "+" => Ok(vec![rest.to_string()]),
            "-" => Err(rest.to_string()),
            "*" => Ok((0..rest.parse().unwrap()).map(|_| self.bulk()).collect()),
            _ => panic!("unexpected reply {head}"),
        }
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.connection.read_until(b'\n', &mut line).unwrap();
        String::from_utf8(line).unwrap().trim_end().to_string()
    }

    fn bulk(&mut self) -> String {
        let length: usize = self.line()[1..].parse().unwrap();
        let mut text = vec![0; length + 2];
        self.connection.read_exact(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    fn get(&mut self, pattern: &str) -> BTreeMap<String, String> {
        let items = self.call(&["CONFIG", "GET", pattern]).unwrap();
        let (pairs, []) = items.as_chunks::<2>() else {
            panic!("odd reply {items:?}")
        };
        pairs
            .iter()
            .map(|[name, value]| (name.clone(), value.clone()))
            .collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its own child: the process id is ours for as long as it has not been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(config: &Config, pattern: &str) -> BTreeMap<String, String> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    config
        .get(&[pattern])
        .into_iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

fn load(args: &[&str]) -> Result<Loaded, String> {
    match cli::parse(args.iter().map(OsString::from)) {
        cli::Invocation::Serve(start) => {
            file::load(&start, &mut std::io::empty()).map_err(|error| error.to_string())
        }
        other => panic!("{args:?} is not a start: {other:?}"),
    }
}

/// Built-in values that differ from the peer's on purpose: Redis 8.2's are taken where the three disagree.
const OTHER_DEFAULTS: &[(&str, &str)] = &[
    ("dir", "where the test runs"),
    ("port", "the test's"),
    ("syslog-ident", "Valkey's name"),
    ("repl-backlog-size", "Valkey has 10mb"),
    ("hide-user-data-from-log", "Valkey has yes"),
    ("lazyfree-lazy-eviction", "Valkey has yes"),
    ("lazyfree-lazy-expire", "Valkey has yes"),
    ("lazyfree-lazy-server-del", "Valkey has yes"),
    ("lazyfree-lazy-user-del", "Valkey has yes"),
    ("lazyfree-lazy-user-flush", "Valkey has yes"),
    ("replica-lazy-flush", "Valkey has yes"),
    ("slave-lazy-flush", "Valkey has yes"),
    ("hash-seed", "Valkey makes one up"),
];

/// Every directive of the peer is known, visible, and has its built-in value; what it prints can be read back.
fn names_and_values(peer: (&str, &str, &str), name: &str) {
    let Some(program) = program(peer) else { return };
    let folder = Folder::new(name);
    let theirs = Peer::start(&program, &folder, &[]).get("*");
    assert!(theirs.len() > 150, "{} directives", theirs.len());
    let ours = get(&Config::default(), "*");
    let mut text = String::new();
    for (directive, value) in &theirs {
        let own = ours
            .get(directive)
            .unwrap_or_else(|| panic!("{directive} is unknown or hidden"));
        if !OTHER_DEFAULTS.iter().any(|(known, _)| known == directive) {
            assert_eq!(own, value, "{directive}");
        }
        let quoted = config::value::quoted(value.as_bytes());
        text += &format!("{directive} {}\n", String::from_utf8(quoted).unwrap());
    }
    let path = folder.0.join("all.conf");
    std::fs::write(&path, text).unwrap();
    let loaded = load(&[path.to_str().unwrap()]).unwrap();
    let ours = get(&loaded.config, "*");
    for (directive, value) in &theirs {
        assert_eq!(&ours[directive], value, "{directive} after reading it");
    }
}

#[test]
fn redis_7_0_names_and_values() {
    names_and_values(REDIS_7_0, "names-redis-7");
}

#[test]
fn redis_8_2_names_and_values() {
    names_and_values(REDIS_8_2, "names-redis-8");
}

#[test]
fn valkey_9_1_names_and_values() {
    names_and_values(VALKEY_9_1, "names-valkey-9");
}

/// Values of every kind and some of none.
const PROBES: &[&str] = &[
    "yes",
    "no",
    "YES",
    "0",
    "1",
    "-1",
    "-2",
    "5",
    "20",
    "100",
    "101",
    "65536",
    "1000000",
    "2147483647",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "1kb",
    "10mb",
    "1g",
    "1G",
    "2K",
    "5%",
    "101%",
    "-5%",
    "abc",
    "",
    " ",
    "3.5",
    "007",
    "+3",
    " 4",
    "4 ",
    "a b",
    "1 2 3",
    "0 0 0",
    "60 1",
    "60 1 30 5",
    "60 -1",
    "/tmp",
    "/nonexist",
    "/etc/passwd",
    "a/b",
    "everysec",
    "ALWAYS",
    "allkeys-lru",
    "local",
    "notice",
    "warning",
    "x\"y",
    "KEA",
    "Ag$",
    "Km",
    "Kq",
    "{title}",
    "{title",
    "{port}{config-file}x",
    "now force",
    "nosave",
    "save nosave",
    "default",
    "50 99.9",
    "100.5",
    "1e1",
    "hostname",
    "ip",
    "a.b-c",
    "a_b",
    "relative",
    "absolute",
    "panic",
    "clients",
    "swapdb",
    "optional",
    "resetchannels",
];

/// Directives that the probes would make the peer act on, or that its build refuses.
const NOT_PROBED: &[(&str, &str)] = &[
    ("port", "the peer listens elsewhere"),
    ("bind", "the peer listens elsewhere"),
    ("bind-source-addr", "used at once"),
    ("maxclients", "bounded by the number of open files"),
    ("maxmemory-clients", "closes the test's connection"),
    ("client-output-buffer-limit", "closes the test's connection"),
    ("timeout", "closes the test's connection"),
    ("oom-score-adj", "the kernel may refuse"),
    ("oom-score-adj-values", "the kernel may refuse"),
    ("tls-", "acted on by a TLS library that the peer may lack"),
    ("jemalloc-bg-thread", "the peer's allocator decides"),
    ("appendonly", "writes the log"),
    ("locale-collate", "the system's locales decide"),
    (
        "set-proc-title",
        "immutable here too, but a bool of the process",
    ),
];

/// Answers that differ on purpose.
fn differs_on_purpose(directive: &str, value: &str) -> Option<&'static str> {
    match (directive, value) {
        ("loglevel", _) => Some("the list of words has Valkey's and 8.2's `nothing`"),
        ("repl-diskless-load", _) => Some("the list of words has Valkey's `flush-before-load`"),
        ("shutdown-on-sigint" | "shutdown-on-sigterm", _) => Some("the list of words has Valkey's"),
        ("io-threads", _) => Some("Valkey's range"),
        ("maxmemory-samples", _) => Some("8.2's and Valkey's range"),
        ("notify-keyspace-events", "no") => Some("8.2's class o"),
        (_, "9223372036854775808") => Some("8.2 refuses memory beyond 63 bits, in these words"),
        ("save", "4 ") => Some("a missing number of changes is no zero here"),
        ("activedefrag", _) if value.eq_ignore_ascii_case("yes") => {
            Some("Redis with its own allocator, which most have, takes it; so does this")
        }
        _ => None,
    }
}

#[test]
fn redis_7_0_config_set_answers() {
    let Some(program) = program(REDIS_7_0) else {
        return;
    };
    let folder = Folder::new("set");
    let args = [
        "--enable-protected-configs",
        "yes",
        "--save",
        "",
        "--dir",
        folder.0.to_str().unwrap(),
    ];
    let mut peer = Peer::start(&program, &folder, &args);
    let mut config = Config {
        enable_protected_configs: ProtectedAction::Yes,
        ..Config::default()
    };
    config.set(b"save", b"").unwrap();
    config
        .set(b"dir", folder.0.to_str().unwrap().as_bytes())
        .unwrap();
    let mut wrong = Vec::new();
    let mut compared = 0;
    'directives: for directive in peer.get("*").into_keys() {
        if NOT_PROBED
            .iter()
            .any(|(prefix, _)| directive.starts_with(prefix))
        {
            continue;
        }
        let before = peer.get(&directive).remove(&directive).unwrap();
        for value in PROBES.iter().copied().chain([before.as_str()]) {
            let theirs = peer.call(&["CONFIG", "SET", &directive, value]).map(|_| ());
            let ours = config
                .set(directive.as_bytes(), value.as_bytes())
                .map_err(|error| error.to_string());
            let (theirs_now, ours_now) = (peer.get(&directive), get(&config, &directive));
            compared += 1;
            if theirs == ours && theirs_now == ours_now {
                continue;
            }
            if differs_on_purpose(&directive, value).is_none() {
                wrong.push(format!(
                    "{directive} {value:?}: {theirs:?} {theirs_now:?}, ours {ours:?} {ours_now:?}"
                ));
            }
            if config
                .set(directive.as_bytes(), theirs_now[&directive].as_bytes())
                .is_err()
            {
                // No common state to go on from.
                continue 'directives;
            }
        }
    }
    assert!(compared > 5000, "{compared}");
    assert!(
        wrong.is_empty(),
        "{} of {compared} answers differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn redis_7_0_config_set_of_many() {
    let Some(program) = program(REDIS_7_0) else {
        return;
    };
    let folder = Folder::new("many");
    let mut peer = Peer::start(&program, &folder, &[]);
    let config = Arc::new(Config::default());
    let cases: &[&[&str]] = &[
        &["timeout", "5", "timeout", "6"],
        &["timeout", "5", "TimeOut", "6"],
        &["timeout", "5", "foo", "6"],
        &["foo", "5", "bar", "6"],
        &["hz", "x", "databases", "4"],
        &["databases", "4", "hz", "x"],
        &["databases", "4", "foo", "x"],
        &["hz", "x", "hz", "4"],
        &["hz", "4", "lfu-log-factor", "x"],
        &["dbfilename", "x", "hz", "y"],
        &[
            "hash-max-listpack-value",
            "1",
            "hash-max-ziplist-value",
            "2",
        ],
        &["lua-time-limit", "1", "hz", "3"],
    ];
    for case in cases {
        let (pairs, []) = case.as_chunks::<2>() else {
            panic!("odd case")
        };
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|[name, value]| (*name, *value)).collect();
        let theirs = peer.call(&[&["CONFIG", "SET"], *case].concat()).map(|_| ());
        let change = config.change(&pairs, Situation::default());
        let ours = change.and_then(|change| change.apply(&mut |_, _| Ok(())));
        assert_eq!(
            ours.map(|_| ()).map_err(|error| error.to_string()),
            theirs,
            "{case:?}"
        );
    }
    let theirs = peer.get("hash-max-ziplist-value");
    assert_eq!(theirs["hash-max-ziplist-value"], "2");
    let patterns = [
        "PORT",
        "*zip*",
        "[l]fu-*",
        "hz*",
        "watchdog-period",
        "client-outp?t*",
        "nothing",
    ];
    let skip = |name: &str| name.eq_ignore_ascii_case("port") || name.contains("zip");
    for pattern in patterns {
        let names = |found: BTreeMap<String, String>| found.into_keys().collect::<BTreeSet<_>>();
        assert_eq!(
            names(get(&config, pattern)),
            names(peer.get(pattern)),
            "{pattern}"
        );
        if !skip(pattern) && pattern != "hz*" {
            assert_eq!(get(&config, pattern), peer.get(pattern), "{pattern}");
        }
    }
}

/// What the peer and Ringwood say about the same wrong start.
#[test]
fn redis_7_0_start_errors() {
    let Some(program) = program(REDIS_7_0) else {
        return;
    };
    let folder = Folder::new("errors");
    let path = folder.0.join("test.conf");
    let cases: &[(&str, &[&str])] = &[
        ("foo", &[]),
        ("\n# x\n  port 1 2", &[]),
        ("port", &[]),
        ("port x", &[]),
        ("port \"12", &[]),
        ("port '1'2", &[]),
        ("save \"\" 60 1", &[]),
        ("save 60", &[]),
        ("maxmemory 10x", &[]),
        ("maxmemory-policy lru", &[]),
        ("appendonly on", &[]),
        ("unixsocketperm 888", &[]),
        ("unixsocketperm 1777", &[]),
        ("dir /nonexist", &[]),
        ("dbfilename a/b", &[]),
        ("appendfilename \"\"", &[]),
        ("appendfilename a/b", &[]),
        ("appenddirname \"\"", &[]),
        ("appenddirname a/b", &[]),
        ("replicaof a", &[]),
        ("replicaof a x", &[]),
        ("cluster-enabled yes\nreplicaof a 5", &[]),
        ("sentinel x", &[]),
        ("include", &[]),
        ("loadmodule", &[]),
        ("user", &[]),
        ("rename-command x", &[]),
        ("rename-command nosuch x", &[]),
        ("rename-command GET set", &[]),
        ("rename-command GET \"\"\nrename-command GET x", &[]),
        ("client-output-buffer-limit normal 1 2", &[]),
        ("logfile /nonexist/log", &[]),
        ("", &["--foo", "1"]),
        ("", &["--port"]),
        ("", &["--port", "--hz", "5"]),
        ("", &["--hz", "5", "--port", "x y"]),
        ("", &["--hz 5", "--port", "x"]),
        ("", &["x"]),
    ];
    for (text, args) in cases {
        std::fs::write(&path, text).unwrap();
        let mut all = vec![path.to_str().unwrap()];
        all.extend_from_slice(args);
        let output = Command::new(&program)
            .args(&all)
            .current_dir(&folder.0)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{text} {args:?}");
        let reason = |text: &str| {
            // Ringwood counts the lines of each origin by itself and names the origin.
            let lines = text
                .lines()
                .filter(|line| !line.starts_with("Reading ") && !line.starts_with("*** FATAL"));
            lines
                .filter(|line| !line.is_empty())
                .map(str::to_string)
                .collect::<Vec<_>>()
        };
        let theirs = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours = load(&all).map(|_| ()).unwrap_err();
        assert_eq!(reason(&ours), reason(&theirs), "{text} {args:?}");
        if args.is_empty() {
            let line = |text: &str| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("Reading the configuration file, at line "));
                line.map(|line| line.split(' ').next().unwrap_or_default().to_string())
            };
            assert_eq!(line(&ours), line(&theirs), "{text}");
        }
    }
}

/// Both rewrite the same file after the same changes.
#[test]
fn redis_7_0_rewrites_alike() {
    let Some(program) = program(REDIS_7_0) else {
        return;
    };
    let folder = Folder::new("rewrite");
    let (theirs, ours) = (folder.0.join("theirs.conf"), folder.0.join("ours.conf"));
    let text = format!(
        "# comment\n\n\n  Timeout 10 # no comment\n\n# \"x\nsave 100 1\nsave 200 2\nslave-priority 7\nmaxmemory 3mb\n\
         notify-keyspace-events \"Ex\"\nhash-max-ziplist-value 1kb\nclient-output-buffer-limit pubsub 1mb 2kb 3\n\
         rename-command SHUTDOWN \"\"\nmasterauth \"a\\x00b\"\nlogfile \"\"\nhz 10\nsave 300 3\ndir {}\n",
        folder.0.display()
    );
    let text = text.replace(" # no comment", "");
    for path in [&theirs, &ours] {
        std::fs::write(path, &text).unwrap();
    }
    let mut peer = Peer::start(&program, &folder, &[theirs.to_str().unwrap()]);
    let port = peer.get("port").remove("port").unwrap();
    let mut loaded = load(&[ours.to_str().unwrap(), "--port", &port]).unwrap();
    let changes: &[&[(&str, &str)]] = &[
        &[
            ("timeout", "11"),
            ("maxmemory", "1500"),
            ("masterauth", ""),
            ("lfu-log-factor", "3"),
        ],
        &[
            ("save", "5 5"),
            ("maxmemory-clients", "7%"),
            ("notify-keyspace-events", ""),
            ("lfu-log-factor", "10"),
        ],
        &[
            ("client-output-buffer-limit", "normal 1gb 1mb 5"),
            ("proc-title-template", "x{port}"),
            ("requirepass", "q\""),
        ],
        &[
            ("save", ""),
            (
                "client-output-buffer-limit",
                "normal 0 0 0 slave 256mb 64mb 60",
            ),
            ("shutdown-on-sigint", "now save"),
        ],
        &[
            ("save", "1 1 2 2"),
            ("latency-tracking-info-percentiles", "50 99"),
            ("requirepass", ""),
            ("activerehashing", "no"),
        ],
    ];
    for step in changes {
        for (name, value) in *step {
            peer.call(&["CONFIG", "SET", name, value]).unwrap();
            loaded
                .config
                .set(name.as_bytes(), value.as_bytes())
                .unwrap();
        }
        peer.call(&["CONFIG", "REWRITE"]).unwrap();
        config::rewrite(
            loaded.file.as_deref(),
            &loaded.config,
            None,
            config::Extent::Changed,
        )
        .unwrap();
        let (theirs, ours) = (read_parts(&theirs), read_parts(&ours));
        assert_eq!(ours.0, theirs.0, "after {step:?}");
        assert_eq!(ours.1, theirs.1, "after {step:?}");
    }
}

/// The lines before the mark in order, and those below it as a set: Redis's order there is a hash table's. Its users
/// are left out, and the percentiles, which it writes even if they are the built-in ones.
fn read_parts(path: &Path) -> (Vec<String>, BTreeSet<String>) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(str::to_string);
    let above = lines
        .by_ref()
        .take_while(|line| line != "# Generated by CONFIG REWRITE")
        .collect();
    let below = lines.filter(|line| {
        let built_in = "latency-tracking-info-percentiles 50 99 99.9";
        !line.is_empty() && !line.starts_with("user ") && line != built_in
    });
    (above, below.collect())
}

/// The file that Debian's package installs, if it is here.
#[test]
fn the_stock_file_starts() {
    let path = Path::new("/etc/redis/redis.conf");
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
        return;
    }
    let text = std::fs::read_to_string(path).unwrap();
    // Its log and data folders belong to another user.
    let text: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("logfile ") && !line.starts_with("dir "))
        .collect();
    let folder = Folder::new("stock");
    let copy = folder.0.join("redis.conf");
    std::fs::write(&copy, text.join("\n")).unwrap();
    let loaded = load(&[copy.to_str().unwrap()]).unwrap();
    let given = text
        .iter()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .count();
    assert!(given > 60, "{given} directives");
    assert_eq!(loaded.config.tcp_keepalive, 300);
    assert!(loaded.without_effect_message().is_some());
    // Every row's name is what it is found by.
    for directive in DIRECTIVES {
        assert!(
            config::lookup(directive.name.as_bytes())
                .is_some_and(|found| found.name == directive.name)
        );
    }
}
