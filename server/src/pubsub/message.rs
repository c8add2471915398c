//! Messages and confirmations as bytes.

use super::Kind;
use ringwood_protocol::reply::{Reply, Version};

/// A message to a channel, as a publisher has it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: Kind,
    /// The channel's, from the keyspace's hasher.
    pub hash: u64,
    pub channel: &'a [u8],
    pub text: &'a [u8],
}

/// The same on its way to other cores.
#[derive(Debug)]
pub struct OwnedMessage {
    kind: Kind,
    hash: u64,
    /// The channel, then the text.
    bytes: Box<[u8]>,
    channel_len: usize,
}

impl OwnedMessage {
    pub fn new(message: &Message<'_>) -> Self {
        Self {
            kind: message.kind,
            hash: message.hash,
            bytes: [message.channel, message.text].concat().into(),
            channel_len: message.channel.len(),
        }
    }
    pub fn as_ref(&self) -> Message<'_> {
        let (channel, text) = self.bytes.split_at(self.channel_len);
        Message {
            kind: self.kind,
            hash: self.hash,
            channel,
            text,
        }
    }
}

/// A message in both protocol versions, each made when it is first needed: once, however many subscribers.
#[derive(Default)]
pub struct Forms {
    bytes: [Vec<u8>; 2],
    made: [bool; 2],
}

/// Memory that a form's buffer may keep.
const KEPT: usize = 64 << 10;

impl Forms {
    /// Forgets the last message.
    pub fn clear(&mut self) {
        self.made = [false; 2];
        for bytes in &mut self.bytes {
            bytes.clear();
            bytes.shrink_to(KEPT);
        }
    }

    /// `pattern` is the one that the subscriber gets this for; the same until [`Forms::clear`].
    pub fn get(
        &mut self,
        version: Version,
        message: &Message<'_>,
        pattern: Option<&[u8]>,
    ) -> &[u8] {
        let at = version as usize;
        let bytes = &mut self.bytes[at];
        if !self.made[at] {
            self.made[at] = true;
            let mut reply = Reply::new(bytes, version);
            reply.push(3 + pattern.is_some() as usize);
            reply.bulk_str(match (message.kind, pattern) {
                (_, Some(_)) => "pmessage",
                (Kind::Shard, _) => "smessage",
                _ => "message",
            });
            if let Some(pattern) = pattern {
                reply.bulk(pattern);
            }
            reply.bulk(message.channel);
            reply.bulk(message.text);
        }
        bytes
    }
}

/// Tells a client that a subscription began or ended, and how many it has now. No name: there was none to end.
pub fn confirm(reply: &mut Reply<'_>, kind: Kind, begins: bool, name: Option<&[u8]>, count: usize) {
    reply.push(3);
    reply.bulk_str(match (kind, begins) {
        (Kind::Channel, true) => "subscribe",
        (Kind::Channel, false) => "unsubscribe",
        (Kind::Pattern, true) => "psubscribe",
        (Kind::Pattern, false) => "punsubscribe",
        (Kind::Shard, true) => "ssubscribe",
        (Kind::Shard, false) => "sunsubscribe",
    });
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.integer(count as i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_made_once_a_version() {
        let message = Message {
            kind: Kind::Channel,
            hash: 1,
            channel: b"news",
            text: b"hi",
        };
        let owned = OwnedMessage::new(&message);
        let message = owned.as_ref();
        let mut forms = Forms::default();
        for _ in 0..2 {
            assert_eq!(
                forms.get(Version::Resp2, &message, None),
                b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
            );
            assert_eq!(
                forms.get(Version::Resp3, &message, None),
                b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
            );
        }
        forms.clear();
        assert_eq!(
            forms.get(Version::Resp3, &message, Some(b"n*")),
            b">4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
        );
    }

    #[test]
    fn confirmations_name_what_began_or_ended() {
        let text = |version, begins, name: Option<&[u8]>| {
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, version);
            confirm(&mut reply, Kind::Shard, begins, name, 2);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text(Version::Resp2, true, Some(b"s")),
            "*3\r\n$10\r\nssubscribe\r\n$1\r\ns\r\n:2\r\n"
        );
        assert_eq!(
            text(Version::Resp3, false, None),
            ">3\r\n$12\r\nsunsubscribe\r\n_\r\n:2\r\n"
        );
    }
}
