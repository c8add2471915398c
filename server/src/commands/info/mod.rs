//! INFO: every section's values come from one question to all cores ([`report`]), and from the system; [`text`] writes them.
//!
//! A field of Redis's is shown where it has a meaning here, and its value is measured: none is made up. Ringwood's own are the section
//! `Shards` and, in the others, names that begin with `ringwood_`.

pub mod report;
pub mod system;
pub mod text;

use self::text::Shown;
use super::{Answer, Call, ConnHandler, lock};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[INFO];

const INFO: Command<ConnHandler> = command("INFO", at_least(1), info as ConnHandler)
    .flags(LOADING | STALE | BARRIER)
    .acl(acl::DANGEROUS)
    .doc(
        "Shows the server's state and statistics.",
        "O(1)",
        "1.0.0",
        "server",
    )
    .history(&[("7.0.0", "Takes several sections.")])
    .args(&[string("section").optional().multiple()])
    .tips(&[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ])
    .route(Route::Connection);

/// Which sections a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted(u32);

impl Wanted {
    fn of(words: &[&[u8]]) -> Self {
        let bits = |f: &dyn Fn(&text::Section) -> bool| {
            text::SECTIONS
                .iter()
                .enumerate()
                .filter(|(_, s)| f(s))
                .fold(0, |bits, (at, _)| bits | 1 << at)
        };
        let default = || bits(&|s| s.shown == Shown::ByDefault);
        if words.is_empty() {
            return Self(default());
        }
        Self(words.iter().fold(0, |wanted, word| {
            wanted
                | match word.to_ascii_lowercase().as_slice() {
                    b"all" | b"everything" => bits(&|s| s.shown != Shown::Never),
                    b"default" => default(),
                    name => bits(&|s| s.name.eq_ignore_ascii_case(&String::from_utf8_lossy(name))),
                }
        }))
    }
    fn has(self, section: usize) -> bool {
        self.0 >> section & 1 != 0
    }
}

fn info(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let wanted = Wanted::of(&args[1..]);
    if wanted.0 == 0 {
        call.reply.verbatim("txt", b"");
        return Ok(Answer::Now);
    }
    let as_node = call.core.clients.get(call.conn).is_some_and(|c| c.cluster);
    Ok(
        call.gather(report::Report::of, move |core, reply, reports| {
            let config = lock(&core.shared.config).clone();
            let view = text::View {
                core,
                config: &config,
                all: report::Report::sum(&reports),
                reports: &reports,
                as_node,
            };
            let mut out = String::new();
            for (at, section) in text::SECTIONS.iter().enumerate() {
                if !wanted.has(at) {
                    continue;
                }
                if !out.is_empty() {
                    out.push_str("\r\n");
                }
                out.push_str(&format!("# {}\r\n", section.name));
                (section.write)(&view, &mut out);
            }
            reply.verbatim("txt", out.as_bytes());
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_named_in_any_case_and_together() {
        let names = |words: &[&[u8]]| -> Vec<&str> {
            let wanted = Wanted::of(words);
            (0..text::SECTIONS.len())
                .filter(|at| wanted.has(*at))
                .map(|at| text::SECTIONS[at].name)
                .collect()
        };
        assert_eq!(names(&[b"CPU", b"server"]), ["Server", "CPU"]);
        assert_eq!(names(&[b"nosuch"]), [""; 0]);
        assert_eq!(names(&[b"everything"]).len(), text::SECTIONS.len() - 1);
        assert_eq!(names(&[b"debug"]), ["Debug"]);
        assert_eq!(names(&[]), names(&[b"default"]));
        assert!(!names(&[]).contains(&"Commandstats"));
        assert!(names(&[b"default", b"commandstats"]).contains(&"Commandstats"));
    }
}
