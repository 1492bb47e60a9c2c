//! Recipes: own webhooks for people who do not program. Two values are typed in, they are tried, and
//! what passes is made.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{page, page_with};
use crate::api::Role;
use crate::web::answers::{List, Trial, Written};
use crate::web::faults::{Faults, Fields};
use crate::web::form::Form;
use crate::web::parts::Copy;
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, segment, with_query};

/// What recipes ask for: the name of the value, and its label where something is wrong with it.
const FIELDS: Fields = &[
    ("/url", "Address"),
    ("/secret", "Secret"),
    ("/priority", "Priority"),
    ("/project", "Project"),
    ("/field", "Field"),
];

/// A recipe as the API tells it.
#[derive(Debug, Deserialize)]
struct Recipe {
    id: String,
    title: String,
    description: String,
    inputs: Vec<Input>,
}

/// A value to type in.
#[derive(Debug, Deserialize)]
struct Input {
    name: String,
    label: String,
    example: String,
    /// What was typed in.
    #[serde(skip)]
    value: String,
}

impl Input {
    /// Where faults name it.
    fn pointer(&self) -> String {
        format!("/{}", self.name)
    }

    /// What a browser helps with.
    fn kind(&self) -> &'static str {
        if self.name == "url" { "url" } else { "text" }
    }
}

/// What became of one.
#[derive(Debug, Deserialize)]
struct Applied {
    made: bool,
    test: Trial,
    webhook: Option<Written>,
    #[serde(default)]
    secret: Option<String>,
}

#[derive(Template)]
#[template(path = "recipes.html")]
struct ListPage {
    shell: Shell,
    recipes: Vec<Recipe>,
    can_change: bool,
}

#[derive(Template)]
#[template(path = "recipe.html")]
struct RecipePage {
    shell: Shell,
    recipe: Recipe,
    needs_org: bool,
    org: String,
    faults: Faults,
    /// What came of the test.
    trial: Option<Trial>,
    /// What was made.
    made: Option<Written>,
    secret: Option<Copy>,
}

/// All of them.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    let recipes: List<Recipe> = visit.get("/recipes").await?;
    let can_change = visit.is_any(&[Role::Operator, Role::Admin]);
    page(&ListPage { shell: visit.shell("Recipes"), recipes: recipes.data, can_change })
}

async fn recipe(visit: &Visit, id: &str) -> Result<Recipe, Trouble> {
    visit.get(&format!("/recipes/{}", segment(id))).await
}

impl RecipePage {
    fn new(visit: &Visit, recipe: Recipe, org: String) -> Self {
        Self {
            shell: visit.shell(recipe.title.clone()),
            needs_org: visit.is_any(&[Role::Operator]),
            recipe,
            org,
            faults: Faults::none(FIELDS),
            trial: None,
            made: None,
            secret: None,
        }
    }
}

/// Asks for the values.
pub(in crate::web) async fn show(
    visit: Visit,
    Part(id): Part<String>,
) -> Result<Response, Trouble> {
    let recipe = recipe(&visit, &id).await?;
    page(&RecipePage::new(&visit, recipe, visit.parameter("org")))
}

fn values(recipe: &mut Recipe, form: &Form) -> BTreeMap<String, String> {
    for input in &mut recipe.inputs {
        form.text(&format!("value.{}", input.name)).clone_into(&mut input.value);
    }
    recipe.inputs.iter().map(|input| (input.name.clone(), input.value.clone())).collect()
}

/// Tries it with the values, and makes what passes.
pub(in crate::web) async fn apply(
    visit: Visit,
    Part(id): Part<String>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let mut recipe = recipe(&visit, &id).await?;
    let values = values(&mut recipe, &form);
    let org = form.text("org").to_owned();
    let body = json!({ "values": values, "saveAnyway": form.is_ticked("anyway") });
    let path = format!("/recipes/{}/apply", segment(&id));
    let path = with_query(&path, &[("orgId", &org)]);
    let answered = visit.send(Method::POST, &path, &body, form.text("key")).await?;
    let mut shown = RecipePage::new(&visit, recipe, org);
    if !answered.status.is_success() {
        shown.faults = Faults::of(FIELDS, answered, "/values")?;
        return page_with(StatusCode::UNPROCESSABLE_ENTITY, &shown);
    }
    let applied: Applied =
        serde_json::from_value(answered.json).map_err(|error| Trouble::internal(&error))?;
    shown.trial = Some(applied.test);
    if applied.made {
        shown.made = applied.webhook;
        shown.secret = applied.secret.map(|secret| Copy::new(secret, "the signing secret"));
    }
    page(&shown)
}
