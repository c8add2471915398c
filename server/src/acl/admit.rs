//! Where commands come by on their way: the checks, and what is noted of those that fail.

use super::User;
use super::check::Denied;
use super::log::{Context, Event, Reason};
use crate::core::Core;
use crate::io::ConnId;
use crate::registry::Entry;
use ringwood_protocol::error::CommandError;
use ringwood_shard::ctx::Args;

impl Core {
    /// Why this client's user may not run a command, if so.
    #[cold]
    pub(crate) fn forbidden(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
    ) -> Option<CommandError> {
        let client = self.clients.get(conn)?;
        let user = client.user.clone();
        let denied = user.check(entry, args).err()?;
        let context = match client.multi {
            Some(_) => Context::Multi,
            None => Context::TopLevel,
        };
        self.note_denied(Some(conn), &user, denied, context, entry, args);
        Some(CommandError::Text(denied.error(&user, entry, args).into()))
    }

    /// The same for `redis.call` in a script of [`Core::acting`]'s.
    pub(crate) fn forbidden_in_script(
        &mut self,
        entry: &'static Entry,
        args: Args<'_>,
    ) -> Option<String> {
        let user = self.acting.clone()?;
        let denied = user.check(entry, args).err()?;
        self.note_denied(None, &user, denied, Context::Lua, entry, args);
        let text = denied.text(&user, entry, args, false);
        Some(match denied {
            Denied::Pattern(_) => format!("ERR {text}"),
            _ => format!("NOPERM ACL failure in script: {text}"),
        })
    }

    /// The same for a command that was queued while its user still might run it.
    pub(crate) fn forbidden_by_now(
        &mut self,
        conn: ConnId,
        user: &User,
        entry: &'static Entry,
        args: Args<'_>,
    ) -> Option<String> {
        let denied = user.check(entry, args).err()?;
        self.note_denied(Some(conn), user, denied, Context::Multi, entry, args);
        let reason = match denied {
            Denied::Command => "no permission to execute the command or subcommand",
            Denied::Key(_) => "no permission to touch the specified keys",
            Denied::Channel(_) => {
                "no permission to access one of the channels used as arguments to the command"
            }
            Denied::Pattern(_) => return Some(denied.error(user, entry, args)),
        };
        Some(format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no \
             longer allowed for the following reason: {reason}"
        ))
    }

    fn note_denied(
        &mut self,
        conn: Option<ConnId>,
        user: &User,
        denied: Denied,
        context: Context,
        entry: &Entry,
        args: Args<'_>,
    ) {
        let (reason, object) = match denied {
            Denied::Command => (Reason::Command, entry.name.as_bytes()),
            Denied::Key(at) => (Reason::Key, args[at]),
            Denied::Channel(at) => (Reason::Channel, args[at]),
            // Not one of the log's reasons.
            Denied::Pattern(_) => return,
        };
        self.note_refusal(conn, reason, context, object, &user.name);
    }
    pub(crate) fn note_failed_login(&mut self, conn: ConnId, name: &[u8]) {
        self.note_refusal(Some(conn), Reason::Auth, Context::TopLevel, b"AUTH", name);
    }
    fn note_refusal(
        &mut self,
        conn: Option<ConnId>,
        reason: Reason,
        context: Context,
        object: &[u8],
        user: &[u8],
    ) {
        let mut client = String::new();
        if let Some(c) = conn.and_then(|conn| self.clients.get(conn)) {
            crate::commands::client_line(self, c, None, &mut client);
            client.truncate(client.trim_end().len());
        }
        let event = Event {
            reason,
            context,
            object: object.to_vec(),
            user: user.to_vec(),
            client,
        };
        let max = usize::try_from(self.config.acllog_max_len).unwrap_or(usize::MAX);
        self.shared.acl.log().add(event, self.now.unix_ms, max);
    }
}
