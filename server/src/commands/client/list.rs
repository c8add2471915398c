//! LIST, INFO: connections as lines of text.
//!
//! The caller's line is made when its command runs, the others when their cores are asked: an answer of core `n` are the
//! lines of its clients, which are put in the order of ids.

use super::{Answer, Args, Call, CommandError, ConnHandler};
use crate::client::{Client, Life};
use crate::core::Core;
use crate::io::Io;
use crate::pubsub::Kind as Sub;
use ringwood_protocol::command::*;
use ringwood_protocol::lossless;
use ringwood_protocol::number::parse_i64;
use ringwood_protocol::reply::Version;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What a connection is for, as the filters TYPE say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Master,
    Replica,
    Pubsub,
}

impl Kind {
    pub(super) fn parse(word: &[u8]) -> Result<Self, CommandError> {
        Ok(match word.to_ascii_lowercase().as_slice() {
            b"normal" => Self::Normal,
            b"master" => Self::Master,
            b"replica" | b"slave" => Self::Replica,
            b"pubsub" => Self::Pubsub,
            _ => {
                return Err(CommandError::err(format_args!(
                    "Unknown client type '{}'",
                    lossless::text(word)
                )));
            }
        })
    }
    pub(super) fn of(client: &Client) -> Self {
        // There are no replication links yet.
        if client.subscriptions.is_some() {
            Self::Pubsub
        } else {
            Self::Normal
        }
    }
}

pub(super) const CLIENT_INFO: Command<ConnHandler> =
    command("INFO", exactly(2), client_info as ConnHandler)
        .flags(NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc("Describes this connection.", "O(1)", "6.2.0", "connection")
        .tips(&["nondeterministic_output"])
        .route(Route::Connection);

pub(super) fn client_info(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let line = own_line(call, args);
    call.reply.verbatim("txt", line.as_bytes());
    Ok(Answer::Now)
}

pub(super) const CLIENT_LIST: Command<ConnHandler> =
    command("LIST", at_least(2), client_list as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Describes the open connections.",
            "O(N) where N is the number of client connections",
            "2.4.0",
            "connection",
        )
        .history(&[
            ("2.8.12", "Field `id`."),
            ("5.0.0", "Filter `TYPE`."),
            ("6.0.0", "Field `user`."),
            (
                "6.2.0",
                "Fields `argv-mem`, `tot-mem`, `laddr` and `redir`; filter `ID`.",
            ),
            ("7.0.0", "Fields `resp`, `multi-mem`, `rbs` and `rbp`."),
            ("7.0.3", "Field `ssub`."),
            ("7.2.0", "Fields `lib-name` and `lib-ver`."),
            ("7.4.0", "Field `watch`."),
            ("8.0.0", "Field `io-thread`."),
        ])
        .args(&[
            one_of(
                "client-type",
                &[
                    word("normal", "NORMAL"),
                    word("master", "MASTER"),
                    word("replica", "REPLICA"),
                    word("pubsub", "PUBSUB"),
                ],
            )
            .token("TYPE")
            .since("5.0.0")
            .optional(),
            integer("client-id")
                .token("ID")
                .since("6.2.0")
                .optional()
                .multiple(),
        ])
        .tips(&["nondeterministic_output"])
        .route(Route::Connection);

pub(super) fn client_list(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let mut kind = None;
    let mut ids = None;
    match args {
        [_, _] => {}
        [_, _, word, name] if word.eq_ignore_ascii_case(b"TYPE") => kind = Some(Kind::parse(name)?),
        [_, _, word, list @ ..] if word.eq_ignore_ascii_case(b"ID") && !list.is_empty() => {
            let parsed: Option<Vec<i64>> = list.iter().map(|id| parse_i64(id)).collect();
            ids = Some(parsed.ok_or(CommandError::fixed("ERR Invalid client ID"))?);
        }
        _ => return Err(CommandError::Syntax),
    }
    let own = call.client().id;
    let own_line = own_line(call, args);
    let wanted = ids.clone();
    let ask = move |core: &mut Core| {
        let mut lines = String::new();
        for client in core.clients.iter() {
            let listed = match &wanted {
                Some(ids) => ids.contains(&(client.id as i64)),
                None => kind.is_none_or(|k| k == Kind::of(client)),
            };
            if listed && client.id == own {
                lines.push_str(&own_line);
            } else if listed && client.life != Life::Closed {
                line(core, client, None, &mut lines);
            }
        }
        lines
    };
    Ok(call.gather(ask, move |_, reply, answers| {
        reply.verbatim("txt", joined(&answers, ids.as_deref()).as_bytes());
    }))
}

/// The cores' lines in the order of ids, or in that of the ids asked for.
fn joined(answers: &[String], ids: Option<&[i64]>) -> String {
    let id_of = |line: &str| {
        let digits = line.strip_prefix("id=")?;
        parse_i64(digits.split(' ').next()?.as_bytes())
    };
    let lines: BTreeMap<i64, &str> = answers
        .iter()
        .flat_map(|answer| answer.split_inclusive('\n'))
        .filter_map(|line| Some((id_of(line)?, line)))
        .collect();
    match ids {
        Some(ids) => ids.iter().filter_map(|id| lines.get(id).copied()).collect(),
        None => lines.into_values().collect(),
    }
}

fn own_line(call: &Call<'_>, args: Args<'_>) -> String {
    let mut text = String::new();
    line(call.core, call.client(), Some(args), &mut text);
    text
}

/// One line. `running`: the words of the command that the client is just running.
pub(crate) fn line(core: &Core, client: &Client, running: Option<Args<'_>>, out: &mut String) {
    let now = core.now.mono_ns;
    let seconds = |since: u64| now.saturating_sub(since) / 1_000_000_000;
    let argv: usize = running.map_or(0, |args| args.iter().map(|a| a.len()).sum());
    let request = running.map_or(0, request_len);
    let utf8 = String::from_utf8_lossy;
    let flags = flags(core, client);
    // As Redis, which has a first buffer of this size.
    let in_buffer = client.out.len().min(16 << 10);
    let subscribed = |kind| {
        client
            .subscriptions
            .as_ref()
            .map_or(0, |s| s.of(kind).len())
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} multi={} watch={} \
         qbuf={} qbuf-free={} argv-mem={argv} multi-mem={} rbs={} rbp={} obl={} oll={} omem={} tot-mem={} events={} cmd={} \
         user={} redir={} resp={} lib-name={} lib-ver={} io-thread={} tot-net-in={} tot-net-out={} tot-cmds={}",
        client.id,
        client.peer,
        client.local,
        client.fd,
        utf8(&client.name),
        seconds(client.created),
        seconds(client.last_active),
        client.db,
        subscribed(Sub::Channel),
        subscribed(Sub::Pattern),
        subscribed(Sub::Shard),
        client
            .multi
            .as_ref()
            .map_or(-1, |m| m.commands.len() as i64),
        client.watchers.iter().map(|w| w.keys.len()).sum::<usize>(),
        client.query.len() + core.io.received_into(client.conn) + request,
        client.query.capacity() - client.query.len(),
        client.multi.as_ref().map_or(0, |m| m.memory()),
        client.out.capacity(),
        client.out.capacity(),
        in_buffer,
        client.waiting_count(),
        client.output_len() - in_buffer,
        client.memory() + argv,
        if client.sending { "rw" } else { "r" },
        client.last_command.map_or("NULL", |entry| &entry.name),
        utf8(&client.user.name),
        super::tracking::redirection(client),
        match client.version {
            Version::Resp2 => 2,
            Version::Resp3 => 3,
        },
        utf8(&client.lib_name),
        utf8(&client.lib_version),
        core.id,
        client.bytes_in,
        client.bytes_out,
        client.commands - running.is_some() as u64,
    );
}

