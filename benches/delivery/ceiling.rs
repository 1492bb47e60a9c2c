//! What the machine can do at all: a bare POST loop against the same receiver.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use mortise::seam::Clock;

use super::event::PAYLOAD_BYTES;
use super::receiver::{BARE, Receiver};
use super::{Failure, Outcome};

/// The client of a bare loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// The library that deliveries go out with.
    Reqwest,
    /// The one below it, a connection a client.
    Hyper,
}

/// Posts 1 KiB so often with so many clients; returns requests a second.
pub(crate) async fn bare(
    receiver: &Receiver,
    client: Client,
    requests: usize,
    connections: usize,
) -> Outcome<f64> {
    let before = receiver.bare();
    let (done, finished) = tokio::sync::oneshot::channel();
    let (authority, url) = (receiver.authority(), receiver.origin() + BARE);
    std::thread::Builder::new().name("bare".to_owned()).spawn(move || {
        // As many threads as the server takes.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let outcome = match runtime {
            Ok(runtime) => runtime.block_on(async {
                match client {
                    Client::Reqwest => with_reqwest(&url, requests, connections).await,
                    Client::Hyper => with_hyper(&authority, requests, connections).await,
                }
            }),
            Err(error) => Err(error.into()),
        };
        // Nobody waits any more where the run was given up.
        let _unheard = done.send(outcome);
    })?;
    let per_second = finished.await??;
    let arrived = receiver.bare() - before;
    if arrived < u64::try_from(requests)? {
        return Err(Failure::from("bare requests did not arrive"));
    }
    Ok(per_second)
}

async fn with_reqwest(url: &str, requests: usize, connections: usize) -> Outcome<f64> {
    let client = super::api::http()?;
    let body = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let left = Arc::new(AtomicUsize::new(requests));
    let clock = Clock::default();
    let begin = clock.instant();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (client, body, left, url) =
            (client.clone(), body.clone(), Arc::clone(&left), url.to_owned());
        clients.spawn(async move {
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                let answer = client.post(&url).body(body.clone()).send().await?;
                answer.bytes().await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(per_second(requests, begin))
}

async fn with_hyper(authority: &str, requests: usize, connections: usize) -> Outcome<f64> {
    let body = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let left = Arc::new(AtomicUsize::new(requests));
    let clock = Clock::default();
    let begin = clock.instant();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (body, left, authority) = (body.clone(), Arc::clone(&left), authority.to_owned());
        clients.spawn(async move {
            let stream = tokio::net::TcpStream::connect(&authority).await?;
            stream.set_nodelay(true)?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let connection = tokio::spawn(connection);
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                let request = hyper::Request::post(BARE)
                    .header(hyper::header::HOST, &authority)
                    .body(Full::new(body.clone()))?;
                sender.ready().await?;
                sender.send_request(request).await?.into_body().collect().await?;
            }
            drop(sender);
            connection.await??;
            Outcome::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(per_second(requests, begin))
}

fn per_second(requests: usize, begin: tokio::time::Instant) -> f64 {
    let requests = u64::try_from(requests).unwrap_or(u64::MAX);
    super::process::ratio(requests, 1) / begin.elapsed().as_secs_f64().max(1e-9)
}
