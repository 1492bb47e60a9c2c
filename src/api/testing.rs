//! An API on a database of its own, for tests.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;
use utoipa_axum::router::OpenApiRouter;

use super::answers::Answers;
use super::openapi::{ApiRouter, application};
use super::state::{ApiParts, ApiState};
use super::token_store::make_first_operator_token;
use crate::config::{Config, Inputs};
use crate::crypto::open_keys;
use crate::seam::Seam;
use crate::store::{Backend, Store, StoreOptions};

/// An API with an operator.
pub(crate) struct TestApi {
    pub(crate) state: ApiState,
    /// The value of the operator's token.
    pub(crate) operator: String,
    router: Router,
    _folder: TempDir,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body; null where it is no JSON.
    pub(crate) json: Value,
}

impl TestApi {
    pub(crate) async fn start() -> Self {
        Self::with_routes(|router| router).await
    }

    /// With routes beside the ground's.
    pub(crate) async fn with_routes(add: impl FnOnce(ApiRouter) -> ApiRouter) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().display().to_string();
        let inputs =
            Inputs { overrides: vec![("data_dir".to_owned(), data_dir)], ..Inputs::default() };
        let config = Arc::new(Config::load(&inputs).unwrap());
        let seam = Seam::default();
        let backend = Backend::Sqlite { path: folder.path().join("mortise.db") };
        let store = Store::open(&StoreOptions { backend, max_connections: 2, migrate: true })
            .await
            .unwrap();
        let keys = open_keys(&store, &config.keys.master_file, &seam).await.unwrap();
        let file = make_first_operator_token(&store, &seam, &config.data_dir)
            .await
            .unwrap()
            .expect("a fresh database has no token");
        let operator = std::fs::read_to_string(file).unwrap().trim().to_owned();
        let state = ApiState::new(ApiParts { store, keys, config, seam });
        let router = application(state.clone(), add(OpenApiRouter::new()));
        Self { state, operator, router, _folder: folder }
    }

    /// The kept answers as another node sees them.
    pub(crate) fn another_node(&self) -> Answers {
        let ring = self.state.keys().ring.clone();
        Answers::new(self.state.store().clone(), ring, self.state.seam().clone())
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        Answer { status: parts.status, headers: parts.headers, json }
    }

    /// Calls as the holder of a token; without a header where it is empty.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    /// The value of a new token.
    pub(crate) async fn token(&self, body: Value) -> String {
        let answer = self.call(Method::POST, "/api/v1/tokens", &self.operator, Some(body)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json);
        answer.json["token"].as_str().unwrap().to_owned()
    }
}

/// Compares a file of the documentation with what it is written from; with `UPDATE_DOCS` set it is
/// written.
pub(crate) fn documented(path: &str, text: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(kept, text, "{path} is out of date: run the test with UPDATE_DOCS=1");
}
