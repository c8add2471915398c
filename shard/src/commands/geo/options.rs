//! What the searching commands are asked: the area and the options behind it.

use super::cell::{Area, Place, Shape};
use super::{parse_place, parse_unit};
use crate::commands::zset::view::View;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::lossless;
use ringwood_protocol::number::{parse_f64, parse_i64};

/// Which command it is.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    /// GEORADIUS, and whether it may store.
    Around {
        store: bool,
    },
    /// GEORADIUSBYMEMBER.
    AroundMember {
        store: bool,
    },
    Search,
    SearchStore,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Order {
    None,
    Near,
    Far,
}

pub struct Options<'a> {
    /// `None` only where the key is missing.
    pub area: Option<Area>,
    pub with_distance: bool,
    pub with_score: bool,
    pub with_place: bool,
    pub order: Order,
    /// 0: all.
    pub count: usize,
    pub any: bool,
    pub store: Option<&'a [u8]>,
    pub store_distance: bool,
}

fn number(word: &[u8], error: &'static str) -> Result<f64, CommandError> {
    parse_f64(word).ok_or(CommandError::fixed(error))
}

/// A shape with the half of its width and height in units, and the unit in metres.
type Sized = (Shape, (f64, f64), f64);

fn circle(radius: &[u8], unit: &[u8]) -> Result<Sized, CommandError> {
    let radius = number(radius, "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(CommandError::fixed("ERR radius cannot be negative"));
    }
    let unit_m = parse_unit(unit)?;
    let radius_m = radius * unit_m;
    Ok((Shape::Circle { radius_m }, (radius, radius), unit_m))
}

fn rectangle(width: &[u8], height: &[u8], unit: &[u8]) -> Result<Sized, CommandError> {
    let width = number(width, "ERR need numeric width")?;
    let height = number(height, "ERR need numeric height")?;
    if width < 0.0 || height < 0.0 {
        return Err(CommandError::fixed(
            "ERR height or width cannot be negative",
        ));
    }
    let unit_m = parse_unit(unit)?;
    let (width_m, height_m) = (width * unit_m, height * unit_m);
    let half = (width / 2.0, height / 2.0);
    Ok((Shape::Box { width_m, height_m }, half, unit_m))
}

/// The corners of a polygon behind their number, and what follows them.
fn polygon<'a, 'b>(
    count: &[u8],
    words: &'b [&'a [u8]],
) -> Result<(Vec<Place>, &'b [&'a [u8]]), CommandError> {
    let count = parse_i64(count)
        .and_then(|count| i32::try_from(count).ok())
        .ok_or(CommandError::fixed("ERR invalid number of vertices"))?;
    let corners = usize::try_from(count).ok().filter(|count| *count >= 3);
    let (corners, rest) = corners
        .and_then(|count| words.split_at_checked(2 * count))
        .ok_or(CommandError::fixed(
            "ERR GEOSEARCH BYPOLYGON must have at least 3 vertices",
        ))?;
    let corners = corners.chunks_exact(2);
    let corners: Result<_, _> = corners.map(|xy| parse_place(xy[0], xy[1])).collect();
    Ok((corners?, rest))
}

/// The place of a member of a key that is there.
fn place_of(view: View<'_>, member: &[u8]) -> Result<Place, CommandError> {
    view.score(member)
        .map(Place::of_score)
        .ok_or(CommandError::fixed(
            "ERR could not decode requested zset member",
        ))
}

