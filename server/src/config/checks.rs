//! Checks of single directives beyond their type, with Redis's texts.

fn plain_name(value: &[u8], directive: &str, what: &str) -> Result<(), String> {
    if value.contains(&b'/') {
        return Err(format!("{directive} can't be a path, just a {what}"));
    }
    Ok(())
}

pub fn dbfilename(value: &[u8]) -> Result<(), String> {
    plain_name(value, "dbfilename", "filename")
}

pub fn appendfilename(value: &[u8]) -> Result<(), String> {
    not_empty(value, "appendfilename")?;
    plain_name(value, "appendfilename", "filename")
}

pub fn appenddirname(value: &[u8]) -> Result<(), String> {
    not_empty(value, "appenddirname")?;
    plain_name(value, "appenddirname", "dirname")
}

fn not_empty(value: &[u8], directive: &str) -> Result<(), String> {
    if value.is_empty() {
        Err(format!("{directive} can't be empty"))
    } else {
        Ok(())
    }
}

pub fn cluster_config_file(value: &[u8]) -> Result<(), String> {
    if value.is_empty() {
        Err("cluster-config-file can't be empty".into())
    } else {
        Ok(())
    }
}

pub fn hostname(value: &[u8]) -> Result<(), String> {
    if value.len() >= 256 {
        return Err("Hostnames must be less than 256 characters".into());
    }
    if !value
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(byte))
    {
        return Err("Hostnames may only contain alphanumeric characters, hyphens or dots".into());
    }
    Ok(())
}

pub fn node_name(value: &[u8]) -> Result<(), String> {
    if value.len() >= 256 {
        return Err("Node names must be less than 256 characters".into());
    }
    if value
        .iter()
        .any(|byte| byte.is_ascii_control() || b"!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~ ".contains(byte))
    {
        return Err("Announced human node name contained invalid character".into());
    }
    Ok(())
}

/// `proc-title-template`: text with known variables in braces, of which something must remain when there is no title.
pub fn proc_title_template(value: &[u8]) -> Result<(), String> {
    const VARIABLES: [&[u8]; 7] = [
        b"title",
        b"listen-addr",
        b"server-mode",
        b"port",
        b"tls-port",
        b"unixsocket",
        b"config-file",
    ];
    let refuse = || "template format is invalid or contains unknown variables".to_string();
    let mut rest = value;
    let mut remains = false;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'{' {
            remains |= !first.is_ascii_whitespace();
            continue;
        }
        let name = tail
            .split(|byte| *byte == b'}')
            .next()
            .filter(|name| name.len() < tail.len());
        let name = name
            .filter(|name| VARIABLES.contains(name))
            .ok_or_else(refuse)?;
        remains |= name != b"title";
        rest = &tail[name.len() + 1..];
    }
    if remains { Ok(()) } else { Err(refuse()) }
}
