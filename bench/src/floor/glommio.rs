//! The floor on glommio: a task per connection that reads and writes.

use std::net::TcpListener;

use anyhow::{Result, anyhow};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::LocalExecutorBuilder;
use glommio::net::TcpStream;

use super::Echo;

pub fn serve(listener: TcpListener, echo: Echo) -> Result<()> {
    // glommio binds by itself; the first bind has shown that the port is free.
    let addr = listener.local_addr()?;
    drop(listener);
    let executor = LocalExecutorBuilder::default()
        .make()
        .map_err(|e| anyhow!("glommio: {e} (it wants 512 KiB of locked memory: `ulimit -l`)"))?;
    executor.run(async move {
        let listener =
            glommio::net::TcpListener::bind(addr).map_err(|e| anyhow!("glommio: {e}"))?;
        loop {
            let stream = listener
                .accept()
                .await
                .map_err(|e| anyhow!("glommio: {e}"))?;
            stream
                .set_nodelay(true)
                .map_err(|e| anyhow!("glommio: {e}"))?;
            glommio::spawn_local(connection(stream, echo.clone())).detach();
        }
    })
}

/// Ends with its connection, whatever ended it.
async fn connection(mut stream: TcpStream, echo: Echo) {
    let mut buf = vec![0; 16 * 1024];
    let mut partial = 0;
    loop {
        let mut owed = match stream.read(&mut buf).await {
            Ok(n) if n > 0 => echo.count(&buf[..n], &mut partial),
            _ => return,
        };
        while owed > 0 {
            let count = owed.min(echo.ready());
            if stream
                .write_all(&echo.replies[..count * echo.reply_size])
                .await
                .is_err()
            {
                return;
            }
            owed -= count;
        }
    }
}
