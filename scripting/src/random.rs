//! `math.random`, with Redis's generator: after `math.randomseed(n)` scripts see the numbers that they see there.
//!
//! Without a seed the sequence goes on from script to script, as in Redis, but starts at a place of its own on every Vm,
//! so that the cores do not repeat each other. A script's seed holds until it ends.

use crate::shared::Shared;
use crate::state::{Lua, Raise, Returns, lua_function};

/// The 48-bit linear congruential generator of `lrand48`, twice: the Vm's own, and the one that a script has seeded.
pub(crate) struct Random {
    own: u64,
    seeded: Option<u64>,
}

impl Random {
    pub(crate) fn new(start: u64) -> Self {
        Self {
            own: start & 0xffff_ffff_ffff,
            seeded: None,
        }
    }

    /// A script's seed ends with it.
    pub(crate) fn forget_seed(&mut self) {
        self.seeded = None;
    }

    fn seed(&mut self, seed: i32) {
        self.seeded = Some((u64::from(seed as u32) << 16) | 0x330e);
    }

    /// 31 bits.
    fn next(&mut self) -> u32 {
        let x = self.seeded.as_mut().unwrap_or(&mut self.own);
        *x = x.wrapping_mul(0x5_deec_e66d).wrapping_add(0xb) & 0xffff_ffff_ffff;
        (*x >> 17) as u32
    }
}

lua_function!(random = body);
lua_function!(seed = seed_body);

fn body(lua: Lua) -> Returns {
    // SAFETY: the Vm's shared state; the reference ends here.
    let bits = unsafe { (*Shared::of(lua)).random.next() };
    const MAX: u32 = i32::MAX as u32;
    let r = f64::from(bits % MAX) / f64::from(MAX);
    let n = match lua.top() {
        0 => r,
        1 => {
            let upper = lua.check_int(1);
            if upper < 1 {
                return Err(Raise::Argument(1, "interval is empty".to_string()));
            }
            (r * f64::from(upper)).floor() + 1.0
        }
        2 => {
            let (lower, upper) = (lua.check_int(1), lua.check_int(2));
            if lower > upper {
                return Err(Raise::Argument(2, "interval is empty".to_string()));
            }
            // As C computes it, in 32 bits.
            let span = upper.wrapping_sub(lower).wrapping_add(1);
            (r * f64::from(span)).floor() + f64::from(lower)
        }
        _ => return Err(Raise::Text("wrong number of arguments".to_string())),
    };
    lua.push_number(n);
    Ok(1)
}

fn seed_body(lua: Lua) -> Returns {
    let seed = lua.check_int(1);
    // SAFETY: as above.
    unsafe { (*Shared::of(lua)).random.seed(seed) };
    Ok(0)
}
