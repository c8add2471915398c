//! A transaction with scripts in it, on one of several cores: all of its commands are one attempt, which is taken back as a whole if a script turns out
//! to need keys that nobody has named.

use super::scout::Lack;
use super::{Prepared, ScriptHost};
use crate::core::Core;
use crate::io::Io;
use crate::multi::Exec;
use ringwood_protocol::command::LUA;
use ringwood_protocol::reply::Reply;

impl Core {
    /// Runs the commands of a transaction of data commands and scripts; their replies go to the end of `out`. What it lacks, if it must start again: then
    /// nothing of it has happened.
    pub(crate) fn run_scripted(&mut self, exec: &Exec, out: &mut Vec<u8>) -> Option<Lack> {
        let (db, version) = (exec.db, exec.version);
        let commands: Vec<_> = exec
            .commands
            .iter()
            .map(|c| (c.entry, c.words.slices()))
            .collect();
        let mut names = exec.found.clone();
        // Commands of the server's own, which could change what a script's command runs, are in none of these transactions.
        let mut prepared: Vec<Option<Result<Prepared<'_>, Vec<u8>>>> = Vec::new();
        for (entry, args) in &commands {
            names.extend(self.key_names(entry, args, db));
            prepared.push(entry.has(LUA).then(|| {
                let mut refusal = Vec::new();
                self.prepare(entry, args, version, &mut refusal)
                    .ok_or(refusal)
            }));
        }
        let mut vm = self.take_vm();
        let reach = self.reach(names.iter().map(|(_, key)| &**key));
        let mut host = ScriptHost::new(self, db, reach);
        for ((entry, args), prepared) in commands.iter().zip(&prepared) {
            if host.is_over() {
                break;
            }
            if let Some(user) = &exec.user
                && let Some(error) = host.core().forbidden_by_now(exec.conn, user, entry, args)
            {
                Reply::new(out, version).error(&error);
                continue;
            }
            host.shows(exec.conn, entry, args);
            let Some(script) = prepared else {
                host.plain(entry, args, version, out);
                continue;
            };
            host.counts(entry);
            match script {
                Err(refusal) => out.extend_from_slice(refusal),
                Ok(script) => {
                    let (from, began) = (out.len(), host.core().io.mono_ns());
                    if let Err(error) = host.run(&mut vm, script, version, out) {
                        host.core().count_failed(entry, &error);
                    }
                    // What it has selected is its own.
                    host.selects(db);
                    let len = out.len() - from;
                    host.core().note_nested(began, entry, args, len);
                }
            }
        }
        let lack = host.finish();
        self.scripts.vm = Some(vm);
        lack
    }
}
