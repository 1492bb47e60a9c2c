//! `POST /webhooks/import`: what another help desk's API tells of its webhooks, triggers and
//! automations, made here in one transaction. A dry run is the same run, rolled back.

use std::collections::HashMap;

use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, json_response, parse_query};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::own_webhooks::{known_in_address, refused, shown};
use super::problem::{FieldError, Problem};
use super::rules::{self, RuleBody};
use super::shapes::WebhookBody;
use super::state::ApiState;
use super::url_check;
use crate::identifier::OrgId;
use crate::store::UnitOfWork;
use crate::webhook::importing::{Draft, Fate, ImportExisting, ImportRequest, ImportSource, Part};
use crate::webhook::own::{
    Created, Current, Definition, FieldFault, OwnRefusal, RuleKind, RuleRequest, imported_key,
};

mod updating;

use updating::{ChangeBody, is_blocked};

/// The route of imports.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(import))
}

/// Which org, and whether for good.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ImportQuery {
    /// The org, where the token belongs to none.
    #[serde(default, rename = "orgId")]
    _org_id: Option<String>,
    /// True: only says what would be made. The addresses are asked all the same, where their dialect
    /// does that.
    #[serde(default)]
    dry_run: bool,
}

/// What became, or would become, of one definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum ImportOutcome {
    /// It was made, or would be.
    Made,
    /// It was imported before and is brought up to date, or would be.
    Updated,
    /// It was imported before, and stays as it is.
    Exists,
    /// Something is missing that must be given.
    Blocked,
    /// The plan has no room for it. In a run for good nothing at all is made then.
    OverPlan,
    /// It cannot be carried over.
    Impossible,
    /// It has nothing to do with webhooks.
    Skipped,
}

/// Something that an export does not have.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MissingBody {
    /// Where in the request it is to be given.
    pointer: String,
    /// What it is.
    message: String,
    /// Whether nothing is made without it.
    is_needed: bool,
}

/// One definition of an import.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ImportItem {
    /// `webhook`, `trigger` or `automation`.
    kind: &'static str,
    /// Of a webhook: what makes it send.
    connection: Option<&'static str>,
    /// Its id in the other system; with `.1`, `.2` … where a rule calls several webhooks there.
    source_id: String,
    /// Its name there.
    name: String,
    /// What became, or would become, of it.
    outcome: ImportOutcome,
    /// Its id here; null where it is not there.
    id: Option<Uuid>,
    /// What the webhook signs with, where that was made here: told once, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// What must or may be given.
    missing: Vec<MissingBody>,
    /// Why nothing is made.
    reasons: Vec<String>,
    /// Of what is brought up to date: what changes.
    changes: Vec<ChangeBody>,
    /// What is not quite as it was there, or may be a mistake.
    notes: Vec<String>,
    /// The webhook that is made; in a dry run its ids are not those that it will have.
    webhook: Option<WebhookBody>,
    /// The trigger or automation that is made; likewise.
    rule: Option<RuleBody>,
}

/// An import.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ImportBody {
    /// Whether nothing was made.
    dry_run: bool,
    /// Where it came from.
    source: &'static str,
    /// How many were made, or would be.
    made: usize,
    /// How many were brought up to date, or would be.
    updated: usize,
    /// How many were there already, and stay as they are.
    exists: usize,
    /// How many wait for something to be given.
    blocked: usize,
    /// How many the plan has no room for.
    over_plan: usize,
    /// How many cannot be carried over.
    impossible: usize,
    /// How many have nothing to do with webhooks.
    skipped: usize,
    /// Each definition.
    items: Vec<ImportItem>,
    /// What may have been forgotten.
    warnings: Vec<String>,
}

impl ImportBody {
    fn new(
        source: ImportSource,
        dry_run: bool,
        items: Vec<ImportItem>,
        warnings: &[String],
    ) -> Self {
        let count = |outcome| items.iter().filter(|item| item.outcome == outcome).count();
        Self {
            dry_run,
            source: source.as_str(),
            made: count(ImportOutcome::Made),
            updated: count(ImportOutcome::Updated),
            exists: count(ImportOutcome::Exists),
            blocked: count(ImportOutcome::Blocked),
            over_plan: count(ImportOutcome::OverPlan),
            impossible: count(ImportOutcome::Impossible),
            skipped: count(ImportOutcome::Skipped),
            items,
            warnings: warnings.to_vec(),
        }
    }
}

