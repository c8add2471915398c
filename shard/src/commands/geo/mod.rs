//! Places: sorted sets whose scores are cells of the map ([`cell`]).

mod cell;
mod geoadd;
mod geopos;
mod geosearch;
mod options;
#[cfg(test)]
mod tests;

use crate::ctx::Handler;
use cell::Place;
use ringwood_protocol::command::Command;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::{double_text, parse_f64};
use ringwood_protocol::reply::Reply;

pub const COMMANDS: &[Command<Handler>] = &[
    geoadd::GEOADD,
    geopos::GEODIST,
    geopos::GEOHASH,
    geopos::GEOPOS,
    geosearch::GEORADIUS,
    geosearch::GEORADIUSBYMEMBER,
    geosearch::GEORADIUSBYMEMBER_RO,
    geosearch::GEORADIUS_RO,
    geosearch::GEOSEARCH,
    geosearch::GEOSEARCHSTORE,
];

/// A longitude and a latitude as a command has them.
fn parse_place(longitude: &[u8], latitude: &[u8]) -> Result<Place, CommandError> {
    let longitude = parse_f64(longitude).ok_or(CommandError::NotFloat)?;
    let latitude = parse_f64(latitude).ok_or(CommandError::NotFloat)?;
    Place::new(longitude, latitude).ok_or_else(|| {
        CommandError::err(format_args!(
            "invalid longitude,latitude pair {longitude:.6},{latitude:.6}"
        ))
    })
}

/// A unit in metres.
fn parse_unit(word: &[u8]) -> Result<f64, CommandError> {
    let units = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    units
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, metres)| *metres)
        .ok_or(CommandError::fixed(
            "ERR unsupported unit provided. please use M, KM, FT, MI",
        ))
}

fn reply_place(reply: &mut Reply<'_>, place: Place) {
    reply.array(2);
    reply.double_text(double_text(place.longitude).as_str());
    reply.double_text(double_text(place.latitude).as_str());
}

/// Four digits behind the point.
fn reply_distance(reply: &mut Reply<'_>, distance: f64) {
    let scaled = cell::truncated((distance * 10_000.0).round_ties_even()).unsigned_abs();
    reply.bulk_str(&format!("{}.{:04}", scaled / 10_000, scaled % 10_000));
}
