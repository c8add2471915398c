//! GEOPOS, GEOHASH and GEODIST: what is known of single places.

use super::cell::Place;
use super::{parse_unit, reply_distance, reply_place};
use crate::commands::zset::view::View;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const GEOPOS: Command<Handler> = command("GEOPOS", at_least(2), geopos as Handler)
    .flags(READONLY)
    .acl(acl::GEO)
    .keys(&[at(1).flags(RO | ACCESS)])
    .element(2)
    .doc(
        "Returns the coordinates of places.",
        "O(1) for each member requested.",
        "3.2.0",
        "geo",
    )
    .args(&[key("key", 0), string("member").optional().multiple()]);

pub const GEOHASH: Command<Handler> = command("GEOHASH", at_least(2), geohash as Handler)
    .flags(READONLY)
    .acl(acl::GEO)
    .keys(&[at(1).flags(RO | ACCESS)])
    .element(2)
    .doc(
        "Returns places as geohash texts.",
        "O(1) for each member requested.",
        "3.2.0",
        "geo",
    )
    .args(&[key("key", 0), string("member").optional().multiple()]);

pub const GEODIST: Command<Handler> = command("GEODIST", at_least(4), geodist as Handler)
    .flags(READONLY)
    .acl(acl::GEO)
    .keys(&[at(1).flags(RO | ACCESS)])
    .element(2)
    .doc(
        "Returns the distance between two places.",
        "O(1)",
        "3.2.0",
        "geo",
    )
    .args(&[
        key("key", 0),
        string("member1"),
        string("member2"),
        one_of(
            "unit",
            &[
                word("m", "M"),
                word("km", "KM"),
                word("ft", "FT"),
                word("mi", "MI"),
            ],
        )
        .optional(),
    ]);

fn geopos(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let view = View::read(ctx.shard, ctx.db, args[1])?;
    let reply = &mut ctx.reply;
    reply.array(args.len() - 2);
    for member in &args[2..] {
        match view.and_then(|view| view.score(member)) {
            Some(score) => reply_place(reply, Place::of_score(score)),
            None => reply.null_array(),
        }
    }
    Ok(())
}

fn geohash(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let view = View::read(ctx.shard, ctx.db, args[1])?;
    let reply = &mut ctx.reply;
    reply.array(args.len() - 2);
    for member in &args[2..] {
        match view.and_then(|view| view.score(member)) {
            Some(score) => reply.bulk(&Place::of_score(score).text()),
            None => reply.null(),
        }
    }
    Ok(())
}

fn geodist(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let unit_m = match args[4..] {
        [] => 1.0,
        [unit] => parse_unit(unit)?,
        _ => return Err(CommandError::Syntax),
    };
    let view = View::read(ctx.shard, ctx.db, args[1])?;
    let place = |member: &[u8]| Some(Place::of_score(view?.score(member)?));
    match (place(args[2]), place(args[3])) {
        (Some(a), Some(b)) => reply_distance(&mut ctx.reply, a.distance_m(b) / unit_m),
        _ => ctx.reply.null(),
    }
    Ok(())
}
