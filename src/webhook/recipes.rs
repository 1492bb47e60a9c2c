//! Recipes for people who do not program: an own webhook, and where it needs one its trigger, with two
//! values to type in. They are the files of `examples/recipes`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::conditions::Conditions;
use super::own::{FieldFault, RuleAction, RuleRequest, WebhookRequest};

/// The longest value, in bytes.
const LONGEST_VALUE: usize = 2_000;

const FILES: [&str; 6] = [
    include_str!("../../examples/recipes/slack.json"),
    include_str!("../../examples/recipes/teams.json"),
    include_str!("../../examples/recipes/ticket-elsewhere.json"),
    include_str!("../../examples/recipes/copy-field.json"),
    include_str!("../../examples/recipes/sla-alert.json"),
    include_str!("../../examples/recipes/dashboard.json"),
];

/// A value to type in.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecipeInput {
    /// Its name in `values`.
    pub name: String,
    /// What it is.
    pub label: String,
    /// How one looks.
    pub example: String,
}

/// The trigger of a recipe.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeTrigger {
    name: String,
    conditions: Value,
    payload: String,
}

/// A recipe.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Its id.
    pub id: String,
    /// What it does.
    pub title: String,
    /// What one should know.
    pub description: String,
    /// What is to be typed in.
    pub inputs: Vec<RecipeInput>,
    webhook: Value,
    #[serde(default)]
    trigger: Option<RecipeTrigger>,
    /// The event that it is tested with, by the name of its dialect.
    pub test: String,
}

/// A recipe with the values in their places.
#[derive(Clone, Debug)]
pub struct Filled {
    /// The webhook.
    pub webhook: WebhookRequest,
    /// Its trigger, with a webhook of no id.
    pub trigger: Option<RuleRequest>,
}

static RECIPES: LazyLock<Vec<Recipe>> = LazyLock::new(|| {
    // A test reads each of them: none is left out.
    FILES.iter().filter_map(|file| serde_json::from_str(file).ok()).collect()
});

/// All of them.
pub fn recipes() -> &'static [Recipe] {
    &RECIPES
}

/// The recipe with an id.
pub fn recipe(id: &str) -> Option<&'static Recipe> {
    RECIPES.iter().find(|recipe| recipe.id == id)
}

impl Recipe {
    /// Puts values in their places; all faults at once.
    pub fn fill(&self, values: &BTreeMap<String, String>) -> Result<Filled, Vec<FieldFault>> {
        let mut faults = Vec::new();
        for input in &self.inputs {
            let place = format!("/values/{}", input.name);
            match values.get(&input.name) {
                None => faults.push(FieldFault::missing(place, input.label.clone())),
                Some(value)
                    if value.trim().is_empty()
                        || value.len() > LONGEST_VALUE
                        || value.chars().any(char::is_control) =>
                {
                    let rule =
                        format!("must have 1 to {LONGEST_VALUE} bytes, no control characters");
                    faults.push(FieldFault::new(place, rule));
                }
                Some(_) => {}
            }
        }
        for name in values.keys() {
            if !self.inputs.iter().any(|input| input.name == *name) {
                let shown: String = name.chars().take(100).collect();
                let rule = "is not a value of this recipe";
                faults.push(FieldFault::new(format!("/values/{shown}"), rule));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let broken = |_| vec![FieldFault::new("", "the recipe cannot be read")];
        let webhook = serde_json::from_value(filled(&self.webhook, values)).map_err(broken)?;
        let trigger = match &self.trigger {
            None => None,
            Some(trigger) => {
                let conditions: Conditions =
                    serde_json::from_value(filled(&trigger.conditions, values)).map_err(broken)?;
                Some(RuleRequest {
                    name: put(&trigger.name, values),
                    conditions,
                    action: RuleAction {
                        webhook_id: Uuid::nil(),
                        payload: Some(put(&trigger.payload, &in_json(values))),
                        parameters: None,
                    },
                    position: None,
                    is_active: None,
                    after_minutes: None,
                    unless: None,
                })
            }
        };
        Ok(Filled { webhook, trigger })
    }
}

/// Values as they stand within a JSON string of a template: none of them is a placeholder.
fn in_json(values: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let written = |value: &String| {
        let quoted = Value::from(value.as_str()).to_string();
        let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        inner.replace("{{", "\\u007b\\u007b")
    };
    values.iter().map(|(name, value)| (name.clone(), written(value))).collect()
}

/// A document with the values put into its texts and names.
fn filled(document: &Value, values: &BTreeMap<String, String>) -> Value {
    match document {
        Value::String(text) => Value::String(put(text, values)),
        Value::Array(items) => items.iter().map(|item| filled(item, values)).collect(),
        Value::Object(members) => {
            let members = members.iter();
            let put = members.map(|(name, value)| (put(name, values), filled(value, values)));
            Value::Object(put.collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// A text with `${name}` replaced, once: what a value holds is text.
fn put(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        written.push_str(before);
        match after.split_once('}') {
            Some((name, following)) if values.contains_key(name) => {
                written.push_str(values.get(name).map_or("", String::as_str));
                rest = following;
            }
            _ => {
                written.push_str("${");
                rest = after;
            }
        }
    }
    written.push_str(rest);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_recipe_has_two_values_and_can_be_filled() {
        assert_eq!(recipes().len(), FILES.len());
        for recipe in recipes() {
            assert_eq!(recipe.inputs.len(), 2, "{}", recipe.id);
            let examples: BTreeMap<String, String> = recipe
                .inputs
                .iter()
                .map(|input| (input.name.clone(), input.example.clone()))
                .collect();
            let filled = recipe.fill(&examples).expect("it can be filled");
            assert_eq!(filled.webhook.url, examples["url"], "{}", recipe.id);
            let is_connected = filled.webhook.connection.as_deref() == Some("trigger");
            assert_eq!(is_connected, filled.trigger.is_some(), "{}", recipe.id);
            assert!(recipe.fill(&values(&[("url", "https://a.example/")])).is_err());
        }
    }

    #[test]
    fn values_are_texts_and_nothing_else() {
        let recipe = recipe("ticket-elsewhere").expect("a recipe");
        let odd = values(&[
            ("url", "https://a.example/${project}"),
            ("project", "a\"b {{ticket.id}} ${url}"),
        ]);
        let filled = recipe.fill(&odd).expect("it can be filled");
        assert_eq!(filled.webhook.url, "https://a.example/${project}");
        let payload = filled.trigger.and_then(|trigger| trigger.action.payload).expect("a payload");
        assert!(payload.contains(r#""a\"b \u007b\u007bticket.id}} ${url}""#), "{payload}");
        let places: Vec<String> = recipe
            .fill(&values(&[("url", " "), ("other", "x")]))
            .expect_err("faults")
            .into_iter()
            .map(|fault| fault.pointer)
            .collect();
        assert_eq!(places, ["/values/url", "/values/project", "/values/other"]);
    }
}
