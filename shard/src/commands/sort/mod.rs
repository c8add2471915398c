//! SORT and SORT_RO.
//!
//! The elements are copied out first; then what each is sorted by is looked up (BY), they are sorted as far as LIMIT needs, and what
//! shall be answered of each is looked up (GET). Keys that patterns name may lie on other cores: the command asks for them and
//! starts again ([`Ctx::widen`]).

mod making;
mod numbers;
mod options;
mod pattern;
mod source;

use crate::collections::listpack::Item;
use crate::collections::quicklist::Limit;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::keyspace::entry::{Parts, Value};
use crate::object::Type;
use crate::shard::notify;
use making::Making;
use options::Options;
use pattern::Pattern;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number;
use source::{Elements, Place};
use std::cmp::Ordering;
use std::ops::Range;

pub const COMMANDS: &[Command<Handler>] = &[SORT, SORT_RO];

pub const SORT: Command<Handler> = command("SORT", at_least(2), sort as Handler)
    .flags(WRITE | DENYOOM | MOVABLEKEYS)
    .acl(acl::SET | acl::SORTEDSET | acl::LIST | acl::DANGEROUS)
    .keys(&[at(1).flags(RO | ACCESS), unknown().flags(RO | ACCESS).notes("For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we sort"), unknown().flags(OW | UPDATE).notes("For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the argument array").found_by(options::destination)])
    .doc("Sorts a list, set or sorted set and returns or stores the result.", "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements. When the elements are not sorted, complexity is O(N).", "1.0.0", "generic")
    .args(&[key("key", 0), (Arg { key_spec: Some(1), ..pattern("by-pattern") }).token("BY").display("pattern").optional(), block("limit", &[integer("offset"), integer("count")]).token("LIMIT").optional(), (Arg { key_spec: Some(1), ..pattern("get-pattern") }).token("GET").display("pattern").optional().multiple().multiple_token(), one_of("order", &[word("asc", "ASC"), word("desc", "DESC")]).optional(), word("sorting", "ALPHA").optional(), key("destination", 2).token("STORE").optional()]);

pub const SORT_RO: Command<Handler> = command("SORT_RO", at_least(2), sort_ro as Handler)
    .flags(READONLY | MOVABLEKEYS)
    .acl(acl::SET | acl::SORTEDSET | acl::LIST | acl::DANGEROUS)
    .keys(&[at(1).flags(RO | ACCESS), unknown().flags(RO | ACCESS).notes("For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we sort")])
    .doc("Returns a list, set or sorted set in sorted order.", "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements. When the elements are not sorted, complexity is O(N).", "7.0.0", "generic")
    .args(&[key("key", 0), (Arg { key_spec: Some(1), ..pattern("by-pattern") }).token("BY").display("pattern").optional(), block("limit", &[integer("offset"), integer("count")]).token("LIMIT").optional(), (Arg { key_spec: Some(1), ..pattern("get-pattern") }).token("GET").display("pattern").optional().multiple().multiple_token(), one_of("order", &[word("asc", "ASC"), word("desc", "DESC")]).optional(), word("sorting", "ALPHA").optional()]);

fn sort(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    run(ctx, args, true)
}

fn sort_ro(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    run(ctx, args, false)
}

fn run(ctx: &mut Ctx<'_>, args: Args<'_>, may_store: bool) -> CommandResult {
    let mut options = Options::parse(&args[2..], may_store)?;
    let in_script = ctx.shard.in_script;
    // What patterns name is not among the keys that go aside.
    let alone = options.by.is_none() && options.get.is_empty();
    if alone && ctx.is_long_at(args[1], usize::MAX, 1) {
        return Ok(());
    }
    let Some(entry) = ctx.read(args[1]) else {
        // Also what is stored.
        return finish(ctx, &options, &Elements::default(), &[]);
    };
    let len = source::len(entry)?;
    let is_packed = entry.kind() == Type::ZSet && !entry.is_object();
    if is_packed {
        crate::commands::zset::edit::unpack_key(ctx, args[1]);
    }
    let key = ctx.key(args[1]);
    let Some(entry) = ctx.shard.keyspace.get(ctx.db, key) else {
        unreachable!("it was read just now");
    };
    let is_set = entry.kind() == Type::Set;
    if is_set && options.unsorted && (options.store.is_some() || in_script) {
        // A set has no order of its own, and neither what is stored nor what a script does next shall depend on chance.
        options.unsorted = false;
        options.by = None;
        options.alpha = true;
    }
    let range = options.range(len);
    if options.unsorted {
        let backwards = options.descending && !is_set;
        let wanted = if backwards {
            len - range.end..len - range.start
        } else {
            range
        };
        let mut elements = source::load(entry, wanted);
        if backwards {
            elements.reverse();
        }
        let places = elements.places().to_vec();
        return finish(ctx, &options, &elements, &places);
    }
    if alone
        && !options.alpha
        && let Some(numbers) = numbers::load(entry, len)
    {
        let numbers = numbers::sorted_part(numbers, range, options.descending);
        return finish_numbers(ctx, &options, &numbers);
    }
    let elements = source::load(entry, 0..len);
    let missing = unreached(
        ctx,
        &options,
        options.by.iter(),
        &elements,
        elements.places(),
    );
    if !missing.is_empty() {
        return ctx.widen(missing);
    }
    let places = if options.alpha {
        sort_by_text(ctx, &options, &elements, range)
    } else {
        sort_by_number(ctx, &options, &elements, range)?
    };
    finish(ctx, &options, &elements, &places)
}

