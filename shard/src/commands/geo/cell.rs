//! The earth as a grid: places as scores of a sorted set, and the cells that cover an area.
//!
//! Idea: longitude and latitude are cut into 2^26 parts each, and the bits of the two numbers interleaved: 52 bits, exact in a double. A
//! coarser cell (fewer steps) is a prefix of those bits, so all places in it are one range of scores. An area is covered by the cell of
//! its centre and the eight around it, at a step where these are large enough.
//!
//! The arithmetic is that of Redis, operation by operation: replies show doubles to their last digit, and at the rims of areas the
//! order of operations decides. Longitude 180 and the greatest latitude lie one beyond the last part, there as here.

use std::f64::consts::PI;

/// Parts per axis of a place, as a power of two.
const STEPS: u32 = 26;
const LONGITUDE: Axis = Axis {
    min: -180.0,
    max: 180.0,
};
/// The square map of Web Mercator ends there.
const LATITUDE: Axis = Axis {
    min: -85.05112878,
    max: 85.05112878,
};
const LATITUDE_OF_TEXTS: Axis = Axis {
    min: -90.0,
    max: 90.0,
};
const EARTH_RADIUS_M: f64 = 6372797.560856;
/// Half the map's width.
const MAP_M: f64 = 20037726.37;
const RADIANS: f64 = PI / 180.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    pub longitude: f64,
    pub latitude: f64,
}

#[derive(Clone, Copy)]
struct Axis {
    min: f64,
    max: f64,
}

impl Axis {
    fn contains(self, at: f64) -> bool {
        (self.min..=self.max).contains(&at)
    }
    /// The number of the part with a coordinate.
    fn part(self, at: f64, step: u32) -> u32 {
        let offset = (at - self.min) / (self.max - self.min);
        (offset * (1u64 << step) as f64) as u32
    }
    fn start(self, part: u32, step: u32) -> f64 {
        self.min + (f64::from(part) / (1u64 << step) as f64) * (self.max - self.min)
    }
    fn middle(self, part: u32, step: u32) -> f64 {
        // Scores that are no place have parts far beyond the last one, up to the largest number.
        let middle = (self.start(part, step) + self.start(part.wrapping_add(1), step)) / 2.0;
        middle.clamp(self.min, self.max)
    }
}

/// Masks of the steps in which bits are spread apart, and how far the halves of each group move.
const SPREAD: [(u64, u32); 5] = [
    (0x0000_ffff_0000_ffff, 16),
    (0x00ff_00ff_00ff_00ff, 8),
    (0x0f0f_0f0f_0f0f_0f0f, 4),
    (0x3333_3333_3333_3333, 2),
    (0x5555_5555_5555_5555, 1),
];

/// The bits of `n` at the even places.
fn spread(n: u32) -> u64 {
    SPREAD
        .iter()
        .fold(n.into(), |n, (mask, by)| (n | (n << by)) & mask)
}

/// The bits at the even places.
fn gather(n: u64) -> u32 {
    let (last, _) = SPREAD[4];
    let mut n = n & last;
    for i in (0..SPREAD.len()).rev() {
        let mask = if i == 0 {
            u64::from(u32::MAX)
        } else {
            SPREAD[i - 1].0
        };
        n = (n | (n >> SPREAD[i].1)) & mask;
    }
    n as u32
}

/// A double as an integer the way processors do it, which is not Rust's `as`: what does not fit becomes the smallest number.
pub fn truncated(score: f64) -> i64 {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if (-END..END).contains(&score) {
        score as i64
    } else {
        i64::MIN
    }
}

