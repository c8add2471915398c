//! Where clients reach the server, and CONFIG SET of `port` and `bind`, which move it.
//!
//! The first core accepts on the listeners; second handles on the same sockets are kept here, for whichever core runs the CONFIG SET:
//!
//! ```text
//! CONFIG SET: the old sockets stop to listen ── the new ones listen ──► they wait here until the first core takes them
//!                                            └─ they cannot: the old ones listen again
//! ```
//! An old socket must stop first, because its successor may need its port (`bind` alone changes). It is not closed for
//! that: only the core that accepts on it can do so. Clients that are connected stay.

use crate::config::Config;
use crate::core::Core;
use crate::io::net::{self, Listener};
use crate::io::{Io, ListenerId};
use std::io::Result;

/// Addresses and port; none with port 0.
type Place = (Vec<String>, u16);

#[derive(Default)]
pub struct Listening {
    place: Place,
    /// Handles on the sockets that are listened on now, and the number that the first core's backend knows them by.
    handles: Vec<Listener>,
    id: u32,
    /// For the first core: whom it accepts on from now on.
    new: Option<Vec<Listener>>,
}

impl Listening {
    /// The server starts with these; the first core's backend knows those of them that can be moved by [`Self::FIRST`].
    pub fn new(config: &Config, listeners: &[Listener]) -> Result<Self> {
        Ok(Self {
            place: place(config),
            handles: handles(listeners)?,
            id: Self::FIRST.0,
            new: None,
        })
    }
    pub const FIRST: ListenerId = ListenerId(1);
    /// The Unix socket's.
    pub const FIXED: ListenerId = ListenerId(0);

    /// Listens where this configuration says, or still where it did and the reason why not.
    pub fn follow(&mut self, config: &Config) -> std::result::Result<(), String> {
        let place = place(config);
        if place == self.place {
            return Ok(());
        }
        for old in &self.handles {
            if let Err(error) = old.pause() {
                tracing::warn!("Warning: a socket does not stop to listen: {error}");
            }
        }
        let listeners = match place.1 {
            0 => Ok(Vec::new()),
            port => net::bind(&place.0, port, tcp_options(config))
                .map(|bound| bound.listeners)
                .map_err(|e| format!("{}: {}", e.addr, e.source)),
        };
        let with_handles = listeners.and_then(|listeners| {
            let handles = handles(&listeners).map_err(|e| e.to_string())?;
            Ok((listeners, handles))
        });
        match with_handles {
            Ok((listeners, handles)) => {
                (self.place, self.handles, self.new) = (place, handles, Some(listeners));
                Ok(())
            }
            Err(error) => {
                for old in &self.handles {
                    if let Err(error) = old.resume(config.tcp_backlog) {
                        tracing::warn!("Warning: a socket does not listen again: {error}");
                    }
                }
                Err(format!(
                    "Warning: Could not create server TCP listening socket {error}"
                ))
            }
        }
    }
}

fn place(config: &Config) -> Place {
    match config.port {
        0 => Place::default(),
        port => (addresses(config), port),
    }
}
/// As the backend wants them.
pub fn addresses(config: &Config) -> Vec<String> {
    let addresses = config.bind.addresses().iter();
    addresses
        .map(|address| String::from_utf8_lossy(address.as_ref()).into_owned())
        .collect()
}
/// How it is listened there.
pub fn tcp_options(config: &Config) -> net::TcpOptions {
    net::TcpOptions {
        backlog: config.tcp_backlog,
        mark: config.socket_mark_id,
        mptcp: config.mptcp,
    }
}
/// Second handles on those that CONFIG SET can move.
fn handles(listeners: &[Listener]) -> Result<Vec<Listener>> {
    let tcp = listeners.iter().filter(|l| l.tcp_addr().is_some());
    tcp.map(Listener::try_clone).collect()
}

impl Core {
    /// The first core accepts where CONFIG SET wants it.
    pub(crate) fn follow_listening(&mut self) {
        if self.id != 0 {
            return;
        }
        let shared = self.shared.clone();
        let mut listening = crate::commands::lock(&shared.listening);
        let Some(new) = listening.new.take() else {
            return;
        };
        self.io.unlisten(ListenerId(listening.id));
        listening.id += 1;
        for listener in new {
            self.io.listen(listener, ListenerId(listening.id));
        }
    }
}
