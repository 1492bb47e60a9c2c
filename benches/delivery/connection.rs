//! One kept connection of a client: as little HTTP/1.1 as it takes.

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Failure, Outcome};

/// A connection over which one request goes at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

/// Where the head of a message ends, and how long its body is.
pub(crate) fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut line, mut length) = (0, 0);
    loop {
        let end = line + bytes.get(line..)?.iter().position(|byte| *byte == b'\n')?;
        let text = bytes.get(line..end)?.trim_ascii_end();
        if text.is_empty() {
            return Some((end + 1, length));
        }
        // Nearly no header is that long: the rest is not looked at.
        if let Some((name, value)) = text.split_at_checked(15)
            && name.eq_ignore_ascii_case(b"content-length:")
        {
            length = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
        }
        line = end + 1;
    }
}

impl Connection {
    pub(crate) async fn open(authority: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(16 << 10) })
    }

    /// Sends a request and reads the answer: its status, and what `read` makes of its body.
    pub(crate) async fn exchange<T>(
        &mut self,
        request: &[u8],
        read: impl FnOnce(&[u8]) -> T,
    ) -> Outcome<(u16, T)> {
        self.stream.write_all(request).await?;
        loop {
            if let Some((head, body)) = frame(&self.buffer)
                && self.buffer.len() >= head + body
            {
                let status = self.buffer.get(9..12).and_then(|text| std::str::from_utf8(text).ok());
                let status = status.and_then(|text| text.parse().ok());
                let status = status.ok_or("the server does not speak HTTP")?;
                let read = read(&self.buffer[head..head + body]);
                self.buffer.advance(head + body);
                self.buffer.reserve(16 << 10);
                return Ok((status, read));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Failure::from("the server closed a connection"));
            }
        }
    }
}
