//! The server's own commands: connections, administration, what concerns all cores. They run on the core that has the
//! connection.

mod connection;

use crate::client::Client;
use crate::core::Core;
use crate::io::ConnId;
use crate::mailbox::Ticket;
use crate::registry::Entry;
use ringwood_protocol::command::Command;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;

/// Every command of the server itself.
pub const FAMILIES: &[&[Command<ConnHandler>]] = &[connection::COMMANDS];

/// What a command sees while it runs.
pub struct Call<'a> {
    pub core: &'a mut Core,
    pub conn: ConnId,
    pub entry: &'static Entry,
    /// In the client's order already: just write.
    pub reply: Reply<'a>,
}

/// Whether the reply is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Now,
    /// It comes to the ticket that [`Call::later`] gave.
    Later,
}

pub type ConnHandler = fn(&mut Call<'_>, Args<'_>) -> Result<Answer, CommandError>;

impl Call<'_> {
    pub fn client(&self) -> &Client {
        self.core
            .clients
            .get(self.conn)
            .expect("a command's client lives while it runs")
    }
    pub fn client_mut(&mut self) -> &mut Client {
        self.core
            .clients
            .get_mut(self.conn)
            .expect("a command's client lives while it runs")
    }
    /// The reply comes later: nothing may be written to `reply`, and the handler returns [`Answer::Later`].
    pub fn later(&mut self) -> Ticket {
        self.core.ticket(self.conn)
    }
}

/// The keys of a command whose key specs are not of the simple forms.
pub fn each_key(entry: &Entry, args: &[&[u8]], found: &mut Vec<usize>) -> bool {
    entry
        .spec
        .keys
        .iter()
        .all(|spec| spec.each_key(args, |i| found.push(i)))
}
