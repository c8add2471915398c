//! GEOSEARCH, GEOSEARCHSTORE and the GEORADIUS family: the places inside an area.

use super::cell::{self, Area, Place};
use super::options::{Form, Options, Order};
use super::{reply_distance, reply_place};
use crate::commands::zset::edit;
use crate::commands::zset::pairs::Pairs;
use crate::commands::zset::view::View;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::number::double_text;
use std::cmp::Ordering;
use std::ops::ControlFlow;

pub const GEOSEARCH: Command<Handler> = command("GEOSEARCH", at_least(7), geosearch as Handler)
    .flags(READONLY)
    .acl(acl::GEO)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists the places inside an area.", "O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area around the shape provided as the filter and M is the number of items inside the shape", "6.2.0", "geo")
    .history(&[("7.0.0", "Units may be in upper case."), ("9.0.0", "`BYPOLYGON`, of Valkey.")])
    .args(&[key("key", 0), one_of("from", &[string("member").token("FROMMEMBER"), block("fromlonlat", &[double("longitude"), double("latitude")]).token("FROMLONLAT")]), one_of("by", &[block("circle", &[double("radius").token("BYRADIUS"), one_of("unit", &[word("m", "M"), word("km", "KM"), word("ft", "FT"), word("mi", "MI")])]), block("box", &[double("width").token("BYBOX"), double("height"), one_of("unit", &[word("m", "M"), word("km", "KM"), word("ft", "FT"), word("mi", "MI")])]), block("polygon", &[integer("num-vertices").token("BYPOLYGON"), block("vertices", &[double("longitude"), double("latitude")]).multiple()]).since("9.0.0")]), one_of("order", &[word("asc", "ASC"), word("desc", "DESC")]).optional(), block("count-block", &[integer("count").token("COUNT"), word("any", "ANY").optional()]).optional(), word("withcoord", "WITHCOORD").optional(), word("withdist", "WITHDIST").optional(), word("withhash", "WITHHASH").optional()]);

pub const GEOSEARCHSTORE: Command<Handler> = command("GEOSEARCHSTORE", at_least(8), geosearchstore as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::GEO)
    .keys(&[at(1).flags(OW | UPDATE), at(2).flags(RO | ACCESS)])
    .doc("Stores the places inside an area.", "O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area around the shape provided as the filter and M is the number of items inside the shape", "6.2.0", "geo")
    .history(&[("7.0.0", "Units may be in upper case."), ("9.0.0", "`BYPOLYGON`, of Valkey.")])
    .args(&[key("destination", 0), key("source", 1), one_of("from", &[string("member").token("FROMMEMBER"), block("fromlonlat", &[double("longitude"), double("latitude")]).token("FROMLONLAT")]), one_of("by", &[block("circle", &[double("radius").token("BYRADIUS"), one_of("unit", &[word("m", "M"), word("km", "KM"), word("ft", "FT"), word("mi", "MI")])]), block("box", &[double("width").token("BYBOX"), double("height"), one_of("unit", &[word("m", "M"), word("km", "KM"), word("ft", "FT"), word("mi", "MI")])]), block("polygon", &[integer("num-vertices").token("BYPOLYGON"), block("vertices", &[double("longitude"), double("latitude")]).multiple()]).since("9.0.0")]), one_of("order", &[word("asc", "ASC"), word("desc", "DESC")]).optional(), block("count-block", &[integer("count").token("COUNT"), word("any", "ANY").optional()]).optional(), word("storedist", "STOREDIST").optional()]);

pub const GEORADIUS: Command<Handler> = command("GEORADIUS", at_least(6), georadius as Handler)
    .flags(WRITE | DENYOOM | MOVABLEKEYS)
    .acl(acl::GEO)
    .keys(&[at(1).flags(RO | ACCESS), after("STORE", 6).flags(OW | UPDATE), after("STOREDIST", 6).flags(OW | UPDATE)])
    .doc("Lists or stores places around a point.", "O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by center and radius and M is the number of items inside the index.", "3.2.0", "geo")
    .deprecated("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument")
    .history(&[("6.2.0", "`COUNT` takes `ANY`."), ("7.0.0", "Units may be in upper case.")])
    .args(&[key("key", 0), double("longitude"), double("latitude"), double("radius"), one_of("unit", &[word("m", "M"), word("km", "KM"), word("ft", "FT"), word("mi", "MI")]), word("withcoord", "WITHCOORD").optional(), word("withdist", "WITHDIST").optional(), word("withhash", "WITHHASH").optional(), block("count-block", &[integer("count").token("COUNT"), word("any", "ANY").since("6.2.0").optional()]).optional(), one_of("order", &[word("asc", "ASC"), word("desc", "DESC")]).optional(), one_of("store", &[key("storekey", 1).token("STORE").display("key"), key("storedistkey", 2).token("STOREDIST").display("key")]).optional()]);

