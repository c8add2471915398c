//! SHUTDOWN. Without saving it ends the process in one turn of the loop, and saving holds all cores: there is never one under way to abort. What
//! is written in the background ends with it.

use super::{Answer, Call, ConnHandler};
use crate::core::Core;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[SHUTDOWN];

const SHUTDOWN: Command<ConnHandler> = command("SHUTDOWN", at_least(1), shutdown as ConnHandler)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE | NO_MULTI | ALLOW_BUSY | BARRIER)
    .doc(
        "Stops the server, saving first if so set up.",
        "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
        "1.0.0",
        "server",
    )
    .history(&[("7.0.0", "Options `NOW`, `FORCE` and `ABORT`.")])
    .args(&[
        one_of("save-selector", &[word("nosave", "NOSAVE"), word("save", "SAVE")]).optional(),
        word("now", "NOW").since("7.0.0").optional(),
        word("force", "FORCE").since("7.0.0").optional(),
        word("abort", "ABORT").since("7.0.0").optional(),
    ])
    .route(Route::Connection);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Options {
    save: bool,
    nosave: bool,
    /// Not waiting for replicas, and going on when saving fails: without either, both are the same as not.
    now: bool,
    force: bool,
    abort: bool,
}

fn options(words: &[&[u8]]) -> Option<Options> {
    let mut o = Options::default();
    for word in words {
        match word.to_ascii_uppercase().as_slice() {
            b"SAVE" => o.save = true,
            b"NOSAVE" => o.nosave = true,
            b"NOW" => o.now = true,
            b"FORCE" => o.force = true,
            b"ABORT" => o.abort = true,
            _ => return None,
        }
    }
    let others = o.save || o.nosave || o.now || o.force;
    let contradicts = o.save && o.nosave || o.abort && others;
    (!contradicts).then_some(o)
}

const FAILED: CommandError = CommandError::fixed("ERR Errors trying to SHUTDOWN. Check logs.");

fn shutdown(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let options = options(&args[1..]).ok_or(CommandError::Syntax)?;
    if options.abort {
        return Err(CommandError::fixed("ERR No shutdown in progress."));
    }
    tracing::warn!("User requested shutdown...");
    let has_points = !call.core.config.save.points().is_empty();
    // Half of the data is not written over the whole.
    if call.core.loading || !options.save && (options.nosave || !has_points) {
        call.core.stop_all();
        // The end of the connection is the answer.
        call.later();
        return Ok(Answer::Later);
    }
    tracing::info!("Saving the final RDB snapshot before exiting.");
    let claim = match call.core.claim_last_save() {
        Ok(claim) => claim,
        Err(_) if options.force => {
            call.core.stop_all();
            call.later();
            return Ok(Answer::Later);
        }
        Err(_) => return Err(FAILED),
    };
    let version = call.reply.version();
    let ticket = call.later();
    let failed = move |core: &mut Core| {
        let mut out = Vec::new();
        Reply::new(&mut out, version).command_error(&FAILED);
        core.answer(ticket, out);
    };
    call.core.save_and_end(claim, options.force, failed);
    Ok(Answer::Later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_contradict_are_refused() {
        let read = |line: &str| options(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        assert!(read("nosave NOW force").is_some_and(|o| o.nosave && o.now && o.force));
        assert!(read("abort").is_some_and(|o| o.abort));
        for line in ["save nosave", "abort now", "foo", ""] {
            assert_eq!(read(line), None, "{line}");
        }
        assert_eq!(options(&[]), Some(Options::default()));
    }
}
