//! HELLO, AUTH: the protocol version and who speaks.
//!
//! Users and their passwords: [`crate::acl`].

use super::{Answer, Call, ConnHandler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::lossless;
use ringwood_protocol::number::parse_i64;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::Args;

/// The Redis version whose behaviour we follow, as clients are told.
pub const REDIS_VERSION: &str = "8.2.3";

pub const COMMANDS: &[Command<ConnHandler>] = &[HELLO, AUTH];

const HELLO: Command<ConnHandler> = command("HELLO", at_least(1), hello as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY)
    .acl(acl::CONNECTION)
    .doc(
        "Chooses the protocol version, and can log in and name the connection.",
        "O(1)",
        "6.0.0",
        "connection",
    )
    .history(&[(
        "6.2.0",
        "`protover` may be left out: the reply then describes the connection.",
    )])
    .args(&[block(
        "arguments",
        &[
            integer("protover"),
            block("auth", &[string("username"), string("password")])
                .token("AUTH")
                .optional(),
            string("clientname").token("SETNAME").optional(),
        ],
    )
    .optional()])
    .route(Route::Connection);

fn hello(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let mut version = call.client().version;
    if let Some(text) = args.get(1) {
        version = match parse_i64(text) {
            Some(2) => Version::Resp2,
            Some(3) => Version::Resp3,
            Some(_) => {
                return Err(CommandError::fixed("NOPROTO unsupported protocol version"));
            }
            None => {
                return Err(CommandError::fixed(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
        };
    }
    let mut login = None;
    let mut name = None;
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args[at].eq_ignore_ascii_case(b"AUTH") && left >= 2 {
            login = Some((args[at + 1], args[at + 2]));
            at += 3;
        } else if args[at].eq_ignore_ascii_case(b"SETNAME") && left >= 1 {
            name = Some(args[at + 1]);
            super::client::check_attribute("Client names", args[at + 1])?;
            at += 2;
        } else {
            // Up to a zero byte, as everything that Redis formats as C does.
            let word = args[at].split(|&b| b == 0).next().unwrap_or_default();
            return Err(CommandError::err(format_args!(
                "Syntax error in HELLO option '{}'",
                lossless::text(word)
            )));
        }
    }
    if let Some((user, password)) = login {
        log_in(call, user, password)?;
    }
    if !call.client().authenticated {
        return Err(CommandError::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    let client = call.client_mut();
    if let Some(name) = name {
        client.name = name.to_vec();
    }
    client.version = version;
    let (id, cluster) = (client.id, client.cluster);
    let config = call.core.config.clone();
    // In the version just chosen.
    let mut text = Vec::new();
    let mut reply = Reply::new(&mut text, version);
    let zone = &config.availability_zone;
    reply.map(if zone.is_empty() { 7 } else { 8 });
    for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk_str(field);
        reply.bulk_str(value);
    }
    reply.bulk_str("proto");
    reply.integer(if version == Version::Resp3 { 3 } else { 2 });
    reply.bulk_str("id");
    reply.integer(id as i64);
    reply.bulk_str("mode");
    reply.bulk_str(if cluster { "cluster" } else { "standalone" });
    reply.bulk_str("role");
    reply.bulk_str("master");
    reply.bulk_str("modules");
    reply.array(0);
    if !zone.is_empty() {
        // As Valkey.
        reply.bulk_str("availability_zone");
        reply.bulk(zone);
    }
    call.reply.raw(&text);
    Ok(Answer::Now)
}

const AUTH: Command<ConnHandler> = command("AUTH", at_least(2), auth as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY)
    .acl(acl::CONNECTION)
    .doc(
        "Logs the connection in.",
        "O(N) where N is the number of passwords defined for the user",
        "1.0.0",
        "connection",
    )
    .history(&[("6.0.0", "Takes a user name as well.")])
    .args(&[
        string("username").since("6.0.0").optional(),
        string("password"),
    ])
    .route(Route::Connection);

fn auth(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    match args {
        [_, password] => {
            if call.core.users.default_user().nopass {
                return Err(CommandError::fixed(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                     configuration is correct?",
                ));
            }
            log_in(call, b"default", password)?;
        }
        [_, user, password] => log_in(call, user, password)?,
        _ => return Err(CommandError::Syntax),
    }
    call.reply.ok();
    Ok(Answer::Now)
}

/// A failed attempt leaves the connection as it was.
fn log_in(call: &mut Call<'_>, name: &[u8], password: &[u8]) -> Result<(), CommandError> {
    let user = call.core.users.get(name);
    let Some(user) = user.filter(|user| user.accepts(password)).cloned() else {
        call.core.note_failed_login(call.conn, name);
        return Err(CommandError::fixed(
            "WRONGPASS invalid username-password pair or user is disabled.",
        ));
    };
    let client = call.client_mut();
    client.act_as(user);
    client.authenticated = true;
    Ok(())
}
