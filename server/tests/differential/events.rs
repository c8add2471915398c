//! Keyspace notifications beside a real server's: after every command the same messages, in the same order.

use std::io;

use crate::compare::Check;
use crate::grammar::Step;
use crate::resp::{Client, Value, shown};
use crate::server::Server;

/// A server with a client that sends commands and one that hears of their effects.
struct Side {
    client: Client,
    listener: Client,
}

/// Channel and text of each message.
type Messages = Vec<(Vec<u8>, Vec<u8>)>;

impl Side {
    fn new(server: &Server, classes: &str) -> io::Result<Self> {
        let mut client = Client::connect(server.port)?;
        for words in [
            &["FLUSHALL"][..],
            &["CONFIG", "SET", "notify-keyspace-events", classes],
        ] {
            let reply = client.call(words)?;
            if reply.is_error() {
                return Err(io::Error::other(format!("{words:?}: {}", reply.shown())));
            }
        }
        let mut listener = Client::connect(server.port)?;
        listener.call(&["PSUBSCRIBE", "__key*"])?;
        listener.call(&["SUBSCRIBE", "end"])?;
        Ok(Self { client, listener })
    }

    /// Runs a command and returns what it was the cause of.
    fn run(&mut self, command: &[Vec<u8>]) -> io::Result<Messages> {
        self.client.command(command)?;
        self.client.call(&["PUBLISH", "end", "end"])?;
        let mut messages = Vec::new();
        loop {
            let reply = self.listener.reply()?;
            let (Value::Array(words) | Value::Push(words)) = &reply.value else {
                return Err(io::Error::other(format!("no message: {}", reply.shown())));
            };
            match &words[..] {
                [_, Value::Bulk(channel), _] if channel == b"end" => return Ok(messages),
                [_, _, Value::Bulk(channel), Value::Bulk(text)] => {
                    messages.push((channel.clone(), text.clone()));
                }
                _ => return Err(io::Error::other(format!("no message: {}", reply.shown()))),
            }
        }
    }
}

fn lines(messages: &Messages) -> String {
    let line = |(channel, text): &(Vec<u8>, Vec<u8>)| {
        format!("      {} {}\n", shown(channel, 80), shown(text, 80))
    };
    messages.iter().map(line).collect()
}

/// How the first step whose messages differ does, and how many messages were compared.
pub fn compare(
    ours: &Server,
    theirs: &Server,
    classes: &str,
    steps: &[Step],
) -> io::Result<(usize, Option<String>)> {
    let mut ours = Side::new(ours, classes)?;
    let mut theirs = Side::new(theirs, classes)?;
    let mut compared = 0;
    for (at, step) in steps.iter().enumerate() {
        // What is random leads to different keys, what waits to different moments.
        if matches!(step.check, Check::Shape | Check::Scan) || step.pause > 0 {
            continue;
        }
        for command in [Some(&step.command), step.after.as_ref()]
            .into_iter()
            .flatten()
        {
            let (got, expected) = (ours.run(command)?, theirs.run(command)?);
            compared += expected.len();
            if got != expected {
                let show = |command: &[Vec<u8>]| -> String {
                    let words: Vec<String> = command.iter().map(|word| shown(word, 60)).collect();
                    words.join(" ")
                };
                let before: String = steps[at.saturating_sub(8)..at]
                    .iter()
                    .map(|step| format!("    {}\n", show(&step.command)))
                    .collect();
                return Ok((
                    compared,
                    Some(format!(
                        "step {at}: {}\n    got\n{}    expected\n{}    after\n{before}",
                        show(command),
                        lines(&got),
                        lines(&expected)
                    )),
                ));
            }
        }
    }
    Ok((compared, None))
}
