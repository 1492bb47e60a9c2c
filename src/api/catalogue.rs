//! `/extensions`: the catalogue.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, request::Parts};
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{
    Idempotent, Path, Query, RawBody, idempotency_key, json_response, media_type, parse_json,
    parse_query,
};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::paging::{Cursor, Page, Paging};
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::role::Role;
use super::shapes::moment;
use super::state::ApiState;
use crate::catalogue::{self, NewVersion};
use crate::identifier::{ExtensionKey, VendorKey};
use crate::lifecycle::state::Holders;
use crate::manifest::{self, Checked, Limits, PackageSource, ValidationDocument};
use crate::seam::Timestamp;

/// The longest name of an extension.
const LONGEST_NAME: usize = 100;

/// The longest overlap of a rotation: 30 days.
const LONGEST_OVERLAP: u64 = 30 * 24 * 60 * 60;

/// The routes of the catalogue.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(publish, list))
        .routes(routes!(validate))
        .routes(routes!(read))
        .routes(routes!(read_version))
        .routes(routes!(withdraw))
        .routes(routes!(suspend))
        .routes(routes!(resume))
        .routes(routes!(read_secret))
        .routes(routes!(rotate_secret))
}

/// What names a version; with an archive only, for a JSON body has it within.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Identity {
    /// With an archive: the extension's key.
    #[param(value_type = String, required = false)]
    key: ExtensionKey,
    /// With an archive: its name, as people see it.
    #[param(required = false)]
    name: String,
    /// With an archive: the version (SemVer 2.0).
    #[param(value_type = String, required = false)]
    version: Version,
    /// With an archive: the vendor.
    #[param(value_type = String, required = false)]
    vendor: VendorKey,
}

/// A package as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct JsonPackage {
    /// The extension's key.
    #[schema(value_type = Option<String>)]
    key: Option<ExtensionKey>,
    /// Its name, as people see it.
    name: Option<String>,
    /// The version (SemVer 2.0).
    #[schema(value_type = Option<String>)]
    version: Option<Version>,
    /// The vendor.
    #[schema(value_type = Option<String>)]
    vendor: Option<VendorKey>,
    /// plugin-manifest.json.
    #[schema(value_type = Object)]
    #[expect(dead_code, reason = "read as raw text, to see keys that stand twice")]
    manifest: Value,
    /// resources.json.
    #[schema(value_type = Object)]
    #[expect(dead_code, reason = "read as raw text, to see keys that stand twice")]
    resources: Value,
}

/// The same body, with the documents as they were written.
#[derive(Deserialize)]
struct RawPackage<'a> {
    #[serde(borrow)]
    manifest: &'a RawValue,
    #[serde(borrow)]
    resources: &'a RawValue,
}

/// A published version.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PublishedBody {
    /// The extension's id.
    extension_id: Uuid,
    /// Its key.
    key: String,
    /// The version.
    version: String,
    /// The digest of manifest and resources in canonical form, without secrets.
    digest: String,
    /// The scopes that an org must grant.
    required_scopes: Vec<String>,
    /// What the check warned of.
    #[schema(value_type = Vec<Object>)]
    warnings: Value,
}

/// A package and what names it, as it came.
struct Upload {
    identity: Option<Identity>,
    source: PackageSource,
}

/// Reads a package from either kind of body.
async fn read_upload(parts: &Parts, body: &[u8]) -> Result<Upload, Problem> {
    let unusable = |error: manifest::UnusablePackage| {
        Problem::new(Code::UnprocessableEntity).detail(error.to_string())
    };
    match media_type(&parts.headers).as_deref() {
        Some("application/json") => {
            let package: JsonPackage = parse_json(body)?;
            let raw: RawPackage<'_> = serde_json::from_slice(body)
                .map_err(|error| Problem::new(Code::BadRequest).detail(error.to_string()))?;
            let source = PackageSource::from_json(raw.manifest.get(), raw.resources.get());
            let identity = match (package.key, package.name, package.version, package.vendor) {
                (Some(key), Some(name), Some(version), Some(vendor)) => {
                    Some(Identity { key, name, version, vendor })
                }
                _ => None,
            };
            Ok(Upload { identity, source })
        }
        Some("application/zip") => {
            let query = parts.uri.query().unwrap_or_default();
            let identity =
                if query.is_empty() { None } else { Some(parse_query::<Identity>(query)?) };
            let bytes = body.to_vec();
            // Unpacking takes its time: not on a thread that serves others.
            let read = move || PackageSource::from_zip(&bytes, &Limits::default());
            let source = tokio::task::spawn_blocking(read)
                .await
                .map_err(|error| Problem::internal(&error))?
                .map_err(unusable)?;
            Ok(Upload { identity, source })
        }
        _ => Err(Problem::new(Code::UnsupportedMediaType)
            .detail("Content-Type must be application/json or application/zip.")),
    }
}

