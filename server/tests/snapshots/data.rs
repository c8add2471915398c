//! Random data of every type, and how it looks to a client.

use crate::resp::{Client, Value};

/// xorshift64*
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    /// A text: a number of any width, or bytes of any length, repeated or not.
    fn text(&mut self) -> Vec<u8> {
        if self.below(3) == 0 {
            let n = self.next() as i64 >> self.below(64);
            return n.to_string().into_bytes();
        }
        let lengths = [0, 1, 3, 11, 20, 21, 44, 63, 64, 65, 300, 4095, 4096, 20_000];
        let short = self.below(8) > 0;
        let len = lengths[self.below(if short { 10 } else { lengths.len() })];
        match self.below(3) {
            0 => (0..len).map(|_| self.next() as u8).collect(),
            1 => (0..len).map(|i| b'a' + (i % 3) as u8).collect(),
            _ => (0..len).map(|_| b'a' + self.below(26) as u8).collect(),
        }
    }
    /// How many elements: few, or more than any threshold of [`crate::turn`].
    fn count(&mut self) -> usize {
        match self.below(4) {
            0 => 1,
            1 => 2 + self.below(4),
            2 => 10 + self.below(100),
            _ => 100 + self.below(600),
        }
    }
}

type Command = Vec<Vec<u8>>;

fn words(line: &str) -> Command {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

/// Makes some dozens of keys, equal ones from equal random numbers. `times`: also fields that expire.
pub fn fill(client: &mut Client, random: &mut Random, times: bool) {
    let mut commands = Vec::new();
    for n in 0..60 {
        let key = format!("key:{n}");
        one(&key, n % 6, random, times, &mut commands);
        if random.below(4) == 0 {
            let at = 4_000_000_000_000 + random.below(1_000_000) as u64;
            commands.push(words(&format!("PEXPIREAT {key} {at}")));
        }
    }
    for key in [b"".to_vec(), b"123".to_vec(), vec![0xff; 300]] {
        commands.push(vec![b"SET".to_vec(), key, b"v".to_vec()]);
    }
    let replies = client.pipeline(&commands).expect("replies");
    for (command, reply) in commands.iter().zip(replies) {
        let shown: Vec<_> = command
            .iter()
            .take(5)
            .map(|w| w.escape_ascii().to_string())
            .collect();
        assert!(!reply.is_error(), "{shown:?}: {}", reply.shown());
    }
}

fn one(key: &str, kind: usize, random: &mut Random, times: bool, commands: &mut Vec<Command>) {
    match kind {
        0 => commands.push(vec![b"SET".to_vec(), key.into(), random.text()]),
        1 => {
            let mut command = words(&format!("RPUSH {key}"));
            command.extend((0..random.count()).map(|_| random.text()));
            commands.push(command);
        }
        2 => {
            let mut command = words(&format!("SADD {key}"));
            let numbers = random.below(2) == 0;
            command.extend((0..random.count()).map(|_| {
                match numbers {
                    true => (random.next() as i64 >> random.below(64))
                        .to_string()
                        .into_bytes(),
                    false => random.text(),
                }
            }));
            commands.push(command);
        }
        3 => {
            let mut command = words(&format!("ZADD {key}"));
            for _ in 0..random.count() {
                let score = match random.below(6) {
                    0 => "inf".to_owned(),
                    1 => "-inf".to_owned(),
                    2 => format!("{}", random.next() as i64 >> 20),
                    3 => format!("{}", random.next() as f64 / 1e25),
                    _ => format!("{}", random.below(9)),
                };
                command.extend([score.into_bytes(), random.text()]);
            }
            commands.push(command);
        }
        4 => {
            let mut command = words(&format!("HSET {key}"));
            for n in 0..random.count() {
                command.extend([format!("f{n}").into_bytes(), random.text()]);
            }
            commands.push(command);
            if times && random.below(2) == 0 {
                for field in 0..3 {
                    let at = 4_000_000_000_000 + random.below(1 << 20) as u64;
                    commands.push(words(&format!("HPEXPIREAT {key} {at} FIELDS 1 f{field}")));
                }
            }
        }
        _ => stream(key, random, commands),
    }
}

fn stream(key: &str, random: &mut Random, commands: &mut Vec<Command>) {
    let mut ms = 1 + random.below(1000) as u64;
    let mut ids = Vec::new();
    for seq in 0..random.count() {
        ms += random.below(3) as u64;
        let id = format!("{ms}-{}", seq + 1);
        let mut command = words(&format!("XADD {key} {id}"));
        let fields = if random.below(5) == 0 {
            1 + random.below(4)
        } else {
            2
        };
        for field in 0..fields {
            command.extend([format!("field{field}").into_bytes(), random.text()]);
        }
        commands.push(command);
        ids.push(id);
    }
    commands.push(words(&format!("XGROUP CREATE {key} empty $")));
    commands.push(words(&format!("XGROUP CREATE {key} g 0")));
    for consumer in ["a", "b", "a"] {
        let count = 1 + random.below(20);
        commands.push(words(&format!(
            "XREADGROUP GROUP g {consumer} COUNT {count} STREAMS {key} >"
        )));
    }
    commands.push(words(&format!("XGROUP CREATECONSUMER {key} g idle")));
    for _ in 0..random.below(6) {
        let id = &ids[random.below(ids.len())];
        let action = ["XDEL {key}", "XACK {key} g"][random.below(2)].replace("{key}", key);
        commands.push(words(&format!("{action} {id}")));
    }
    if random.below(4) == 0 {
        commands.push(words(&format!(
            "XTRIM {key} MAXLEN {}",
            random.below(ids.len())
        )));
    }
}

fn ask(client: &mut Client, line: &str, key: &[u8]) -> Value {
    let command: Vec<Vec<u8>> = line
        .split(' ')
        .map(|word| match word {
            "KEY" => key.to_vec(),
            _ => word.as_bytes().to_vec(),
        })
        .collect();
    let reply = client.command(&command).expect("a reply");
    assert!(!reply.is_error(), "{line}: {}", reply.shown());
    reply.value
}

fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        Value::Map(pairs) => pairs.into_iter().flat_map(|(a, b)| [a, b]).collect(),
        other => vec![other],
    }
}

