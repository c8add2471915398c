//! Runs a stream of steps against two servers and says where they first differ; then makes the stream small.

use std::io;
use std::time::{Duration, Instant};

use crate::compare::{Case, Check, Has, differ, excepted, sorted};
use crate::grammar::Step;
use crate::keyspace;
use crate::random::Random;
use crate::resp::{Client, Reply, Value, args, encode, shown};
use crate::server::Server;

/// Settings that streams change, and what they were: put back before every stream.
pub const SETTINGS: &[(&str, &str)] = &[
    ("hash-max-listpack-entries", "128"),
    ("hash-max-listpack-value", "64"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
    ("set-max-intset-entries", "512"),
    ("list-max-listpack-size", "-2"),
    ("stream-node-max-entries", "100"),
    ("stream-node-max-bytes", "4096"),
    ("set-max-listpack-entries", "128"),
    ("hll-sparse-max-bytes", "3000"),
];

/// How many steps go out in one write before their replies are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Batching {
    One,
    /// Up to 40, as the seed says.
    Random(u64),
    /// All that can, up to 64.
    All,
}

pub struct Pair {
    pub ours: Server,
    pub theirs: Server,
    /// The reference's version.
    pub version: String,
    pub resp: u8,
    pub has: Has,
    /// The reference died in this stream, and ours did not: a fault of its own, no difference.
    pub crashed: bool,
}

/// Where two servers differed.
#[derive(Debug)]
pub struct Failure {
    /// Index of the step; the number of steps for the final comparison.
    pub at: usize,
    /// The command's name, or `keyspace`.
    pub name: String,
    pub text: String,
}

/// Replies compared, and how many differed in a way that is listed.
#[derive(Default)]
pub struct Count {
    pub replies: usize,
    pub excepted: usize,
}

struct Clients {
    ours: Client,
    theirs: Client,
}

impl Pair {
    /// Empties both servers and connects anew. A server that died or hangs is started again.
    fn fresh(&mut self) -> io::Result<Clients> {
        Ok(Clients {
            ours: fresh(&mut self.ours, self.resp)?,
            theirs: fresh(&mut self.theirs, self.resp)?,
        })
    }

    /// `Err` for what stops the test (no server), `Ok(Some)` for a difference.
    pub fn run(
        &mut self,
        steps: &[Step],
        batching: Batching,
        count: &mut Count,
    ) -> io::Result<Option<Failure>> {
        let mut clients = self.fresh()?;
        self.has = Has::of(steps);
        self.crashed = false;
        let mut sizes = Random::new(if let Batching::Random(seed) = batching {
            seed
        } else {
            0
        });
        let mut at = 0;
        while at < steps.len() {
            let most = match batching {
                Batching::One => 1,
                Batching::All => 64,
                Batching::Random(_) if sizes.chance(40) => 1,
                Batching::Random(_) => 1 + sizes.below(40),
            };
            let mut end = at + 1;
            // A scan asks again, a pause waits: neither can stand inside a pipeline.
            let alone = |step: &Step| step.check == Check::Scan;
            if !alone(&steps[at]) {
                while end < steps.len()
                    && end - at < most
                    && !alone(&steps[end])
                    && steps[end - 1].pause == 0
                {
                    end += 1;
                }
            }
            if let Some(failure) = self.batch(&mut clients, steps, at, end, count) {
                return Ok(Some(failure));
            }
            if let Some(failure) = self.pause(&mut clients, steps, end - 1, count) {
                return Ok(Some(failure));
            }
            at = end;
        }
        let compared = keyspace::compare(self);
        let text = compared.unwrap_or_else(|error| Some(self.describe(&error)));
        Ok(text.map(|text| Failure {
            at: steps.len(),
            name: "keyspace".to_owned(),
            text,
        }))
    }

