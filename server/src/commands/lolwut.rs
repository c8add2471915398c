//! LOLWUT: tree rings in the ring wood, and the version.

use super::{Answer, Call, ConnHandler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[LOLWUT];

const LOLWUT: Command<ConnHandler> = command("LOLWUT", at_least(1), lolwut as ConnHandler)
    .flags(READONLY | FAST)
    .doc(
        "Draws a picture and tells the version.",
        "",
        "5.0.0",
        "server",
    )
    .args(&[integer("version").token("VERSION").optional()])
    .route(Route::Connection);

const WIDTH: usize = 64;
const HEIGHT: usize = 24;

/// Rings around a centre, each a little out of round.
fn rings(random: u64) -> String {
    let phase = (random % 6283) as f64 / 1000.0;
    let (cx, cy) = (
        WIDTH as f64 * (0.35 + (random >> 16 & 0xff) as f64 / 850.0),
        HEIGHT as f64 * (0.35 + (random >> 24 & 0xff) as f64 / 850.0),
    );
    let mut picture = String::new();
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let (dx, dy) = (x as f64 - cx, (y as f64 - cy) * 2.0);
            let angle = dy.atan2(dx);
            let wobble = 1.2 * (3.0 * angle + phase).sin() + 0.7 * (7.0 * angle - phase).cos();
            let depth = dx.hypot(dy) + wobble;
            picture.push(match depth.rem_euclid(5.0) as u32 {
                0 => '#',
                1 => '+',
                2 => '.',
                _ => ' ',
            });
        }
        picture.push('\n');
    }
    picture
}

fn lolwut(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    // The versions are Redis's pictures; here each has the same rings.
    if let [_, word, version, ..] = args
        && word.eq_ignore_ascii_case(b"VERSION")
    {
        parse_i64(version).ok_or(CommandError::NotInteger)?;
    }
    let mut picture = rings(call.core.shard.random());
    picture.push_str(&format!(
        "\nRingwood ver. {} (Redis ver. {})\n",
        env!("CARGO_PKG_VERSION"),
        super::hello::REDIS_VERSION
    ));
    call.reply.verbatim("txt", picture.as_bytes());
    Ok(Answer::Now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_its_size() {
        let picture = rings(12345);
        assert_eq!(picture.lines().count(), HEIGHT);
        assert!(picture.lines().all(|line| line.len() == WIDTH));
    }
}
