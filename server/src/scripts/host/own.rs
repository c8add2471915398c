//! The server's own commands in a script, which has no connection.

use super::{ENDING, Reach, ScriptHost};
use crate::commands::{Answer, Call, ConnHandler};
use crate::mailbox::Ticket;
use crate::pubsub::{Counted, Kind};
use crate::registry::Entry;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;

impl ScriptHost<'_> {
    /// The server's own commands that make sense without a connection.
    pub(super) fn server(
        &mut self,
        entry: &'static Entry,
        handler: ConnHandler,
        args: Args<'_>,
        reply: &mut Reply<'_>,
    ) {
        match entry.spec.name {
            "PING" if args.len() > 2 => {
                reply.command_error(&CommandError::WrongArity("ping".into()));
            }
            "PING" if args.len() == 1 => reply.simple("PONG"),
            "PING" | "ECHO" => reply.bulk(args[1]),
            "TIME" => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let now = now.unwrap_or_default();
                reply.array(2);
                reply.bulk(now.as_secs().to_string().as_bytes());
                reply.bulk(now.subsec_micros().to_string().as_bytes());
            }
            "PUBLISH" | "SPUBLISH" => {
                let kind = match entry.spec.name {
                    "PUBLISH" => Kind::Channel,
                    _ => Kind::Shard,
                };
                if let Reach::Declared { messages, .. } = &mut self.reach {
                    // Notifications of keys and messages keep their order where both go out at once.
                    if self.core.shard.listening {
                        return self.course.lacks_everything();
                    }
                    let told = self.core.count_audience(kind, args[1]);
                    let (channel, text) = (args[1].into(), args[2].into());
                    messages.push(Counted {
                        kind,
                        channel,
                        text,
                        told,
                    });
                    return reply.integer(told as i64);
                }
                let receivers = self.core.publish(kind, args[1], args[2]);
                reply.integer(receivers as i64);
            }
            "DEBUG" => {
                let result = match args[1].eq_ignore_ascii_case(b"SLEEP") {
                    true => crate::commands::debug::seconds(args[2]).map(|time| {
                        std::thread::sleep(time);
                        reply.ok();
                    }),
                    false => crate::commands::debug::protocol(reply, args[2]).map(drop),
                };
                if let Err(error) = result {
                    reply.command_error(&error);
                }
            }
            "SELECT" => {
                let databases = self.core.shard.keyspace.databases();
                let index = std::str::from_utf8(args[1])
                    .ok()
                    .and_then(|n| n.parse().ok());
                match index {
                    Some(db) if db < databases => {
                        self.db = db;
                        reply.ok();
                    }
                    Some(_) => reply.error("ERR DB index is out of range"),
                    None => reply.error("ERR value is not an integer or out of range"),
                }
            }
            _ => self.handle(entry, handler, args, reply),
        }
    }

    /// Any other of them, as without a client.
    fn handle(
        &mut self,
        entry: &'static Entry,
        handler: ConnHandler,
        args: Args<'_>,
        reply: &mut Reply<'_>,
    ) {
        let core = &mut *self.core;
        core.scripts.asking.allowed = !matches!(self.reach, Reach::Declared { .. });
        let mark = reply.mark();
        let mut call = Call {
            core,
            conn: Ticket::SCRIPT.conn,
            entry,
            reply: reply.reborrow(),
        };
        let answer = handler(&mut call, args);
        match answer {
            Ok(Answer::Now) => {}
            Ok(Answer::Later) if !core.scripts.asking.allowed => self.course.lacks_everything(),
            Ok(Answer::Later) => match core.await_answers() {
                Some(answer) => reply.raw(&answer),
                None => reply.error(ENDING),
            },
            Err(error) => {
                reply.rewind(mark);
                reply.command_error(&error);
            }
        }
    }
}
