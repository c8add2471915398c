//! One reply made of the parts' that cores gave to one command.

use ringwood_protocol::command::Merge;
use ringwood_protocol::reply::{Reply, Version, value_len};

/// Appends one reply made of the parts': by core, those without a part empty. `owners`, for [`Merge::ByKey`]: which core has the n-th
/// key. `random` decides [`Merge::WeightedPick`].
pub(crate) fn merge_replies(
    merge: Merge,
    parts: &[&[u8]],
    owners: &[u16],
    version: Version,
    random: u64,
    out: &mut Vec<u8>,
) {
    let given = || parts.iter().filter(|part| !part.is_empty());
    if let Some(error) = given().find(|part| part[0] == b'-') {
        return out.extend_from_slice(error);
    }
    let mut reply = Reply::new(out, version);
    match merge {
        Merge::Ok => reply.raw(given().next().map_or(b"+OK\r\n", |part| part)),
        Merge::Sum => reply.integer(given().map(|part| header_number(part)).sum()),
        Merge::ByKey => {
            let body = |part: &&'_ [u8]| match part.is_empty() {
                true => 0,
                false => part.len() - after_header(part).len(),
            };
            // How far each part has been read.
            let mut read: Vec<usize> = parts.iter().map(body).collect();
            reply.array(owners.len());
            for &owner in owners {
                let rest = &parts[owner as usize][read[owner as usize]..];
                let len = value_len(rest).expect("a part answers one value a key");
                reply.raw(&rest[..len]);
                read[owner as usize] += len;
            }
        }
        Merge::Concat => {
            reply.array(given().map(|part| header_number(part) as usize).sum());
            given().for_each(|part| reply.raw(after_header(part)));
        }
        Merge::WeightedPick => {
            let counts = parts.iter().map(|part| match part.is_empty() {
                true => 0,
                false => header_number(after_header(part)) as u64,
            });
            let counts: Vec<u64> = counts.collect();
            let total: u64 = counts.iter().sum();
            let mut pick = ((random as u128 * total as u128) >> 64) as u64;
            let chosen = counts.iter().position(|&c| {
                let here = pick < c;
                pick = pick.saturating_sub(c);
                here
            });
            match chosen {
                Some(core) => reply.raw(after_header(after_header(parts[core]))),
                None => reply.null(),
            }
        }
    }
}

/// The number in a reply's first line.
fn header_number(reply: &[u8]) -> i64 {
    let end = reply
        .iter()
        .position(|&b| b == b'\r')
        .unwrap_or(reply.len());
    std::str::from_utf8(&reply[1..end])
        .ok()
        .and_then(|t| t.parse().ok())
        .expect("our own reply's number")
}

fn after_header(reply: &[u8]) -> &[u8] {
    let end = reply
        .windows(2)
        .position(|w| w == b"\r\n")
        .expect("our own reply's first line");
    &reply[end + 2..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(merge: Merge, parts: &[&str], owners: &[u16]) -> String {
        let parts = parts.iter().map(|p| p.replace(' ', "\r\n"));
        let parts: Vec<String> = parts.collect();
        let parts: Vec<&[u8]> = parts.iter().map(|p| p.as_bytes()).collect();
        let mut reply = Vec::new();
        merge_replies(merge, &parts, owners, Version::Resp2, u64::MAX, &mut reply);
        String::from_utf8(reply).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn parts_become_one_reply() {
        assert_eq!(merged(Merge::Sum, &[":2 ", "", ":5 "], &[]), ":7 ");
        assert_eq!(merged(Merge::Ok, &["+OK ", "+OK "], &[]), "+OK ");
        assert_eq!(merged(Merge::Ok, &["+OK ", "-ERR no "], &[]), "-ERR no ");
        assert_eq!(
            merged(Merge::ByKey, &["*2 $1 a $-1 ", "*1 $1 b "], &[0, 1, 0]),
            "*3 $1 a $1 b $-1 "
        );
        assert_eq!(
            merged(Merge::Concat, &["*1 $1 a ", "*0 ", "*1 $1 b "], &[]),
            "*2 $1 a $1 b "
        );
        assert_eq!(
            merged(Merge::WeightedPick, &["*2 :0 $-1 ", "*2 :3 $1 k "], &[]),
            "$1 k "
        );
        assert_eq!(merged(Merge::WeightedPick, &["*2 :0 $-1 "], &[]), "$-1 ");
    }
}