pub const GEORADIUS_RO: Command<Handler> = command("GEORADIUS_RO", at_least(6), georadius_ro as Handler)
    .flags(READONLY)
    .acl(acl::GEO)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists places around a point, without storing.", "O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by center and radius and M is the number of items inside the index.", "3.2.10", "geo")
    .deprecated("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument")
    .history(&[("6.2.0", "`COUNT` takes `ANY`."), ("7.0.0", "Units may be in upper case.")])
    .args(&[key("key", 0), double("longitude"), double("latitude"), double("radius"), one_of("unit", &[word("m", "M"), word("km", "KM"), word("ft", "FT"), word("mi", "MI")]), word("withcoord", "WITHCOORD").optional(), word("withdist", "WITHDIST").optional(), word("withhash", "WITHHASH").optional(), block("count-block", &[integer("count").token("COUNT"), word("any", "ANY").since("6.2.0").optional()]).optional(), one_of("order", &[word("asc", "ASC"), word("desc", "DESC")]).optional()]);

pub const GEORADIUSBYMEMBER: Command<Handler> = command("GEORADIUSBYMEMBER", at_least(5), georadiusbymember as Handler)
    .flags(WRITE | DENYOOM | MOVABLEKEYS)
    .acl(acl::GEO)
    .keys(&[at(1).flags(RO | ACCESS), after("STORE", 5).flags(OW | UPDATE), after("STOREDIST", 5).flags(OW | UPDATE)])
    .doc("Lists or stores places around another place.", "O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by center and radius and M is the number of items inside the index.", "3.2.0", "geo")
    .deprecated("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments")
    .history(&[("6.2.0", "`COUNT` takes `ANY`."), ("7.0.0", "Units may be in upper case.")])
    .args(&[key("key", 0), string("member"), double("radius"), one_of("unit", &[word("m", "M"), word("km", "KM"), word("ft", "FT"), word("mi", "MI")]), word("withcoord", "WITHCOORD").optional(), word("withdist", "WITHDIST").optional(), word("withhash", "WITHHASH").optional(), block("count-block", &[integer("count").token("COUNT"), word("any", "ANY").optional()]).optional(), one_of("order", &[word("asc", "ASC"), word("desc", "DESC")]).optional(), one_of("store", &[key("storekey", 1).token("STORE").display("key"), key("storedistkey", 2).token("STOREDIST").display("key")]).optional()]);

pub const GEORADIUSBYMEMBER_RO: Command<Handler> = command("GEORADIUSBYMEMBER_RO", at_least(5), georadiusbymember_ro as Handler)
    .flags(READONLY)
    .acl(acl::GEO)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists places around another place, without storing.", "O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by center and radius and M is the number of items inside the index.", "3.2.10", "geo")
    .deprecated("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments")
    .history(&[("6.2.0", "`COUNT` takes `ANY`."), ("7.0.0", "Units may be in upper case.")])
    .args(&[key("key", 0), string("member"), double("radius"), one_of("unit", &[word("m", "M"), word("km", "KM"), word("ft", "FT"), word("mi", "MI")]), word("withcoord", "WITHCOORD").optional(), word("withdist", "WITHDIST").optional(), word("withhash", "WITHHASH").optional(), block("count-block", &[integer("count").token("COUNT"), word("any", "ANY").optional()]).optional(), one_of("order", &[word("asc", "ASC"), word("desc", "DESC")]).optional()]);

fn geosearch(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    run(ctx, args, 1, Form::Search)
}
fn geosearchstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    run(ctx, args, 2, Form::SearchStore)
}
fn georadius(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    run(ctx, args, 1, Form::Around { store: true })
}
fn georadius_ro(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    run(ctx, args, 1, Form::Around { store: false })
}
fn georadiusbymember(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    run(ctx, args, 1, Form::AroundMember { store: true })
}
fn georadiusbymember_ro(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    run(ctx, args, 1, Form::AroundMember { store: false })
}

