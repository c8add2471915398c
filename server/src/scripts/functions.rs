//! Libraries of functions: one set for all cores, each core's own copies in its Lua machine.
//!
//! The set is texts behind a lock, with a version. FUNCTION LOAD and its like hold the lock: the core first *follows* (makes
//! its own copies those of the set), then carries the change out on them, and where that works on the set. Any other core
//! sees the new version when it next calls a function or changes the set, and follows. So who was told of a change finds it
//! on every core, and two changes at once have an order. What a library keeps in local variables is each core's own.

use super::{Scripts, one_line};
use crate::core::Core;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Version;
use ringwood_scripting::{
    Function, FunctionInfo, Functions, Host, Library, LogLevel, Replication, RestorePolicy, Vm,
};
use ringwood_shard::ctx::Args;
use ringwood_shard::rdb::dump;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A library, as all cores know it.
#[derive(Clone)]
pub struct Listed {
    pub name: String,
    pub code: Arc<[u8]>,
    pub functions: Arc<[FunctionInfo]>,
    /// No two loads have the same: tells a library from one that took its place.
    serial: u64,
}

impl Listed {
    /// Bytes, for statistics.
    pub fn memory(&self) -> usize {
        let functions = self.functions.iter().map(|f| {
            size_of::<FunctionInfo>() + f.name.len() + f.description.as_ref().map_or(0, Vec::len)
        });
        size_of::<Self>() + self.name.len() + self.code.len() + functions.sum::<usize>()
    }
}

#[derive(Default)]
struct Set {
    libraries: BTreeMap<String, Listed>,
    serials: u64,
}

impl Set {
    fn put(&mut self, library: &Library) -> u64 {
        self.serials += 1;
        let listed = Listed {
            name: library.name.clone(),
            code: library.code.as_ref().into(),
            functions: library.functions().cloned().collect(),
            serial: self.serials,
        };
        self.libraries.insert(library.name.clone(), listed);
        self.serials
    }
}

/// What all cores share.
#[derive(Default)]
pub struct Libraries {
    set: Mutex<Set>,
    /// Grows with every change of the set.
    version: AtomicU64,
}

