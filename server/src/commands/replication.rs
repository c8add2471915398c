//! ROLE, WAIT and WAITAOF, as a primary without replicas answers them.

use super::{Answer, Call, ConnHandler};
use crate::aof::wait::Wanted;
use crate::blocking::InVain;
use crate::config::enums::AppendFsync;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[ROLE, WAIT, WAITAOF];

const ROLE: Command<ConnHandler> = command("ROLE", exactly(1), role as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE | FAST)
    .acl(acl::ADMIN | acl::DANGEROUS)
    .doc(
        "Tells the server's role in replication.",
        "O(1)",
        "2.8.12",
        "server",
    )
    .route(Route::Connection);

fn role(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    call.reply.array(3);
    call.reply.bulk_str("master");
    call.reply.integer(0);
    call.reply.array(0);
    Ok(Answer::Now)
}

const WAIT: Command<ConnHandler> = command("WAIT", exactly(3), wait as ConnHandler)
    .flags(BLOCKING | BARRIER)
    .acl(acl::CONNECTION)
    .doc(
        "Waits until replicas have this connection's writes.",
        "O(1)",
        "3.0.0",
        "generic",
    )
    .args(&[integer("numreplicas"), integer("timeout")])
    .tips(&["request_policy:all_shards", "response_policy:agg_min"])
    .route(Route::Connection);

/// No replica can be connected, so whoever wants one waits for the timeout.
fn wait(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let replicas = parse_i64(args[1]).ok_or(CommandError::NotInteger)?;
    let timeout_ms = timeout_ms(call, args[2])?;
    if replicas <= 0 || may_not_wait(call) {
        call.reply.integer(0);
        return Ok(Answer::Now);
    }
    let (entry, version) = (call.entry, call.reply.version());
    let ticket = call.later();
    let core = &mut *call.core;
    core.begin_keyless_wait(ticket, entry, version, timeout_ms, InVain::Replicas);
    Ok(Answer::Later)
}

/// A transaction and a script wait for nothing.
fn may_not_wait(call: &Call<'_>) -> bool {
    call.core.pubsub.in_exec || call.is_script()
}

/// `None`: for good.
fn timeout_ms(call: &Call<'_>, word: &[u8]) -> Result<Option<u64>, CommandError> {
    let ms = parse_i64(word).ok_or(CommandError::fixed(
        "ERR timeout is not an integer or out of range",
    ))?;
    let ms = u64::try_from(ms).map_err(|_| CommandError::NegativeTimeout)?;
    if ms > i64::MAX.abs_diff(call.core.now.unix_ms) {
        return Err(CommandError::fixed("ERR timeout is out of range"));
    }
    Ok((ms > 0).then_some(ms))
}

/// WAITAOF where nothing may wait: whether what was written before is on disk by now. What this transaction has written does not
/// count, as in Redis, but for other cores' keys, whose logs may have it when they are asked; a script's calls are no client's,
/// and wrote nothing before.
fn say_if_on_disk(call: &mut Call<'_>) -> Answer {
    let write = |reply: &mut Reply<'_>, local: bool| {
        reply.array(2);
        reply.integer(local.into());
        reply.integer(0);
    };
    let config = &call.core.config;
    // With `always` nobody hears this before what came before it is there.
    let always = config.appendfsync == AppendFsync::Always && !call.core.refuses_writes;
    if call.is_script() || always || !config.appendonly {
        let local = config.appendonly;
        write(&mut call.reply, local);
        return Answer::Now;
    }
    call.gather(
        |core| core.is_log_on_disk(),
        move |_, reply, cores| write(reply, cores.into_iter().all(|there| there)),
    )
}

const WAITAOF: Command<ConnHandler> = command("WAITAOF", exactly(4), waitaof as ConnHandler)
    .flags(BLOCKING | BARRIER)
    .acl(acl::CONNECTION)
    .doc(
        "Waits until the log has this connection's writes, on disk.",
        "O(1)",
        "7.2.0",
        "generic",
    )
    .args(&[
        integer("numlocal"),
        integer("numreplicas"),
        integer("timeout"),
    ])
    .tips(&["request_policy:all_shards", "response_policy:agg_min"])
    .route(Route::Connection);

fn waitaof(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let range = CommandError::fixed("ERR value is out of range, must be positive");
    let local = parse_i64(args[1]).ok_or(CommandError::NotInteger)?;
    if !(0..=1).contains(&local) {
        let text = "ERR value is out of range, value must between 0 and 1";
        return Err(CommandError::fixed(text));
    }
    let replicas = parse_i64(args[2]).filter(|n| *n >= 0).ok_or(range)?;
    let timeout_ms = timeout_ms(call, args[3])?;
    if local > 0 && !call.core.config.appendonly {
        let text = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
        return Err(CommandError::fixed(text));
    }
    if may_not_wait(call) {
        return Ok(say_if_on_disk(call));
    }
    let (entry, version) = (call.entry, call.reply.version());
    let wanted = Wanted {
        local: local > 0,
        replicas: replicas > 0,
        timeout_ms,
    };
    let ticket = call.later();
    call.core.wait_for_log(ticket, entry, version, wanted);
    Ok(Answer::Later)
}
