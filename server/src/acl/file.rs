//! Users from `user` lines and from the ACL file, and the ACL file as it is written.

use super::rules::join_selectors;
use super::{DEFAULT, User, Users};
use crate::config::enums::AclPubsubDefault;
use crate::config::{Config, Loaded, StartError, system_error};
use std::path::{Path, PathBuf};

/// Adds the user that these words describe: a name and rules. `declared`: names that came before, each of which may come once.
pub fn add(
    users: &mut Users,
    declared: &mut Vec<Vec<u8>>,
    words: &[&[u8]],
    all_channels: bool,
) -> Result<(), String> {
    let [name, rules @ ..] = words else {
        return Err("a user needs a name".into());
    };
    let show = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    if name.iter().any(|b| b.is_ascii_whitespace() || *b == 0) {
        return Err(format!(
            "'{}': Usernames can't contain spaces or null characters",
            show(name)
        ));
    }
    if declared.iter().any(|d| d == name) {
        return Err(format!(
            "Duplicate user '{}' found. A user can only be defined once in config files",
            show(name)
        ));
    }
    let rules = join_selectors(rules).map_err(|open| {
        format!(
            "Unmatched parenthesis in acl selector starting at '{}'.",
            show(&open)
        )
    })?;
    let mut user = User::new(name, all_channels);
    for rule in rules {
        user.apply(&rule, all_channels).map_err(|refusal| {
            format!(
                "Error in user declaration '{}': {}",
                show(&rule),
                refusal.text()
            )
        })?;
    }
    declared.push(name.to_vec());
    users.put(user);
    Ok(())
}

/// The users of a configuration: `requirepass`, `user` lines or the ACL file.
pub fn at_start(loaded: &Loaded) -> Result<Users, String> {
    let config = &loaded.config;
    let all_channels = config.acl_pubsub_default == AclPubsubDefault::Allchannels;
    let mut users = Users::default();
    if !config.requirepass.is_empty() {
        users.set_default_password(&config.requirepass);
    }
    if !config.aclfile.is_empty() {
        if !loaded.users.is_empty() {
            return Err("Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is \
                        invalid. This setup is very likely to lead to configuration errors and security holes, please \
                        define either an ACL file or declare users directly in your redis.conf, but not both."
                .into());
        }
        return load(&path(config), &users, all_channels)
            .map_err(|e| format!("Aborting Redis startup because of ACL errors: {e}"));
    }
    let mut declared = Vec::new();
    for user in &loaded.users {
        let words: Vec<&[u8]> = user.words.iter().map(Vec::as_slice).collect();
        add(&mut users, &mut declared, &words, all_channels)
            .map_err(|reason| StartError::at(&user.place, &reason).to_string())?;
    }
    Ok(users)
}

/// The ACL file of a configuration that names one: Redis works in `dir`, so a relative name counts from there.
pub fn path(config: &Config) -> PathBuf {
    config.dir.path().join(config.aclfile.as_path())
}

/// Reads an ACL file. All or nothing; the error names every bad line. Who is not in it is gone, but for the default user.
pub fn load(path: &Path, old: &Users, all_channels: bool) -> Result<Users, String> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|e| {
        format!(
            "Error loading ACLs, opening file '{shown}': {}",
            system_error(&e)
        )
    })?;
    let mut users = Users::default();
    let (mut declared, mut errors) = (Vec::new(), String::new());
    for (number, line) in (1..).zip(text.split(|b| *b == b'\n')) {
        let words = line.split(|b| b.is_ascii_whitespace());
        let words: Vec<&[u8]> = words.filter(|w| !w.is_empty()).collect();
        let result = match &words[..] {
            [] => continue,
            [first, ..] if first.starts_with(b"#") => continue,
            [b"user", rest @ ..] if !rest.is_empty() => {
                add(&mut users, &mut declared, rest, all_channels)
            }
            _ => Err("line should start with user keyword followed by the username".into()),
        };
        if let Err(reason) = result {
            errors.push_str(&format!("{shown}:{number}: {reason}. "));
        }
    }
    if !errors.is_empty() {
        errors.push_str("WARNING: ACL errors detected, no change to the previously active ACL rules was performed");
        return Err(errors);
    }
    if !declared.iter().any(|d| d == DEFAULT) {
        users.put(User::clone(old.default_user()));
    }
    Ok(users)
}

/// Writes all users; the old file stays until the new one is whole and on disk.
pub fn save(path: &Path, users: &Users) -> std::io::Result<()> {
    let mut text = Vec::new();
    for user in users.iter() {
        text.extend_from_slice(b"user ");
        text.extend_from_slice(&user.describe());
        text.push(b'\n');
    }
    crate::files::replace(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(std::path::PathBuf);
    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("ringwood-acl-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_read_and_written() {
        let folder = Folder::new("read");
        let path = folder.0.join("users.acl");
        let text = "# people\nuser alice on >p1 ~a* +@read\n\nuser bob off (+get ~x)\n";
        std::fs::write(&path, text).unwrap();
        let users = load(&path, &Users::default(), false).unwrap();
        assert_eq!(users.len(), 3);
        assert!(users.get(b"alice").unwrap().accepts(b"p1"));
        save(&path, &users).unwrap();
        let again = load(&path, &Users::default(), false).unwrap();
        assert!(users.iter().eq(again.iter()));
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    #[test]
    fn bad_lines_are_named_and_nothing_changes() {
        let folder = Folder::new("bad");
        let path = folder.0.join("users.acl");
        std::fs::write(&path, "user a +foo\nnobody\nuser b on\nuser b off\n").unwrap();
        let error = load(&path, &Users::default(), false).unwrap_err();
        for part in [":1: Error in user", ":2: line should", ":4: Duplicate user"] {
            assert!(error.contains(part), "{error}");
        }
        let missing = load(&folder.0.join("no"), &Users::default(), false).unwrap_err();
        assert!(missing.contains("No such file"), "{missing}");
    }
}
