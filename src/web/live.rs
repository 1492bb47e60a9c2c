//! What changes while somebody looks, told by server-sent events: the part of the page that is new,
//! as HTML, whenever it differs from what was told last.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::StatusCode;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::pages::webhooks::live_part;
use super::trouble::Trouble;
use super::visit::{Part, Visit};
use crate::api::page_sessions::still_lives;
use crate::seam::Timestamp;

/// How often is looked for something new.
const EVERY: Duration = Duration::from_secs(1);

/// How often something is said where there is nothing new, so that nobody on the way hangs up.
const QUIET: Duration = Duration::from_secs(15);

/// How long one stream goes on; then the browser asks anew, with its session.
const LONGEST: Duration = Duration::from_mins(10);

/// How often a stream asks whether its session still lives, in looks.
const ASKED_EACH: u32 = 10;

/// A stream to one browser.
struct Watch {
    visit: Visit,
    id: Uuid,
    stop: CancellationToken,
    told: Option<String>,
    told_at: Timestamp,
    until: Timestamp,
    looks: u32,
    _place: OwnedSemaphorePermit,
}

/// A webhook as it happens.
pub(super) async fn webhook(visit: Visit, Part(id): Part<Uuid>) -> Result<Response, Trouble> {
    // Said before the stream begins, where there is nothing to see.
    let told = live_part(&visit, id).await?;
    let inner = &visit.pages.inner;
    let Ok(place) = std::sync::Arc::clone(&inner.live).try_acquire_owned() else {
        return Err(Trouble::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many people watch right now",
            "The page shows what was when it was loaded; load it again to see more.",
        ));
    };
    let (now, stop) = (inner.state.seam().clock.now(), inner.stop.clone());
    let watch = Watch {
        visit,
        id,
        stop,
        told: Some(told),
        told_at: now,
        until: now.plus(LONGEST),
        looks: 0,
        _place: place,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    Ok(Sse::new(events).into_response())
}

impl Watch {
    /// What is to be told next; nothing where the stream is over.
    async fn next(&mut self) -> Option<Event> {
        if self.looks == 0 {
            self.looks = 1;
            // The first thing told is what is there: the page may be older than the stream.
            return self.told.as_deref().map(part);
        }
        let clock = self.visit.pages.state().seam().clock.clone();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = clock.sleep(EVERY) => {}
            }
            let now = clock.now();
            self.looks = self.looks.wrapping_add(1).max(1);
            if now >= self.until || !self.may_go_on().await {
                return None;
            }
            let part_now = live_part(&self.visit, self.id).await.ok()?;
            if self.told.as_ref() != Some(&part_now) {
                let event = part(&part_now);
                self.told = Some(part_now);
                self.told_at = now;
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
