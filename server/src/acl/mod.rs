//! Access control: users, what each may do, and who did what they may not.
//!
//! ```text
//! Users (one snapshot for all cores) ── name ──> User ── passwords, selectors ──> Selector: commands, keys, channels
//! ```
//! A change makes a new snapshot ([`Directory::change`]); every core takes it over and gives its clients their new user before the changing command
//! answers. A client of a user who may do everything is not looked at any further: [`User::is_restricted`].
//!
//! The language of the rules is Redis's ([`rules`]), and so is the text that describes a user.

mod admit;
pub mod check;
pub mod file;
pub mod log;
pub mod rules;
pub mod selector;

use selector::Selector;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

/// The user of a connection that has not said who it is.
pub const DEFAULT: &[u8] = b"default";

/// SHA-256 of a password.
pub type PasswordHash = [u8; 32];

pub fn hash_password(password: &[u8]) -> PasswordHash {
    Sha256::digest(password).into()
}

pub fn hex(hash: &PasswordHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: Vec<u8>,
    pub enabled: bool,
    /// Any password will do.
    pub nopass: bool,
    /// RESTORE's payloads are checked thoroughly.
    pub sanitize: bool,
    pub passwords: Vec<PasswordHash>,
    /// What the rules outside of parentheses say.
    pub root: Selector,
    pub selectors: Vec<Selector>,
}

impl User {
    /// A user as ACL SETUSER makes one before its rules: it may do nothing.
    pub fn new(name: &[u8], all_channels: bool) -> Self {
        Self {
            name: name.to_vec(),
            enabled: false,
            nopass: false,
            sanitize: true,
            passwords: Vec::new(),
            root: Selector::new(all_channels),
            selectors: Vec::new(),
        }
    }
    /// The default user as it is where nobody has said anything: it may do everything.
    pub fn default_user() -> Self {
        let mut user = Self::new(DEFAULT, true);
        user.enabled = true;
        user.nopass = true;
        user.root = Selector::everything();
        user
    }
    /// Whether there is anything that it may not do.
    pub fn is_restricted(&self) -> bool {
        !self.root.is_everything()
    }
    /// A connection may act as this user without a password.
    pub fn is_open(&self) -> bool {
        self.nopass && self.enabled
    }
    pub fn accepts(&self, password: &[u8]) -> bool {
        let hash = hash_password(password);
        // All are compared whole: how long it takes tells nothing.
        let equal = |known: &PasswordHash| {
            let differs = known.iter().zip(&hash).fold(0, |d, (a, b)| d | (a ^ b));
            std::hint::black_box(differs) == 0
        };
        let known = self.passwords.iter().filter(|p| equal(p)).count() > 0;
        self.enabled && (self.nopass || known)
    }
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.nopass {
            flags.push("nopass");
        }
        flags.push(match self.sanitize {
            true => "sanitize-payload",
            false => "skip-sanitize-payload",
        });
        flags
    }
    /// Root and selectors.
    pub fn all_selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }
    /// The words that make this user, for ACL LIST, the ACL file and CONFIG REWRITE.
    pub fn describe(&self) -> Vec<u8> {
        let mut out = self.name.clone();
        for flag in self.flags() {
            out.push(b' ');
            out.extend_from_slice(flag.as_bytes());
        }
        for password in &self.passwords {
            out.extend_from_slice(b" #");
            out.extend_from_slice(hex(password).as_bytes());
        }
        out.push(b' ');
        self.root.describe(&mut out);
        for selector in &self.selectors {
            out.extend_from_slice(b" (");
            selector.describe(&mut out);
            out.push(b')');
        }
        out
    }
}

/// All users at one moment.
#[derive(Clone, Debug)]
pub struct Users {
    by_name: BTreeMap<Vec<u8>, Arc<User>>,
}

impl Default for Users {
    fn default() -> Self {
        let mut users = Self {
            by_name: BTreeMap::new(),
        };
        users.put(User::default_user());
        users
    }
}

impl Users {
    pub fn get(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }
    /// There always is one.
    pub fn default_user(&self) -> &Arc<User> {
        self.get(DEFAULT)
            .expect("the default user is never removed")
    }
    pub fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        self.by_name.values()
    }
    pub fn len(&self) -> usize {
        self.by_name.len()
    }
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
    pub fn put(&mut self, user: User) {
        self.by_name.insert(user.name.clone(), Arc::new(user));
    }
    /// False if there is no such user. The default user stays.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        name != DEFAULT && self.by_name.remove(name).is_some()
    }
    /// `requirepass`: one password for the default user, or none.
    pub fn set_default_password(&mut self, password: &[u8]) {
        let mut user = User::clone(self.default_user());
        user.passwords.clear();
        user.nopass = password.is_empty();
        if !password.is_empty() {
            user.passwords.push(hash_password(password));
        }
        self.put(user);
    }
}

/// What all cores share.
#[derive(Default)]
pub struct Directory {
    users: RwLock<Arc<Users>>,
    log: Mutex<log::Log>,
}

impl Directory {
    pub fn new(users: Users) -> Self {
        Self {
            users: RwLock::new(Arc::new(users)),
            log: Mutex::default(),
        }
    }
    /// The newest snapshot.
    pub fn users(&self) -> Arc<Users> {
        self.users.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
    /// Makes a new snapshot, or none if `change` fails.
    pub fn change<R, E>(&self, change: impl FnOnce(&mut Users) -> Result<R, E>) -> Result<R, E> {
        let mut users = self.users.write().unwrap_or_else(|e| e.into_inner());
        let mut new = Users::clone(&users);
        let result = change(&mut new)?;
        *users = Arc::new(new);
        Ok(result)
    }
    pub fn log(&self) -> MutexGuard<'_, log::Log> {
        crate::commands::lock(&self.log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_kept_as_hashes() {
        let mut users = Users::default();
        assert!(users.default_user().accepts(b"anything"));
        users.set_default_password(b"p1");
        let user = users.default_user();
        assert!(user.accepts(b"p1") && !user.accepts(b"p2") && !user.accepts(b""));
        let described = format!(
            "default on sanitize-payload #{} ~* &* +@all",
            hex(&hash_password(b"p1"))
        );
        assert_eq!(String::from_utf8(user.describe()).unwrap(), described);
        // As sha256sum has it.
        assert!(
            described
                .contains("#f64551fcd6f07823cb87971cfb91446425da18286b3ab1ef935e0cbd7a69f68a ")
        );
        users.set_default_password(b"");
        assert!(users.default_user().is_open());
    }

    #[test]
    fn the_default_user_stays() {
        let mut users = Users::default();
        users.put(User::new(b"a", false));
        assert!(users.remove(b"a") && !users.remove(b"a") && !users.remove(DEFAULT));
        assert_eq!(users.len(), 1);
    }
}