/// `source`: where the key that is searched stands.
fn run(ctx: &mut Ctx<'_>, args: Args<'_>, source: usize, form: Form) -> CommandResult {
    // A member with its distance takes about as long as one that is looked up.
    let most = ctx.elements_max();
    let view = View::read(ctx.shard, ctx.db, args[source])?;
    let mut options = Options::parse(form, args[0], &args[source + 1..], view)?;
    if form == Form::SearchStore {
        options.store = Some(args[1]);
    }
    let mut found = Found::default();
    if let (Some(view), Some(area)) = (view, &options.area) {
        let limit = if options.any { options.count } else { 0 };
        if !found.search(view, area, limit, most / area.effort()) {
            return ctx.step_aside();
        }
    }
    let count = match options.count {
        0 => found.hits.len(),
        count => count.min(found.hits.len()),
    };
    found.arrange(options.order, count);
    let unit_m = options.area.as_ref().map_or(1.0, |area| area.unit_m);
    let Some(destination) = options.store else {
        found.reply(ctx, &options, count, unit_m);
        return Ok(());
    };
    let mut pairs = Pairs::default();
    pairs.reserve(count);
    for hit in &found.hits[..count] {
        let score = if options.store_distance {
            hit.distance_m / unit_m
        } else {
            hit.score
        };
        pairs.push(score, found.member(hit));
    }
    pairs.sort();
    let event = match form {
        Form::SearchStore => "geosearchstore",
        _ => "georadiusstore",
    };
    edit::store(ctx, destination, &pairs, event);
    if options.area.as_ref().is_some_and(Area::is_of_valkey) {
        log_pairs(ctx, destination, &pairs);
    }
    ctx.reply.integer(count as i64);
    Ok(())
}

/// Redis has to read the log, too, and does not know the words that the client used.
fn log_pairs(ctx: &mut Ctx<'_>, destination: &[u8], pairs: &Pairs) {
    ctx.log_as(&[b"DEL", destination]);
    if !ctx.shard.logging || pairs.is_empty() {
        return;
    }
    let scores: Vec<_> = pairs.iter().map(|(score, _)| double_text(score)).collect();
    let mut words: Vec<&[u8]> = vec![b"ZADD", destination];
    for (score, (_, member)) in scores.iter().zip(pairs.iter()) {
        words.extend([score.as_bytes(), member]);
    }
    ctx.log_as(&words);
}

/// A place inside the area; its member lies in [`Found::members`].
#[derive(Clone, Copy)]
struct Hit {
    distance_m: f64,
    score: f64,
    place: Place,
    at: usize,
    len: usize,
}

#[derive(Default)]
struct Found {
    hits: Vec<Hit>,
    members: Vec<u8>,
}

impl Found {
    fn member(&self, hit: &Hit) -> &[u8] {
        &self.members[hit.at..hit.at + hit.len]
    }
    /// `limit`: enough; 0 for all. False, with nothing that counts found, if it would look at more than `most`.
    #[must_use]
    fn search(&mut self, view: View<'_>, area: &Area, limit: usize, most: usize) -> bool {
        let mut looked_at = 0;
        for (first, end) in area.ranges() {
            if (limit > 0 && self.hits.len() >= limit) || looked_at > most {
                break;
            }
            view.each_of_scores(first, end, |score, member| {
                looked_at += 1;
                if looked_at > most {
                    return ControlFlow::Break(());
                }
                let place = Place::of_score(score);
                let Some(distance_m) = area.distance_of(place) else {
                    return ControlFlow::Continue(());
                };
                self.hits.push(Hit {
                    distance_m,
                    score,
                    place,
                    at: self.members.len(),
                    len: member.len(),
                });
                self.members.extend_from_slice(member);
                if self.hits.len() == limit {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            });
        }
        looked_at <= most
    }
    /// Brings the first `count` hits into order.
    fn arrange(&mut self, order: Order, count: usize) {
        let near = |a: &Hit, b: &Hit| {
            a.distance_m
                .partial_cmp(&b.distance_m)
                .unwrap_or(Ordering::Equal)
        };
        let compare = |a: &Hit, b: &Hit| match order {
            Order::Far => near(b, a),
            _ => near(a, b),
        };
        if order == Order::None {
            return;
        }
        if count > 0 && count < self.hits.len() {
            // The others need no order.
            self.hits.select_nth_unstable_by(count - 1, compare);
            self.hits.truncate(count);
        }
        self.hits.sort_by(compare);
    }
    fn reply(&self, ctx: &mut Ctx<'_>, options: &Options<'_>, count: usize, unit_m: f64) {
        let reply = &mut ctx.reply;
        let extras = usize::from(options.with_distance)
            + usize::from(options.with_score)
            + usize::from(options.with_place);
        reply.array(count);
        for hit in &self.hits[..count] {
            if extras > 0 {
                reply.array(1 + extras);
            }
            reply.bulk(self.member(hit));
            if options.with_distance {
                reply_distance(reply, hit.distance_m / unit_m);
            }
            if options.with_score {
                reply.integer(cell::truncated(hit.score));
            }
            if options.with_place {
                reply_place(reply, hit.place);
            }
        }
    }
}
