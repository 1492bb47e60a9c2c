//! What changes while somebody looks, told by server-sent events: the part of the page that is new,
//! as HTML, whenever it differs from what was told last.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::pages::webhooks::live_part;
use super::places::Place;
use super::trouble::Trouble;
use super::visit::{Part, Visit};
use crate::api::page_sessions::still_lives;
use crate::seam::{Clock, Timestamp};

/// How often is looked for something new while things happen.
const EVERY: Duration = Duration::from_secs(1);

/// How often is looked where nothing has happened for a while.
const SELDOM: Duration = Duration::from_secs(3);

/// For how long nothing has to happen until it is looked for seldom.
const A_WHILE: Duration = Duration::from_secs(30);

/// How often something is said where there is nothing new, so that nobody on the way hangs up.
const QUIET: Duration = Duration::from_secs(15);

/// How long one stream goes on; then the browser asks anew, with its session.
const LONGEST: Duration = Duration::from_mins(10);

/// How long a reader may leave something unread; then the place is somebody else's.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a stream asks whether its session still lives, in looks.
const ASKED_EACH: u32 = 3;

/// A stream to one browser.
struct Watch {
    visit: Visit,
    id: Uuid,
    stop: CancellationToken,
    to: mpsc::Sender<Event>,
    told: String,
    told_at: Timestamp,
    changed_at: Timestamp,
    until: Timestamp,
    looks: u32,
    _place: Place,
}

/// A webhook as it happens.
pub(super) async fn webhook(visit: Visit, Part(id): Part<Uuid>) -> Result<Response, Trouble> {
    let inner = &visit.pages.inner;
    let visitor = visit.visitor()?;
    let seen = &visitor.session.visitor;
    let tenant = seen.org.as_ref().map(|org| format!("org {org}"));
    let tenant = tenant.or_else(|| seen.vendor.as_ref().map(|vendor| format!("vendor {vendor}")));
    // Before anything is looked at, so that whoever gets none costs nothing.
    let place = inner.live.take(&visitor.session.id.to_string(), tenant.as_deref());
    let Some(place) = place else {
        return Err(Trouble::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many pages are watched right now",
            "The page shows what was when it was loaded; load it again to see more.",
        ));
    };
    // Said before the stream begins, where there is nothing to see.
    let told = live_part(&visit, id).await?;
    let (now, stop) = (inner.state.seam().clock.now(), inner.stop.clone());
    let (to, from) = mpsc::channel(1);
    let watch = Watch {
        visit,
        id,
        stop,
        to,
        told,
        told_at: now,
        changed_at: now,
        until: now.plus(LONGEST),
        looks: 0,
        _place: place,
    };
    // In a task of its own: a reader that does not read keeps no place.
    tokio::spawn(watch.go_on());
    let events = stream::unfold(from, |mut from| async move {
        let event = from.recv().await?;
        Some((Ok::<_, Infallible>(event), from))
    });
    let mut response = Sse::new(events).into_response();
    // A proxy that gathers answers would tell it when it is over.
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

impl Watch {
    fn clock(&self) -> Clock {
        self.visit.pages.state().seam().clock.clone()
    }

    /// Tells what happens until the session, the server or the reader's patience ends.
    async fn go_on(mut self) {
        // The first thing told is what is there: the page may be older than the stream.
        let mut event = Some(part(&self.told));
        loop {
            if let Some(event) = event.take()
                && !self.tell(event).await
            {
                return;
            }
            match self.next().await {
                Some(next) => event = Some(next),
                None => return,
            }
        }
    }

    /// Hands an event over; false where nobody takes it.
    async fn tell(&self, event: Event) -> bool {
        let clock = self.clock();
        tokio::select! {
            sent = self.to.send(event) => sent.is_ok(),
            () = clock.sleep(PATIENCE) => false,
            () = self.stop.cancelled() => false,
        }
    }

    /// What is to be told next; nothing where the stream is over.
    async fn next(&mut self) -> Option<Event> {
        let clock = self.clock();
        loop {
            let is_calm = clock.now().since(self.changed_at) >= A_WHILE;
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = self.to.closed() => return None,
                () = clock.sleep(if is_calm { SELDOM } else { EVERY }) => {}
            }
            let now = clock.now();
            self.looks = self.looks.wrapping_add(1);
            if now >= self.until || !self.may_go_on().await {
                return None;
            }
            let part_now = live_part(&self.visit, self.id).await.ok()?;
            if self.told != part_now {
                let event = part(&part_now);
                self.told = part_now;
                self.told_at = now;
                self.changed_at = now;
                return Some(event);
            }
            if now.since(self.told_at) >= QUIET {
                self.told_at = now;
                return Some(Event::default().comment("nothing new"));
            }
        }
    }

    async fn may_go_on(&self) -> bool {
        if !self.looks.is_multiple_of(ASKED_EACH) {
            return true;
        }
        let state = self.visit.pages.state();
        let Ok(visitor) = self.visit.visitor() else { return false };
        let now = state.seam().clock.now();
        still_lives(state.store(), &visitor.session, now).await.unwrap_or(false)
    }
}

fn part(parts: &str) -> Event {
    // One line of JSON, so that it is one line of the stream.
    Event::default().event("part").data(parts)
}
