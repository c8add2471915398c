//! Builds LuaJIT from the sources that the `luajit-src` crate carries (kept by mlua's author, it follows LuaJIT's own
//! branch), with our options and some small changes of its sources.
//!
//! Options: compiled loops look for hooks (a script must be stoppable inside them), and no FFI, so that not even a
//! number written `1LL` brings it in.
//!
//! Changes, each replacing a text that must occur exactly once, so that a new version of the sources cannot silently
//! lose them:
//! - `return f(x)` replaces the caller's frame only where `f` is an upvalue, as in a local function that calls itself.
//!   Else an error raised by `return redis.call(...)` could not name its line. (In Lua 5.1 C functions never replace
//!   a frame.)
//! - A null pointer and a negative NaN are written `(nil)` and `-nan`, as C's printf does it for Lua 5.1.
//! - `"\d"` in a string means `d`, as in Lua 5.1, where LuaJIT refuses unknown escapes; `\x`, `\u` and `\z` are unknown.
//!
//! `luajit-src` copies, configures and builds; the changed files are then put into its copy and made anew.

use std::path::Path;
use std::process::Command;

const OPTIONS: &str = "-DLUAJIT_ENABLE_CHECKHOOK -DLUAJIT_DISABLE_FFI";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    // SAFETY: a build script has one thread. LuaJIT's makefile passes CCDEBUG to every compiler that it runs, for the
    // host's tools too, and luajit-src hands the environment on.
    unsafe { std::env::set_var("CCDEBUG", OPTIONS) };
    let artifacts = luajit_src::Build::new().debug(false).build();

    let source = out.join("luajit-build").join("src");
    change(
        &source.join("lj_parse.c"),
        &[
            (
                "  BCPos jpc;\t\t\t/* Pending jump list to next bytecode. */\n",
                "  BCPos jpc;\n  BCPos tail;\t/* The call that may become a tail call, if it is the newest. */\n",
            ),
            (
                "  fs->jpc = NO_JMP;\n  fs->freereg",
                "  fs->jpc = NO_JMP;\n  fs->tail = NO_JMP;\n  fs->freereg",
            ),
            (
                "      expr_tonextreg(fs, v);\n      if (ls->fr2) bcreg_reserve(fs, 1);\n    call:\n      parse_args(ls, v);\n",
                "      int upvalue = (v->k == VUPVAL);\n      expr_tonextreg(fs, v);\n      if (ls->fr2) bcreg_reserve(fs, 1);\n\
                 \x20     parse_args(ls, v);\n      if (upvalue) fs->tail = v->u.s.info;\n      goto called;\n    call:\n      parse_args(ls, v);\n    called:\n",
            ),
            (
                "\tif (bc_op(*ip) == BC_VARG) goto notailcall;\n",
                "\tif (bc_op(*ip) == BC_VARG || fs->tail != e.u.s.info) goto notailcall;\n",
            ),
        ],
    );
    change(
        &source.join("lj_lex.c"),
        &[
            (
                "      case 'x':  /* Hexadecimal escape '\\xXX'. */",
                "      case 0x7001:",
            ),
            (
                "      case 'u':  /* Unicode escape '\\u{XX...}'. */",
                "      case 0x7002:",
            ),
            (
                "      case 'z':  /* Skip whitespace. */",
                "      case 0x7003:",
            ),
            (
                "\tif (!lj_char_isdigit(c))\n\t  goto err_xesc;\n",
                "\tif (!lj_char_isdigit(c)) break;\n",
            ),
        ],
    );
    change(
        &source.join("lj_strfmt.c"),
        &[(
            "*p++ = 'N'; *p++ = 'U'; *p++ = 'L'; *p++ = 'L';",
            "memcpy(p, \"(nil)\", 5); p += 5;",
        )],
    );
    change(
        &source.join("lj_strfmt_num.c"),
        &[(
            "      if ((sf & STRFMT_F_SPACE)) prefix = ' ';\n    } else {",
            "      if ((t.u32.hi & 0x80000000)) prefix = '-';\n      else if ((sf & STRFMT_F_SPACE)) prefix = ' ';\n    } else {",
        )],
    );
    let made = Command::new("make")
        .current_dir(&source)
        .arg("-e")
        .arg("libluajit.a")
        .env("TARGET_SYS", "Linux")
        .env("BUILDMODE", "static")
        .env("XCFLAGS", "-fPIC")
        .status()
        .expect("make runs: it just did");
    assert!(made.success(), "LuaJIT with its changes does not build");
    std::fs::copy(
        source.join("libluajit.a"),
        artifacts.lib_dir().join("libluajit.a"),
    )
    .expect("the library is where make put it");
    artifacts.print_cargo_metadata();
    println!("cargo:rustc-link-lib=dylib=m");
    println!("cargo:rustc-link-lib=dylib=dl");
}

/// Replaces texts in a file; each must be there once.
fn change(file: &Path, texts: &[(&str, &str)]) {
    let mut source = std::fs::read_to_string(file).expect("a source file of LuaJIT");
    for (from, to) in texts {
        assert_eq!(
            source.matches(from).count(),
            1,
            "{}: {from:?}",
            file.display()
        );
        source = source.replace(from, to);
    }
    std::fs::write(file, source).expect("the build's own copy can be written");
}