/// The body limit of a package, by its kind.
fn upload_limit(state: &ApiState, parts: &Parts) -> usize {
    let limits = state.config().limits;
    if media_type(&parts.headers).as_deref() == Some("application/zip") {
        limits.package_bytes
    } else {
        limits.event_body_bytes
    }
}

/// The 422 of an invalid package, in the desk dialect's form and in ours.
pub(crate) fn invalid_package(diagnostics: &[manifest::Diagnostic]) -> Problem {
    let (errors, warnings): (Vec<_>, Vec<_>) =
        diagnostics.iter().partition(|one| one.severity == manifest::Severity::Error);
    Problem::new(Code::UnprocessableEntity)
        .kind("extension-invalid", "Extension package is not valid")
        .message(manifest::desk_message(diagnostics))
        .errors(&errors)
        .with("warnings", warnings)
}

/// Checks a package. A large one takes its time: not on a thread that serves others.
async fn check(state: &ApiState, source: PackageSource) -> Result<Checked, Problem> {
    let policy = Arc::clone(&state.services()?.policy);
    tokio::task::spawn_blocking(move || manifest::check(&source, &policy))
        .await
        .map_err(|error| Problem::internal(&error))
}

/// Publishes a version.
#[utoipa::path(
    post, path = "/api/v1/extensions", tag = "catalogue",
    params(Identity),
    request_body(content((JsonPackage = "application/json"), (Vec<u8> = "application/zip"))),
    responses(
        (status = 201, description = "Published", body = PublishedBody),
        (status = 200, description = "The same content was published before", body = PublishedBody),
        (status = 409, description = "The version exists with other content, or the key is another vendor's"),
        (status = 422, description = "The package is not valid"),
    )
)]
async fn publish(
    State(state): State<ApiState>,
    caller: Caller,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let limit = upload_limit(&state, &parts);
    let body =
        RawBody::from(axum::extract::Request::from_parts(parts.clone(), body)).read(limit).await?;
    let key = idempotency_key(&parts, &body)?;
    let upload = read_upload(&parts, &body).await?;
    let Some(identity) = upload.identity else {
        return Err(Problem::new(Code::InvalidData)
            .detail("key, name, version and vendor name the version: all four are needed."));
    };
    if caller.role == Role::Vendor && caller.vendor.as_ref() != Some(&identity.vendor) {
        return Err(Problem::new(Code::Forbidden)
            .detail("A vendor publishes its own extensions only: `vendor` must be the token's."));
    }
    if identity.name.trim().is_empty()
        || identity.name.chars().count() > LONGEST_NAME
        || identity.name.chars().any(char::is_control)
    {
        let message = "must have 1 to 100 characters, none a control character";
        return Err(Problem::invalid(vec![FieldError::new(
            "/name",
            FieldErrorKind::Invalid,
            message,
        )]));
    }
    let checked = check(&state, upload.source).await?;
    let Some(package) = checked.package else {
        return Err(invalid_package(&checked.diagnostics));
    };
    let effect = match Effect::start(&state, key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let warnings =
        serde_json::to_value(&checked.diagnostics).map_err(|error| Problem::internal(&error))?;
    let work = state.services()?.lifecycle.begin().await?;
    let new = NewVersion {
        key: &identity.key,
        name: identity.name.trim(),
        version: &identity.version,
        vendor: &identity.vendor,
        package: &package,
        warnings: &warnings,
    };
    let published =
        catalogue::publish(&work, new, state.keys(), &caller.actor(), state.seam()).await?;
    let status = if published.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let body = PublishedBody {
        extension_id: published.extension_id,
        key: identity.key.to_string(),
        version: identity.version.to_string(),
        digest: published.digest,
        required_scopes: package.required_scopes().to_vec(),
        warnings,
    };
    effect.finish(&state, work, status, &body).await
}

/// Checks a package; nothing is stored.
#[utoipa::path(
    post, path = "/api/v1/extensions/validate", tag = "catalogue",
    request_body(content((JsonPackage = "application/json"), (Vec<u8> = "application/zip"))),
    responses(
        (status = 200, description = "Valid, perhaps with warnings"),
        (status = 422, description = "Not valid"),
    )
)]
async fn validate(
    State(state): State<ApiState>,
    _caller: Caller,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let limit = upload_limit(&state, &parts);
    let body =
        RawBody::from(axum::extract::Request::from_parts(parts.clone(), body)).read(limit).await?;
    let upload = read_upload(&parts, &body).await?;
    let checked = check(&state, upload.source).await?;
    if checked.package.is_none() {
        return Err(invalid_package(&checked.diagnostics));
    }
    Ok(json_response(StatusCode::OK, &ValidationDocument::new(&checked.diagnostics)))
}

