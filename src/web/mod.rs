//! The pages: what administrators, vendors and operators see of what the API does, as HTML from the
//! same program. They work without JavaScript and get livelier with a little of it.
//!
//! A page knows nothing of its own: it calls the API within the process (`visit`), as the role
//! and tenant of its session, so what the API refuses to somebody a page cannot do for him either.
//! `frame` stands around every page: session, forms, headers, errors in words.

mod answers;
mod assets;
mod chart;
mod faults;
mod form;
mod frame;
mod live;
mod multipart;
mod pages;
mod parts;
mod places;
mod routes;
mod shell;
mod trouble;
mod visit;
mod words;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use axum::Router;
use http::HeaderValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::api::ApiState;
use answers::EventType;
use places::Places;
pub use routes::{PageRoute, Visitors, table};

/// How many packages are read at a time: each is in memory whole.
const MOST_PACKAGES: usize = 4;

/// The event types of each dialect that was asked for: they are the same as long as this runs, and
/// making their samples takes its time.
type EventTypes = Mutex<HashMap<String, Arc<Vec<EventType>>>>;

/// What every page can reach. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Pages {
    inner: Arc<Inner>,
}

struct Inner {
    state: ApiState,
    api: Router,
    stop: CancellationToken,
    live: Places,
    packages: Arc<Semaphore>,
    event_types: EventTypes,
    policy: HeaderValue,
}

impl fmt::Debug for Pages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pages").field("state", &self.inner.state).finish_non_exhaustive()
    }
}

impl Pages {
    fn new(state: ApiState, api: Router, stop: CancellationToken) -> Self {
        let policy = frame::content_security_policy(&state.config().pages.frame_ancestors);
        let packages = Arc::new(Semaphore::new(MOST_PACKAGES));
        let live = Places::default();
        let event_types = EventTypes::default();
        let inner = Inner { state, api, stop, live, packages, event_types, policy };
        Self { inner: Arc::new(inner) }
    }

    /// What the API's handlers reach.
    fn state(&self) -> &ApiState {
        &self.inner.state
    }

    /// Whether cookies may be told to travel over TLS only.
    fn is_behind_tls(&self) -> bool {
        self.state().config().public_url.scheme() == "https"
    }

    /// Whether somebody else's pages may show these in a frame.
    fn is_framed(&self) -> bool {
        !self.state().config().pages.frame_ancestors.is_empty()
    }
}

/// The pages as a router, which answers every path: what is none of theirs as the API does it.
/// `api` is what they call; they end what is live when `stop` is cancelled.
pub fn router(state: ApiState, api: Router, stop: CancellationToken) -> Router {
    let pages = Pages::new(state, api, stop);
    let mut router = Router::new();
    for (route, handler) in routes::handlers() {
        let guard =
            axum::middleware::from_fn_with_state((pages.clone(), route.gate()), frame::enter);
        router = router.route(route.path, handler.route_layer(guard));
    }
    router
        .fallback(frame::nothing_here)
        .method_not_allowed_fallback(frame::other_methods)
        .with_state(pages)
}
