//! DEBUG RELOAD: a snapshot is written, and everything made anew from it.
//!
//! All at one point in the order of transactions, so no client can come between. Each core keeps what it writes into the file and reads it again
//! when it has forgotten its keys; what one core's keys become does not depend on the others'.
//!
//! NOSAVE reads the file that is there. NOFLUSH forgets nothing before: then a key or a library that is there already is an error, unless MERGE has the file's
//! take its place.

use super::super::{Answer, Call, lock};
use crate::core::Core;
use crate::mailbox::Ticket;
use crate::persist::load::{self, Twice};
use crate::persist::snapshot::{self, Purpose};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_scripting::RestorePolicy;
use ringwood_shard::rdb::snapshot::{Memory, write};
use ringwood_shard::shard::notify;
use std::sync::{Arc, Mutex};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    save: bool,
    flush: bool,
    merge: bool,
}

impl Options {
    fn read(words: &[&[u8]]) -> Result<Self, CommandError> {
        let mut options = Self {
            save: true,
            flush: true,
            merge: false,
        };
        for word in words {
            match word.to_ascii_uppercase().as_slice() {
                b"NOSAVE" => options.save = false,
                b"NOFLUSH" => options.flush = false,
                b"MERGE" => options.merge = true,
                _ => {
                    return Err(CommandError::fixed(
                        "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                    ));
                }
            }
        }
        Ok(options)
    }
    fn twice(self) -> Twice {
        match self.merge {
            true => Twice::Replaced,
            false => Twice::Refused,
        }
    }
    fn policy(self) -> RestorePolicy {
        match (self.flush, self.merge) {
            (true, _) => RestorePolicy::Flush,
            (false, true) => RestorePolicy::Replace,
            (false, false) => RestorePolicy::Append,
        }
    }
}

/// Why it was not loaded, for the log; the client hears the same of every reason.
type Reason = String;

fn not_loaded(reason: &str) -> CommandError {
    tracing::warn!("DEBUG RELOAD: {reason}");
    CommandError::fixed("ERR Error trying to load the RDB dump, check server logs.")
}

pub fn reload(call: &mut Call<'_>, words: &[&[u8]]) -> Result<Answer, CommandError> {
    let options = Options::read(words)?;
    match options.save {
        true => save_and_read(call, options),
        false => read_file(call, options),
    }
}

fn save_and_read(call: &mut Call<'_>, options: Options) -> Result<Answer, CommandError> {
    if call.core.shared.persistence.runs(Purpose::Bgsave) {
        // As in Redis it keeps nobody from this; it would only be of an older moment.
        call.core.cancel_snapshot();
    }
    let claim = call.core.claim_save()?;
    let version = call.reply.version();
    let ticket = call.later();
    let failed: Arc<Mutex<Option<Reason>>> = Arc::default();
    let noted = failed.clone();
    let visit = move |core: &mut Core| {
        if let Err(reason) = anew(core, options) {
            *lock(&noted) = Some(reason);
        }
    };
    call.core.save(claim, visit, move |core, result| {
        let result = match (result, lock(&failed).take()) {
            (Err(failure), _) => Err(CommandError::err(format_args!("saving failed: {failure}"))),
            (Ok(()), Some(reason)) => Err(not_loaded(&reason)),
            (Ok(()), None) => Ok(()),
        };
        answer(core, ticket, version, result);
    });
    Ok(Answer::Later)
}

fn answer(core: &mut Core, ticket: Ticket, version: Version, result: Result<(), CommandError>) {
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, version);
    match result {
        Ok(()) => {
            tracing::warn!("DB reloaded by DEBUG RELOAD");
            reply.ok();
        }
        Err(error) => reply.command_error(&error),
    }
    core.answer(ticket, out);
}

/// Forgets all keys and makes them from what is written of them.
fn anew(core: &mut Core, options: Options) -> Result<(), Reason> {
    if !options.flush && options.merge {
        // What is there takes the place of itself.
        return Ok(());
    }
    if !options.flush && !core.function_list().is_empty() {
        return Err("a library that is there already".to_owned());
    }
    let copy = Memory::default();
    write(
        &core.shard,
        snapshot::options(&core.config),
        Box::new(copy.clone()),
    );
    let file = copy.to_file(&[]).ok_or("the copy is not whole")?;
    if options.flush {
        forget(core);
    }
    load::read(
        &mut file.as_slice(),
        &mut core.shard,
        options.twice(),
        false,
    )
    .map(drop)
}

fn forget(core: &mut Core) {
    for db in 0..core.shard.keyspace.databases() {
        core.shard.keyspace.flush(db);
    }
}

/// Reads the file that was saved before.
fn read_file(call: &mut Call<'_>, options: Options) -> Result<Answer, CommandError> {
    let core = &mut *call.core;
    let path = core.snapshot_path();
    let databases = core.shard.keyspace.databases();
    // What cannot be read is found while everything is still there.
    let libraries = load::libraries(&core.shared.aof.disk, &path, databases);
    let libraries = libraries.map_err(|reason| not_loaded(&reason))?;
    let codes: Vec<&[u8]> = libraries.iter().map(|code| &**code).collect();
    core.take_libraries(&codes, options.policy())
        .map_err(|error| not_loaded(&error.text()))?;
    let version = call.reply.version();
    let ticket = call.later();
    let failed: Arc<Mutex<Option<Reason>>> = Arc::default();
    let noted = failed.clone();
    let visit = move |core: &mut Core| {
        if options.flush {
            forget(core);
        }
        let disk = &core.shared.aof.disk;
        if let Err(reason) = load::load(disk, &path, &mut core.shard, options.twice(), false) {
            *lock(&noted) = Some(reason);
        }
        tell_of_all(core);
        Vec::new()
    };
    let conclude = move |core: &mut Core, ticket: Ticket, _: Vec<Vec<u8>>| {
        if core.config.appendonly && core.rewrite_log().is_err() {
            // The log knows nothing of what came with the file.
            core.schedule_rewrite();
        }
        let result = lock(&failed)
            .take()
            .map_or(Ok(()), |reason| Err(not_loaded(&reason)));
        answer(core, ticket, version, result);
    };
    call.core
        .visit_all(ticket, Arc::new(visit), Box::new(conclude));
    Ok(Answer::Later)
}

/// Any key may have changed: for who watches, waits for or remembers some.
fn tell_of_all(core: &mut Core) {
    let shard = &mut core.shard;
    let (keyspace, now_ms) = (&shard.keyspace, shard.due_ms());
    for db in 0..keyspace.databases() {
        shard.attention.changed(db, b"", notify::ALL_KEYS, |key| {
            let found = keyspace.get(db, keyspace.key(key));
            found.is_some_and(|e| e.expire_at().is_none_or(|at| at > now_ms))
        });
    }
    shard.attention.tracking.flushed();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_words_in_any_order() {
        let read = |line: &str| {
            let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
            Options::read(&words).map(|o| (o.save, o.flush, o.merge))
        };
        assert_eq!(read(""), Ok((true, true, false)));
        assert_eq!(read("merge NoFlush NOSAVE"), Ok((false, false, true)));
        assert!(read("nosave x").is_err());
    }
}
