//! The first line of a script or library: `#!lua name=… flags=…`.

use ringwood_protocol::{lossless, quote};

/// What a script declares about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub no_writes: bool,
    pub allow_oom: bool,
    pub allow_stale: bool,
    pub no_cluster: bool,
    pub allow_cross_slot_keys: bool,
}

/// The flags' names, in Redis's order.
pub const FLAG_NAMES: [&str; 5] = [
    "no-writes",
    "allow-oom",
    "allow-stale",
    "no-cluster",
    "allow-cross-slot-keys",
];

impl Flags {
    fn slot(&mut self, i: usize) -> &mut bool {
        match i {
            0 => &mut self.no_writes,
            1 => &mut self.allow_oom,
            2 => &mut self.allow_stale,
            3 => &mut self.no_cluster,
            _ => &mut self.allow_cross_slot_keys,
        }
    }

    /// Sets the flag of that name; false where there is none.
    pub(crate) fn set(&mut self, name: &[u8]) -> bool {
        let found = FLAG_NAMES.iter().position(|flag| flag.as_bytes() == name);
        if let Some(i) = found {
            *self.slot(i) = true;
        }
        found.is_some()
    }

    /// The names of the flags that are set.
    pub fn names(mut self) -> impl Iterator<Item = &'static str> {
        (0..FLAG_NAMES.len())
            .filter(move |&i| *self.slot(i))
            .map(|i| FLAG_NAMES[i])
    }
}

/// The flags of a script, if it has a first line of that kind, and where its Lua begins.
pub(crate) fn of_script(body: &[u8]) -> Result<(Option<Flags>, usize), String> {
    if !body.starts_with(b"#!") {
        return Ok((None, 0));
    }
    let Some(end) = memchr::memchr(b'\n', body) else {
        return Err("ERR Invalid script shebang".to_string());
    };
    let parts = quote::split_words(&body[..end]).unwrap_or_default();
    let Some((engine, options)) = parts.split_first() else {
        return Err("ERR Invalid engine in script shebang".to_string());
    };
    if engine != b"#!lua" {
        return Err(format!(
            "ERR Unexpected engine in script shebang: {}",
            lossless::text(engine)
        ));
    }
    let mut flags = Flags::default();
    for option in options {
        let Some(names) = option.strip_prefix(b"flags=") else {
            return Err(format!(
                "ERR Unknown lua shebang option: {}",
                lossless::text(option)
            ));
        };
        if names.is_empty() {
            continue;
        }
        for name in names.split(|&b| b == b',') {
            if !flags.set(name) {
                return Err(format!(
                    "ERR Unexpected flag in script shebang: {}",
                    lossless::text(name)
                ));
            }
        }
    }
    Ok((Some(flags), end))
}

/// What names of libraries and functions must be.
pub(crate) const NAME_RULE: &str = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The first line of a library.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LibraryHead {
    pub(crate) name: String,
    /// Where Lua's text begins.
    pub(crate) start: usize,
}

pub(crate) fn of_library(code: &[u8]) -> Result<LibraryHead, String> {
    let error = |text: &str| Err(format!("ERR {text}"));
    if !code.starts_with(b"#!") {
        return error("Missing library metadata");
    }
    let invalid = || "ERR Invalid library metadata".to_string();
    let end = memchr::memchr(b'\n', code).ok_or_else(invalid)?;
    let parts = quote::split_words(&code[..end]).ok_or_else(invalid)?;
    let (engine, options) = parts.split_first().ok_or_else(invalid)?;
    let mut name: Option<Vec<u8>> = None;
    for option in options {
        // The option's own name may be in any case.
        let value = match option.split_at_checked(5) {
            Some((key, value)) if key.eq_ignore_ascii_case(b"name=") => value,
            _ => {
                let given = lossless::text(option);
                return error(&format!("Invalid metadata value given: {given}"));
            }
        };
        if name.is_some() {
            return error("Invalid metadata value, name argument was given multiple times");
        }
        name = Some(value.to_vec());
    }
    let Some(name) = name else {
        return error("Library name was not given");
    };
    if !is_name(&name) {
        return error(NAME_RULE);
    }
    let engine = &engine[2..];
    if !engine.eq_ignore_ascii_case(b"lua") {
        let engine = lossless::text(engine);
        return error(&format!("Engine '{engine}' not found"));
    }
    Ok(LibraryHead {
        name: String::from_utf8_lossy(&name).into_owned(),
        start: end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(body: &str) -> Result<(Option<Flags>, usize), String> {
        of_script(body.as_bytes())
    }

    #[test]
    fn flags_and_errors() {
        assert_eq!(flags("return 1"), Ok((None, 0)));
        assert_eq!(flags("#!lua\nreturn 1"), Ok((Some(Flags::default()), 5)));
        let (set, _) = flags("#!lua flags=no-writes,allow-oom\nreturn 1").unwrap();
        assert_eq!(
            set.unwrap().names().collect::<Vec<_>>(),
            ["no-writes", "allow-oom"]
        );
        for (body, error) in [
            ("#!lua", "ERR Invalid script shebang"),
            (
                "#!lua \"x\nreturn 1",
                "ERR Invalid engine in script shebang",
            ),
            (
                "#!\nreturn 1",
                "ERR Unexpected engine in script shebang: #!",
            ),
            ("#!lux\nx", "ERR Unexpected engine in script shebang: #!lux"),
            ("#!lua name=x\nx", "ERR Unknown lua shebang option: name=x"),
            (
                "#!lua flags=a\nx",
                "ERR Unexpected flag in script shebang: a",
            ),
            (
                "#!lua flags=,no-writes\nx",
                "ERR Unexpected flag in script shebang: ",
            ),
        ] {
            assert_eq!(flags(body), Err(error.to_string()));
        }
    }
}
