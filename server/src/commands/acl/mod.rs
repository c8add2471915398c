//! ACL: users and what they may do. The rules themselves: [`crate::acl`].

mod change;
mod inspect;

use super::{Answer, Call, ConnHandler, help_reply};
use crate::acl::rules::find_category;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::lossless;
use ringwood_protocol::number::parse_i64;
use ringwood_shard::ctx::Args;
use std::io::Read;

pub const COMMANDS: &[Command<ConnHandler>] = &[ACL];

const ACL: Command<ConnHandler> = command("ACL", at_least(2), super::container as ConnHandler)
    .doc(
        "Commands about users and what they may do.",
        "Depends on subcommand.",
        "6.0.0",
        "server",
    )
    .subcommands(&[
        ACL_CAT,
        change::ACL_DELUSER,
        inspect::ACL_DRYRUN,
        ACL_GENPASS,
        inspect::ACL_GETUSER,
        ACL_HELP,
        ACL_LIST,
        change::ACL_LOAD,
        inspect::ACL_LOG,
        change::ACL_SAVE,
        change::ACL_SETUSER,
        ACL_USERS,
        ACL_WHOAMI,
    ])
    .route(Route::Connection);

type Result = std::result::Result<Answer, CommandError>;

const ACL_CAT: Command<ConnHandler> = command("CAT", at_least(2), cat as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE)
    .doc(
        "Lists the categories, or one category's commands.",
        "O(1) since the categories and commands are a fixed set.",
        "6.0.0",
        "server",
    )
    .args(&[string("category").optional()])
    .route(Route::Connection);

fn cat(call: &mut Call<'_>, args: Args<'_>) -> Result {
    match args {
        [_, _] => {
            call.reply.array(acl::NAMES.len());
            acl::NAMES
                .iter()
                .for_each(|(_, name)| call.reply.bulk_str(name));
        }
        [_, _, name] => {
            let (category, _) = find_category(name).ok_or_else(|| {
                let name = lossless::text(name);
                CommandError::err(format!("Unknown category '{name}'"))
            })?;
            let entries = call.core.registry.entries.iter();
            let within = entries.filter(|e| e.spec.acl_categories() & category != 0);
            let names: Vec<&str> = within.map(|e| e.name.as_str()).collect();
            call.reply.array(names.len());
            names.iter().for_each(|name| call.reply.bulk_str(name));
        }
        _ => return Err(crate::commands::wrong_words(args)),
    }
    Ok(Answer::Now)
}

const ACL_GENPASS: Command<ConnHandler> = command("GENPASS", at_least(2), genpass as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE)
    .doc("Makes a random password.", "O(1)", "6.0.0", "server")
    .args(&[integer("bits").optional()])
    .route(Route::Connection);

/// Bits of a password where none are asked for, and at most.
const BITS: i64 = 256;
const BITS_MAX: i64 = 4096;

fn genpass(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let bits = match args {
        [_, _] => BITS,
        [_, _, bits] => parse_i64(bits).ok_or(CommandError::NotInteger)?,
        _ => return Err(crate::commands::wrong_words(args)),
    };
    if !(1..=BITS_MAX).contains(&bits) {
        return Err(CommandError::err(format!(
            "ACL GENPASS argument must be the number of bits for the output password, a positive number up to {BITS_MAX}"
        )));
    }
    let digits = (bits as usize).div_ceil(4);
    // From the system, as for a key: what this process makes up by itself could be guessed.
    let mut bytes = vec![0u8; digits.div_ceil(2)];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|e| CommandError::err(format!("/dev/urandom: {e}")))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    call.reply.bulk_str(&text[..digits]);
    Ok(Answer::Now)
}

const ACL_HELP: Command<ConnHandler> = command("HELP", exactly(2), help as ConnHandler)
    .flags(LOADING | STALE)
    .doc("Lists the subcommands.", "O(1)", "6.0.0", "server")
    .route(Route::Connection);

fn help(call: &mut Call<'_>, args: Args<'_>) -> Result {
    help_reply(
        &mut call.reply,
        args,
        &[
            "CAT [<category>]",
            "    Lists the categories, or the commands of one.",
            "DELUSER <username> [<username> ...]",
            "    Deletes users.",
            "DRYRUN <username> <command> [<arg> ...]",
            "    Tells whether the user could run the command.",
            "GETUSER <username>",
            "    Shows a user.",
            "GENPASS [<bits>]",
            "    Makes a random password, of 256 bits unless told.",
            "LIST",
            "    Shows all users as in the configuration file.",
            "LOAD",
            "    Reads the ACL file again.",
            "LOG [<count> | RESET]",
            "    Shows what was refused.",
            "SAVE",
            "    Writes the ACL file.",
            "SETUSER <username> <attribute> [<attribute> ...]",
            "    Makes or changes a user.",
            "USERS",
            "    Lists the users' names.",
            "WHOAMI",
            "    Names this connection's user.",
        ],
    );
    Ok(Answer::Now)
}

const ACL_LIST: Command<ConnHandler> = command("LIST", exactly(2), list as ConnHandler)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE)
    .doc(
        "Shows all users in the ACL file's format.",
        "O(N). Where N is the number of configured users.",
        "6.0.0",
        "server",
    )
    .route(Route::Connection);

fn list(call: &mut Call<'_>, _: Args<'_>) -> Result {
    let users = call.core.shared.acl.users();
    call.reply.array(users.len());
    for user in users.iter() {
        call.reply.bulk(&[b"user ", &user.describe()[..]].concat());
    }
    Ok(Answer::Now)
}

const ACL_USERS: Command<ConnHandler> = command("USERS", exactly(2), users as ConnHandler)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE)
    .doc(
        "Lists the users' names.",
        "O(N). Where N is the number of configured users.",
        "6.0.0",
        "server",
    )
    .route(Route::Connection);

fn users(call: &mut Call<'_>, _: Args<'_>) -> Result {
    let users = call.core.shared.acl.users();
    call.reply.array(users.len());
    users.iter().for_each(|user| call.reply.bulk(&user.name));
    Ok(Answer::Now)
}

const ACL_WHOAMI: Command<ConnHandler> = command("WHOAMI", exactly(2), whoami as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE)
    .doc(
        "Returns the name of this connection's user.",
        "O(1)",
        "6.0.0",
        "server",
    )
    .route(Route::Connection);

fn whoami(call: &mut Call<'_>, _: Args<'_>) -> Result {
    let user = call.client().user.clone();
    call.reply.bulk(&user.name);
    Ok(Answer::Now)
}
