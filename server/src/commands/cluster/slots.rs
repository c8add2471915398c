//! What is in the slots: KEYSLOT, COUNTKEYSINSLOT, GETKEYSINSLOT, SLOT-STATS.
//!
//! A slot's owner answers, whichever node is asked. Keys past their time count until they are deleted, as in Redis.

use super::{Answer, Args, Call, CommandError, ConnHandler, enabled};
use crate::core::Core;
use ringwood_protocol::command::*;
use ringwood_protocol::number::parse_i64;
use ringwood_protocol::slot::{SLOT_COUNT, key_slot};

pub(super) const CLUSTER_KEYSLOT: Command<ConnHandler> =
    command("KEYSLOT", exactly(3), cluster_keyslot as ConnHandler)
        .flags(STALE)
        .doc(
            "Returns a key's hash slot.",
            "O(N) where N is the number of bytes in the key",
            "3.0.0",
            "cluster",
        )
        .args(&[string("key")])
        .route(Route::Connection);

pub(super) fn cluster_keyslot(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    enabled(call)?;
    call.reply.integer(key_slot(args[2]) as i64);
    Ok(Answer::Now)
}

fn slot(n: i64) -> Option<u16> {
    u16::try_from(n).ok().filter(|n| *n < SLOT_COUNT)
}

pub(super) const CLUSTER_COUNTKEYSINSLOT: Command<ConnHandler> = command(
    "COUNTKEYSINSLOT",
    exactly(3),
    cluster_countkeysinslot as ConnHandler,
)
.flags(STALE)
.doc("Counts the keys of a slot.", "O(1)", "3.0.0", "cluster")
.args(&[integer("slot")])
.route(Route::Connection);

pub(super) fn cluster_countkeysinslot(
    call: &mut Call<'_>,
    args: Args<'_>,
) -> Result<Answer, CommandError> {
    enabled(call)?;
    let n = parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    let slot = slot(n).ok_or(CommandError::fixed("ERR Invalid slot"))?;
    Ok(call.gather(
        move |core| core.shard.keyspace.slot_len(0, slot),
        |_, reply, counts| reply.integer(counts.iter().sum::<usize>() as i64),
    ))
}

pub(super) const CLUSTER_GETKEYSINSLOT: Command<ConnHandler> = command(
    "GETKEYSINSLOT",
    exactly(4),
    cluster_getkeysinslot as ConnHandler,
)
.flags(STALE)
.doc(
    "Lists keys of a slot.",
    "O(N) where N is the number of requested keys",
    "3.0.0",
    "cluster",
)
.args(&[integer("slot"), integer("count")])
.tips(&["nondeterministic_output"])
.route(Route::Connection);

pub(super) fn cluster_getkeysinslot(
    call: &mut Call<'_>,
    args: Args<'_>,
) -> Result<Answer, CommandError> {
    enabled(call)?;
    let n = parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    let count = parse_i64(args[3]).ok_or(CommandError::NotInteger)?;
    let wrong = CommandError::fixed("ERR Invalid slot or number of keys");
    let (Some(slot), Ok(count)) = (slot(n), usize::try_from(count)) else {
        return Err(wrong);
    };
    let ask = move |core: &mut Core| {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        core.shard.keyspace.each_in_slot(0, slot, |entry| {
            if keys.len() < count {
                keys.push(entry.key().to_vec());
            }
        });
        keys
    };
    Ok(call.gather(ask, |_, reply, keys| reply.bulks(&keys.concat())))
}

pub(super) const CLUSTER_SLOT_STATS: Command<ConnHandler> = command("SLOT-STATS", at_least(4), cluster_slot_stats as ConnHandler)
    .flags(LOADING | STALE)
    .doc("Shows statistics for each of this node's slots.", "O(N) where N is the total number of slots based on arguments. O(N*log(N)) with ORDERBY subcommand.", "8.2.0", "cluster")
    .args(&[one_of("filter", &[block("slotsrange", &[integer("start-slot"), integer("end-slot")]).token("SLOTSRANGE"), block("orderby", &[string("metric"), integer("limit").token("LIMIT").optional(), one_of("order", &[word("asc", "ASC"), word("desc", "DESC")]).optional()]).token("ORDERBY")])])
    .tips(&["nondeterministic_output", "request_policy:all_shards"]).route(Route::Connection);

/// Of the slots that the asked core has. Only keys are counted, so `key-count` is the one metric.
pub(super) fn cluster_slot_stats(
    call: &mut Call<'_>,
    args: Args<'_>,
) -> Result<Answer, CommandError> {
    enabled(call)?;
    let valid = |word: &[u8]| {
        parse_i64(word)
            .and_then(slot)
            .ok_or(CommandError::fixed("ERR Invalid or out of range slot"))
    };
    let core = &call.core;
    let own = |range: std::ops::RangeInclusive<u16>| {
        range
            .filter(|s| core.owner(*s) as usize == core.id)
            .map(|s| (s, core.shard.keyspace.slot_len(0, s)))
            .collect::<Vec<_>>()
    };
    let stats = if args[2].eq_ignore_ascii_case(b"SLOTSRANGE") && args.len() == 5 {
        let (first, last) = (valid(args[3])?, valid(args[4])?);
        if first > last {
            return Err(CommandError::err(format_args!(
                "Start slot number {first} is greater than end slot number {last}"
            )));
        }
        own(first..=last)
    } else if args[2].eq_ignore_ascii_case(b"ORDERBY") {
        if !args[3].eq_ignore_ascii_case(b"KEY-COUNT") {
            return Err(CommandError::fixed(
                "ERR Unrecognized sort metric for ORDERBY.",
            ));
        }
        let order = Order::parse(&args[4..])?;
        let mut stats = own(0..=SLOT_COUNT - 1);
        // Slots of equal counts come in their own order.
        stats.sort_by_key(|(_, count)| {
            let count = *count as i64;
            if order.ascending { count } else { -count }
        });
        stats.truncate(order.limit);
        stats
    } else {
        return Err(crate::commands::wrong_words(args));
    };
    call.reply.array(stats.len());
    for (slot, count) in stats {
        call.reply.array(2);
        call.reply.integer(slot as i64);
        call.reply.map(1);
        call.reply.bulk_str("key-count");
        call.reply.integer(count as i64);
    }
    Ok(Answer::Now)
}

/// What may follow ORDERBY's metric.
struct Order {
    limit: usize,
    ascending: bool,
}

impl Order {
    fn parse(mut words: Args<'_>) -> Result<Self, CommandError> {
        let mut order = Self {
            limit: SLOT_COUNT as usize,
            ascending: false,
        };
        while let [word, rest @ ..] = words {
            words = rest;
            if word.eq_ignore_ascii_case(b"LIMIT") {
                let [limit, rest @ ..] = words else {
                    return Err(CommandError::Syntax);
                };
                let wrong =
                    "ERR Limit has to lie in between 1 and 16384 (maximum number of slots).";
                let limit = parse_i64(limit).and_then(|n| usize::try_from(n).ok());
                order.limit = limit
                    .filter(|n| (1..=SLOT_COUNT as usize).contains(n))
                    .ok_or(CommandError::fixed(wrong))?;
                words = rest;
            } else if word.eq_ignore_ascii_case(b"ASC") || word.eq_ignore_ascii_case(b"DESC") {
                order.ascending = word.eq_ignore_ascii_case(b"ASC");
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(order)
    }
}