impl Place {
    /// `None` outside the map.
    pub fn new(longitude: f64, latitude: f64) -> Option<Self> {
        (LONGITUDE.contains(longitude) && LATITUDE.contains(latitude)).then_some(Self {
            longitude,
            latitude,
        })
    }
    pub fn score(self) -> f64 {
        Cell::of(self, STEPS).bits() as f64
    }
    /// The middle of the smallest cell. Any score is some place.
    pub fn of_score(score: f64) -> Self {
        // What C makes of a double that is too large for a signed number, and of a negative one, on the usual processors.
        const SIGN: f64 = 9_223_372_036_854_775_808.0;
        let bits = if score >= SIGN {
            truncated(score - SIGN) as u64 ^ (1 << 63)
        } else {
            truncated(score) as u64
        };
        Self {
            longitude: LONGITUDE.middle(gather(bits >> 1), STEPS),
            latitude: LATITUDE.middle(gather(bits), STEPS),
        }
    }
    /// The text known as geohash elsewhere: eleven letters, the last of which is always `0`.
    pub fn text(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let x = LONGITUDE.part(self.longitude, STEPS);
        let y = LATITUDE_OF_TEXTS.part(self.latitude, STEPS);
        let bits = spread(y) | spread(x) << 1;
        let mut text = [b'0'; 11];
        for (i, letter) in text[..10].iter_mut().enumerate() {
            *letter = LETTERS[(bits >> (47 - 5 * i)) as usize & 31];
        }
        text
    }
    /// Metres, along a great circle.
    pub fn distance_m(self, other: Self) -> f64 {
        let v = ((other.longitude * RADIANS - self.longitude * RADIANS) / 2.0).sin();
        if v == 0.0 {
            return self.latitude_distance_m(other);
        }
        let (a, b) = (self.latitude * RADIANS, other.latitude * RADIANS);
        let u = ((b - a) / 2.0).sin();
        let h = u * u + a.cos() * b.cos() * v * v;
        2.0 * EARTH_RADIUS_M * h.sqrt().asin()
    }
    /// Metres along a meridian.
    pub fn latitude_distance_m(self, other: Self) -> f64 {
        EARTH_RADIUS_M * (other.latitude * RADIANS - self.latitude * RADIANS).abs()
    }
}

/// A part of the map.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    x: u32,
    y: u32,
    step: u32,
}

impl Cell {
    fn of(place: Place, step: u32) -> Self {
        Self {
            x: LONGITUDE.part(place.longitude, step),
            y: LATITUDE.part(place.latitude, step),
            step,
        }
    }
    fn bits(self) -> u64 {
        spread(self.y) | spread(self.x) << 1
    }
    /// The scores of all places in it: from the first to before the second.
    fn scores(self) -> (f64, f64) {
        let (bits, shift) = (self.bits(), 2 * (STEPS - self.step));
        ((bits << shift) as f64, ((bits + 1) << shift) as f64)
    }
    /// A neighbour; the map's ends meet. A coordinate that does not change may lie beyond the last part and stays there.
    fn moved(self, dx: i32, dy: i32) -> Self {
        let wrapped = |at: u32, by: i32| match by {
            0 => at,
            _ => at.wrapping_add_signed(by) & ((1 << self.step) - 1),
        };
        Self {
            x: wrapped(self.x, dx),
            y: wrapped(self.y, dy),
            step: self.step,
        }
    }
    fn west(self) -> f64 {
        LONGITUDE.start(self.x, self.step)
    }
    fn east(self) -> f64 {
        LONGITUDE.start(self.x + 1, self.step)
    }
    fn south(self) -> f64 {
        LATITUDE.start(self.y, self.step)
    }
    fn north(self) -> f64 {
        LATITUDE.start(self.y + 1, self.step)
    }
}

#[derive(Clone, Debug)]
pub enum Shape {
    Circle {
        radius_m: f64,
    },
    Box {
        width_m: f64,
        height_m: f64,
    },
    /// Its corners. Lines between them are straight on the map, not on the globe.
    Polygon {
        corners: Vec<Place>,
    },
}

/// What is searched for places.
#[derive(Clone, Debug)]
pub struct Area {
    pub centre: Place,
    pub shape: Shape,
    /// Half its width and height in units, and the unit's metres, for operations in Redis's order.
    pub half: (f64, f64),
    pub unit_m: f64,
}

/// An area's rim, on the safe side.
#[derive(Clone, Copy)]
struct Rim {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

impl Rim {
    fn around(corners: &[Place]) -> Self {
        let none = Self {
            west: LONGITUDE.max,
            east: LONGITUDE.min,
            south: LATITUDE.max,
            north: LATITUDE.min,
        };
        corners.iter().fold(none, |rim, corner| Self {
            west: rim.west.min(corner.longitude),
            east: rim.east.max(corner.longitude),
            south: rim.south.min(corner.latitude),
            north: rim.north.max(corner.latitude),
        })
    }
    fn corners(self) -> [Place; 4] {
        let at = |longitude, latitude| Place {
            longitude,
            latitude,
        };
        [
            at(self.west, self.north),
            at(self.east, self.north),
            at(self.west, self.south),
            at(self.east, self.south),
        ]
    }
}

/// The middle of the corners as points in space, seen from the middle of the earth.
fn middle_of(corners: &[Place]) -> Place {
    let (mut x, mut y, mut z) = (0.0, 0.0, 0.0);
    for corner in corners {
        let (longitude, latitude) = (corner.longitude * RADIANS, corner.latitude * RADIANS);
        x += EARTH_RADIUS_M * latitude.cos() * longitude.cos();
        y += EARTH_RADIUS_M * latitude.cos() * longitude.sin();
        z += EARTH_RADIUS_M * latitude.sin();
    }
    let count = corners.len() as f64;
    let (x, y, z) = (x / count, y / count, z / count);
    Place {
        longitude: y.atan2(x) / RADIANS,
        latitude: z.atan2((x * x + y * y).sqrt()) / RADIANS,
    }
}

/// Whether a line from the place to the east crosses an odd number of sides.
fn is_within(corners: &[Place], place: Place) -> bool {
    let crosses = |a: &Place, b: &Place| {
        (a.latitude > place.latitude) != (b.latitude > place.latitude)
            && place.longitude
                < (b.longitude - a.longitude) * (place.latitude - a.latitude)
                    / (b.latitude - a.latitude)
                    + a.longitude
    };
    let before = corners.iter().cycle().skip(corners.len() - 1);
    let sides = corners.iter().zip(before);
    sides.filter(|(a, b)| crosses(a, b)).count() % 2 == 1
}

impl Area {
    /// At least three corners.
    pub fn polygon(corners: Vec<Place>) -> Self {
        Self {
            centre: middle_of(&corners),
            shape: Shape::Polygon { corners },
            half: (0.0, 0.0),
            unit_m: 1.0,
        }
    }

