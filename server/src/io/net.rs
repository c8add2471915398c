//! Sockets as both real backends need them: listeners as redis.conf describes them, accepted streams, addresses in
//! Redis's form, socket options.
//!
//! Sockets stay in blocking mode, because io_uring waits for a blocking socket by itself; the epoll backend passes
//! `MSG_DONTWAIT` with each call instead.

use std::io;
use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// A bound and listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// The file of a unix socket.
    path: Option<PathBuf>,
}

/// How TCP sockets listen.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpOptions {
    pub backlog: u32,
    /// For packet filters and routes, on these sockets and on those of their connections; 0 for none.
    pub mark: u32,
    /// By Multipath TCP, which serves ordinary TCP too.
    pub mptcp: bool,
}

impl Listener {
    /// Listens on a TCP address. The port may be 0 for one that the system chooses.
    pub fn tcp(addr: SocketAddr, backlog: u32) -> io::Result<Listener> {
        let options = TcpOptions {
            backlog,
            ..TcpOptions::default()
        };
        Self::tcp_with(addr, options)
    }
    pub fn tcp_with(addr: SocketAddr, options: TcpOptions) -> io::Result<Listener> {
        let protocol = match options.mptcp {
            true => Protocol::MPTCP,
            false => Protocol::TCP,
        };
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(protocol))?;
        if options.mark != 0 {
            socket.set_mark(options.mark)?;
        }
        // A restart must not wait for connections in TIME_WAIT.
        socket.set_reuse_address(true)?;
        if addr.is_ipv6() {
            // So that `bind * -::*` can have both families on one port.
            socket.set_only_v6(true)?;
        }
        socket.bind(&addr.into())?;
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(Listener { socket, path: None })
    }

    /// Listens on a unix socket. A socket file that a dead server left is replaced, and so is that of a living one,
    /// as Redis does; a file of another kind is an error. `mode` is `unixsocketperm`, `group` `unixsocketgroup`.
    pub fn unix(
        path: &Path,
        mode: Option<u32>,
        group: Option<&[u8]>,
        backlog: u32,
    ) -> io::Result<Listener> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => {
                let message = format!("{} exists and is no socket", path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // From here on the file is ours, and goes with the listener also when a step below fails.
        let listener = Listener {
            socket,
            path: Some(path.to_owned()),
        };
        if let Some(mode) = mode {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        }
        if let Some(group) = group {
            std::os::unix::fs::chown(path, None, Some(group_id(group)?))?;
        }
        listener
            .socket
            .listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(listener)
    }

    /// A second handle on the same socket, for another core that accepts on it too.
    pub fn try_clone(&self) -> io::Result<Listener> {
        // The file of a unix socket belongs to the first handle alone.
        Ok(Listener {
            socket: self.socket.try_clone()?,
            path: None,
        })
    }

    /// No connection reaches it any more, on any handle, and its port is free for another.
    pub fn pause(&self) -> io::Result<()> {
        self.socket.shutdown(std::net::Shutdown::Read)
    }
    /// After [`Self::pause`], while nobody else has the port.
    pub fn resume(&self, backlog: u32) -> io::Result<()> {
        self.socket
            .listen(i32::try_from(backlog).unwrap_or(i32::MAX))
    }

    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        self.socket.set_nonblocking(true)
    }

    /// The TCP address bound to; `None` for a unix socket.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }
}