    /// Steps `at..end` in one write. The first difference, if any.
    fn batch(
        &mut self,
        clients: &mut Clients,
        steps: &[Step],
        at: usize,
        end: usize,
        count: &mut Count,
    ) -> Option<Failure> {
        let mut bytes = Vec::new();
        for step in &steps[at..end] {
            let after = step.after.as_ref().filter(|_| step.pause == 0);
            for command in [step.before.as_ref(), Some(&step.command), after]
                .into_iter()
                .flatten()
            {
                encode(command, &mut bytes);
            }
        }
        let sent = clients
            .theirs
            .send(&bytes)
            .and_then(|()| clients.ours.send(&bytes));
        if let Err(error) = sent {
            let text = self.describe(&error);
            return Some(Failure {
                at,
                name: steps[at].name.to_owned(),
                text,
            });
        }
        for (index, step) in steps[at..end].iter().enumerate() {
            if let Err(text) = self.step(clients, step, count) {
                // What is left of the pipeline must not run into the next stream.
                for client in [&mut clients.ours, &mut clients.theirs] {
                    drain(client);
                }
                return Some(Failure {
                    at: at + index,
                    name: step.name.to_owned(),
                    text,
                });
            }
        }
        None
    }

    fn step(
        &mut self,
        clients: &mut Clients,
        step: &Step,
        count: &mut Count,
    ) -> Result<(), String> {
        let mut encoding = None;
        if let Some(before) = &step.before {
            encoding = Some(self.replies(
                clients,
                before,
                "OBJECT ENCODING",
                Check::Exact,
                None,
                count,
            )?);
        }
        let theirs = self.replies(
            clients,
            &step.command,
            step.name,
            step.check,
            encoding.as_ref(),
            count,
        )?;
        if step.check == Check::Scan && !theirs.is_error() {
            self.scan_on(clients, step, count)?;
        }
        if let Some(after) = step.after.as_ref().filter(|_| step.pause == 0) {
            // What may differ may also have emptied the key on one side.
            let check = match step.check {
                Check::Type => Check::Type,
                _ => Check::Exact,
            };
            self.replies(clients, after, "DEL", check, None, count)?;
        }
        Ok(())
    }

    /// Waits as the step says, then sends what comes after it.
    fn pause(
        &mut self,
        clients: &mut Clients,
        steps: &[Step],
        at: usize,
        count: &mut Count,
    ) -> Option<Failure> {
        let step = &steps[at];
        let after = step.after.as_ref().filter(|_| step.pause > 0)?;
        std::thread::sleep(Duration::from_millis(step.pause));
        let mut bytes = Vec::new();
        encode(after, &mut bytes);
        let sent = clients
            .theirs
            .send(&bytes)
            .and_then(|()| clients.ours.send(&bytes));
        let compared = match sent {
            Ok(()) => self
                .replies(clients, after, "EXISTS", Check::Exact, None, count)
                .map(drop),
            Err(error) => Err(self.describe(&error)),
        };
        compared.err().map(|text| Failure {
            at,
            name: step.name.to_owned(),
            text,
        })
    }

    /// Reads and compares one reply of each server; gives the reference's.
    fn replies(
        &mut self,
        clients: &mut Clients,
        command: &[Vec<u8>],
        name: &str,
        check: Check,
        encoding: Option<&Reply>,
        count: &mut Count,
    ) -> Result<Reply, String> {
        let theirs = clients
            .theirs
            .reply()
            .map_err(|error| format!("the reference: {}", self.describe(&error)))?;
        let ours = clients
            .ours
            .reply()
            .map_err(|error| self.describe(&error))?;
        count.replies += 1;
        if let Some(text) = differ(check, encoding, &ours, &theirs) {
            let case = Case {
                args: command,
                ours: &ours,
                theirs: &theirs,
                version: &self.version,
                has: self.has,
            };
            if excepted(name, &case).is_none() {
                return Err(text);
            }
            count.excepted += 1;
        }
        Ok(theirs)
    }