/// An extension.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ExtensionBody {
    /// Its id.
    extension_id: Uuid,
    /// Its key.
    key: String,
    /// Its name.
    name: String,
    /// Its vendor.
    vendor: String,
    /// Whether the kill switch holds it.
    suspended: bool,
    /// Who holds it so: each lifts its own only.
    #[schema(value_type = Vec<String>)]
    suspended_by: Vec<&'static str>,
    /// Why.
    suspended_reason: Option<String>,
    /// When it was first published.
    created_time: Option<String>,
    /// Its versions, newest first; only where one extension is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<VersionSummary>>,
}

/// A version, in short.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct VersionSummary {
    /// The version.
    version: String,
    /// Its digest.
    digest: String,
    /// When it was published.
    created_time: Option<String>,
    /// When it was withdrawn.
    withdrawn_time: Option<String>,
}

impl ExtensionBody {
    fn new(row: catalogue::ExtensionRow, versions: Option<Vec<VersionSummary>>) -> Self {
        Self {
            extension_id: row.id,
            key: row.extension_key,
            name: row.name,
            vendor: row.vendor,
            suspended: row.suspended_at.is_some(),
            suspended_by: Holders::from_number(row.suspended_by).names(),
            suspended_reason: row.suspended_reason,
            created_time: moment(Some(row.created_at)),
            versions,
        }
    }
}

/// The vendor whose extensions a caller may see; all of them where there is none.
pub(super) fn vendor_of(caller: &Caller) -> Option<&str> {
    match caller.role {
        Role::Vendor => Some(caller.vendor.as_ref().map_or("", VendorKey::as_str)),
        _ => None,
    }
}

/// Lists extensions.
#[utoipa::path(
    get, path = "/api/v1/extensions", tag = "catalogue", params(Paging),
    responses((status = 200, description = "A page", body = Page<ExtensionBody>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let after = paging.cursor.map(|after| after.0);
    let rows = catalogue::extensions(state.store(), vendor_of(&caller), after, paging.limit.rows())
        .await?;
    let page = Page::new(rows, paging.limit, |row| Cursor::Id(row.id))
        .map(|row| ExtensionBody::new(row, None));
    Ok(json_response(StatusCode::OK, &page))
}

/// Reads an extension with its versions.
#[utoipa::path(
    get, path = "/api/v1/extensions/{key}", tag = "catalogue", params(("key" = String, Path)),
    responses((status = 200, description = "The extension", body = ExtensionBody), (status = 404, description = "No such extension"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(key): Path<ExtensionKey>,
) -> Result<Response, Problem> {
    let row = catalogue::extension(state.store(), key.as_str(), vendor_of(&caller)).await?;
    let versions = catalogue::versions(state.store(), key.as_str())
        .await?
        .into_iter()
        .map(|row| VersionSummary {
            version: row.version,
            digest: row.digest,
            created_time: moment(Some(row.created_at)),
            withdrawn_time: moment(row.withdrawn_at),
        })
        .collect();
    Ok(json_response(StatusCode::OK, &ExtensionBody::new(row, Some(versions))))
}

/// A version with its content; secrets are replaced by a marker.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct VersionBody {
    /// The extension's key.
    key: String,
    /// Its name in this version.
    name: String,
    /// The version.
    version: String,
    /// The digest.
    digest: String,
    /// The scopes that an org must grant.
    #[schema(value_type = Vec<String>)]
    required_scopes: Value,
    /// plugin-manifest.json without its secrets.
    #[schema(value_type = Object)]
    manifest: Value,
    /// resources.json.
    #[schema(value_type = Object)]
    resources: Value,
    /// What the check warned of.
    #[schema(value_type = Vec<Object>)]
    warnings: Value,
    /// When it was published.
    created_time: Option<String>,
    /// When it was withdrawn.
    withdrawn_time: Option<String>,
}

/// Reads a version.
#[utoipa::path(
    get, path = "/api/v1/extensions/{key}/versions/{version}", tag = "catalogue",
    params(("key" = String, Path), ("version" = String, Path)),
    responses((status = 200, description = "The version", body = VersionBody), (status = 404, description = "No such version"))
)]
async fn read_version(
    State(state): State<ApiState>,
    caller: Caller,
    Path((key, version)): Path<(ExtensionKey, String)>,
) -> Result<Response, Problem> {
    catalogue::extension(state.store(), key.as_str(), vendor_of(&caller)).await?;
    let row = catalogue::version(state.store(), key.as_str(), &version).await?;
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let body = VersionBody {
        key: row.extension_key,
        name: row.name,
        version: row.version,
        digest: row.digest,
        required_scopes: read(&row.required_scopes),
        manifest: read(&row.manifest),
        resources: read(&row.resources),
        warnings: read(&row.warnings),
        created_time: moment(Some(row.created_at)),
        withdrawn_time: moment(row.withdrawn_at),
    };
    Ok(json_response(StatusCode::OK, &body))
}