impl ImportItem {
    fn new(draft: &Draft, outcome: ImportOutcome) -> Self {
        let missing = draft.missing.iter().map(|missing| MissingBody {
            pointer: missing.pointer.clone(),
            message: missing.message.clone(),
            is_needed: missing.is_needed,
        });
        Self {
            kind: draft.part.kind(),
            connection: draft.part.connection().map(crate::dialect::Connection::as_str),
            source_id: draft.source_id.clone(),
            name: draft.name.clone(),
            outcome,
            id: None,
            secret: None,
            missing: missing.collect(),
            reasons: draft.reasons.clone(),
            changes: Vec::new(),
            notes: draft.notes.clone(),
            webhook: None,
            rule: None,
        }
    }

    fn because(mut self, reason: impl Into<String>) -> Self {
        self.reasons.push(reason.into());
        self
    }
}

/// What is wrong with a definition, in words.
fn in_words(faults: Vec<FieldFault>) -> Vec<String> {
    let told = |fault: FieldFault| {
        let place = if fault.pointer.is_empty() { "It".to_owned() } else { fault.pointer };
        match fault.suggestion {
            Some(near) => format!("{place} {}; did you mean {near}?", fault.message),
            None => format!("{place} {}.", fault.message),
        }
    };
    faults.into_iter().map(told).collect()
}