/// The number of a group, by its name.
fn group_id(name: &[u8]) -> io::Result<u32> {
    let unknown = || {
        let message = format!("there is no group '{}'", name.escape_ascii());
        io::Error::new(io::ErrorKind::NotFound, message)
    };
    let name = std::ffi::CString::new(name).map_err(|_| unknown())?;
    // Groups may have thousands of members, whose names are written here too.
    let mut names = vec![0; 1 << 20];
    let mut found = std::ptr::null_mut();
    // SAFETY: a group is plain pointers and numbers, for which zero is a value.
    let mut group: libc::group = unsafe { std::mem::zeroed() };
    // SAFETY: all pointers are to locals that live through the call, and the length is that of the buffer.
    let error = unsafe {
        libc::getgrnam_r(
            name.as_ptr(),
            &mut group,
            names.as_mut_ptr(),
            names.len(),
            &mut found,
        )
    };
    match (error, found.is_null()) {
        (0, false) => Ok(group.gr_gid),
        (0, true) => Err(unknown()),
        (error, _) => Err(io::Error::from_raw_os_error(error)),
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nobody is left to tell, and a stale file does no harm: the next start replaces it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// An address of redis.conf's `bind` that could not be used.
#[derive(Debug)]
pub struct BindError {
    pub addr: String,
    pub source: io::Error,
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {}: {}", self.addr, self.source)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What [`bind`] opened, and the optional addresses that it did without.
#[derive(Debug, Default)]
pub struct Bound {
    pub listeners: Vec<Listener>,
    pub skipped: Vec<BindError>,
}

/// Listens on `port` at each address of redis.conf's `bind`.
///
/// `*` is every IPv4 address, `::*` every IPv6 address. An address with `-` before it is optional: it is skipped
/// where the machine does not have it. An address of a family that the kernel lacks is always skipped, as in Redis.
/// A port in use is always an error, and so is it when nothing is left. An empty list is `* -::*`.
pub fn bind(addrs: &[String], port: u16, options: TcpOptions) -> Result<Bound, BindError> {
    let default = ["*".to_string(), "-::*".to_string()];
    let addrs = if addrs.is_empty() {
        &default[..]
    } else {
        addrs
    };
    let mut bound = Bound::default();
    for text in addrs {
        let (optional, addr) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let result =
            resolve(addr).and_then(|ip| Listener::tcp_with(SocketAddr::new(ip, port), options));
        match result {
            Ok(listener) => bound.listeners.push(listener),
            Err(source) => {
                let skip = is_unsupported(&source) || (optional && is_absent(&source));
                let error = BindError {
                    addr: format!("{addr}:{port}"),
                    source,
                };
                if !skip {
                    return Err(error);
                }
                bound.skipped.push(error);
            }
        }
    }
    if bound.listeners.is_empty()
        && let Some(error) = bound.skipped.pop()
    {
        return Err(error);
    }
    Ok(bound)
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.kind() == io::ErrorKind::NotFound
}

fn is_unsupported(error: &io::Error) -> bool {
    let errnos = [
        libc::ENOPROTOOPT,
        libc::EPROTONOSUPPORT,
        libc::ESOCKTNOSUPPORT,
        libc::EPFNOSUPPORT,
        libc::EAFNOSUPPORT,
    ];
    error
        .raw_os_error()
        .is_some_and(|errno| errnos.contains(&errno))
}

fn resolve(addr: &str) -> io::Result<IpAddr> {
    match addr {
        "*" => return Ok(Ipv4Addr::UNSPECIFIED.into()),
        "::*" => return Ok(Ipv6Addr::UNSPECIFIED.into()),
        _ => {}
    }
    if let Ok(ip) = addr.parse() {
        return Ok(ip);
    }
    // A host name, which Redis allows too.
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(addr, 0))
        .map_err(|error| io::Error::new(io::ErrorKind::NotFound, error.to_string()))?
        .next();
    found
        .map(|addr| addr.ip())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))
}

/// An accepted socket on its way to the core that will serve it.
#[derive(Debug)]
pub struct Stream {
    fd: OwnedFd,
    tcp: bool,
}

impl Stream {
    /// Both ends' addresses, peer first, as `CLIENT LIST` prints them. A unix client has the path of the socket that
    /// it connected to, and port 0, on both sides.
    pub fn addresses(&self) -> (String, String) {
        let socket = SockRef::from(&self.fd);
        let local = socket.local_addr().ok();
        let peer = if self.tcp {
            socket.peer_addr().ok()
        } else {
            None
        };
        let local = local.map_or_else(unknown, |addr| format_addr(&addr));
        let peer = match peer {
            Some(addr) => format_addr(&addr),
            None if self.tcp => unknown(),
            None => local.clone(),
        };
        (peer, local)
    }

