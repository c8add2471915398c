//! DEBUG RELOAD: a snapshot is written, and everything made anew from it.
//!
//! All at one point in the order of transactions, so no client can come between. Each core keeps what it writes into the file and reads it again
//! when it has forgotten its keys; what one core's keys become does not depend on the others'.

use super::super::{Answer, Call};
use crate::core::Core;
use crate::mailbox::Ticket;
use crate::persist::load;
use crate::persist::save::Saving;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;
use ringwood_shard::rdb::snapshot::{self, Output};
use ringwood_shard::rdb::writer::Sink;
use std::sync::Arc;

/// What a core would write into a file of its own.
struct Copy(Vec<u8>);

impl Output for Copy {
    fn run(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn large(&mut self, write: &mut dyn FnMut(Sink<'_>)) {
        write(&mut |bytes| self.0.extend_from_slice(bytes));
    }
}

pub fn reload(call: &mut Call<'_>, words: &[&[u8]]) -> Result<Answer, CommandError> {
    if !words.is_empty() {
        return Err(CommandError::err(
            "DEBUG RELOAD has no options here: what is loaded is what was just saved",
        ));
    }
    let saving = call.core.begin_save()?;
    let version = call.reply.version();
    let ticket = call.later();
    let visited = saving.clone();
    let ask = move |core: &mut Core| {
        visited.visit(core);
        match anew(core, &visited) {
            Ok(()) => Vec::new(),
            Err(text) => text.into_bytes(),
        }
    };
    let conclude = move |core: &mut Core, ticket: Ticket, answers: Vec<Vec<u8>>| {
        let saved = saving.conclude(core);
        let failed = answers.into_iter().find(|answer| !answer.is_empty());
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, version);
        match (saved, failed) {
            (Ok(()), None) => reply.ok(),
            (Err(error), _) => {
                reply.command_error(&CommandError::err(format_args!("saving failed: {error}")));
            }
            (_, Some(text)) => {
                reply.error(&format!("ERR {}", String::from_utf8_lossy(&text)));
            }
        }
        core.answer(ticket, out);
    };
    call.core
        .visit_all(ticket, Arc::new(ask), Box::new(conclude));
    Ok(Answer::Later)
}

/// Forgets all keys and makes them from what is written of them.
fn anew(core: &mut Core, saving: &Saving) -> Result<(), String> {
    let mut copy = Copy(snapshot::begin(&[]));
    let written = snapshot::write(&core.shard, saving.options(), &mut copy);
    let magic = snapshot::magic(written.version);
    copy.0[..magic.len()].copy_from_slice(&magic);
    copy.0.push(snapshot::END);
    // No checksum.
    copy.0.extend([0; 8]);
    for db in 0..core.shard.keyspace.databases() {
        core.shard.keyspace.flush(db);
    }
    load::read(&mut copy.0.as_slice(), &mut core.shard, false).map(drop)
}
