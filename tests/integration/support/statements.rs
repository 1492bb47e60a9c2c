//! What a request costs the database: the statements that it made, each a round trip to PostgreSQL.
//!
//! The driver tells of each statement as an event of `tracing`, within the span of the request that
//! it is made for. What loops of the server do beside is in no such span, and not counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// The statements of each route, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statements {
    by_route: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    rows: Arc<Mutex<u64>>,
}

/// The route of a request, kept with its span.
struct Route(String);

/// Reads one field.
struct Read<'f> {
    name: &'static str,
    value: &'f mut String,
}

/// Reads how many rows came back.
#[derive(Default)]
struct Rows(u64);

impl Visit for Rows {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "rows_returned" {
            self.0 = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Visit for Read<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == self.name {
            value.clone_into(self.value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == self.name {
            *self.value = format!("{value:?}");
        }
    }
}

struct Counter(Statements);

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Counter {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != "request" {
            return;
        }
        let mut route = String::new();
        attributes.record(&mut Read { name: "path", value: &mut route });
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Route(route));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != "sqlx::query" {
            return;
        }
        let Some(scope) = context.event_scope(event) else { return };
        for span in scope {
            let extensions = span.extensions();
            let Some(Route(route)) = extensions.get::<Route>() else { continue };
            let mut summary = String::new();
            event.record(&mut Read { name: "summary", value: &mut summary });
            let mut all = self.0.by_route.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(route.clone()).or_default().push(summary);
            let mut rows = Rows::default();
            event.record(&mut rows);
            *self.0.rows.lock().unwrap_or_else(PoisonError::into_inner) += rows.0;
            return;
        }
    }
}

impl Statements {
    /// Counts from here on, in this process: a test that does has a process of its own.
    pub(crate) fn count() -> Self {
        let statements = Self::default();
        let filter = EnvFilter::new("off,sqlx::query=debug,mortise=info");
        let subscriber = Registry::default().with(filter).with(Counter(statements.clone()));
        tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
        statements
    }

    /// The statements of all routes, and how many rows they gave, since it was asked last.
    pub(crate) fn take_all(&self) -> (Vec<String>, u64) {
        let mut all = self.by_route.lock().unwrap_or_else(PoisonError::into_inner);
        let statements = std::mem::take(&mut *all).into_values().flatten().collect();
        let rows = std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner));
        (statements, rows)
    }

    /// The statements of a route since it was asked last.
    pub(crate) fn take(&self, route: &str) -> Vec<String> {
        let mut all = self.by_route.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(route).unwrap_or_default()
    }
}
