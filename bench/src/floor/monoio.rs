//! The floor on monoio: a task per connection that reads and writes.

use std::net::TcpListener;

use anyhow::{Context, Result};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;

use super::Echo;

pub fn serve(listener: TcpListener, echo: Echo) -> Result<()> {
    listener.set_nonblocking(true)?;
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(4096)
        .build()
        .context("monoio's io_uring driver (locked memory: `ulimit -l`; Linux 5.19)")?;
    // One block for all connections, as the other floors have it; it lives as long as the process.
    let replies: &'static [u8] = Box::leak(echo.replies.to_vec().into_boxed_slice());
    runtime.block_on(async move {
        let listener = monoio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            monoio::spawn(connection(stream, echo.clone(), replies));
        }
    })
}

/// Ends with its connection, whatever ended it.
async fn connection(mut stream: TcpStream, echo: Echo, replies: &'static [u8]) {
    let mut buf = Vec::with_capacity(16 * 1024);
    let mut partial = 0;
    loop {
        let (read, filled) = stream.read(buf).await;
        buf = filled;
        let mut owed = match read {
            Ok(n) if n > 0 => echo.count(&buf[..n], &mut partial),
            _ => return,
        };
        while owed > 0 {
            let count = owed.min(echo.ready());
            let (written, _) = stream.write_all(&replies[..count * echo.reply_size]).await;
            if written.is_err() {
                return;
            }
            owed -= count;
        }
    }
}