    /// Takes over an accepted descriptor.
    pub(super) fn accepted(fd: OwnedFd) -> Stream {
        let domain = SockRef::from(&fd).domain();
        Stream {
            tcp: matches!(domain, Ok(Domain::IPV4 | Domain::IPV6)),
            fd,
        }
    }

    /// The descriptor, ready to be served: replies must not wait for Nagle's algorithm.
    pub(super) fn into_served(self) -> OwnedFd {
        if self.tcp {
            // Fails only where the peer is gone already, which the first receive reports.
            let _ = SockRef::from(&self.fd).set_tcp_nodelay(true);
        }
        self.fd
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<std::net::TcpStream> for Stream {
    fn from(stream: std::net::TcpStream) -> Self {
        Stream {
            fd: stream.into(),
            tcp: true,
        }
    }
}

impl From<std::os::unix::net::UnixStream> for Stream {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Stream {
            fd: stream.into(),
            tcp: false,
        }
    }
}

fn unknown() -> String {
    "?:0".to_string()
}

fn format_addr(addr: &SockAddr) -> String {
    if let Some(addr) = addr.as_socket() {
        return match addr.ip() {
            IpAddr::V4(ip) => format!("{ip}:{}", addr.port()),
            IpAddr::V6(ip) => format!("[{ip}]:{}", addr.port()),
        };
    }
    match addr.as_pathname() {
        Some(path) => format!("{}:0", path.display()),
        None => unknown(),
    }
}

/// SO_KEEPALIVE as Redis sets it: the first probe after `seconds`, two more a third of that apart. 0 is off.
pub(super) fn keepalive(fd: RawFd, seconds: u32) -> io::Result<()> {
    // SAFETY: the caller's descriptor is open during the call, and `ManuallyDrop` leaves it open.
    let socket = ManuallyDrop::new(unsafe { Socket::from_raw_fd(fd) });
    if socket.domain()? == Domain::UNIX {
        return Ok(());
    }
    if seconds == 0 {
        return socket.set_keepalive(false);
    }
    let seconds = u64::from(seconds);
    let settings = socket2::TcpKeepalive::new()
        .with_time(std::time::Duration::from_secs(seconds))
        .with_interval(std::time::Duration::from_secs((seconds / 3).max(1)))
        .with_retries(3);
    socket.set_tcp_keepalive(&settings)
}

/// `recv(2)` without waiting, into `space`.
pub(super) fn recv_now(fd: RawFd, space: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: `space` is writable for its whole length. The descriptor is the caller's and open.
        let got = unsafe {
            libc::recv(
                fd,
                space.as_mut_ptr().cast(),
                space.len(),
                libc::MSG_DONTWAIT,
            )
        };
        if got >= 0 {
            return Ok(got as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// `send(2)` without waiting.
pub(super) fn send_now(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `bytes` is readable for its whole length. The descriptor is the caller's and open.
        let put = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
        if put >= 0 {
            return Ok(put as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// `recv(2)` without waiting, onto the end of `buf`, which has the capacity for `room` more bytes.
pub(super) fn recv_append(fd: RawFd, buf: &mut Vec<u8>, room: usize) -> io::Result<usize> {
    assert!(buf.capacity() - buf.len() >= room);
    loop {
        let space = buf.spare_capacity_mut().as_mut_ptr();
        // SAFETY: `space` is writable for `room` bytes. The descriptor is the caller's and open.
        let got = unsafe { libc::recv(fd, space.cast(), room, libc::MSG_DONTWAIT) };
        if got >= 0 {
            // SAFETY: the kernel wrote `got` bytes, at most `room`, from the end on.
            unsafe { buf.set_len(buf.len() + got as usize) };
            return Ok(got as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: TcpOptions = TcpOptions {
        backlog: 16,
        mark: 0,
        mptcp: false,
    };

    /// As far as the kernel and this process's rights go.
    #[test]
    fn a_listener_has_its_mark_and_its_protocol() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let marked = TcpOptions {
            mark: 77,
            ..OPTIONS
        };
        match Listener::tcp_with(any, marked) {
            Ok(listener) => assert_eq!(listener.socket.mark().unwrap(), 77),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        let multipath = TcpOptions {
            mptcp: true,
            ..OPTIONS
        };
        match Listener::tcp_with(any, multipath) {
            Ok(listener) => {
                assert_eq!(listener.socket.protocol().unwrap(), Some(Protocol::MPTCP));
                let addr = listener.tcp_addr().unwrap();
                std::net::TcpStream::connect(addr).unwrap();
            }
            Err(error) => assert!(is_unsupported(&error), "{error}"),
        }
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| word.to_string()).collect()
    }

    fn free_port() -> u16 {
        let listener = Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
        listener.tcp_addr().unwrap().port()
    }

    #[test]
    fn several_addresses_of_which_some_are_optional() {
        let port = free_port();
        // 192.0.2.0/24 is for documentation: no machine has it.
        let bound = bind(
            &words(&["127.0.0.1", "-192.0.2.1", "-127.0.0.2"]),
            port,
            OPTIONS,
        )
        .unwrap();
        let addrs: Vec<_> = bound
            .listeners
            .iter()
            .map(|l| l.tcp_addr().unwrap().to_string())
            .collect();
        assert_eq!(
            addrs,
            [format!("127.0.0.1:{port}"), format!("127.0.0.2:{port}")]
        );
        assert_eq!(bound.skipped.len(), 1);
        assert_eq!(bound.skipped[0].addr, format!("192.0.2.1:{port}"));
    }

    #[test]
    fn an_address_that_must_be_there() {
        let error = bind(&words(&["127.0.0.1", "192.0.2.1"]), free_port(), OPTIONS).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(
            error.to_string().starts_with("cannot listen on 192.0.2.1:"),
            "{error}"
        );
        // Optional, but then nothing is left.
        assert!(bind(&words(&["-192.0.2.1"]), free_port(), OPTIONS).is_err());
        assert!(bind(&words(&["no such host.invalid"]), free_port(), OPTIONS).is_err());
    }

    #[test]
    fn a_port_in_use_is_an_error_even_where_optional() {
        let listener = Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
        let port = listener.tcp_addr().unwrap().port();
        let error = bind(&words(&["-127.0.0.1"]), port, OPTIONS).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn everywhere_by_default() {
        let port = free_port();
        let bound = bind(&[], port, OPTIONS).unwrap();
        assert_eq!(
            bound.listeners[0].tcp_addr().unwrap(),
            SocketAddr::from(([0, 0, 0, 0], port))
        );
        match bound.listeners.get(1) {
            Some(second) => assert!(second.tcp_addr().unwrap().is_ipv6()),
            // Without IPv6 that one was left out.
            None => assert_eq!(bound.skipped.len(), 1),
        }
    }

    #[test]
    fn ipv6_addresses_are_in_brackets() {
        let addr = SockAddr::from("[::1]:6379".parse::<SocketAddr>().unwrap());
        assert_eq!(format_addr(&addr), "[::1]:6379");
        let addr = SockAddr::from("10.1.2.3:6379".parse::<SocketAddr>().unwrap());
        assert_eq!(format_addr(&addr), "10.1.2.3:6379");
        assert_eq!(
            format_addr(&SockAddr::unix("/run/x.sock").unwrap()),
            "/run/x.sock:0"
        );
    }

    #[test]
    fn a_unix_socket_does_not_replace_another_file() {
        let path = std::env::temp_dir().join(format!("ringwood-{}-file", std::process::id()));
        std::fs::write(&path, "precious").unwrap();
        let error = Listener::unix(&path, None, None, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();
        // Neither a directory that is not there nor a path that is too long is a panic.
        assert!(Listener::unix(Path::new("/nowhere/at/all.sock"), None, None, 1).is_err());
        assert!(Listener::unix(Path::new(&"x".repeat(200)), None, None, 1).is_err());
    }
}
