//! Lists.

mod edit;
mod lmove;
mod lpos;
mod mpop;
mod pop;
mod push;
mod range;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use crate::ctx::Handler;
use ringwood_protocol::command::Command;

pub const COMMANDS: &[Command<Handler>] = &[
    edit::LINSERT,
    edit::LREM,
    edit::LSET,
    lmove::BLMOVE,
    lmove::BRPOPLPUSH,
    lmove::LMOVE,
    lmove::RPOPLPUSH,
    lpos::LPOS,
    mpop::BLMPOP,
    mpop::BLPOP,
    mpop::BRPOP,
    mpop::LMPOP,
    pop::LPOP,
    pop::RPOP,
    push::LPUSH,
    push::LPUSHX,
    push::RPUSH,
    push::RPUSHX,
    range::LINDEX,
    range::LLEN,
    range::LRANGE,
    range::LTRIM,
];
