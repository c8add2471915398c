//! The options that XADD and XTRIM share.

use super::{INVALID_ID, is_word, parse_id, parse_integer};
use crate::collections::stream::{NewId, References, Threshold, Trim};
use crate::ctx::Args;
use crate::shard::Settings;
use ringwood_protocol::error::CommandError;

/// See the module.
pub struct Options {
    pub make: bool,
    pub trim: Option<Trim>,
    /// The word with the threshold.
    pub threshold_at: usize,
    pub id: NewId,
    /// The word with the ID; the number of words if there is none.
    pub id_at: usize,
}

const BOTH: &str = "ERR syntax error, MAXLEN and MINID options at the same time are not compatible";
const LIMIT_ALONE: &str =
    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy";
const LIMIT_EXACT: &str = "ERR syntax error, LIMIT cannot be used without the special ~ option";
const NO_STRATEGY: &str = "ERR syntax error, XTRIM must be called with a trimming strategy";

/// Reads the options from the third word on: all of XTRIM's, or XADD's with the ID that ends them.
pub fn parse(args: Args<'_>, adds: bool, settings: &Settings) -> Result<Options, CommandError> {
    let mut options = Options {
        make: true,
        trim: None,
        threshold_at: 0,
        id: NewId::Auto,
        id_at: args.len(),
    };
    let mut threshold = None;
    let mut approximate = false;
    let mut limit = None;
    let mut references = None;
    let mut at = 2;
    while let Some(&word) = args.get(at) {
        let more = args.len() - at - 1;
        if adds && word == b"*" {
            options.id_at = at;
            break;
        }
        let by_length = is_word(word, "MAXLEN");
        if (by_length || is_word(word, "MINID")) && more > 0 {
            if threshold.is_some() {
                return Err(CommandError::fixed(BOTH));
            }
            at += 1;
            if more >= 2 && matches!(args[at], b"~" | b"=") {
                approximate = args[at] == b"~";
                at += 1;
            }
            options.threshold_at = at;
            threshold =
                Some(if by_length {
                    let length = parse_integer(args[at])?;
                    Threshold::Length(u64::try_from(length).map_err(|_| {
                        CommandError::fixed("ERR The MAXLEN argument must be >= 0.")
                    })?)
                } else {
                    Threshold::Id(parse_id(args[at], 0)?)
                });
        } else if is_word(word, "LIMIT") && more > 0 {
            at += 1;
            let most = u64::try_from(parse_integer(args[at])?)
                .map_err(|_| CommandError::fixed("ERR The LIMIT argument must be >= 0."))?;
            limit = Some(most);
        } else if adds && is_word(word, "NOMKSTREAM") {
            options.make = false;
        } else if let Some(found) = parse_references(word).filter(|_| references.is_none()) {
            references = Some(found);
        } else if adds {
            options.id = NewId::parse(word).ok_or(INVALID_ID)?;
            options.id_at = at;
            break;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    let Some(threshold) = threshold else {
        return match limit {
            Some(1..) => Err(CommandError::fixed(LIMIT_ALONE)),
            _ if !adds => Err(CommandError::fixed(NO_STRATEGY)),
            Some(0) => Err(CommandError::fixed(LIMIT_EXACT)),
            None => Ok(options),
        };
    };
    let limit = match limit {
        Some(_) if !approximate => return Err(CommandError::fixed(LIMIT_EXACT)),
        Some(limit) => limit,
        // Enough for some blocks, so that one command does not take long.
        None if approximate => match settings.stream_node_entries_max.saturating_mul(100) {
            0 => 10_000,
            entries => entries.min(1_000_000) as u64,
        },
        None => 0,
    };
    options.trim = Some(Trim {
        threshold,
        approximate,
        limit,
        references: references.unwrap_or_default(),
    });
    Ok(options)
}

/// KEEPREF, DELREF or ACKED.
pub fn parse_references(word: &[u8]) -> Option<References> {
    if is_word(word, "KEEPREF") {
        Some(References::Keep)
    } else if is_word(word, "DELREF") {
        Some(References::Delete)
    } else if is_word(word, "ACKED") {
        Some(References::Acked)
    } else {
        None
    }
}