    /// A shape that Redis does not know.
    pub fn is_of_valkey(&self) -> bool {
        matches!(self.shape, Shape::Polygon { .. })
    }

    /// How many times a circle's work it is to say whether a place is inside.
    pub fn effort(&self) -> usize {
        match &self.shape {
            Shape::Polygon { corners } => 1 + corners.len() / 16,
            _ => 1,
        }
    }

    /// The distance from the centre in metres of a place inside.
    #[inline]
    pub fn distance_of(&self, place: Place) -> Option<f64> {
        match self.shape {
            Shape::Polygon { ref corners } => {
                is_within(corners, place).then(|| self.centre.distance_m(place))
            }
            Shape::Circle { radius_m } => {
                // The way along the meridian is never longer than the direct one but by rounding, and much cheaper to know.
                const SLACK: f64 = 1.0 + 1e-6;
                if self.centre.latitude_distance_m(place) > radius_m * SLACK + 1e-3 {
                    return None;
                }
                Some(self.centre.distance_m(place)).filter(|distance| *distance <= radius_m)
            }
            Shape::Box { width_m, height_m } => {
                if place.latitude_distance_m(self.centre) > height_m / 2.0 {
                    return None;
                }
                let across = Place {
                    longitude: self.centre.longitude,
                    latitude: place.latitude,
                };
                if place.distance_m(across) > width_m / 2.0 {
                    return None;
                }
                Some(self.centre.distance_m(place))
            }
        }
    }

    fn rim(&self) -> Rim {
        if let Shape::Polygon { corners } = &self.shape {
            return Rim::around(corners);
        }
        let Place {
            longitude,
            latitude,
        } = self.centre;
        let (half_width, half_height) = (self.unit_m * self.half.0, self.unit_m * self.half.1);
        let up = half_height / EARTH_RADIUS_M / RADIANS;
        // Meridians come closer towards the pole: the side nearer to it is the wider one in degrees.
        let nearer = if latitude < 0.0 {
            latitude - up
        } else {
            latitude + up
        };
        let across = half_width / EARTH_RADIUS_M / (nearer * RADIANS).cos() / RADIANS;
        Rim {
            west: longitude - across,
            east: longitude + across,
            south: latitude - up,
            north: latitude + up,
        }
    }

    /// The step at which a cell is about as large as the area.
    fn step(&self) -> u32 {
        let radius_m = match self.shape {
            Shape::Circle { radius_m } => radius_m,
            Shape::Box { .. } => {
                let (x, y) = self.half;
                (x * x + y * y).sqrt() * self.unit_m
            }
            Shape::Polygon { .. } => {
                let corners = self.rim().corners();
                let distances = corners.map(|corner| self.centre.distance_m(corner));
                distances.into_iter().fold(0.0, f64::max)
            }
        };
        if radius_m == 0.0 {
            return STEPS;
        }
        let mut step = -1;
        let mut range = radius_m;
        while range < MAP_M {
            range *= 2.0;
            step += 1;
        }
        // Cells are narrower towards the poles.
        let latitude = self.centre.latitude.abs();
        step -= i32::from(latitude > 66.0) + i32::from(latitude > 80.0);
        step.clamp(1, STEPS as i32) as u32
    }

