//! A request exactly as it came over the wire.
//!
//! The receiver reads HTTP/1.1 itself: what tests ask about (the order and spelling of headers,
//! the raw query, the exact bytes, the moment of arrival) is what HTTP libraries normalise away.

use std::fmt;
use std::net::SocketAddr;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use url::form_urlencoded;

use super::signatures::Verification;
use crate::seam::{Clock, Timestamp};

/// The most bytes of a request line with its headers.
const HEAD_LIMIT: usize = 64 << 10;
/// The most bytes of a body.
const BODY_LIMIT: usize = 32 << 20;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its number, from 1, over all paths.
    pub number: u64,
    /// The number of the connection that it came over, from 1.
    pub connection: u64,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The moment at which its first byte was there.
    pub arrived: Timestamp,
    /// The same on the monotonic clock.
    pub instant: tokio::time::Instant,
    /// The method.
    pub method: String,
    /// The path, as it was written.
    pub path: String,
    /// What stands behind the question mark, as it was written.
    pub query: Option<String>,
    /// The headers in their order, with their names as they were written.
    pub headers: Vec<(String, String)>,
    /// The body, freed from the chunked coding where it came in it.
    pub body: Bytes,
}

impl Received {
    /// The first header of a name, in whatever case it was written.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The parameters of the query in their order, decoded.
    pub fn parameters(&self) -> Vec<(String, String)> {
        let query = self.query.as_deref().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    /// The first parameter of a name.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// The path with its query as it came, but for the value of `securityContext`.
    pub fn masked_target(&self) -> String {
        let Some(query) = &self.query else { return self.path.clone() };
        let masked = |pair: &str| match pair.split_once('=') {
            Some(("securityContext", value)) => {
                format!("securityContext=•••({} characters)", value.len())
            }
            _ => pair.to_owned(),
        };
        let pairs: Vec<String> = query.split('&').map(masked).collect();
        format!("{}?{}", self.path, pairs.join("&"))
    }

    /// The name of the event that the body tells of, in a delivery or a callback; `?` where it is
    /// neither.
    pub fn event_name(&self) -> String {
        let body = self.json().unwrap_or_default();
        let name = body["event"].as_str().or_else(|| body[0]["eventType"].as_str());
        name.unwrap_or("?").to_owned()
    }

    /// The request for a reader: line, headers, body (JSON set out in lines), and what the
    /// signatures are worth.
    pub fn describe(&self, verification: &Verification) -> String {
        use fmt::Write as _;
        let mut text = format!("#{} {}  {} {}", self.number, self.arrived, self.method, self.path);
        for (name, value) in self.parameters() {
            let _ = write!(text, "\n  ? {name} = {}", printable(&value));
        }
        for (name, value) in &self.headers {
            let _ = write!(text, "\n  {}: {}", printable(name), printable(value));
        }
        let body = self.json().and_then(|value| serde_json::to_string_pretty(&value));
        let body = body.unwrap_or_else(|_| String::from_utf8_lossy(&self.body).into_owned());
        for line in body.lines() {
            let _ = write!(text, "\n    {}", printable(line));
        }
        let _ = write!(text, "\n  {verification}");
        text
    }
}

/// Text of a stranger, fit for a terminal: control characters would steer it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What a connection says where it says no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the connection failed: {0}")]
    Connection(#[from] std::io::Error),
    #[error("the connection ended within a request")]
    Truncated,
    #[error("it is not HTTP/1.1: {0}")]
    Malformed(&'static str),
    #[error("it is larger than the receiver takes")]
    TooLarge,
}

/// Who and when, for what is read next.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) peer: SocketAddr,
    pub(crate) connection: u64,
}

/// Reads the next request of a connection; none where it has ended between two. `buffer` keeps
/// what has been read beyond a request.
pub(crate) async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    origin: Origin<'_>,
) -> Result<Option<Received>, ReadError> {
    if buffer.is_empty() && stream.read_buf(buffer).await? == 0 {
        return Ok(None);
    }
    let (arrived, instant) = (origin.clock.now(), origin.clock.instant());
    let end = loop {
        if let Some(position) = find(buffer, b"\r\n\r\n") {
            break position;
        }
        if buffer.len() > HEAD_LIMIT {
            return Err(ReadError::TooLarge);
        }
        fill(stream, buffer).await?;
    };
    let head = buffer.split_to(end);
    buffer.advance(4);
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(ReadError::Malformed("the request line"));
    };
    let headers: Option<Vec<(String, String)>> = lines
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        })
        .collect();
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let mut received = Received {
        number: 0,
        connection: origin.connection,
        peer: origin.peer,
        arrived,
        instant,
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.map(str::to_owned),
        headers: headers.ok_or(ReadError::Malformed("a header"))?,
        body: Bytes::new(),
    };
    let chunked = received
        .header("transfer-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    received.body = match (chunked, received.header("content-length")) {
        (true, Some(_)) => return Err(ReadError::Malformed("two lengths of the body")),
        (true, None) => read_chunks(stream, buffer).await?,
        (false, Some(length)) => {
            let length = length.parse().map_err(|_| ReadError::Malformed("content-length"))?;
            take(stream, buffer, length).await?
        }
        (false, None) => Bytes::new(),
    };
    Ok(Some(received))
}