    /// The whole scan of both servers, from cursor 0.
    fn scan_on(
        &mut self,
        clients: &mut Clients,
        step: &Step,
        count: &mut Count,
    ) -> Result<(), String> {
        let theirs = scan(&mut clients.theirs, &step.command)
            .map_err(|error| format!("the reference: {error}"))?;
        let ours = scan(&mut clients.ours, &step.command).map_err(|error| self.describe(&error))?;
        count.replies += 1;
        if ours == theirs {
            return Ok(());
        }
        let missing: Vec<_> = theirs.iter().filter(|item| !ours.contains(item)).collect();
        let extra: Vec<_> = ours.iter().filter(|item| !theirs.contains(item)).collect();
        Err(format!(
            "over the whole scan, missing {missing:?}, not in the reference {extra:?}"
        ))
    }

    /// An I/O error, with what became of our server.
    fn describe(&mut self, error: &io::Error) -> String {
        let mut death = self.ours.death();
        if death.is_none() {
            // A server that aborts writes its report first: its connection may be gone a little before it is.
            let end = Instant::now() + Duration::from_secs(2);
            while death.is_none() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
                death = self.theirs.death();
            }
            self.crashed |= death.is_some();
        }
        death.map_or_else(|| error.to_string(), |death| format!("{error}; {death}"))
    }

    /// The smallest stream found, within `budget`, that still fails at a command of the same name.
    pub fn shrink(
        &mut self,
        steps: &[Step],
        failure: Failure,
        batching: Batching,
        budget: Duration,
    ) -> Shrunk {
        let end = Instant::now() + budget;
        let fails = |pair: &mut Self, steps: &[Step], how: Batching| -> Option<(usize, String)> {
            let found = pair.run(steps, how, &mut Count::default()).ok()??;
            (found.name == failure.name && !pair.crashed).then_some((found.at, found.text))
        };
        // One at a time is the plainest way to fail; a whole pipeline the next. What follows in the pipeline may matter
        // too: then it is kept. Each is tried again, since timing may be part of it.
        let to_failure = steps.len().min(failure.at + 1);
        let with_rest = steps.len().min(failure.at + 64);
        let ways = [
            (to_failure, Batching::One),
            (to_failure, Batching::All),
            (to_failure, batching),
            (with_rest, Batching::All),
            (with_rest, batching),
        ];
        let found = ways
            .iter()
            .flat_map(|way| [way, way])
            .find_map(|(length, how)| {
                let (at, text) = fails(self, &steps[..*length], *how)?;
                Some((*length == to_failure, *how, at, text))
            });
        let Some((ends_there, how, at, mut text)) = found else {
            let (steps, text) = (steps[..to_failure].to_vec(), failure.text);
            return Shrunk {
                steps,
                text,
                how: batching,
                repeats: false,
            };
        };
        let length = if ends_there { at + 1 } else { with_rest };
        let mut best = steps[..length.min(steps.len())].to_vec();
        let mut chunk = (best.len() / 2).max(1);
        while Instant::now() < end {
            let mut from = 0;
            let mut shorter = false;
            while from < best.len() && Instant::now() < end {
                let mut candidate = best.clone();
                candidate.drain(from..(from + chunk).min(best.len()));
                if !candidate.is_empty()
                    && let Some((at, new)) = fails(self, &candidate, how)
                {
                    if ends_there {
                        candidate.truncate(at + 1);
                    }
                    best = candidate;
                    text = new;
                    shorter = true;
                } else {
                    from += chunk;
                }
            }
            if chunk == 1 && !shorter {
                break;
            }
            chunk = (chunk / 2).max(1);
        }
        Shrunk {
            steps: best,
            text,
            how,
            repeats: true,
        }
    }
}

pub struct Shrunk {
    pub steps: Vec<Step>,
    pub text: String,
    pub how: Batching,
    pub repeats: bool,
}

