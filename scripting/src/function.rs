//! Libraries of functions: `FUNCTION LOAD` and what it leaves.
//!
//! Every core holds [`Functions`] beside its [`Vm`] and carries out the same loads, deletions and restores in the same order;
//! each answers the same. What a library keeps in its local variables is then a core's own. A library's text runs once, in an
//! environment that has nothing but `redis.register_function`, `redis.log` and their constants; the functions it registered
//! run later in the full one.

use crate::Host;
use crate::error::ScriptError;
use crate::shebang::{self, Flags};
use crate::vm::{FunctionRef, Vm};
use ringwood_protocol::reply::Version;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A function as its library registered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionInfo {
    pub name: String,
    pub description: Option<Vec<u8>>,
    pub flags: Flags,
}

/// A loaded library.
#[derive(Debug)]
pub struct Library {
    pub name: String,
    pub code: Box<[u8]>,
    functions: Vec<(FunctionInfo, FunctionRef)>,
}

impl Library {
    pub fn functions(&self) -> impl Iterator<Item = &FunctionInfo> {
        self.functions.iter().map(|(info, _)| info)
    }
}

/// A function to call: [`Functions::get`].
#[derive(Clone, Debug)]
pub struct Function {
    library: Arc<Library>,
    index: usize,
}

impl Function {
    pub fn info(&self) -> &FunctionInfo {
        &self.library.functions[self.index].0
    }
    pub fn library(&self) -> &Library {
        &self.library
    }
}

/// What `FUNCTION RESTORE` does with what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestorePolicy {
    Flush,
    Append,
    Replace,
}

/// The libraries of one core.
#[derive(Debug, Default)]
pub struct Functions {
    libraries: BTreeMap<String, Arc<Library>>,
    /// By their names in lower case: FCALL does not mind the case.
    functions: BTreeMap<String, Function>,
}

impl Functions {
    pub fn new() -> Self {
        Self::default()
    }

    /// `FUNCTION LOAD`: the library's name, or the text of an error reply; then nothing has changed.
    pub fn load(
        &mut self,
        vm: &mut Vm,
        host: &mut dyn Host,
        code: &[u8],
        replace: bool,
    ) -> Result<Arc<Library>, String> {
        let head = shebang::of_library(code)?;
        if !replace && self.libraries.contains_key(&head.name) {
            return Err(format!("ERR Library '{}' already exists", head.name));
        }
        let functions = vm.load_library(&code[head.start..], host)?;
        let library = Library {
            name: head.name,
            code: code.into(),
            functions,
        };
        if let Err(text) = self.check(&library) {
            vm.release(library.functions.iter().map(|(_, function)| *function));
            return Err(text);
        }
        Ok(self.put(vm, library))
    }

    /// Whether the library's functions could all be called.
    fn check(&self, library: &Library) -> Result<(), String> {
        if library.functions.is_empty() {
            return Err("ERR No functions registered".to_string());
        }
        for info in library.functions() {
            let other = self.functions.get(&info.name.to_ascii_lowercase());
            if other.is_some_and(|other| other.library.name != library.name) {
                return Err(format!("ERR Function {} already exists", info.name));
            }
        }
        Ok(())
    }

    /// Puts a library in the place of one of the same name.
    fn put(&mut self, vm: &mut Vm, library: Library) -> Arc<Library> {
        self.delete(vm, &library.name);
        let library = Arc::new(library);
        for (index, info) in library.functions().enumerate() {
            let function = Function {
                library: library.clone(),
                index,
            };
            self.functions
                .insert(info.name.to_ascii_lowercase(), function);
        }
        self.libraries.insert(library.name.clone(), library.clone());
        library
    }

    /// `FUNCTION DELETE`; false where there is no such library.
    pub fn delete(&mut self, vm: &mut Vm, name: &str) -> bool {
        let Some(library) = self.libraries.remove(name) else {
            return false;
        };
        for (info, function) in &library.functions {
            self.functions.remove(&info.name.to_ascii_lowercase());
            vm.release([*function]);
        }
        true
    }

    /// `FUNCTION FLUSH`.
    pub fn flush(&mut self, vm: &mut Vm) {
        for library in self.libraries.values() {
            vm.release(library.functions.iter().map(|(_, function)| *function));
        }
        *self = Self::new();
    }

    /// `FUNCTION RESTORE`, from the texts that a dump holds. All or nothing.
    pub fn restore(
        &mut self,
        vm: &mut Vm,
        host: &mut dyn Host,
        codes: &[&[u8]],
        policy: RestorePolicy,
    ) -> Result<(), String> {
        let mut fresh = Self::new();
        for code in codes {
            if let Err(text) = fresh.load(vm, host, code, false) {
                fresh.flush(vm);
                return Err(text);
            }
        }
        if policy == RestorePolicy::Flush {
            self.flush(vm);
            *self = fresh;
            return Ok(());
        }
        let conflict = fresh.libraries.values().find_map(|library| {
            if policy == RestorePolicy::Append && self.libraries.contains_key(&library.name) {
                return Some(format!("ERR Library {} already exists", library.name));
            }
            // A function's namesake may be in a library that is replaced too.
            library.functions().find_map(|info| {
                let other = self.functions.get(&info.name.to_ascii_lowercase())?;
                (!fresh.libraries.contains_key(&other.library.name))
                    .then(|| format!("ERR Function {} already exists", info.name))
            })
        });
        if let Some(text) = conflict {
            fresh.flush(vm);
            return Err(text);
        }
        for name in fresh.libraries.keys() {
            self.delete(vm, name);
        }
        self.libraries.append(&mut fresh.libraries);
        self.functions.append(&mut fresh.functions);
        Ok(())
    }

    /// The function of that name, in any case.
    pub fn get(&self, name: &[u8]) -> Option<&Function> {
        let name = std::str::from_utf8(name).ok()?;
        self.functions.get(&name.to_ascii_lowercase())
    }

    /// All libraries, by name: for `FUNCTION LIST`, `STATS` and `DUMP` (whose payload holds their texts).
    pub fn libraries(&self) -> impl Iterator<Item = &Library> {
        self.libraries.values().map(Arc::as_ref)
    }

    pub fn library_count(&self) -> usize {
        self.libraries.len()
    }

    pub fn function_count(&self) -> usize {
        self.functions.len()
    }
}

impl Vm {
    /// `FCALL`: as [`Vm::run`] with a function of this core's [`Functions`].
    pub fn call_function<K: AsRef<[u8]>, A: AsRef<[u8]>>(
        &mut self,
        function: &Function,
        keys: &[K],
        args: &[A],
        client: Version,
        host: &mut dyn Host,
        out: &mut Vec<u8>,
    ) -> Result<(), ScriptError> {
        let (info, target) = &function.library.functions[function.index];
        self.call_ref(*target, &info.name, keys, args, client, host, out)
    }
}
