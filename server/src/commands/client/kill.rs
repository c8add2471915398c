//! KILL, UNBLOCK: one client acts on others, whichever core has them.

use super::list::Kind;
use super::{Answer, Args, Call, CommandError, ConnHandler};
use crate::acl::Users;
use crate::client::{Client, Life};
use crate::core::Core;
use ringwood_protocol::command::*;
use ringwood_protocol::lossless;
use ringwood_protocol::number::parse_i64;

/// Which clients are meant: those that fit all that is given.
#[derive(Clone, Debug, Default)]
struct Filter {
    id: Option<u64>,
    kind: Option<Kind>,
    peer: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    age_min_s: Option<u64>,
    user: Option<Vec<u8>>,
    skip_me: bool,
}

impl Filter {
    /// The form of options and values.
    fn parse(options: Args<'_>, users: &Users) -> Result<Self, CommandError> {
        let mut filter = Self {
            skip_me: true,
            ..Self::default()
        };
        for pair in options.chunks(2) {
            let &[option, value] = pair else {
                return Err(CommandError::Syntax);
            };
            match option.to_ascii_lowercase().as_slice() {
                b"id" => filter.id = Some(positive(value).ok_or(BAD_ID)?),
                b"maxage" => {
                    let age = parse_i64(value).ok_or(BAD_AGE)?;
                    let age = u64::try_from(age).ok().filter(|age| *age > 0);
                    filter.age_min_s = Some(age.ok_or(NO_AGE)?);
                }
                b"type" => filter.kind = Some(Kind::parse(value)?),
                b"addr" => filter.peer = Some(value.to_vec()),
                b"laddr" => filter.local = Some(value.to_vec()),
                b"user" if users.get(value).is_some() => filter.user = Some(value.to_vec()),
                b"user" => {
                    return Err(CommandError::err(format_args!(
                        "No such user '{}'",
                        lossless::text(value)
                    )));
                }
                b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.skip_me = true,
                b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.skip_me = false,
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(filter)
    }

    fn fits(&self, client: &Client, now_ns: u64) -> bool {
        let age_s = now_ns.saturating_sub(client.created) / 1_000_000_000;
        client.life != Life::Closed
            && self.id.is_none_or(|id| id == client.id)
            && self
                .user
                .as_ref()
                .is_none_or(|name| *name == client.user.name)
            && self.kind.is_none_or(|kind| kind == Kind::of(client))
            && self
                .peer
                .as_ref()
                .is_none_or(|a| a == client.peer.as_bytes())
            && self
                .local
                .as_ref()
                .is_none_or(|a| a == client.local.as_bytes())
            && self.age_min_s.is_none_or(|least| age_s >= least)
    }
}

const BAD_ID: CommandError = CommandError::fixed("ERR client-id should be greater than 0");
const BAD_AGE: CommandError = CommandError::fixed("ERR maxage is not an integer or out of range");
const NO_AGE: CommandError = CommandError::fixed("ERR maxage should be greater than 0");

fn positive(text: &[u8]) -> Option<u64> {
    u64::try_from(parse_i64(text)?).ok().filter(|n| *n > 0)
}

pub(super) const CLIENT_KILL: Command<ConnHandler> =
    command("KILL", at_least(3), client_kill as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Closes connections.",
            "O(N) where N is the number of client connections",
            "2.4.0",
            "connection",
        )
        .history(&[
            ("2.8.12", "Filters as options."),
            ("2.8.12", "Option `ID`."),
            ("3.2.0", "`TYPE` knows `master`."),
            ("5.0.0", "`TYPE` says `replica`; `slave` still works."),
            ("6.2.0", "Option `LADDR`."),
            ("7.4.0", "Option `MAXAGE`."),
        ])
        .args(&[one_of(
            "filter",
            &[
                string("old-format")
                    .display("ip:port")
                    .deprecated_since("2.8.12"),
                one_of(
                    "new-format",
                    &[
                        integer("client-id").token("ID").since("2.8.12").optional(),
                        one_of(
                            "client-type",
                            &[
                                word("normal", "NORMAL"),
                                word("master", "MASTER").since("3.2.0"),
                                word("slave", "SLAVE"),
                                word("replica", "REPLICA").since("5.0.0"),
                                word("pubsub", "PUBSUB"),
                            ],
                        )
                        .token("TYPE")
                        .since("2.8.12")
                        .optional(),
                        string("username").token("USER").optional(),
                        string("addr").token("ADDR").display("ip:port").optional(),
                        string("laddr")
                            .token("LADDR")
                            .display("ip:port")
                            .since("6.2.0")
                            .optional(),
                        one_of("skipme", &[word("yes", "YES"), word("no", "NO")])
                            .token("SKIPME")
                            .optional(),
                        integer("maxage").token("MAXAGE").since("7.4.0").optional(),
                    ],
                )
                .multiple(),
            ],
        )])
        .route(Route::Connection);

pub(super) fn client_kill(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let old_form = args.len() == 3;
    let filter = if old_form {
        Filter {
            peer: Some(args[2].to_vec()),
            ..Filter::default()
        }
    } else {
        Filter::parse(&args[2..], &call.core.users)?
    };
    let own = call.client().id;
    let myself = !filter.skip_me && filter.fits(call.client(), call.core.now.mono_ns);
    let conn = call.conn;
    let ask = move |core: &mut Core| {
        let now = core.now.mono_ns;
        let meant: Vec<_> = core
            .clients
            .iter()
            .filter(|c| c.id != own && filter.fits(c, now))
            .map(|c| c.conn)
            .collect();
        for conn in &meant {
            core.close(*conn);
        }
        meant.len()
    };
    let answer = call.gather(ask, move |_, reply, killed| {
        let killed = killed.iter().sum::<usize>() + myself as usize;
        match (old_form, killed) {
            (false, _) => reply.integer(killed as i64),
            (true, 0) => reply.error("ERR No such client"),
            (true, _) => reply.ok(),
        }
    });
    if myself {
        // The answer still goes out; what was sent behind this command is not run any more.
        call.core.end(conn);
    }
    Ok(answer)
}

pub(super) const CLIENT_UNBLOCK: Command<ConnHandler> =
    command("UNBLOCK", at_least(3), client_unblock as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Wakes a client that waits in a blocking command.",
            "O(log N) where N is the number of client connections",
            "5.0.0",
            "connection",
        )
        .args(&[
            integer("client-id"),
            one_of(
                "unblock-type",
                &[word("timeout", "TIMEOUT"), word("error", "ERROR")],
            )
            .optional(),
        ])
        .route(Route::Connection);

const UNBLOCKED: CommandError =
    CommandError::fixed("UNBLOCKED client unblocked via CLIENT UNBLOCK");

pub(super) fn client_unblock(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let with_error = match args {
        [_, _, _] => false,
        [_, _, _, reason] if reason.eq_ignore_ascii_case(b"TIMEOUT") => false,
        [_, _, _, reason] if reason.eq_ignore_ascii_case(b"ERROR") => true,
        [_, _, _, _] => {
            return Err(CommandError::fixed(
                "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
            ));
        }
        _ => return Err(crate::commands::wrong_words(args)),
    };
    let id = parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    let ask = move |core: &mut Core| {
        let conn = core
            .clients
            .iter()
            .find(|c| c.id as i64 == id)
            .map(|c| c.conn);
        conn.is_some_and(|conn| match with_error {
            true => core.fail_wait(conn, &UNBLOCKED),
            false => core.end_wait(conn, |reply, in_vain| in_vain.write(reply)),
        }) as usize
    };
    Ok(call.gather(ask, |_, reply, ended| {
        reply.integer(ended.iter().sum::<usize>() as i64);
    }))
}