impl Shrunk {
    /// As one would type it, and the two replies.
    pub fn shown(&self) -> String {
        let mut out = String::new();
        if !self.repeats {
            out.push_str(
                "    (did not fail again: timing is part of it; the last of the stream:)\n",
            );
        }
        let from = self.steps.len().saturating_sub(30);
        for step in &self.steps[from..] {
            for command in [
                step.before.as_ref(),
                Some(&step.command),
                step.after.as_ref(),
            ]
            .into_iter()
            .flatten()
            {
                out.push_str("    > ");
                let words: Vec<String> = command
                    .iter()
                    .map(
                        |arg| match arg.iter().all(u8::is_ascii_graphic) && !arg.is_empty() {
                            true => shown(arg, 120),
                            false => format!("\"{}\"", shown(arg, 120)),
                        },
                    )
                    .collect();
                out.push_str(&words.join(" "));
                out.push('\n');
            }
        }
        if self.how != Batching::One {
            out.push_str("    (sent as one pipeline)\n");
        }
        out.push_str("    ");
        out.push_str(&self.text);
        out
    }
}

/// Waits for the end of what was sent. A connection that fails meanwhile has nothing left to run.
fn drain(client: &mut Client) {
    const END: &[u8] = b"the end of a failed pipeline";
    let mut bytes = Vec::new();
    encode(&[b"ECHO".to_vec(), END.to_vec()], &mut bytes);
    if client.send(&bytes).is_err() {
        return;
    }
    while let Ok(reply) = client.reply() {
        if matches!(&reply.value, Value::Bulk(text) if text == END) {
            return;
        }
    }
}

fn fresh(server: &mut Server, resp: u8) -> io::Result<Client> {
    match prepared(server.port, resp) {
        // It answers, only not as it has to: another process would not do better.
        Err(error) if error.kind() != io::ErrorKind::Unsupported => {
            server.restart()?;
            prepared(server.port, resp)
        }
        prepared => prepared,
    }
}

fn prepared(port: u16, resp: u8) -> io::Result<Client> {
    let mut client = Client::connect(port)?;
    let mut commands = vec![args(&["FLUSHALL"]), args(&["SCRIPT", "FLUSH"])];
    // Not by FUNCTION FLUSH, which now and then stops Redis 8.2.3 with a fault.
    commands.extend((0..4).map(|n| args(&["FUNCTION", "DELETE", &format!("lib{n}")])));
    commands.extend(
        SETTINGS
            .iter()
            .map(|(name, value)| args(&["CONFIG", "SET", name, value])),
    );
    // A server without one of the settings has nothing to put back there.
    let reply = client.pipeline(&commands)?.swap_remove(0);
    if reply.is_error() {
        return Err(refused("FLUSHALL", &reply));
    }
    if resp == 3 {
        let reply = client.call(&["HELLO", "3"])?;
        if reply.is_error() {
            return Err(refused("HELLO 3", &reply));
        }
    }
    Ok(client)
}

fn refused(command: &str, reply: &Reply) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("{command}: {}", reply.shown()),
    )
}

/// Everything a scan brings, sorted, without what came twice (which a scan may do).
fn scan(client: &mut Client, command: &[Vec<u8>]) -> io::Result<Vec<String>> {
    let mut command = command.to_vec();
    // SCAN's cursor is its first argument, that of the others comes after the key.
    let place = if command[0].eq_ignore_ascii_case(b"SCAN") {
        1
    } else {
        2
    };
    let pairs =
        !command[0].eq_ignore_ascii_case(b"SCAN") && !command[0].eq_ignore_ascii_case(b"SSCAN");
    command[place] = b"0".to_vec();
    let mut all = Vec::new();
    for _ in 0..100_000 {
        let reply = client.command(&command)?;
        let bad = || io::Error::other(format!("not a scan's reply: {}", reply.shown()));
        let Value::Array(parts) = &reply.value else {
            return Err(bad());
        };
        let [Value::Bulk(cursor), items] = &parts[..] else {
            return Err(bad());
        };
        match items {
            Value::Array(items) if pairs => {
                all.extend(items.chunks(2).map(|pair| format!("{pair:?}")))
            }
            _ => all.extend(sorted(items)),
        }
        if cursor == b"0" {
            all.sort();
            all.dedup();
            return Ok(all);
        }
        command[place] = cursor.clone();
    }
    Err(io::Error::other("the scan does not end"))
}
