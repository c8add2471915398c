//! Who started the server and wants to hear when it is ready: systemd (`Type=notify`) or upstart (`expect stop`).

use crate::config::enums::Supervised;
use std::ffi::OsString;
use std::io::Result;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;

#[derive(Debug, Default)]
pub enum Supervisor {
    #[default]
    None,
    Upstart,
    Systemd(UnixDatagram, SocketAddr),
}

static SUPERVISOR: OnceLock<Supervisor> = OnceLock::new();

impl Supervisor {
    /// As INFO names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "no",
            Self::Upstart => "upstart",
            Self::Systemd(..) => "systemd",
        }
    }

    /// The one that `supervised` means, if it is there.
    fn find(wanted: Supervised, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let upstart = variable("UPSTART_JOB").is_some();
        let systemd = variable("NOTIFY_SOCKET");
        match (wanted, systemd) {
            (Supervised::Upstart, _) | (Supervised::Auto, _) if upstart => Ok(Self::Upstart),
            (Supervised::Systemd | Supervised::Auto, Some(socket)) => {
                let address = match socket.as_bytes() {
                    [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
                    _ => SocketAddr::from_pathname(&socket)?,
                };
                Ok(Self::Systemd(UnixDatagram::unbound()?, address))
            }
            _ => Ok(Self::None),
        }
    }

    fn tell(&self, state: &str) -> Result<()> {
        match self {
            Self::Systemd(socket, address) => {
                socket.send_to_addr(state.as_bytes(), address).map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// Finds out who supervises this process, once, at its start.
pub fn find(wanted: Supervised) -> &'static Supervisor {
    SUPERVISOR.get_or_init(|| {
        Supervisor::find(wanted, |name| std::env::var_os(name)).unwrap_or_else(|error| {
            eprintln!("The supervisor cannot be told of anything: {error}");
            Supervisor::None
        })
    })
}
/// The one that was found.
pub fn supervisor() -> &'static Supervisor {
    SUPERVISOR.get_or_init(Supervisor::default)
}

/// What the log says of it at the start.
pub fn greet(wanted: Supervised) {
    match (supervisor(), wanted) {
        (Supervisor::Systemd(..), _) => tracing::info!(
            "Supervised by systemd. Please make sure you set appropriate values for TimeoutStartSec and TimeoutStopSec \
             in your service unit."
        ),
        (Supervisor::Upstart, _) => {
            tracing::info!("Supervised by upstart, will stop to signal readiness.");
        }
        (Supervisor::None, Supervised::Systemd) => {
            tracing::warn!("systemd supervision requested, but NOTIFY_SOCKET not found!");
        }
        (Supervisor::None, Supervised::Upstart) => {
            tracing::warn!("upstart supervision requested, but UPSTART_JOB not found!");
        }
        (Supervisor::None, _) => {}
    }
}

/// Tells systemd what the server does; a line of `sd_notify`'s.
pub fn tell(state: &str) {
    if let Err(error) = supervisor().tell(state) {
        tracing::warn!("systemd cannot be told '{}': {error}", state.trim_end());
    }
}

/// Clients are served from now on.
pub fn ready() {
    tell("STATUS=Ready to accept connections\nREADY=1\n");
    if matches!(supervisor(), Supervisor::Upstart) {
        // Upstart waits for the stop, and has the process go on.
        // SAFETY: takes a plain number.
        unsafe { libc::raise(libc::SIGSTOP) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(wanted: Supervised, variables: &[(&str, &str)]) -> Supervisor {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Supervisor::find(wanted, variable).unwrap()
    }

    #[test]
    fn the_supervisor_is_the_one_that_is_wanted_and_there() {
        let (upstart, systemd) = (("UPSTART_JOB", "job"), ("NOTIFY_SOCKET", "/run/notify"));
        for (wanted, variables, name) in [
            (Supervised::No, &[upstart, systemd][..], "no"),
            (Supervised::Auto, &[upstart, systemd], "upstart"),
            (Supervised::Auto, &[systemd], "systemd"),
            (Supervised::Auto, &[], "no"),
            (Supervised::Systemd, &[upstart, systemd], "systemd"),
            (Supervised::Systemd, &[upstart], "no"),
            (Supervised::Upstart, &[upstart, systemd], "upstart"),
            (Supervised::Upstart, &[systemd], "no"),
        ] {
            assert_eq!(
                found(wanted, variables).name(),
                name,
                "{wanted:?} {variables:?}"
            );
        }
    }

    #[test]
    fn systemd_is_told_over_both_kinds_of_sockets() {
        let name = format!("ringwood-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let in_files = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let abstractly = UnixDatagram::bind_addr(&address).unwrap();
        for (socket, said) in [
            (in_files, path.to_str().unwrap().to_owned()),
            (abstractly, format!("@{name}")),
        ] {
            let systemd = found(Supervised::Auto, &[("NOTIFY_SOCKET", &said)]);
            systemd.tell("READY=1\n").unwrap();
            let mut heard = [0; 100];
            let length = socket.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1\n", "{said}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