/// Makes own webhooks, triggers and automations of what the API of Zendesk or Zoho Desk tells, in one
/// go: all that can be made, or nothing where the plan has no room. What was imported before is
/// recognised by its id there, and stays as it is or is brought up to date, as `existing` says.
#[utoipa::path(
    post, path = "/api/v1/webhooks/import", tag = "webhooks", params(ImportQuery),
    request_body = ImportRequest,
    responses(
        (status = 200, description = "What became of each definition, or would", body = ImportBody),
        (status = 403, description = "The plan of the org has no room for all: nothing was made"),
        (status = 422, description = "The documents are not what such an API answers"),
    )
)]
async fn import(
    State(state): State<ApiState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let head = parts.clone();
    let request = Request::from_parts(parts, body);
    let request = Idempotent::<ImportRequest>::from_request(request, &state).await?;
    let query: ImportQuery = parse_query(head.uri.query().unwrap_or_default())?;
    let org = caller.org_of(&head)?;
    let source = request.value.source;
    let (existing, is_enabled) = (request.value.existing, request.value.is_enabled);
    let translated = request
        .value
        .translate()
        .map_err(|faults| Problem::invalid(faults.into_iter().map(FieldError::from)))?;
    let effect = if query.dry_run {
        Effect::default()
    } else {
        match Effect::start(&state, request.key).await? {
            Start::Answered(answer) => return Ok(*answer),
            Start::Fresh(effect) => effect,
        }
    };
    let run = Run {
        state: &state,
        caller: &caller,
        org: &org,
        source,
        is_dry: query.dry_run,
        updates: existing == ImportExisting::Update,
        is_enabled,
        warnings: &translated.warnings,
    };
    let prepared = run.prepare(translated.drafts).await?;
    let mut turns = Turns::default();
    loop {
        let done = run.once(&prepared, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

/// A draft with what its webhook is to be, or why it is not.
struct Prepared {
    draft: Draft,
    definition: Option<Result<Definition, Vec<String>>>,
    /// The webhook that is there, where it is to be brought up to date.
    seen: Option<Current>,
}

impl Prepared {
    /// Whether its address is one that was not asked before.
    fn has_new_address(&self) -> bool {
        let Some(Ok(definition)) = &self.definition else { return false };
        self.seen.as_ref().is_none_or(|seen| seen.url() != definition.url)
    }
}

struct Run<'r> {
    state: &'r ApiState,
    caller: &'r Caller,
    org: &'r OrgId,
    source: ImportSource,
    is_dry: bool,
    /// Whether what is there is brought up to date.
    updates: bool,
    /// Whether everything is to be switched on or off.
    is_enabled: Option<bool>,
    warnings: &'r [String],
}

impl Run<'_> {
    /// Checks what can be checked without the transaction, and asks the addresses.
    async fn prepare(&self, drafts: Vec<Draft>) -> Result<Vec<Prepared>, Problem> {
        let own = &self.state.services()?.own_webhooks;
        let known = own.imported(self.org.as_str(), self.source).await?;
        let mut prepared = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let there = known.get(&imported_key(draft.part, &draft.source_id)).copied();
            let mut seen = None;
            let checked = match (&draft.fate, there) {
                (Fate::Webhook(request), None) if !draft.is_blocked() => {
                    Some(own.check(self.org.as_str(), (**request).clone()).await)
                }
                (Fate::Webhook(request), Some(id)) if self.updates && !is_blocked(&draft) => {
                    let current = own.current(id).await?;
                    let (request, kept) = updating::over(&current, request, self.is_enabled);
                    seen = Some(current);
                    Some(own.check_change(self.org.as_str(), request, &kept).await)
                }
                _ => None,
            };
            let definition = match checked {
                None => None,
                Some(Ok(definition)) => Some(match known_in_address(&definition) {
                    Ok(()) => Ok(definition),
                    Err(problem) => Err(vec![format!("/url {}", problem.text())]),
                }),
                Some(Err(OwnRefusal::Faults(faults))) => Some(Err(in_words(faults))),
                Some(Err(refusal)) => return Err(refusal.into()),
            };
            prepared.push(Prepared { draft, definition, seen });
        }
        self.ask(&mut prepared).await?;
        Ok(prepared)
    }

    async fn ask(&self, prepared: &mut [Prepared]) -> Result<(), Problem> {
        let places: Vec<usize> =
            (0..prepared.len()).filter(|place| prepared[*place].has_new_address()).collect();
        let definitions: Vec<&Definition> = places
            .iter()
            .filter_map(|place| prepared[*place].definition.as_ref()?.as_ref().ok())
            .collect();
        let told =
            url_check::check_all(self.state, self.caller, self.org.as_str(), &definitions).await?;
        for (place, reason) in places.into_iter().zip(told) {
            if let Some(reason) = reason {
                let reason = format!("/url nothing takes requests at this address: {reason}.");
                prepared[place].definition = Some(Err(vec![reason]));
            }
        }
        Ok(())
    }

    async fn once(&self, prepared: &[Prepared], effect: &Effect) -> Result<Response, Problem> {
        let services = self.state.services()?;
        let mut work = services.lifecycle.begin().await?;
        let items = match self.fill(&mut work, prepared).await {
            Ok(items) => items,
            Err(End::Refused(refusal)) => return Err(refused(work, refusal).await),
            Err(End::Failed(problem)) => {
                work.rollback().await?;
                return Err(*problem);
            }
        };
        if self.is_dry {
            work.rollback().await?;
            let items = items.into_iter().map(|item| ImportItem { id: None, secret: None, ..item });
            // What is there already has an id all the same.
            let known = services.own_webhooks.imported(self.org.as_str(), self.source).await?;
            let items = items.zip(prepared).map(|(item, one)| ImportItem {
                id: known.get(&imported_key(one.draft.part, &one.draft.source_id)).copied(),
                ..item
            });
            let body = ImportBody::new(self.source, true, items.collect(), self.warnings);
            return Ok(json_response(StatusCode::OK, &body));
        }
        let of = |outcome| -> Vec<(Part, &str, Uuid)> {
            let of_outcome = items.iter().zip(prepared);
            of_outcome
                .filter(|(item, _)| item.outcome == outcome)
                .filter_map(|(item, one)| {
                    Some((one.draft.part, one.draft.source_id.as_str(), item.id?))
                })
                .collect()
        };
        let (made, updated) = (of(ImportOutcome::Made), of(ImportOutcome::Updated));
        if !made.is_empty() || !updated.is_empty() {
            let (org, actor) = (self.org.as_str(), self.caller.actor());
            services
                .own_webhooks
                .audit_import(&work, org, self.source, (&made, &updated), &actor)
                .await?;
        }
        let body = ImportBody::new(self.source, false, items, self.warnings);
        effect.finish(self.state, work, StatusCode::OK, &body).await
    }

    /// Makes everything within the transaction.
    async fn fill(
        &self,
        work: &mut UnitOfWork,
        prepared: &[Prepared],
    ) -> Result<Vec<ImportItem>, End> {
        let own = &self.state.services()?.own_webhooks;
        let org = self.org.as_str();
        let actor = self.caller.actor();
        let mut known = own.imported_within(work, org, self.source).await?;
        // Webhooks that are not made, with what is said to those that call them.
        let mut absent: HashMap<(String, String), &'static str> = HashMap::new();
        let mut items = Vec::with_capacity(prepared.len());
        for one in prepared {
            let draft = &one.draft;
            let key = imported_key(draft.part, &draft.source_id);
            if let Some(id) = known.get(&key).copied() {
                items.push(if self.updates {
                    self.update(work, one, id, &known).await?
                } else {
                    ImportItem { id: Some(id), ..ImportItem::new(draft, ImportOutcome::Exists) }
                });
                continue;
            }
            let item = match (&draft.fate, &one.definition) {
                (Fate::Skipped, _) => ImportItem::new(draft, ImportOutcome::Skipped),
                (Fate::Impossible, _) => ImportItem::new(draft, ImportOutcome::Impossible),
                _ if draft.is_blocked() => ImportItem::new(draft, ImportOutcome::Blocked),
                (Fate::Webhook(_), Some(Ok(definition))) => {
                    self.webhook(work, draft, definition).await?
                }
                (Fate::Webhook(_), Some(Err(reasons))) => {
                    let mut item = ImportItem::new(draft, ImportOutcome::Impossible);
                    item.reasons.extend_from_slice(reasons);
                    item
                }
                // It was there when the others were checked, and was removed since.
                (Fate::Webhook(_), None) => return Err(OwnRefusal::Changed.into()),
                (Fate::Rule { kind, webhook, request }, _) => {
                    let called = imported_key(Part::called_by(*kind), webhook);
                    match (known.get(&called), absent.get(&called)) {
                        (Some(id), _) => {
                            let mut request = (**request).clone();
                            request.action.webhook_id = *id;
                            self.rule(work, draft, (*kind, request)).await?
                        }
                        (None, Some(why)) => ImportItem::new(draft, ImportOutcome::Blocked)
                            .because(format!("The webhook {webhook} that it calls {why}.")),
                        (None, None) => ImportItem::new(draft, ImportOutcome::Blocked).because(
                            format!("The webhook {webhook} that it calls is not in this import."),
                        ),
                    }
                }
            };
            match (item.outcome, item.id) {
                (ImportOutcome::Made, Some(id)) => {
                    let place = (draft.part, draft.source_id.as_str());
                    own.keep_imported(work, org, self.source, place, id, &actor)
                        .await
                        .map_err(OwnRefusal::from)?;
                    known.insert(key, id);
                }
                (ImportOutcome::Blocked, _) => {
                    absent.insert(key, "waits for something to be given");
                }
                (ImportOutcome::OverPlan, _) => {
                    absent.insert(key, "has no room in the plan");
                }
                _ => {
                    absent.insert(key, "cannot be carried over");
                }
            }
            items.push(item);
        }
        Ok(items)
    }

    async fn webhook(
        &self,
        work: &mut UnitOfWork,
        draft: &Draft,
        definition: &Definition,
    ) -> Result<ImportItem, End> {
        let own = &self.state.services()?.own_webhooks;
        let actor = self.caller.actor();
        match own.create(work, self.org.as_str(), definition.clone(), &actor).await {
            Ok(Created { id, secret }) => {
                let mut item = ImportItem::new(draft, ImportOutcome::Made);
                item.id = Some(id);
                item.secret = secret.map(|secret| secret.expose().to_owned());
                item.notes.extend_from_slice(&definition.warnings);
                item.webhook = Some(shown(self.state, work, id).await?);
                Ok(item)
            }
            Err(refusal) => self.refused(draft, refusal),
        }
    }

    async fn rule(
        &self,
        work: &mut UnitOfWork,
        draft: &Draft,
        (kind, request): (RuleKind, RuleRequest),
    ) -> Result<ImportItem, End> {
        let own = &self.state.services()?.own_webhooks;
        let actor = self.caller.actor();
        match rules::write_new(self.state, own, work, self.org, (kind, request), &actor).await {
            Ok((id, warnings)) => {
                let mut item = ImportItem::new(draft, ImportOutcome::Made);
                item.id = Some(id);
                item.notes.extend(warnings);
                item.rule = Some(rules::shown(self.state, work, kind, id).await?);
                Ok(item)
            }
            Err(OwnRefusal::Faults(faults)) => {
                let mut item = ImportItem::new(draft, ImportOutcome::Impossible);
                item.reasons.extend(in_words(faults));
                if item.reasons.iter().any(|reason| reason.contains("placeholder")) {
                    let how = "Say in mapping.placeholders what a placeholder is here.";
                    item.reasons.push(how.to_owned());
                }
                Ok(item)
            }
            Err(refusal) => self.refused(draft, refusal),
        }
    }

    /// What the plan has no room for is told of in a dry run, and ends a run for good.
    fn refused(&self, draft: &Draft, refusal: OwnRefusal) -> Result<ImportItem, End> {
        let is_of_plan = matches!(
            refusal,
            OwnRefusal::TooMany { .. }
                | OwnRefusal::TooManyOfEvent { .. }
                | OwnRefusal::TooManyRules { .. }
                | OwnRefusal::Dialect { .. }
        );
        if is_of_plan && self.is_dry {
            let reason = format!("{refusal}.");
            return Ok(ImportItem::new(draft, ImportOutcome::OverPlan).because(reason));
        }
        Err(refusal.into())
    }
}

/// How a transaction ends that makes nothing.
enum End {
    Refused(OwnRefusal),
    Failed(Box<Problem>),
}

impl From<OwnRefusal> for End {
    fn from(refusal: OwnRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Failed(Box::new(problem))
    }
}