fn sorted(value: Value, group: usize) -> Vec<Vec<Value>> {
    let mut groups: Vec<_> = items(value).chunks(group).map(<[Value]>::to_vec).collect();
    groups.sort_by_cached_key(|group| format!("{group:?}"));
    groups
}

/// All that a client can see of a key's value and time, the same for the same in every version.
pub fn show(client: &mut Client, key: &[u8], times: bool) -> String {
    let kind = ask(client, "TYPE KEY", key);
    let time = ask(client, "PEXPIRETIME KEY", key);
    let Value::Simple(name) = &kind else {
        panic!("TYPE: {kind:?}")
    };
    let value = match name.as_slice() {
        b"string" => format!("{:?}", ask(client, "GET KEY", key)),
        b"list" => format!("{:?}", ask(client, "LRANGE KEY 0 -1", key)),
        b"set" => format!("{:?}", sorted(ask(client, "SMEMBERS KEY", key), 1)),
        b"zset" => {
            // Versions write the same number in different ways.
            let pairs = items(ask(client, "ZRANGE KEY 0 -1 WITHSCORES", key));
            let mut text = String::new();
            for pair in pairs.chunks(2) {
                let Value::Bulk(score) = &pair[1] else {
                    panic!("a score: {pair:?}")
                };
                let score = std::str::from_utf8(score).map(str::parse::<f64>);
                text += &format!("{:?} {score:?} ", pair[0]);
            }
            text
        }
        b"hash" => {
            let fields = sorted(ask(client, "HGETALL KEY", key), 2);
            let line = "HPEXPIRETIME KEY FIELDS 4 f0 f1 f2 f3";
            let times = times.then(|| ask(client, line, key));
            format!("{fields:?} {times:?}")
        }
        b"stream" => {
            let mut text = format!("{:?}", ask(client, "XRANGE KEY - +", key));
            // Up to "first-entry", without how the server keeps it: as many as 7.0 has.
            let info = items(ask(client, "XINFO STREAM KEY", key));
            for pair in info.chunks(2) {
                let wanted: [&[u8]; 6] = [
                    b"length",
                    b"last-generated-id",
                    b"max-deleted-entry-id",
                    b"entries-added",
                    b"recorded-first-entry-id",
                    b"groups",
                ];
                if matches!(&pair[0], Value::Bulk(name) if wanted.contains(&name.as_slice())) {
                    text += &format!(" {pair:?}");
                }
            }
            for group in items(ask(client, "XINFO GROUPS KEY", key)) {
                // All but the last pair, the lag: 8.2 knows it where 7.0 counts trimmed entries too.
                text += &format!(" {:?}", &items(group)[..10]);
            }
            for group in ["g", "empty"] {
                // Without idle times.
                for pending in items(ask(client, &format!("XPENDING KEY {group} - + 1000"), key)) {
                    let pending = items(pending);
                    text += &format!(" {:?}", [&pending[0], &pending[1], &pending[3]]);
                }
                for consumer in items(ask(client, &format!("XINFO CONSUMERS KEY {group}"), key)) {
                    text += &format!(" {:?}", &items(consumer)[..4]);
                }
            }
            text
        }
        other => panic!("a value of type {}", other.escape_ascii()),
    };
    format!("{} {time:?} {value}", name.escape_ascii())
}