impl Libraries {
    fn set(&self) -> MutexGuard<'_, Set> {
        crate::commands::lock(&self.set)
    }
    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
    pub fn list(&self) -> Vec<Listed> {
        self.set().libraries.values().cloned().collect()
    }

    /// Takes in what a snapshot holds, before any core runs.
    pub fn load(&self, codes: &[Box<[u8]>]) -> Result<(), String> {
        if codes.is_empty() {
            return Ok(());
        }
        let mut vm = Vm::new(&super::VERSIONS, 0)?;
        let mut functions = Functions::new();
        for code in codes {
            functions.load(&mut vm, &mut Loader, code, false)?;
        }
        let mut set = self.set();
        for library in functions.libraries() {
            set.put(library);
        }
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// One core's copies.
#[derive(Default)]
pub(super) struct Own {
    functions: Functions,
    /// Which of the set's they are.
    serials: BTreeMap<String, u64>,
    version: u64,
}

/// What a library sees of the server while it is loaded.
struct Loader;

impl Host for Loader {
    fn call(&mut self, _: &[&[u8]], version: Version, reply: &mut Vec<u8>) {
        // Libraries have no `redis.call` until they are loaded.
        let text = "ERR can not run a command on this script";
        ringwood_protocol::reply::Reply::new(reply, version).error(text);
    }
    fn log(&mut self, level: LogLevel, message: &[u8]) {
        super::host::log(level, message);
    }
    fn set_repl(&mut self, _: Replication) {}
    fn acl_check(&mut self, _: &[&[u8]]) -> Option<bool> {
        None
    }
}

fn refused(text: String) -> CommandError {
    CommandError::Text(one_line(&text).into())
}

impl Own {
    /// Makes the copies those of the set.
    fn follow(&mut self, vm: &mut Vm, set: &Set, version: u64) -> Result<(), String> {
        if self.version == version {
            return Ok(());
        }
        let is_current = |name: &str, serial: u64| {
            let listed = set.libraries.get(name);
            listed.is_some_and(|l| l.serial == serial)
        };
        let Own {
            functions, serials, ..
        } = self;
        // First what goes: its functions' names may be others' now.
        serials.retain(|name, serial| {
            is_current(name, *serial) || {
                functions.delete(vm, name);
                false
            }
        });
        for listed in set.libraries.values() {
            if !serials.contains_key(&listed.name) {
                functions.load(vm, &mut Loader, &listed.code, false)?;
                serials.insert(listed.name.clone(), listed.serial);
            }
        }
        self.version = version;
        Ok(())
    }
}

impl Core {
    /// Has `change` work on this core's copies, which are those of the set, and on the set.
    fn change_libraries<T>(
        &mut self,
        change: impl FnOnce(&mut Own, &mut Vm, &mut Set) -> Result<T, String>,
    ) -> Result<T, CommandError> {
        let shared = self.shared.clone();
        let libraries = &shared.scripts.libraries;
        let mut set = libraries.set();
        self.vm();
        let Scripts { vm, own, .. } = &mut self.scripts;
        let vm = vm.as_mut().expect("made just now");
        let version = libraries.version.load(Ordering::Acquire);
        own.follow(vm, &set, version).map_err(refused)?;
        let result = change(own, vm, &mut set).map_err(refused)?;
        own.version = version + 1;
        libraries.version.store(version + 1, Ordering::Release);
        self.shard.stats.dirty += 1;
        Ok(result)
    }

    /// FUNCTION LOAD: the library's name.
    pub(crate) fn function_load(
        &mut self,
        code: &[u8],
        replace: bool,
    ) -> Result<String, CommandError> {
        self.change_libraries(|own, vm, set| {
            let library = own.functions.load(vm, &mut Loader, code, replace)?;
            let serial = set.put(&library);
            own.serials.insert(library.name.clone(), serial);
            Ok(library.name.clone())
        })
    }

    pub(crate) fn function_delete(&mut self, name: &[u8]) -> Result<(), CommandError> {
        self.change_libraries(|own, vm, set| {
            let name = std::str::from_utf8(name).unwrap_or_default();
            if !own.functions.delete(vm, name) {
                return Err("ERR Library not found".to_string());
            }
            own.serials.remove(name);
            set.libraries.remove(name);
            Ok(())
        })
    }

    pub(crate) fn function_flush(&mut self) {
        let flushed = self.change_libraries(|own, vm, set| {
            own.functions.flush(vm);
            own.serials.clear();
            set.libraries.clear();
            Ok(())
        });
        // What stops it is a library that this core could not load; without any there is none to load.
        if let Err(error) = flushed {
            tracing::warn!("FUNCTION FLUSH: {}", error.text());
        }
    }

    /// FUNCTION DUMP's payload.
    pub(crate) fn function_dump(&self) -> Vec<u8> {
        let libraries = self.function_list();
        let codes = libraries.iter().map(|l| &*l.code);
        dump::dump_functions(codes, self.config.rdbcompression)
    }

    pub(crate) fn function_restore(
        &mut self,
        payload: &[u8],
        policy: RestorePolicy,
    ) -> Result<(), CommandError> {
        let codes = dump::restore_functions(payload).map_err(CommandError::fixed)?;
        let codes: Vec<&[u8]> = codes.iter().map(|code| &**code).collect();
        self.take_libraries(&codes, policy)
    }

    /// Libraries of a payload or a snapshot become part of the set.
    pub(crate) fn take_libraries(
        &mut self,
        codes: &[&[u8]],
        policy: RestorePolicy,
    ) -> Result<(), CommandError> {
        self.change_libraries(|own, vm, set| {
            own.functions.restore(vm, &mut Loader, codes, policy)?;
            // All anew for the other cores: it is rare, and nobody need tell which stayed.
            set.libraries.clear();
            own.serials.clear();
            for library in own.functions.libraries() {
                let serial = set.put(library);
                own.serials.insert(library.name.clone(), serial);
            }
            Ok(())
        })
    }

    pub(crate) fn function_list(&self) -> Vec<Listed> {
        self.shared.scripts.libraries.list()
    }

    /// The function of that name, loaded here.
    pub(super) fn find_function(&mut self, name: &[u8]) -> Result<Function, CommandError> {
        let shared = self.shared.clone();
        let libraries = &shared.scripts.libraries;
        if self.scripts.own.version != libraries.version.load(Ordering::Acquire) {
            let set = libraries.set();
            let version = libraries.version.load(Ordering::Acquire);
            self.vm();
            let Scripts { vm, own, .. } = &mut self.scripts;
            let vm = vm.as_mut().expect("made just now");
            own.follow(vm, &set, version).map_err(|text| {
                tracing::warn!("A library does not load on core {}: {text}", self.id);
                refused(text)
            })?;
            self.scripts.wide_functions.clear();
        }
        let missing = CommandError::fixed("ERR Function not found");
        self.scripts.own.functions.get(name).cloned().ok_or(missing)
    }

    /// True when the function has needed more than was declared.
    pub(super) fn is_wide_function(&self, name: &[u8]) -> bool {
        self.scripts
            .wide_functions
            .contains(&name.to_ascii_lowercase())
    }
}

/// A function's flags forbid that it runs like this.
pub(super) fn check_flags(
    flags: Option<ringwood_scripting::Flags>,
    read_only: bool,
) -> Result<(), CommandError> {
    let writes = flags.is_some_and(|f| !f.no_writes);
    match read_only && writes {
        true => Err(CommandError::fixed(
            "ERR Can not execute a script with write flag using *_ro command.",
        )),
        false => Ok(()),
    }
}

/// The keys and arguments of a function's command.
pub(super) fn parameters<'a>(args: Args<'a>) -> Result<super::Parameters<'a>, CommandError> {
    super::parameters(args).map_err(|error| match error {
        CommandError::NotInteger => CommandError::fixed("ERR Bad number of keys provided"),
        other => other,
    })
}