/// The bytes of a request on the wire.
fn request_len(args: Args<'_>) -> usize {
    let digits = |n: usize| n.checked_ilog10().unwrap_or(0) as usize + 1;
    let bulk = |n: usize| 1 + digits(n) + 2 + n + 2;
    1 + digits(args.len()) + 2 + args.iter().map(|a| bulk(a.len())).sum::<usize>()
}

/// In Redis's order of letters.
fn flags(core: &Core, client: &Client) -> String {
    let mut flags = String::new();
    let mut add = |letter, set| {
        if set {
            flags.push(letter);
        }
    };
    add('O', core.monitors.has(client.id));
    let tracker = client.tracker.as_ref();
    add('P', client.subscriptions.is_some());
    add('x', client.multi.is_some());
    add('b', client.waiter().is_some());
    add('t', tracker.is_some());
    add('R', tracker.is_some_and(|t| t.broken));
    add('B', tracker.is_some_and(|t| t.broadcast));
    add('c', client.life == Life::Ending);
    add('A', client.life == Life::Closed);
    add('U', client.is_unix());
    add('e', client.no_evict);
    add('T', client.no_touch);
    if flags.is_empty() {
        flags.push('N');
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_on_the_wire() {
        assert_eq!(
            request_len(&[b"client", b"list"]),
            b"*2\r\n$6\r\nclient\r\n$4\r\nlist\r\n".len()
        );
        assert_eq!(
            request_len(&[b"a", b""]),
            b"*2\r\n$1\r\na\r\n$0\r\n\r\n".len()
        );
    }

    #[test]
    fn lines_come_in_the_order_of_ids_or_as_asked() {
        let answers = ["id=3 c\nid=10 d\n".to_string(), "id=2 b\n".to_string()];
        assert_eq!(joined(&answers, None), "id=2 b\nid=3 c\nid=10 d\n");
        assert_eq!(joined(&answers, Some(&[10, 7, 2])), "id=10 d\nid=2 b\n");
    }
}
