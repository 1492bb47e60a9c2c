//! `/recipes`: own webhooks for people who do not program. A recipe is tried before anything is saved.

use std::collections::BTreeMap;

use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, Path, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::own_webhooks::{known_in_address, refused, shown};
use super::problem::{FieldError, Problem};
use super::rules::{self, RuleBody};
use super::shapes::WebhookBody;
use super::state::ApiState;
use super::trials::{self, TrialBody};
use crate::identifier::OrgId;
use crate::webhook::own::{Definition, OwnRefusal, RuleKind, RuleRequest};
use crate::webhook::recipes::{Filled, Recipe, RecipeInput, recipe, recipes};

/// The routes of recipes.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read)).routes(routes!(apply))
}

/// A recipe.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RecipeBody {
    /// Its id.
    id: String,
    /// What it does.
    title: String,
    /// What one should know.
    description: String,
    /// What is to be typed in.
    inputs: Vec<RecipeInput>,
}

impl From<&Recipe> for RecipeBody {
    fn from(recipe: &Recipe) -> Self {
        Self {
            id: recipe.id.clone(),
            title: recipe.title.clone(),
            description: recipe.description.clone(),
            inputs: recipe.inputs.clone(),
        }
    }
}

/// All recipes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RecipesBody {
    /// Each of them.
    data: Vec<RecipeBody>,
    /// Null: they are all there.
    next_cursor: Option<String>,
}

/// The values that are typed in.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ApplyRequest {
    /// The values by name.
    values: BTreeMap<String, String>,
    /// Whether it is made even where the test is not taken; it is not where this is left out.
    #[serde(default)]
    save_anyway: bool,
}

/// What became of a recipe.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ApplyBody {
    /// Whether it was made.
    made: bool,
    /// What came of the test.
    test: TrialBody,
    /// The webhook.
    webhook: Option<WebhookBody>,
    /// What it signs with, where that was made here: told once, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Its trigger, where it has one.
    trigger: Option<RuleBody>,
}

/// Lists the recipes.
#[utoipa::path(
    get, path = "/api/v1/recipes", tag = "webhooks",
    responses((status = 200, description = "All of them", body = RecipesBody))
)]
async fn list(_caller: Caller) -> Response {
    let data = recipes().iter().map(RecipeBody::from).collect();
    json_response(StatusCode::OK, &RecipesBody { data, next_cursor: None })
}

/// Reads a recipe.
#[utoipa::path(
    get, path = "/api/v1/recipes/{id}", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 200, description = "It", body = RecipeBody), (status = 404, description = "No such recipe"))
)]
async fn read(_caller: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    let recipe = recipe(&id).ok_or_else(|| Problem::not_found("recipe"))?;
    Ok(json_response(StatusCode::OK, &RecipeBody::from(recipe)))
}

/// Tries a recipe with the values that were typed in, and makes its webhook and trigger where the test
/// was taken.
#[utoipa::path(
    post, path = "/api/v1/recipes/{id}/apply", tag = "webhooks", params(("id" = String, Path)),
    request_body = ApplyRequest,
    responses(
        (status = 200, description = "The test was not taken, and nothing was made", body = ApplyBody),
        (status = 201, description = "It is there", body = ApplyBody),
        (status = 403, description = "The plan of the org has no room for it"),
        (status = 404, description = "No such recipe"),
        (status = 422, description = "Values break their rules"),
    )
)]
async fn apply(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let head = parts.clone();
    let request = Request::from_parts(parts, body);
    let request = Idempotent::<ApplyRequest>::from_request(request, &state).await?;
    let recipe = recipe(&id).ok_or_else(|| Problem::not_found("recipe"))?;
    let org = caller.org_of(&head)?;
    let Filled { webhook, trigger } = recipe
        .fill(&request.value.values)
        .map_err(|faults| Problem::invalid(faults.into_iter().map(FieldError::from)))?;
    let own = &state.services()?.own_webhooks;
    let definition = own.check(org.as_str(), webhook.clone()).await?;
    known_in_address(&definition)?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let payload = trigger.as_ref().and_then(|rule| rule.action.payload.clone());
    let test =
        trials::try_described(&state, &caller, org.to_string(), webhook, &recipe.test, payload)
            .await?;
    if !(test.is_delivered() || request.value.save_anyway) {
        let body = ApplyBody { made: false, test, webhook: None, secret: None, trigger: None };
        let work = state.services()?.lifecycle.begin().await?;
        return effect.finish(&state, work, StatusCode::OK, &body).await;
    }
    let mut turns = Turns::default();
    loop {
        let parts = (&definition, trigger.as_ref(), &test);
        let done = make_once(&state, &caller, &org, parts, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn make_once(
    state: &ApiState,
    caller: &Caller,
    org: &OrgId,
    (definition, trigger, test): (&Definition, Option<&RuleRequest>, &TrialBody),
    effect: &Effect,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let own = &services.own_webhooks;
    let actor = caller.actor();
    let mut work = services.lifecycle.begin().await?;
    let made = async {
        let created = own.create(&mut work, org.as_str(), definition.clone(), &actor).await?;
        let rule = match trigger {
            None => None,
            Some(trigger) => {
                let mut request = trigger.clone();
                request.action.webhook_id = created.id;
                let request = (RuleKind::Trigger, request);
                let (id, _) = rules::write_new(state, own, &mut work, org, request, &actor).await?;
                Some(id)
            }
        };
        Ok::<_, OwnRefusal>((created, rule))
    };
    let (created, rule) = match made.await {
        Ok(made) => made,
        Err(refusal) => return Err(refused(work, refusal).await),
    };
    let body = ApplyBody {
        made: true,
        test: test.clone(),
        webhook: Some(shown(state, &work, created.id).await?),
        secret: created.secret.map(|secret| secret.expose().to_owned()),
        trigger: match rule {
            None => None,
            Some(id) => Some(rules::shown(state, &work, RuleKind::Trigger, id).await?),
        },
    };
    effect.finish(state, work, StatusCode::CREATED, &body).await
}
