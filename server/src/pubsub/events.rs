//! Keyspace notifications (`notify-keyspace-events`): what happened to keys, as messages.
//!
//! While the setting names anything, the shard writes down its events ([`ringwood_shard::shard::Shard::events`]); they are published
//! right after the command that caused them, before its reply leaves and before anything else runs on this core. So they come in
//! Redis's order, and whoever knows of a change will find its message sent.
//!
//! While the setting is empty nothing is written down.

use super::Kind;
use crate::config::Config;
use crate::config::events::KeyspaceEvents;
use crate::core::Core;
use ringwood_shard::shard::notify;

/// The setting's bit for a class of the shard's; 0 for what is no notification.
fn bit(class: u32) -> u32 {
    match class {
        notify::GENERIC => KeyspaceEvents::GENERIC,
        notify::STRING => KeyspaceEvents::STRING,
        notify::LIST => KeyspaceEvents::LIST,
        notify::SET => KeyspaceEvents::SET,
        notify::HASH => KeyspaceEvents::HASH,
        notify::ZSET => KeyspaceEvents::ZSET,
        notify::EXPIRED => KeyspaceEvents::EXPIRED,
        notify::EVICTED => KeyspaceEvents::EVICTED,
        notify::STREAM => KeyspaceEvents::STREAM,
        notify::KEY_MISS => KeyspaceEvents::KEY_MISS,
        notify::NEW => KeyspaceEvents::NEW,
        notify::OVERWRITTEN => KeyspaceEvents::OVERWRITTEN,
        notify::TYPE_CHANGED => KeyspaceEvents::TYPE_CHANGED,
        _ => 0,
    }
}

/// Whether any notification is wanted. Classes alone send nothing, nor does a channel without classes.
pub(crate) fn wanted(config: &Config) -> bool {
    let channels = KeyspaceEvents::KEYSPACE | KeyspaceEvents::KEYEVENT;
    config.notify_keyspace_events.any(channels) && config.notify_keyspace_events.any(!channels)
}

impl Core {
    /// Publishes what happened to keys since the last time.
    #[cold]
    pub(crate) fn publish_events(&mut self) {
        let events = std::mem::take(&mut self.shard.events);
        let classes = self.config.notify_keyspace_events;
        let mut channel = Vec::new();
        for event in &events {
            if !classes.any(bit(event.class)) {
                continue;
            }
            let (db, key, name) = (event.db, &event.key, event.event.as_bytes());
            if classes.any(KeyspaceEvents::KEYSPACE) {
                channel.clear();
                channel.extend_from_slice(format!("__keyspace@{db}__:").as_bytes());
                channel.extend_from_slice(key);
                self.publish(Kind::Channel, &channel, name);
            }
            if classes.any(KeyspaceEvents::KEYEVENT) {
                channel.clear();
                channel.extend_from_slice(format!("__keyevent@{db}__:").as_bytes());
                channel.extend_from_slice(name);
                self.publish(Kind::Channel, &channel, key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_own_bit() {
        let classes = [
            notify::GENERIC,
            notify::STRING,
            notify::LIST,
            notify::SET,
            notify::HASH,
            notify::ZSET,
            notify::EXPIRED,
            notify::EVICTED,
            notify::STREAM,
            notify::KEY_MISS,
            notify::NEW,
            notify::OVERWRITTEN,
            notify::TYPE_CHANGED,
        ];
        let all = classes.iter().fold(0, |all, class| all | bit(*class));
        assert_eq!(all.count_ones() as usize, classes.len());
        assert_eq!(bit(notify::ALL_KEYS), 0);
    }
}