/// Nothing, or an empty object.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Empty {}

/// Withdraws a version: nobody installs it any more.
#[utoipa::path(
    post, path = "/api/v1/extensions/{key}/versions/{version}/withdraw", tag = "catalogue",
    params(("key" = String, Path), ("version" = String, Path)), request_body = Empty,
    responses((status = 200, description = "Withdrawn"), (status = 404, description = "No such version"))
)]
async fn withdraw(
    State(state): State<ApiState>,
    caller: Caller,
    Path((key, version)): Path<(ExtensionKey, String)>,
    request: Idempotent<Empty>,
) -> Result<Response, Problem> {
    let Empty {} = request.value;
    catalogue::extension(state.store(), key.as_str(), vendor_of(&caller)).await?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let work = state.services()?.lifecycle.begin().await?;
    let now = state.seam().clock.now();
    if catalogue::withdraw(&work, key.as_str(), &version, now).await? {
        crate::audit::append(
            &work,
            crate::audit::Entry {
                chain: crate::audit::PLATFORM_CHAIN,
                action: "extension.withdraw",
                subject: format!("extension:{key}@{version}"),
                detail: None,
            },
            &caller.actor(),
            now,
            &state.seam().randomness,
        )
        .await?;
    }
    let body = json!({ "key": key, "version": version, "withdrawn": true });
    effect.finish(&state, work, StatusCode::OK, &body).await
}

/// Why the kill switch is used.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SwitchRequest {
    /// Said to whoever asks.
    #[serde(default)]
    reason: Option<String>,
}

/// What the kill switch touched.
#[derive(Debug, Serialize, ToSchema)]
struct SwitchBody {
    /// The extension.
    key: String,
    /// Whether it is suspended now.
    suspended: bool,
    /// How many installations that touched.
    installations: u64,
}

async fn switch(
    state: ApiState,
    caller: Caller,
    key: ExtensionKey,
    request: Idempotent<SwitchRequest>,
    on: bool,
) -> Result<Response, Problem> {
    // A vendor may hold its own.
    catalogue::extension(state.store(), key.as_str(), vendor_of(&caller)).await?;
    let reason = request.value.reason.unwrap_or_default();
    if reason.chars().count() > 500 || reason.chars().any(char::is_control) {
        let message = "may have 500 characters, none a control character";
        let error = FieldError::new("/reason", FieldErrorKind::Invalid, message);
        return Err(Problem::invalid(vec![error]));
    }
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = switch_once(&state, &caller, &key, &reason, on, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn switch_once(
    state: &ApiState,
    caller: &Caller,
    key: &ExtensionKey,
    reason: &str,
    on: bool,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let actor = caller.actor();
    let holder = super::holds::holder_of(caller)?;
    let installations = if on {
        lifecycle.suspend_extension(&mut work, key.as_str(), holder, reason, &actor).await?
    } else {
        lifecycle.resume_extension(&mut work, key.as_str(), holder, reason, &actor).await?
    };
    let body = SwitchBody { key: key.to_string(), suspended: on, installations };
    effect.finish(state, work, StatusCode::OK, &body).await
}

/// Suspends an extension in all orgs, in the name of the caller's role.
#[utoipa::path(
    post, path = "/api/v1/extensions/{key}/suspend", tag = "catalogue",
    params(("key" = String, Path)), request_body = SwitchRequest,
    responses((status = 200, description = "Suspended; nothing is delivered any more", body = SwitchBody))
)]
async fn suspend(
    State(state): State<ApiState>,
    caller: Caller,
    Path(key): Path<ExtensionKey>,
    request: Idempotent<SwitchRequest>,
) -> Result<Response, Problem> {
    switch(state, caller, key, request, true).await
}