impl<'a> Options<'a> {
    /// `words`: what follows the source key. `view`: the source, if it is there; members are looked up as they are met, as in Redis,
    /// where their absence is an error that comes before those of later words.
    pub fn parse(
        form: Form,
        name: &[u8],
        words: &[&'a [u8]],
        view: Option<View<'_>>,
    ) -> Result<Self, CommandError> {
        let mut options = Self {
            area: None,
            with_distance: false,
            with_score: false,
            with_place: false,
            order: Order::None,
            count: 0,
            any: false,
            store: None,
            store_distance: false,
        };
        let searches = matches!(form, Form::Search | Form::SearchStore);
        let stores = matches!(
            form,
            Form::Around { store: true } | Form::AroundMember { store: true }
        );
        let (mut centre, mut sized) = (None, None);
        // Valkey's third shape, which has its own centre.
        let mut corners: Option<Vec<Place>> = None;
        // Members of a missing key are taken as they are.
        let (mut from_member, mut from_place) = (false, false);
        let mut rest = words;
        match (form, view) {
            (Form::Around { .. }, _) => {
                centre = Some(parse_place(words[0], words[1])?);
                sized = Some(circle(words[2], words[3])?);
                rest = &words[4..];
            }
            (Form::AroundMember { .. }, Some(view)) => {
                centre = Some(place_of(view, words[0])?);
                sized = Some(circle(words[1], words[2])?);
                rest = &words[3..];
            }
            (Form::AroundMember { .. }, None) => rest = &words[3..],
            _ => {}
        }
        while let Some((word, more)) = rest.split_first() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let by_box = matches!(sized, Some((Shape::Box { .. }, ..)));
            let by_radius = matches!(sized, Some((Shape::Circle { .. }, ..)));
            let finds_centre = searches && corners.is_none();
            rest = more;
            match more {
                _ if is("WITHDIST") => options.with_distance = true,
                _ if is("WITHHASH") => options.with_score = true,
                _ if is("WITHCOORD") => options.with_place = true,
                _ if is("ANY") => options.any = true,
                _ if is("ASC") => options.order = Order::Near,
                _ if is("DESC") => options.order = Order::Far,
                [count, more @ ..] if is("COUNT") => {
                    let count = parse_i64(count).ok_or(CommandError::NotInteger)?;
                    options.count = usize::try_from(count)
                        .ok()
                        .filter(|count| *count > 0)
                        .ok_or(CommandError::fixed("ERR COUNT must be > 0"))?;
                    rest = more;
                }
                [key, more @ ..] if stores && (is("STORE") || is("STOREDIST")) => {
                    options.store = Some(key);
                    options.store_distance = is("STOREDIST");
                    rest = more;
                }
                _ if form == Form::SearchStore && is("STOREDIST") => options.store_distance = true,
                [member, more @ ..] if finds_centre && !from_place && is("FROMMEMBER") => {
                    if let Some(view) = view {
                        centre = Some(place_of(view, member)?);
                    }
                    from_member = true;
                    rest = more;
                }
                [x, y, more @ ..] if finds_centre && !from_member && is("FROMLONLAT") => {
                    centre = Some(parse_place(x, y)?);
                    from_place = true;
                    rest = more;
                }
                [radius, unit, more @ ..] if finds_centre && !by_box && is("BYRADIUS") => {
                    sized = Some(circle(radius, unit)?);
                    rest = more;
                }
                [width, height, unit, more @ ..] if finds_centre && !by_radius && is("BYBOX") => {
                    sized = Some(rectangle(width, height, unit)?);
                    rest = more;
                }
                [count, _, ..]
                    if searches
                        && sized.is_none()
                        && !from_member
                        && !from_place
                        && is("BYPOLYGON") =>
                {
                    let (found, more) = polygon(count, &rest[1..])?;
                    corners = Some(found);
                    rest = more;
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        let stored = options.store.is_some() || form == Form::SearchStore;
        if stored && (options.with_distance || options.with_score || options.with_place) {
            return Err(CommandError::fixed(if form == Form::SearchStore {
                "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            } else {
                "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            }));
        }
        let exactly_one = |of: &str| {
            let name = lossless::text(name);
            Err(CommandError::err(format_args!(
                "exactly one of {of} can be specified for {name}"
            )))
        };
        if searches && !from_member && !from_place && corners.is_none() {
            return exactly_one("FROMMEMBER or FROMLONLAT");
        }
        if searches && sized.is_none() && corners.is_none() {
            return exactly_one("BYRADIUS and BYBOX");
        }
        if options.any && options.count == 0 {
            return Err(CommandError::fixed(
                "ERR the ANY argument requires COUNT argument",
            ));
        }
        // The first ones of no order would be any.
        if options.count > 0 && options.order == Order::None && !options.any {
            options.order = Order::Near;
        }
        if let (Some(centre), Some((shape, half, unit_m))) = (centre, sized) {
            options.area = Some(Area {
                centre,
                shape,
                half,
                unit_m,
            });
        }
        options.area = match corners {
            Some(corners) => Some(Area::polygon(corners)),
            None => options.area,
        };
        Ok(options)
    }
}
