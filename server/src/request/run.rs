//! A data command on its shard.

use crate::mailbox::Ticket;
use crate::registry::{Entry, Run};
use crate::stats::Stats;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::{Args, Ctx, Log, Wants};
use ringwood_shard::keyspace::Key;
use ringwood_shard::shard::Shard;

/// A data command that is to run on a shard, beside its words.
pub(crate) struct DataCall<'a> {
    pub entry: &'static Entry,
    pub db: usize,
    pub version: Version,
    /// See [`Ctx::keys`].
    pub keys: &'a [Key<'a>],
    /// See [`Ctx::serving`].
    pub serving: bool,
    /// See [`Ctx::aside`].
    pub aside: bool,
    /// Whose it is.
    pub caller: Ticket,
}

/// How a command runs that was kept or sent.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    pub(super) serving: bool,
    pub(super) aside: bool,
}

impl Mode {
    /// All its work is done at once.
    pub const AT_ONCE: Self = Self {
        serving: false,
        aside: false,
    };
    /// It may ask to be done aside.
    pub const ASIDE: Self = Self {
        serving: false,
        aside: true,
    };
    /// See [`Ctx::serving`].
    pub const SERVING: Self = Self {
        serving: true,
        aside: false,
    };
}

/// A renamed command's words as the log has them: with its own name.
#[cold]
fn by_own_name<'a>(entry: &'static Entry, args: Args<'a>) -> Vec<&'a [u8]> {
    let mut words = args.to_vec();
    words[0] = entry.parent.unwrap_or(entry.spec.name).as_bytes();
    words
}

/// Runs a data command on a shard; the reply goes to the end of `out`. What it wants before it can do its work comes back;
/// then there is no reply.
#[inline(always)]
pub(crate) fn run(
    shard: &mut Shard,
    stats: &mut Stats,
    call: &DataCall<'_>,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Option<Box<Wants>> {
    let entry = call.entry;
    let Run::Shard(handler) = entry.spec.run else {
        panic!("{} is no data command", entry.name)
    };
    let reply = Reply::new(out, call.version);
    let mark = reply.mark();
    if shard.attention.tracking.on {
        shard.attention.tracking.writer = call.caller.client;
    }
    if call.caller.reads.untouched {
        // TOUCH is there to touch.
        shard.keep_access = entry.spec.name != "TOUCH";
    }
    let dirty = shard.stats.dirty;
    // Which keys it reads is known to nobody but itself: it is logged by what it made.
    let by_result = shard.logging && entry.widens();
    let group_begins = by_result && shard.log.begin();
    let own_words;
    let args = match shard.logging && entry.renamed {
        true => {
            own_words = by_own_name(entry, args);
            &own_words
        }
        false => args,
    };
    let mut ctx = Ctx::new(shard, call.db, reply, call.keys);
    (ctx.serving, ctx.aside) = (call.serving, call.aside);
    let result = handler(&mut ctx, args);
    if let Err(error) = &result {
        ctx.reply.rewind(mark);
        ctx.reply.command_error(error);
        stats.error(entry, error);
        if let Some(text) = ctx.shard.refused_payload.take() {
            tracing::warn!("{text}");
        }
        if ctx.shard.loading {
            crate::aof::replay::failed(Some(entry), error);
        }
    }
    let (wants, log) = (ctx.wants, ctx.log);
    // One that blocks may have changed something all the same, and says so itself: XREADGROUP makes its consumer.
    if shard.logging && (wants.is_none() || matches!(log, Log::As(_))) {
        let changed = shard.stats.dirty != dirty;
        match by_result {
            true => crate::aof::log::note_results(shard),
            false => crate::aof::log::note(shard, call, args, log, changed, result.is_ok()),
        }
    }
    if call.caller.reads.untouched {
        shard.keep_access = false;
    }
    if group_begins {
        crate::aof::log::end_local_group(shard);
    }
    if shard.attention.tracking.on {
        crate::tracking::remember(shard, call, args, wants.is_some());
    }
    wants
}