    /// The ranges of scores, from the first of each to before the second, in which the area's places are: the centre's cell first, then
    /// north, south, east, west and the corners. Results without an order come in this one.
    pub fn ranges(&self) -> impl Iterator<Item = (f64, f64)> {
        let rim = self.rim();
        let mut cell = Cell::of(self.centre, self.step());
        // Near a cell's edge one step may not reach the rim.
        let reaches = cell.moved(0, 1).north() >= rim.north || rim.north.is_nan();
        let reaches = reaches && (cell.moved(0, -1).south() <= rim.south || rim.south.is_nan());
        let reaches = reaches && (cell.moved(1, 0).east() >= rim.east || rim.east.is_nan());
        let reaches = reaches && (cell.moved(-1, 0).west() <= rim.west || rim.west.is_nan());
        if !reaches && cell.step > 1 {
            cell = Cell::of(self.centre, cell.step - 1);
        }
        // Sides on which the area does not leave the centre's cell.
        let narrow = cell.step >= 2;
        let no_south = narrow && cell.south() < rim.south;
        let no_north = narrow && cell.north() > rim.north;
        let no_west = narrow && cell.west() < rim.west;
        let no_east = narrow && cell.east() > rim.east;
        const AROUND: [(i32, i32); 9] = [
            (0, 0),
            (0, 1),
            (0, -1),
            (1, 0),
            (-1, 0),
            (1, 1),
            (-1, 1),
            (1, -1),
            (-1, -1),
        ];
        let mut last = None;
        AROUND
            .into_iter()
            .filter(move |(dx, dy)| {
                !(no_south && *dy < 0
                    || no_north && *dy > 0
                    || no_west && *dx < 0
                    || no_east && *dx > 0)
            })
            .map(move |(dx, dy)| cell.moved(dx, dy))
            // Where there are only two cells to an axis, going one way is going the other.
            .filter(move |cell| last.replace(*cell) != Some(*cell))
            .map(Cell::scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_spread_and_gathered() {
        for n in [0, 1, 0b1011, 0x0155_5555, 0x03ff_ffff, u32::MAX] {
            assert_eq!(gather(spread(n)), n);
            assert_eq!(spread(n) & !SPREAD[4].0, 0);
        }
        assert_eq!(spread(0b111), 0b10101);
    }

    #[test]
    fn places_of_redis() {
        let palermo = Place::new(13.361389, 38.115556).expect("on the map");
        assert_eq!(palermo.score(), 3479099956230698.0);
        let decoded = Place::of_score(palermo.score());
        assert_eq!(decoded.longitude, 13.361389338970184);
        assert_eq!(decoded.latitude, 38.1155563954963);
        assert_eq!(&decoded.text(), b"sqc8b49rny0");
        let catania = Place::of_score(
            Place::new(15.087269, 37.502669)
                .expect("on the map")
                .score(),
        );
        assert_eq!(format!("{:.4}", decoded.distance_m(catania)), "166274.1516");
        assert!(Place::new(180.1, 0.0).is_none() && Place::new(0.0, 85.06).is_none());
        assert!(Place::new(180.0, -85.05112878).is_some());
    }

    #[test]
    fn scores_that_are_no_place() {
        for (score, longitude) in [
            (-5.0, 180.0),
            (4e18, 180.0),
            (f64::INFINITY, -179.99999731779099),
            (f64::NEG_INFINITY, 180.0),
            (1.5, -179.99999731779099),
        ] {
            assert_eq!(Place::of_score(score).longitude, longitude, "{score}");
        }
    }

    /// No place inside an area lies outside its ranges, and no range comes twice.
    #[test]
    fn ranges_cover_the_area() {
        let mut seed = 7u64;
        let mut below = |n: f64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 11) as f64 / (1u64 << 53) as f64 * n
        };
        for _ in 0..3_000 {
            let centre = Place {
                longitude: below(340.0) - 170.0,
                latitude: below(150.0) - 75.0,
            };
            let radius_m = 10f64.powf(below(5.0));
            let area = Area {
                centre,
                shape: Shape::Circle { radius_m },
                half: (radius_m, radius_m),
                unit_m: 1.0,
            };
            let ranges: Vec<_> = area.ranges().collect();
            assert!(ranges.len() <= 9);
            for (i, a) in ranges.iter().enumerate() {
                assert!(ranges[..i].iter().all(|b| a.1 <= b.0 || b.1 <= a.0));
            }
            for _ in 0..20 {
                let reach = radius_m / EARTH_RADIUS_M / RADIANS;
                let place = Place {
                    longitude: (centre.longitude + below(4.0 * reach) - 2.0 * reach)
                        .clamp(-180.0, 180.0),
                    latitude: centre.latitude + below(2.0 * reach) - reach,
                };
                let place = Place::of_score(place.score());
                if area.distance_of(place).is_some() {
                    let score = place.score();
                    assert!(
                        ranges.iter().any(|r| r.0 <= score && score < r.1),
                        "{area:?} {place:?}"
                    );
                }
            }
        }
    }
}