/// Lifts the suspension of an extension in all orgs.
#[utoipa::path(
    post, path = "/api/v1/extensions/{key}/resume", tag = "catalogue",
    params(("key" = String, Path)), request_body = SwitchRequest,
    responses((status = 200, description = "Resumed; what was held goes on", body = SwitchBody))
)]
async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    Path(key): Path<ExtensionKey>,
    request: Idempotent<SwitchRequest>,
) -> Result<Response, Problem> {
    switch(state, caller, key, request, false).await
}

/// What signs deliveries to an extension.
#[derive(Debug, Serialize, ToSchema)]
struct SecretBody {
    /// The present secret.
    secret: String,
    /// Former ones that still sign.
    expiring: Vec<ExpiringBody>,
}

/// A former secret that still signs.
#[derive(Debug, Serialize, ToSchema)]
struct ExpiringBody {
    /// Until when.
    until: String,
}

async fn secret_body(state: &ApiState, key: &ExtensionKey) -> Result<SecretBody, Problem> {
    let now = state.seam().clock.now();
    let secrets =
        catalogue::signing_secrets(state.store(), key.as_str(), state.keys(), now).await?;
    Ok(SecretBody {
        secret: secrets.secret.expose().to_owned(),
        expiring: secrets
            .expiring
            .into_iter()
            .map(|expiring| ExpiringBody { until: expiring.until.rfc3339() })
            .collect(),
    })
}

/// Reads the secret that signs deliveries to an extension.
#[utoipa::path(
    get, path = "/api/v1/extensions/{key}/signing-secret", tag = "catalogue",
    params(("key" = String, Path)),
    responses((status = 200, description = "The secret", body = SecretBody))
)]
async fn read_secret(
    State(state): State<ApiState>,
    caller: Caller,
    Path(key): Path<ExtensionKey>,
) -> Result<Response, Problem> {
    catalogue::extension(state.store(), key.as_str(), vendor_of(&caller)).await?;
    Ok(json_response(StatusCode::OK, &secret_body(&state, &key).await?))
}

/// How a rotation overlaps.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateRequest {
    /// For how long the former secret signs too; a day where it is left out, 30 days at the most.
    #[serde(default = "one_day")]
    overlap_seconds: u64,
}

fn one_day() -> u64 {
    24 * 60 * 60
}

/// Makes a new signing secret.
#[utoipa::path(
    post, path = "/api/v1/extensions/{key}/signing-secret/rotate", tag = "catalogue",
    params(("key" = String, Path)), request_body = RotateRequest,
    responses((status = 200, description = "The new secret", body = SecretBody))
)]
async fn rotate_secret(
    State(state): State<ApiState>,
    caller: Caller,
    Path(key): Path<ExtensionKey>,
    request: Idempotent<RotateRequest>,
) -> Result<Response, Problem> {
    if request.value.overlap_seconds > LONGEST_OVERLAP {
        let message = "must be at most 2592000 (30 days)";
        let error = FieldError::new("/overlapSeconds", FieldErrorKind::Invalid, message);
        return Err(Problem::invalid(vec![error]));
    }
    catalogue::extension(state.store(), key.as_str(), vendor_of(&caller)).await?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let overlap = Duration::from_secs(request.value.overlap_seconds);
    let mut work = state.services()?.lifecycle.begin().await?;
    let now: Timestamp = state.seam().clock.now();
    let former = catalogue::signing_secrets(state.store(), key.as_str(), state.keys(), now).await?;
    let secret = catalogue::rotate(
        &mut work,
        key.as_str(),
        overlap,
        state.keys(),
        &caller.actor(),
        now,
        state.seam(),
    )
    .await?;
    let until = now.plus(overlap);
    let mut expiring: Vec<String> =
        former.expiring.into_iter().map(|one| one.until.min(until).rfc3339()).collect();
    if !overlap.is_zero() {
        expiring.insert(0, until.rfc3339());
    }
    let body = SecretBody {
        secret: secret.expose().to_owned(),
        expiring: expiring.into_iter().map(|until| ExpiringBody { until }).collect(),
    };
    effect.finish(&state, work, StatusCode::OK, &body).await
}
