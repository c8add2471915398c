//! COMMAND: what the declarations say, in Redis's forms. Nothing is written down twice: every reply is derived from the registry.

use super::{Answer, Call, ConnHandler, help_reply};
use crate::registry::{Entry, Registry};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::glob::glob_match_ignore_case;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[COMMAND];

const COMMAND: Command<ConnHandler> = command("COMMAND", at_least(1), all as ConnHandler)
    .flags(LOADING | STALE)
    .acl(acl::CONNECTION)
    .doc(
        "Describes the server's commands.",
        "O(N) where N is the total number of Redis commands",
        "2.8.13",
        "server",
    )
    .tips(&["nondeterministic_output_order"])
    .subcommands(&[
        COMMAND_COUNT,
        COMMAND_DOCS,
        COMMAND_GETKEYS,
        COMMAND_GETKEYSANDFLAGS,
        COMMAND_HELP,
        COMMAND_INFO,
        COMMAND_LIST,
    ])
    .route(Route::Connection);

const COMMAND_COUNT: Command<ConnHandler> = command("COUNT", exactly(2), count as ConnHandler)
    .flags(LOADING | STALE)
    .acl(acl::CONNECTION)
    .doc("Counts the commands.", "O(1)", "2.8.13", "server")
    .route(Route::Connection);

const COMMAND_DOCS: Command<ConnHandler> = command("DOCS", at_least(2), docs as ConnHandler)
    .flags(LOADING | STALE)
    .acl(acl::CONNECTION)
    .doc(
        "Returns documentation of commands.",
        "O(N) where N is the number of commands to look up",
        "7.0.0",
        "server",
    )
    .args(&[string("command-name").optional().multiple()])
    .tips(&["nondeterministic_output_order"])
    .route(Route::Connection);

const COMMAND_GETKEYS: Command<ConnHandler> =
    command("GETKEYS", at_least(3), getkeys as ConnHandler)
        .flags(LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Finds the keys in a full command.",
            "O(N) where N is the number of arguments to the command",
            "2.8.13",
            "server",
        )
        .args(&[string("command"), string("arg").optional().multiple()])
        .route(Route::Connection);

const COMMAND_GETKEYSANDFLAGS: Command<ConnHandler> = command(
    "GETKEYSANDFLAGS",
    at_least(3),
    getkeysandflags as ConnHandler,
)
.flags(LOADING | STALE)
.acl(acl::CONNECTION)
.doc(
    "Finds the keys in a full command and how each is used.",
    "O(N) where N is the number of arguments to the command",
    "7.0.0",
    "server",
)
.args(&[string("command"), string("arg").optional().multiple()])
.route(Route::Connection);

const COMMAND_HELP: Command<ConnHandler> = command("HELP", exactly(2), help as ConnHandler)
    .flags(LOADING | STALE)
    .acl(acl::CONNECTION)
    .doc("Lists the subcommands.", "O(1)", "5.0.0", "server")
    .route(Route::Connection);

const COMMAND_INFO: Command<ConnHandler> = command("INFO", at_least(2), info as ConnHandler)
    .flags(LOADING | STALE)
    .acl(acl::CONNECTION)
    .doc(
        "Describes commands by name.",
        "O(N) where N is the number of commands to look up",
        "2.8.13",
        "server",
    )
    .history(&[("7.0.0", "Without arguments it describes all commands.")])
    .args(&[string("command-name").optional().multiple()])
    .tips(&["nondeterministic_output_order"])
    .route(Route::Connection);

const COMMAND_LIST: Command<ConnHandler> = command("LIST", at_least(2), list as ConnHandler)
    .flags(LOADING | STALE)
    .acl(acl::CONNECTION)
    .doc(
        "Lists the commands' names.",
        "O(N) where N is the total number of Redis commands",
        "7.0.0",
        "server",
    )
    .args(&[one_of(
        "filterby",
        &[
            string("module-name").token("MODULE"),
            string("category").token("ACLCAT"),
            pattern("pattern").token("PATTERN"),
        ],
    )
    .token("FILTERBY")
    .optional()])
    .tips(&["nondeterministic_output_order"])
    .route(Route::Connection);

type Result = std::result::Result<Answer, CommandError>;

fn top_level() -> impl Iterator<Item = &'static Entry> {
    Registry::get()
        .entries
        .iter()
        .copied()
        .filter(|e| e.parent.is_none() && !e.hidden)
}

