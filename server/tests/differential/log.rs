//! What the log says is what there was: random commands of all families, alone, in transactions and in scripts, with rewrites between them;
//! the server is killed and started again, with as many shards or others, and every key has to be as it was.
//!
//! RINGWOOD_DIFF_SEED repeats a run's first seed, RINGWOOD_LOG_ROUNDS makes it longer, RINGWOOD_LOG_SHOW=key prints what is done to a key.

use crate::grammar::{From, Generator, Spec};
use crate::keyspace;
use crate::random::Random;
use crate::resp::{Client, args, shown};
use crate::server::Server;
use crate::{FAMILIES, known, number, server_under_test};
use std::io;

const COMMANDS: usize = 1500;

/// Sends random commands. Their replies do not matter here.
fn work(port: u16, specs: &[&'static Spec], random: &mut Random, seed: u64) -> io::Result<()> {
    let mut client = Client::connect(port)?;
    let mut generator = Generator::new(seed, specs.to_vec());
    let mut sent = 0;
    while sent < COMMANDS {
        let count = 1 + random.below(30);
        sent += count;
        let mut commands: Vec<Vec<Vec<u8>>> = Vec::new();
        let form = random.below(10);
        for _ in 0..count {
            let command = generator.step().command;
            commands.push(match form {
                0 => {
                    let script = "return redis.pcall(unpack(ARGV))";
                    [args(&["EVAL", script, "0"]), command].concat()
                }
                _ => command,
            });
        }
        if form == 1 || form == 2 {
            commands.insert(0, args(&["MULTI"]));
            commands.push(args(&["EXEC"]));
        }
        if random.chance(3) {
            commands.push(args(&["BGREWRITEAOF"]));
        }
        if random.chance(2) {
            commands.push(args(&["SWAPDB", "0", "1"]));
        }
        // Whatever state a stream of random words has left the connection in.
        commands.push(args(&["SELECT", "0"]));
        let replies = client.pipeline(&commands)?;
        if let Ok(key) = std::env::var("RINGWOOD_LOG_SHOW") {
            for (command, reply) in commands.iter().zip(&replies) {
                if command.iter().any(|word| *word == key.as_bytes()) {
                    println!(
                        "{} -> {}",
                        shown(&command.join(&b' '), 200),
                        shown(&reply.raw, 100)
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn what_the_log_says_is_what_there_was() {
    let seed = number("SEED", std::process::id().into());
    println!("RINGWOOD_DIFF_SEED={seed}");
    let rounds = std::env::var("RINGWOOD_LOG_ROUNDS").ok();
    let rounds: u64 = rounds.map_or(4, |text| text.parse().expect("a number of rounds"));
    // A stream may end with FLUSHALL; not all do.
    let mut keys = 0;
    for seed in seed..seed + rounds {
        let mut random = Random::new(seed);
        let (before, after) = *random.pick(&[(4, 4), (1, 1), (4, 1), (1, 4), (4, 3)]);
        let binary = server_under_test();
        let options = ["--appendonly", "yes"];
        let server = Server::start_with(&binary, Some(before), &options);
        let mut server = server.expect("the server starts");
        // Connections, RESET and such are no data; what stops the server or waits for others is not for here.
        // Scripts call what is kept out below.
        let kept_out = ["connection", "scripts"];
        let families = FAMILIES.iter().filter(|(name, _)| !kept_out.contains(name));
        let specs = families.flat_map(|(_, specs)| specs.iter());
        let specs = specs.filter(|spec| spec.from != From::Valkey91);
        let mut specs: Vec<&'static Spec> =
            specs.filter(|s| !s.name.starts_with("DEBUG")).collect();
        let names = known(server.port, &specs).expect("COMMAND INFO");
        // What ZREMRANGEBYLEX removes of members of different scores depends on the encoding, here as in Redis, and so do the bytes of a
        // HyperLogLog, which strings' commands may write into.
        let exact = |name: &str| name != "ZREMRANGEBYLEX" && !name.starts_with("PF");
        specs.retain(|spec| names.contains(spec.name) && exact(spec.name));
        work(server.port, &specs, &mut random, seed).expect("a connection");
        let was = keyspace::read(server.port).expect("the keyspace");
        keys += was.len();
        server.restart_with(Some(after)).expect("it starts again");
        let is = keyspace::read(server.port).expect("the keyspace");
        let found = keyspace::differences(&was, &is);
        assert!(
            found.is_empty(),
            "seed {seed}, {before} shards, then {after}:\n{}\n{}",
            found.join("\n"),
            server.log_tail()
        );
    }
    assert!(keys > 20, "only {keys} keys");
}
