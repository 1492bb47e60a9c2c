//! Handlers without their types: a router holds them as functions from a request to an answer.
//!
//! axum's own routers carry the type of each handler's future through a dozen layers, and the
//! compiler shows for every layer anew that the whole of it may be sent between threads. That was
//! a third of the time of each build; here it is shown once a handler.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;

/// An answer on its way.
type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A handler of which the router knows no more than that it answers.
pub(crate) struct ErasedHandler<S>(Arc<dyn Fn(Request, S) -> Answering + Send + Sync>);

/// Takes a handler's type away.
pub(crate) fn erased<H, T, S>(handler: H) -> ErasedHandler<S>
where
    H: Handler<T, S>,
    S: 'static,
{
    ErasedHandler(Arc::new(move |request, state| Box::pin(handler.clone().call(request, state))))
}

impl<S> Clone for ErasedHandler<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for ErasedHandler<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ErasedHandler")
    }
}

impl<S: Send + Sync + 'static> Handler<(), S> for ErasedHandler<S> {
    type Future = Answering;

    fn call(self, request: Request, state: S) -> Answering {
        (self.0)(request, state)
    }
}

/// As `utoipa_axum::routes!`, with erased handlers.
macro_rules! routes {
    ($($handler:path),+ $(,)?) => {{
        use utoipa_axum::PathItemExt as _;
        let mut paths = utoipa::openapi::path::Paths::new();
        let mut schemas = Vec::new();
        let mut router = axum::routing::MethodRouter::new();
        $(
            let (path, operation, methods) =
                utoipa_axum::routes!(@resolve_types $handler : schemas);
            let handler = $crate::api::handler::erased($handler);
            for method in &methods {
                router = router.on(method.to_method_filter(), handler.clone());
            }
            paths.add_path_operation(&path, methods, operation);
        )+
        (schemas, paths, router)
    }};
}

pub(crate) use routes;