/// A command by its full name: `get`, `config|set`.
pub(super) fn by_name(name: &[u8]) -> Option<&'static Entry> {
    let mut words = name.splitn(2, |b| *b == b'|');
    let entry = Registry::get().lookup(words.next()?)?;
    match words.next() {
        None => Some(entry),
        Some(sub) => Registry::subcommand(entry, &[b"", sub]),
    }
}

/// COMMAND
fn all(call: &mut Call<'_>, _: Args<'_>) -> Result {
    let entries: Vec<_> = top_level().collect();
    call.reply.array(entries.len());
    for entry in entries {
        describe(&mut call.reply, entry);
    }
    Ok(Answer::Now)
}

fn count(call: &mut Call<'_>, _: Args<'_>) -> Result {
    call.reply.integer(top_level().count() as i64);
    Ok(Answer::Now)
}

fn info(call: &mut Call<'_>, args: Args<'_>) -> Result {
    if args.len() == 2 {
        return all(call, args);
    }
    call.reply.array(args.len() - 2);
    for name in &args[2..] {
        match by_name(name) {
            Some(entry) => describe(&mut call.reply, entry),
            None => call.reply.null(),
        }
    }
    Ok(Answer::Now)
}

fn docs(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let entries: Vec<_> = if args.len() == 2 {
        top_level().collect()
    } else {
        args[2..].iter().filter_map(|name| by_name(name)).collect()
    };
    call.reply.map(entries.len());
    for entry in entries {
        call.reply.bulk_str(&entry.name);
        document(&mut call.reply, entry);
    }
    Ok(Answer::Now)
}

fn list(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let every = Registry::get().entries.iter().copied();
    let every = every.filter(|e| !e.hidden);
    let names: Vec<&str> = match args[2..] {
        [] => every.map(|e| e.name.as_str()).collect(),
        [filterby, kind, wanted] if is(filterby, "FILTERBY") => {
            if is(kind, "PATTERN") {
                every
                    .filter(|e| glob_match_ignore_case(wanted, e.name.as_bytes()))
                    .map(|e| e.name.as_str())
                    .collect()
            } else if is(kind, "ACLCAT") {
                let category = acl::NAMES.iter().find(|(_, name)| is(wanted, name));
                every
                    .filter(|e| category.is_some_and(|(bit, _)| e.spec.acl_categories() & bit != 0))
                    .map(|e| e.name.as_str())
                    .collect()
            } else if is(kind, "MODULE") {
                // There are no modules, so no command is of one.
                Vec::new()
            } else {
                return Err(CommandError::Syntax);
            }
        }
        _ => return Err(CommandError::Syntax),
    };
    call.reply.array(names.len());
    for name in names {
        call.reply.bulk_str(name);
    }
    Ok(Answer::Now)
}

/// A command, and its keys with the key spec that each was found by.
type Found = (&'static Entry, Vec<(usize, &'static KeySpec)>);

