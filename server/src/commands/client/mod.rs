//! CLIENT: what a connection says about itself, and what is told of and done to all connections.

mod about;
mod kill;
mod list;
mod pause;
mod tracking;

use super::{Answer, Call, ConnHandler, container};
use about::*;
use kill::*;
pub(crate) use list::line;
use list::*;
use pause::*;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_shard::ctx::Args;
use tracking::*;

pub use about::check_attribute;

pub const COMMANDS: &[Command<ConnHandler>] = &[CLIENT];

const CLIENT: Command<ConnHandler> = command("CLIENT", at_least(2), container as ConnHandler)
    .doc(
        "Commands about client connections.",
        "Depends on subcommand.",
        "2.4.0",
        "connection",
    )
    .subcommands(&[
        CLIENT_CACHING,
        CLIENT_GETNAME,
        CLIENT_GETREDIR,
        CLIENT_HELP,
        CLIENT_ID,
        CLIENT_INFO,
        CLIENT_KILL,
        CLIENT_LIST,
        CLIENT_NO_EVICT,
        CLIENT_NO_TOUCH,
        CLIENT_PAUSE,
        CLIENT_REPLY,
        CLIENT_SETINFO,
        CLIENT_SETNAME,
        CLIENT_TRACKING,
        CLIENT_TRACKINGINFO,
        CLIENT_UNBLOCK,
        CLIENT_UNPAUSE,
    ])
    .route(Route::Connection);

/// ON or OFF.
fn on_off(word: &[u8]) -> Result<bool, CommandError> {
    if word.eq_ignore_ascii_case(b"ON") {
        Ok(true)
    } else if word.eq_ignore_ascii_case(b"OFF") {
        Ok(false)
    } else {
        Err(CommandError::Syntax)
    }
}

const CLIENT_HELP: Command<ConnHandler> = command("HELP", exactly(2), client_help as ConnHandler)
    .flags(LOADING | STALE)
    .acl(acl::CONNECTION)
    .doc("Lists the subcommands.", "O(1)", "5.0.0", "connection")
    .route(Route::Connection);

fn client_help(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    super::help_reply(
        &mut call.reply,
        args,
        &[
            "CACHING (YES|NO)",
            "    Says whether the next command's keys are tracked.",
            "GETNAME",
            "    Returns this connection's name.",
            "GETREDIR",
            "    Tells which connection gets this one's invalidation messages.",
            "ID",
            "    Returns this connection's ID.",
            "INFO",
            "    Describes this connection.",
            "KILL <ip:port>",
            "    Closes the connection that comes from this address.",
            "KILL <option> <value> [<option> <value> [...]]",
            "    Closes the connections that fit all options:",
            "    * ADDR (<ip:port>|<unixsocket>:0)",
            "      Where it comes from.",
            "    * LADDR (<ip:port>|<unixsocket>:0)",
            "      Where it was accepted.",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "      What it is for.",
            "    * USER <username>",
            "      Who is logged in.",
            "    * SKIPME (YES|NO)",
            "      Whether the connection that asks stays open (default: yes).",
            "    * ID <client-id>",
            "      Its ID.",
            "    * MAXAGE <maxage>",
            "      Its age in seconds is this or more.",
            "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> [<id> ...]]",
            "    Describes the open connections.",
            "NO-EVICT (ON|OFF)",
            "    Exempts this connection from client eviction.",
            "NO-TOUCH (ON|OFF)",
            "    Stops this client's commands from refreshing keys' last access.",
            "PAUSE <timeout> [WRITE|ALL]",
            "    Holds back all clients' commands, or those that write, for so many milliseconds.",
            "REPLY (ON|OFF|SKIP)",
            "    Turns replies on or off, or skips one.",
            "SETINFO (LIB-NAME|LIB-VER) <value>",
            "    Records the name or version of the client library.",
            "SETNAME <name>",
            "    Names this connection.",
            "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
            "    Turns client-side caching on or off.",
            "TRACKINGINFO",
            "    Tells how client-side caching is set up on this connection.",
            "UNBLOCK <clientid> [TIMEOUT|ERROR]",
            "    Wakes a client that waits in a blocking command.",
            "UNPAUSE",
            "    Lets paused clients go on.",
        ],
    );
    Ok(Answer::Now)
}
