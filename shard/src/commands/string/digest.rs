//! DIGEST: a short stand-in for a value, to compare with (SET IFDEQ, DELEX IFDEQ).

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const DIGEST: Command<Handler> = command("DIGEST", exactly(2), digest as Handler)
    .flags(READONLY | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Returns the XXH3 hash of a string in hex.",
        "O(N) where N is the length of the string value.",
        "8.4.0",
        "string",
    )
    .args(&[key("key", 0)]);

fn digest(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    match ctx.shard.read(ctx.db, key) {
        Some(entry) if entry.kind() == Type::String => {
            ctx.reply.bulk(&digest_text(entry.bytes()));
        }
        Some(_) => return Err(CommandError::WrongType),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// The 64-bit XXH3 of a value as 16 hexadecimal digits.
pub(super) fn digest_text(value: &[u8]) -> [u8; 16] {
    let hash = xxhash_rust::xxh3::xxh3_64(value);
    std::array::from_fn(|i| b"0123456789abcdef"[(hash >> (60 - 4 * i)) as usize & 15])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::Tester;

    /// The digests that Redis 8.4 gives.
    #[test]
    fn digests_are_those_of_redis() {
        for (value, digest) in [
            ("", "2d06800538d394c2"),
            ("hello", "9555e8555c62dcfd"),
            ("123", "404a763b3f4c8c9a"),
            ("v8", "0cc76dbb41381419"),
            ("Hello world", "b6acb9d84a38ff74"),
            (
                "v8lf0c11xh8ymlqztfd3eeq16kfn4sspw7fqmnuuq3k3t75em5wdizgcdw7uc26nnf961u2jkfzkjytls2kwlj7626sd",
                "00006c38adf31777",
            ),
        ] {
            assert_eq!(digest_text(value.as_bytes()), digest.as_bytes(), "{value}");
        }
    }

    #[test]
    fn digest_of_keys() {
        let mut t = Tester::new();
        t.check("DIGEST k", "$-1")
            .check("SET k 123", "+OK")
            .check("DIGEST k", "$16 404a763b3f4c8c9a");
    }
}
