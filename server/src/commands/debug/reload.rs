//! DEBUG RELOAD: a snapshot is written, and everything made anew from it.
//!
//! All at one point in the order of transactions, so no client can come between. Each core keeps what it writes into the file and reads it again
//! when it has forgotten its keys; what one core's keys become does not depend on the others'.

use super::super::{Answer, Call, lock};
use crate::core::Core;
use crate::persist::{load, snapshot};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;
use ringwood_shard::rdb::snapshot::{Memory, write};
use std::sync::{Arc, Mutex};

pub fn reload(call: &mut Call<'_>, words: &[&[u8]]) -> Result<Answer, CommandError> {
    if !words.is_empty() {
        return Err(CommandError::err(
            "DEBUG RELOAD has no options here: what is loaded is what was just saved",
        ));
    }
    let claim = call.core.claim_save()?;
    let version = call.reply.version();
    let ticket = call.later();
    let answer = move |core: &mut Core, result: Result<(), CommandError>| {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, version);
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.command_error(&error),
        }
        core.answer(ticket, out);
    };
    let failed = Arc::new(Mutex::new(None));
    let noted = failed.clone();
    let visit = move |core: &mut Core| {
        if let Err(text) = anew(core) {
            *lock(&noted) = Some(text);
        }
    };
    call.core.save(claim, visit, move |core, result| {
        let result = match (result, lock(&failed).take()) {
            (Err(failure), _) => Err(CommandError::err(format_args!("saving failed: {failure}"))),
            (Ok(()), Some(text)) => Err(CommandError::err(text)),
            (Ok(()), None) => Ok(()),
        };
        answer(core, result);
    });
    Ok(Answer::Later)
}

/// Forgets all keys and makes them from what is written of them.
fn anew(core: &mut Core) -> Result<(), String> {
    let copy = Memory::default();
    let options = snapshot::options(&core.config);
    write(&core.shard, options, Box::new(copy.clone()));
    let file = copy.to_file(&[]).ok_or("the copy is not whole")?;
    for db in 0..core.shard.keyspace.databases() {
        core.shard.keyspace.flush(db);
    }
    load::read(&mut file.as_slice(), &mut core.shard, false).map(drop)
}