/// Keys that the patterns name, and the one to store into, if one of them cannot be reached: then all that the command is to have held
/// for it, or it would ask again for those of this core.
fn unreached<'p>(
    ctx: &Ctx<'_>,
    options: &Options<'_>,
    patterns: impl Iterator<Item = &'p Pattern<'p>>,
    elements: &Elements,
    places: &[Place],
) -> Vec<Box<[u8]>> {
    let mut patterns = patterns.peekable();
    if patterns.peek().is_none() && options.store.is_none()
        || ctx.shard.owned.first_absent(0).is_none()
    {
        return Vec::new();
    }
    let (mut wanted, mut any): (Vec<Box<[u8]>>, bool) = (Vec::new(), false);
    let mut want = |key: &[u8]| {
        let reached = ctx.reaches(key);
        any |= !reached;
        if !reached || ctx.shard.owns(key) {
            wanted.push(key.into());
        }
    };
    let mut key = Vec::new();
    for pattern in patterns {
        for place in places {
            if pattern.key(elements.get(*place), &mut key) {
                want(&key);
            }
        }
    }
    options.store.iter().for_each(|to| want(to));
    if !any {
        return Vec::new();
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// The part `range` of the elements in the order of `compare`, which has no two of them equal.
fn sorted_part<T>(
    mut all: Vec<T>,
    range: Range<usize>,
    descending: bool,
    compare: impl Fn(&T, &T) -> Ordering,
    place: impl Fn(&T) -> Place,
) -> Vec<Place> {
    let compare = |a: &T, b: &T| {
        if descending {
            compare(b, a)
        } else {
            compare(a, b)
        }
    };
    if range.end < all.len() {
        // Only the first ones are wanted: the others need no order.
        all.select_nth_unstable_by(range.end, compare);
        all.truncate(range.end);
    }
    all.sort_unstable_by(compare);
    all[range].iter().map(place).collect()
}

/// What a text weighs as a number.
fn weight_of(text: &[u8]) -> Option<f64> {
    /// So many digits are a float without rounding.
    const EXACT_DIGITS: usize = 15;
    if (1..=EXACT_DIGITS).contains(&text.len()) && text.iter().all(u8::is_ascii_digit) {
        let digits = text.iter().map(|digit| u64::from(digit - b'0'));
        return Some(digits.fold(0, |n, digit| n * 10 + digit) as f64);
    }
    number::parse_range_end(text)
}

fn sort_by_number(
    ctx: &mut Ctx<'_>,
    options: &Options<'_>,
    elements: &Elements,
    range: Range<usize>,
) -> Result<Vec<Place>, CommandError> {
    let mut weighed = Vec::with_capacity(elements.places().len());
    let mut key = Vec::new();
    let mut all_numbers = true;
    for place in elements.places() {
        let element = elements.get(*place);
        let weight = match options.by {
            None => weight_of(element),
            Some(pattern) => match pattern.value(ctx.shard, ctx.db, element, &mut key) {
                // What has no weight weighs nothing.
                None => Some(0.0),
                Some(text) => weight_of(&text),
            },
        };
        match weight {
            Some(weight) if !weight.is_nan() => weighed.push((weight, *place)),
            _ => all_numbers = false,
        }
    }
    if !all_numbers {
        return Err(CommandError::fixed(
            "ERR One or more scores can't be converted into double",
        ));
    }
    let compare = |a: &(f64, Place), b: &(f64, Place)| {
        let by_weight = a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal);
        by_weight
            .then_with(|| elements.get(a.1).cmp(elements.get(b.1)))
            .then_with(|| a.1.at.cmp(&b.1.at))
    };
    Ok(sorted_part(
        weighed,
        range,
        options.descending,
        compare,
        |(_, place)| *place,
    ))
}

fn sort_by_text(
    ctx: &mut Ctx<'_>,
    options: &Options<'_>,
    elements: &Elements,
    range: Range<usize>,
) -> Vec<Place> {
    let Some(pattern) = options.by else {
        let compare = |a: &Place, b: &Place| {
            let by_text = elements.get(*a).cmp(elements.get(*b));
            by_text.then_with(|| a.at.cmp(&b.at))
        };
        let places = elements.places().to_vec();
        return sorted_part(places, range, options.descending, compare, |place| *place);
    };
    // The weights, one after the other. An element without one comes before all that have one.
    let mut texts = Vec::new();
    let mut key = Vec::new();
    let mut weighed = Vec::with_capacity(elements.places().len());
    for place in elements.places() {
        let from = texts.len();
        let text = pattern.value(ctx.shard, ctx.db, elements.get(*place), &mut key);
        let weight = text.map(|text| {
            texts.extend_from_slice(&text);
            from..texts.len()
        });
        weighed.push((weight, *place));
    }
    let compare = |a: &(Option<Range<usize>>, Place), b: &(Option<Range<usize>>, Place)| {
        let text = |weight: &Option<Range<usize>>| weight.clone().map(|range| &texts[range]);
        let by_text = text(&a.0).cmp(&text(&b.0));
        by_text.then_with(|| a.1.at.cmp(&b.1.at))
    };
    sorted_part(weighed, range, options.descending, compare, |(_, place)| {
        *place
    })
}

/// Looks up what shall be answered of the elements, and answers or stores it.
fn finish(
    ctx: &mut Ctx<'_>,
    options: &Options<'_>,
    elements: &Elements,
    places: &[Place],
) -> CommandResult {
    let missing = unreached(ctx, options, options.get.iter(), elements, places);
    if !missing.is_empty() {
        return ctx.widen(missing);
    }
    let get: &[Pattern<'_>] = if options.get.is_empty() {
        &[Pattern::Element]
    } else {
        &options.get
    };
    let mut key = Vec::new();
    let Some(to) = options.store else {
        ctx.reply.array(places.len() * get.len());
        for place in places {
            for pattern in get {
                let element = elements.get(*place);
                match pattern.value(ctx.shard, ctx.db, element, &mut key) {
                    Some(value) => ctx.reply.bulk(&value),
                    None => ctx.reply.null(),
                }
            }
        }
        return Ok(());
    };
    let limit = Limit::new(ctx.shard.settings.list_listpack_size_max);
    let mut list = Making::new(limit);
    for place in places {
        for pattern in get {
            let element = elements.get(*place);
            let value = pattern.value(ctx.shard, ctx.db, element, &mut key);
            list.push(Item::Bytes(&value.unwrap_or_default()));
        }
    }
    store(ctx, to, list);
    Ok(())
}

/// As [`finish`], of elements that are integers, and themselves what is answered.
fn finish_numbers(ctx: &mut Ctx<'_>, options: &Options<'_>, numbers: &[i64]) -> CommandResult {
    let no_patterns = std::iter::empty();
    let missing = unreached(ctx, options, no_patterns, &Elements::default(), &[]);
    if !missing.is_empty() {
        return ctx.widen(missing);
    }
    let Some(to) = options.store else {
        ctx.reply.array(numbers.len());
        for n in numbers {
            ctx.reply.bulk_integer(*n);
        }
        return Ok(());
    };
    let mut list = Making::new(Limit::new(ctx.shard.settings.list_listpack_size_max));
    for n in numbers {
        list.push(Item::Int(*n));
    }
    store(ctx, to, list);
    Ok(())
}

/// Makes the list the key's value, whatever it was before, and answers its length.
fn store(ctx: &mut Ctx<'_>, to: &[u8], list: Making) {
    let len = list.len();
    ctx.reply.integer(len as i64);
    if len == 0 {
        if ctx.remove(to) {
            ctx.modified(to, notify::GENERIC, "del");
        }
        return;
    }
    let (encoding, value) = list.finish();
    let key = ctx.key(to);
    if let Some(mut entry) = ctx.shard.write(ctx.db, key) {
        let before = entry.kind();
        entry.set_expire_at(None);
        match value {
            Value::Bytes(bytes) => entry.set_vector(Type::List, encoding, bytes),
            Value::Object(object) => entry.set_object(Type::List, encoding, object),
        }
        ctx.shard.overwritten(ctx.db, to, before, Type::List);
    } else {
        let parts = Parts {
            kind: Type::List,
            encoding,
            access: ctx.shard.access_new(),
            expire_at: None,
            value,
        };
        ctx.shard.insert(ctx.db, key, parts);
    }
    ctx.modified(to, notify::LIST, "sortstore");
    // Each element counts as a change.
    ctx.shard.stats.dirty += len as u64 - 1;
}

#[cfg(test)]
mod tests;