/// Looks for the keys of a full command.
fn keys_of(args: &[&[u8]]) -> std::result::Result<Found, CommandError> {
    let entry = Registry::get()
        .resolve(args)
        .ok_or(CommandError::fixed("ERR Invalid command specified"))?;
    let takes_subcommand = !entry.subcommands.is_empty() && args.len() > 1;
    if takes_subcommand {
        return Err(CommandError::fixed("ERR Invalid command specified"));
    }
    // A channel has a slot, and is no key.
    let specs = || entry.spec.keys.iter().filter(|s| s.flags & NOT_KEY == 0);
    if specs().next().is_none() {
        return Err(CommandError::fixed("ERR The command has no key arguments"));
    }
    if !entry.spec.arity_fits(args.len()) {
        return Err(CommandError::fixed(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let mut found = Vec::new();
    let mut fits = true;
    for spec in specs() {
        let before = found.len();
        fits &= spec.each_key(args, |index| found.push((index, spec)));
        // No keys are no wrong number only for a script.
        fits &= found.len() > before || !matches!(spec.find, FindKeys::KeyNum { .. });
    }
    if !fits && entry.has(NO_MANDATORY_KEYS) {
        // A script without keys is one, so Redis takes a wrong number of them for none.
        found.clear();
    } else if !fits {
        // Some commands do without the keys of a spec that is there; the others cannot run like this.
        return Err(CommandError::fixed(
            "ERR Invalid arguments specified for command",
        ));
    }
    if found.is_empty() && !entry.has(NO_MANDATORY_KEYS) {
        return Err(CommandError::fixed("ERR The command has no key arguments"));
    }
    Ok((entry, found))
}

fn getkeys(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let (_, keys) = keys_of(&args[2..])?;
    call.reply.array(keys.len());
    for (index, _) in keys {
        call.reply.bulk(args[2 + index]);
    }
    Ok(Answer::Now)
}

fn getkeysandflags(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let (entry, keys) = keys_of(&args[2..])?;
    call.reply.array(keys.len());
    for (index, spec) in keys {
        call.reply.array(2);
        call.reply.bulk(args[2 + index]);
        // Where they are found exactly, none is left out.
        let declared = match spec.exactly {
            Some(_) => spec.flags & !INCOMPLETE,
            None => spec.flags,
        };
        let flags = crate::acl::check::flags_in_use(entry, declared, &args[2..]);
        // The words at hand have been looked at.
        flag_words(
            &mut call.reply,
            (flags & !VARIABLE_FLAGS).into(),
            key_flags(),
        );
    }
    Ok(Answer::Now)
}

fn help(call: &mut Call<'_>, args: Args<'_>) -> Result {
    help_reply(
        &mut call.reply,
        args,
        &[
            "(no subcommand)",
            "    Describes all commands.",
            "COUNT",
            "    Counts the commands.",
            "LIST [FILTERBY <MODULE name|ACLCAT category|PATTERN pattern>]",
            "    Lists the commands' names.",
            "INFO [<command-name> ...]",
            "    Describes these commands, or all.",
            "DOCS [<command-name> ...]",
            "    Documents these commands, or all.",
            "GETKEYS <full-command>",
            "    Finds the keys in a full command.",
            "GETKEYSANDFLAGS <full-command>",
            "    Finds the keys in a full command, and how each is used.",
        ],
    );
    Ok(Answer::Now)
}

// ---- COMMAND INFO ----

/// Key spec flags as wide as command flags.
fn key_flags() -> impl Iterator<Item = (u64, &'static str)> + Clone {
    KEY_FLAG_NAMES
        .iter()
        .map(|(bit, name)| (u64::from(*bit), *name))
}

/// The names of the bits that are set, as a set of statuses.
fn flag_words(
    reply: &mut Reply<'_>,
    flags: u64,
    names: impl Iterator<Item = (u64, &'static str)> + Clone,
) {
    let named = names.filter(|(bit, _)| flags & bit != 0);
    reply.set(named.clone().count());
    named.for_each(|(_, name)| reply.simple(name));
}

/// The first key, the last and the step, as COMMAND INFO told them before there were key specs: what the specs that are a plain
/// range of arguments amount to together.
fn legacy_range(entry: &Entry) -> (i64, i64, i64) {
    let mut whole: Option<(i64, i64, i64)> = None;
    for spec in entry.spec.keys {
        let (BeginSearch::Index(first), FindKeys::Range { last, step, .. }) =
            (spec.begin, spec.find)
        else {
            continue;
        };
        let first = i64::from(first);
        let last = if last >= 0 {
            first + i64::from(last)
        } else {
            i64::from(last)
        };
        whole = Some(match whole {
            None => (first, last, i64::from(step)),
            // Keys with others between them are no range.
            Some(known) if known.2 != 1 || step != 1 => known,
            Some((f, l, _)) => {
                let last = if l < 0 || last < 0 {
                    l.min(last)
                } else {
                    l.max(last)
                };
                (f.min(first), last, 1)
            }
        });
    }
    whole.unwrap_or_default()
}

/// What COMMAND INFO says about a command.
fn describe(reply: &mut Reply<'_>, entry: &Entry) {
    let (first, last, step) = legacy_range(entry);
    reply.array(10);
    reply.bulk_str(&entry.name);
    reply.integer(entry.spec.arity.into());
    flag_words(reply, entry.spec.flags, FLAG_NAMES.iter().copied());
    for n in [first, last, step] {
        reply.integer(n);
    }
    let categories = entry.spec.acl_categories();
    let named = acl::NAMES.iter().filter(|(bit, _)| categories & bit != 0);
    reply.set(named.clone().count());
    named.for_each(|(_, name)| reply.simple(&format!("@{name}")));
    reply.set(entry.spec.tips.len());
    for tip in entry.spec.tips {
        reply.bulk_str(tip);
    }
    reply.set(entry.spec.keys.len());
    for spec in entry.spec.keys {
        describe_keys(reply, spec);
    }
    if entry.subcommands.is_empty() {
        reply.set(0);
        return;
    }
    reply.array(entry.subcommands.len());
    for sub in &entry.subcommands {
        describe(reply, sub);
    }
}

fn describe_keys(reply: &mut Reply<'_>, spec: &KeySpec) {
    reply.map(3 + usize::from(!spec.notes.is_empty()));
    if !spec.notes.is_empty() {
        reply.bulk_str("notes");
        reply.bulk_str(spec.notes);
    }
    reply.bulk_str("flags");
    flag_words(reply, spec.flags.into(), key_flags());
    reply.bulk_str("begin_search");
    match spec.begin {
        BeginSearch::Index(index) => {
            way(reply, "index", &[("index", index.into())]);
        }
        BeginSearch::Keyword { word, start } => {
            kind_and_spec(reply, "keyword", 2);
            reply.bulk_str("keyword");
            reply.bulk_str(word);
            reply.bulk_str("startfrom");
            reply.integer(start.into());
        }
        BeginSearch::Unknown => way(reply, "unknown", &[]),
    }
    reply.bulk_str("find_keys");
    match spec.find {
        FindKeys::Range { last, step, limit } => way(
            reply,
            "range",
            &[
                ("lastkey", last.into()),
                ("keystep", step.into()),
                ("limit", limit.into()),
            ],
        ),
        FindKeys::KeyNum {
            keynum,
            first,
            step,
        } => way(
            reply,
            "keynum",
            &[
                ("keynumidx", keynum.into()),
                ("firstkey", first.into()),
                ("keystep", step.into()),
            ],
        ),
        FindKeys::Unknown => way(reply, "unknown", &[]),
    }
}

fn kind_and_spec(reply: &mut Reply<'_>, kind: &str, fields: usize) {
    reply.map(2);
    reply.bulk_str("type");
    reply.bulk_str(kind);
    reply.bulk_str("spec");
    reply.map(fields);
}

fn way(reply: &mut Reply<'_>, kind: &str, fields: &[(&str, i64)]) {
    kind_and_spec(reply, kind, fields.len());
    for (name, value) in fields {
        reply.bulk_str(name);
        reply.integer(*value);
    }
}

// ---- COMMAND DOCS ----

/// What COMMAND DOCS says about a command.
fn document(reply: &mut Reply<'_>, entry: &Entry) {
    let doc = &entry.spec.doc;
    let texts = [
        ("summary", doc.summary),
        ("since", doc.since),
        ("group", doc.group),
        ("complexity", doc.complexity),
    ];
    let deprecated = [
        ("deprecated_since", doc.deprecated_since),
        ("replaced_by", doc.replaced_by),
    ];
    let doc_flags: Vec<&str> = [
        (!doc.deprecated_since.is_empty(), "deprecated"),
        (doc.syscmd, "syscmd"),
    ]
    .iter()
    .filter(|(set, _)| *set)
    .map(|(_, name)| *name)
    .collect();
    let said = |texts: &[(&str, &str)]| texts.iter().filter(|(_, text)| !text.is_empty()).count();
    let fields = said(&texts)
        + said(&deprecated)
        + usize::from(!doc_flags.is_empty())
        + usize::from(!doc.history.is_empty())
        + usize::from(!entry.spec.args.is_empty())
        + usize::from(!entry.subcommands.is_empty());
    reply.map(fields);
    let write = |reply: &mut Reply<'_>, texts: &[(&str, &str)]| {
        for (name, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
            reply.bulk_str(name);
            reply.bulk_str(text);
        }
    };
    write(reply, &texts);
    if !doc_flags.is_empty() {
        reply.bulk_str("doc_flags");
        reply.set(doc_flags.len());
        doc_flags.iter().for_each(|flag| reply.simple(flag));
    }
    write(reply, &deprecated);
    if !doc.history.is_empty() {
        reply.bulk_str("history");
        reply.set(doc.history.len());
        for (version, change) in doc.history {
            reply.array(2);
            reply.bulk_str(version);
            reply.bulk_str(change);
        }
    }
    if !entry.spec.args.is_empty() {
        reply.bulk_str("arguments");
        document_args(reply, entry.spec.args);
    }
    if !entry.subcommands.is_empty() {
        reply.bulk_str("subcommands");
        reply.map(entry.subcommands.len());
        for sub in &entry.subcommands {
            reply.bulk_str(&sub.name);
            document(reply, sub);
        }
    }
}

fn document_args(reply: &mut Reply<'_>, args: &[Arg]) {
    reply.array(args.len());
    for arg in args {
        document_arg(reply, arg);
    }
}

fn document_arg(reply: &mut Reply<'_>, arg: &Arg) {
    let kind = match arg.kind {
        ArgKind::String => "string",
        ArgKind::Integer => "integer",
        ArgKind::Double => "double",
        ArgKind::Key => "key",
        ArgKind::Pattern => "pattern",
        ArgKind::UnixTime => "unix-time",
        ArgKind::PureToken => "pure-token",
        ArgKind::OneOf => "oneof",
        ArgKind::Block => "block",
    };
    // A word by itself has its token even where that is empty (MIGRATE's key).
    let token = (!arg.token.is_empty() || arg.kind == ArgKind::PureToken).then_some(arg.token);
    let display = match arg.kind {
        ArgKind::OneOf | ArgKind::Block => None,
        _ if arg.display.is_empty() => Some(arg.name),
        _ => Some(arg.display),
    };
    let said = |text: &'static str| (!text.is_empty()).then_some(text);
    let flags: Vec<&str> = [
        (arg.optional, "optional"),
        (arg.multiple, "multiple"),
        (arg.multiple_token, "multiple_token"),
    ]
    .iter()
    .filter(|(set, _)| *set)
    .map(|(_, name)| *name)
    .collect();
    let before = [
        ("name", Some(arg.name)),
        ("type", Some(kind)),
        ("display_text", display),
    ];
    let after = [
        ("token", token),
        ("summary", said(arg.summary)),
        ("since", said(arg.since)),
        ("deprecated_since", said(arg.deprecated_since)),
    ];
    let fields = before
        .iter()
        .chain(&after)
        .filter(|(_, text)| text.is_some())
        .count()
        + usize::from(arg.key_spec.is_some())
        + usize::from(!flags.is_empty())
        + usize::from(!arg.members.is_empty());
    reply.map(fields);
    let write = |reply: &mut Reply<'_>, texts: &[(&str, Option<&str>)]| {
        for (name, text) in texts {
            if let Some(text) = text {
                reply.bulk_str(name);
                reply.bulk_str(text);
            }
        }
    };
    write(reply, &before);
    if let Some(spec) = arg.key_spec {
        reply.bulk_str("key_spec_index");
        reply.integer(spec.into());
    }
    write(reply, &after);
    if !flags.is_empty() {
        reply.bulk_str("flags");
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.simple(flag));
    }
    if !arg.members.is_empty() {
        reply.bulk_str("arguments");
        document_args(reply, arg.members);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(line: &str) -> std::result::Result<Vec<usize>, CommandError> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        keys_of(&args).map(|(_, keys)| keys.into_iter().map(|(index, _)| index).collect())
    }

    #[test]
    fn keys_are_found_in_full_commands() {
        assert_eq!(keys("GET a"), Ok(vec![1]));
        assert_eq!(keys("mset a 1 b 2"), Ok(vec![1, 3]));
        let refused = |line, text: &str| assert_eq!(keys(line).unwrap_err().text(), text, "{line}");
        assert_eq!(keys("eval x 1 a"), Ok(vec![3]));
        assert_eq!(keys("eval x 2 a"), Ok(vec![]));
        refused("ping", "ERR The command has no key arguments");
        refused("spublish a b", "ERR The command has no key arguments");
        for line in ["lmpop 0 a left", "zunionstore d 0 a", "sintercard 0 a"] {
            refused(line, "ERR Invalid arguments specified for command");
        }
        refused(
            "zunionstore d 3 a b",
            "ERR Invalid arguments specified for command",
        );
        refused("nope a", "ERR Invalid command specified");
        refused(
            "get",
            "ERR Invalid number of arguments specified for command",
        );
        refused("config nope", "ERR Invalid command specified");
    }

    #[test]
    fn ranges_are_told_in_the_old_form() {
        let range = |name: &[u8]| legacy_range(by_name(name).unwrap());
        assert_eq!(range(b"get"), (1, 1, 1));
        assert_eq!(range(b"mset"), (1, -1, 2));
        assert_eq!(range(b"ping"), (0, 0, 0));
        assert_eq!(range(b"config|get"), (0, 0, 0));
    }

    /// Every declaration renders to exactly one well-formed reply.
    #[test]
    fn descriptions_are_whole_replies() {
        use ringwood_protocol::reply::{Version, value_len};
        for version in [Version::Resp2, Version::Resp3] {
            for entry in &Registry::get().entries {
                for write in [describe as fn(&mut Reply<'_>, &Entry), document] {
                    let mut out = Vec::new();
                    write(&mut Reply::new(&mut out, version), entry);
                    assert_eq!(value_len(&out), Some(out.len()), "{}", entry.name);
                }
            }
        }
    }

    #[test]
    fn containers_never_run_by_themselves() {
        for entry in top_level().filter(|e| !e.subcommands.is_empty()) {
            let bare = entry.spec.arity_fits(1);
            assert!(!bare || entry.name == "command", "{}", entry.name);
        }
    }
}