async fn read_chunks(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Result<Bytes, ReadError> {
    let mut body = BytesMut::new();
    loop {
        let line = take_line(stream, buffer).await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| ReadError::Malformed("a chunk"))?;
        if size == 0 {
            // Trailers, up to an empty line.
            while !take_line(stream, buffer).await?.is_empty() {}
            return Ok(body.freeze());
        }
        if body.len().saturating_add(size) > BODY_LIMIT {
            return Err(ReadError::TooLarge);
        }
        body.extend_from_slice(&take(stream, buffer, size).await?);
        if !take_line(stream, buffer).await?.is_empty() {
            return Err(ReadError::Malformed("the end of a chunk"));
        }
    }
}

async fn take_line(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Result<String, ReadError> {
    let end = loop {
        if let Some(position) = find(buffer, b"\r\n") {
            break position;
        }
        if buffer.len() > HEAD_LIMIT {
            return Err(ReadError::TooLarge);
        }
        fill(stream, buffer).await?;
    };
    let line = buffer.split_to(end);
    buffer.advance(2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}

async fn take(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    length: usize,
) -> Result<Bytes, ReadError> {
    if length > BODY_LIMIT {
        return Err(ReadError::TooLarge);
    }
    while buffer.len() < length {
        fill(stream, buffer).await?;
    }
    Ok(buffer.split_to(length).freeze())
}

async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Result<(), ReadError> {
    if stream.read_buf(buffer).await? == 0 { Err(ReadError::Truncated) } else { Ok(()) }
}

fn find(buffer: &[u8], wanted: &[u8]) -> Option<usize> {
    buffer.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(mut bytes: &[u8]) -> Result<Vec<Received>, ReadError> {
        let clock = Clock::default();
        let origin =
            Origin { clock: &clock, peer: SocketAddr::from(([127, 0, 0, 1], 1)), connection: 1 };
        let (mut buffer, mut all) = (BytesMut::new(), Vec::new());
        while let Some(received) = read_request(&mut bytes, &mut buffer, origin).await? {
            all.push(received);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn requests_are_kept_as_they_came() {
        let wire = b"POST /hooks/desk?b=%20x&a=1&a=2 HTTP/1.1\r\nHost: h\r\nX-ZDesk-JWT: j\r\ncontent-length: 2\r\n\r\n[]GET / HTTP/1.1\r\n\r\n";
        let all = read_all(wire).await.expect("two requests");
        assert_eq!(all.len(), 2);
        let first = &all[0];
        assert_eq!(first.query.as_deref(), Some("b=%20x&a=1&a=2"));
        assert_eq!(first.headers[1], ("X-ZDesk-JWT".to_owned(), "j".to_owned()));
        assert_eq!(first.header("x-zdesk-jwt"), Some("j"));
        assert_eq!(first.body.as_ref(), b"[]");
        assert_eq!(first.parameter("b").as_deref(), Some(" x"));
        assert_eq!(all[1].path, "/");
    }

    #[tokio::test]
    async fn a_context_is_masked_and_the_event_is_named() {
        let wire = b"POST /h?a=%20&securityContext=abc&b HTTP/1.1\r\ncontent-length: 28\r\n\r\n[{\"eventType\":\"Ticket_Add\"}]";
        let all = read_all(wire).await.expect("one request");
        assert_eq!(all[0].masked_target(), "/h?a=%20&securityContext=•••(3 characters)&b");
        assert_eq!(all[0].event_name(), "Ticket_Add");
    }

    #[tokio::test]
    async fn chunked_bodies_are_put_together() {
        let wire = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: t\r\n\r\n";
        let all = read_all(wire).await.expect("one request");
        assert_eq!(all[0].body.as_ref(), b"abcde");
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        for wire in [
            &b"GET / HTTP/1.1\r\nHost: h"[..],
            b"hello\r\n\r\n",
            b"GET / HTTP/2\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ] {
            assert!(read_all(wire).await.is_err(), "{:?}", String::from_utf8_lossy(wire));
        }
    }
}
