//! What an upgrade changes: the difference between what an installation has and what a version
//! declares, by resource name.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::json::escape;
use super::package::CheckedPackage;
use super::webhook_resource::{ProvisionedWebhook, WebhookResource};

/// What identifies a resource over all versions of an extension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceKey {
    /// The kind, as the key in `resources.json`: `webhook`, `fields` …
    pub kind: String,
    /// The `resourceName`; of kinds that have none the name that stands for it.
    pub resource_name: String,
}

/// A resource with everything decided.
#[derive(Clone, Debug, PartialEq)]
enum Body {
    Webhook(ProvisionedWebhook),
    /// Any other kind belongs to the host; it is compared and replaced whole.
    Other(Value),
}

impl Body {
    fn to_json(&self) -> Value {
        match self {
            Self::Webhook(webhook) => webhook.to_json(),
            Self::Other(value) => value.clone(),
        }
    }
}

/// A resource that an installation has, and where the version that it has it from declares it.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    pointer: String,
    body: Body,
}

/// The resources that an installation has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provisioned {
    resources: BTreeMap<ResourceKey, Held>,
}

impl Provisioned {
    /// What a first installation of a package has.
    pub fn of(package: &CheckedPackage) -> Self {
        Self::default().apply(&diff(&Self::default(), package))
    }

    /// The same with the webhook as it really is: upgrades may have left more in it than the
    /// version in force declares.
    #[must_use]
    pub fn with_webhook(mut self, webhook: Option<ProvisionedWebhook>) -> Self {
        self.resources.retain(|key, _| key.kind != WEBHOOK);
        if let Some(webhook) = webhook {
            let key = webhook_key(&webhook.resource_name);
            let (pointer, body) = (format!("/{WEBHOOK}"), Body::Webhook(webhook));
            self.resources.insert(key, Held { pointer, body });
        }
        self
    }

    /// The webhook, where there is one.
    pub fn webhook(&self) -> Option<&ProvisionedWebhook> {
        self.resources.values().find_map(|held| match &held.body {
            Body::Webhook(webhook) => Some(webhook),
            Body::Other(_) => None,
        })
    }

    /// What an installation has after the plan was carried out.
    #[must_use]
    pub fn apply(&self, plan: &Plan) -> Self {
        let mut resources = self.resources.clone();
        for gone in &plan.delete {
            resources.remove(&gone.key);
        }
        // What stays as it is may stand elsewhere in the new document.
        for planned in plan.create.iter().chain(&plan.update).chain(&plan.unchanged) {
            if let Some(body) = &planned.body {
                let (pointer, body) = (planned.pointer.clone(), body.clone());
                resources.insert(planned.key.clone(), Held { pointer, body });
            }
        }
        Self { resources }
    }
}

/// A part of a resource that changes.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The part in `resources.json`, as a JSON Pointer.
    pub pointer: String,
    /// What it was; `null` where it was not there.
    pub before: Value,
    /// What it becomes; `null` where it goes.
    pub after: Value,
}

/// Which version's `resources.json` a pointer leads into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlanDocument {
    /// The version that the installation has.
    Old,
    /// The version that it is to have.
    New,
}

/// What happens to one resource.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedResource {
    /// Which resource.
    #[serde(flatten)]
    pub key: ResourceKey,
    /// Where it stands in `resources.json`, as a JSON Pointer.
    pub pointer: String,
    /// In which `resources.json`: the old one for what goes, else the new one.
    pub document: PlanDocument,
    /// What changes in it; empty unless it is updated.
    pub changes: Vec<Change>,
    #[serde(skip)]
    #[schema(ignore)]
    body: Option<Body>,
}

impl PlannedResource {
    /// The webhook as it will be, where this is one that stays or comes.
    pub fn webhook(&self) -> Option<&ProvisionedWebhook> {
        match &self.body {
            Some(Body::Webhook(webhook)) => Some(webhook),
            _ => None,
        }
    }
}

/// What an upgrade does, each list by kind and name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Resources that come.
    pub create: Vec<PlannedResource>,
    /// Resources that stay and change; their ids, secrets and history survive.
    pub update: Vec<PlannedResource>,
    /// Resources that go.
    pub delete: Vec<PlannedResource>,
    /// Resources that stay as they are.
    pub unchanged: Vec<PlannedResource>,
}

impl Plan {
    /// Whether nothing happens.
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// What has to happen to bring an installation from what it has to what a version declares.
///
/// Optional keys of the webhook that the version leaves out keep their value, `null` clears them,
/// and subscriptions are replaced whole.
pub fn diff(old: &Provisioned, new: &CheckedPackage) -> Plan {
    let mut plan = Plan::default();
    let mut gone = old.resources.clone();
    for (key, declared) in declared(new) {
        let former = gone.remove(&key);
        let body = match declared.webhook {
            Some(webhook) => {
                let former = match former.as_ref().map(|former| &former.body) {
                    Some(Body::Webhook(former)) => Some(former),
                    _ => None,
                };
                Body::Webhook(webhook.provision(former))
            }
            None => Body::Other(declared.value),
        };
        let mut planned = PlannedResource {
            key,
            pointer: declared.pointer,
            document: PlanDocument::New,
            changes: Vec::new(),
            body: None,
        };
        let list = match former {
            None => &mut plan.create,
            Some(former) if former.body == body => &mut plan.unchanged,
            Some(former) => {
                let pointer = planned.pointer.clone();
                compare(&former.body.to_json(), &body.to_json(), pointer, &mut planned.changes);
                &mut plan.update
            }
        };
        planned.body = Some(body);
        list.push(planned);
    }
    for (key, Held { pointer, .. }) in gone {
        let (document, changes) = (PlanDocument::Old, Vec::new());
        plan.delete.push(PlannedResource { key, pointer, document, changes, body: None });
    }
    plan
}

const WEBHOOK: &str = "webhook";

fn webhook_key(resource_name: &str) -> ResourceKey {
    ResourceKey { kind: WEBHOOK.into(), resource_name: resource_name.into() }
}

struct Declared<'p> {
    pointer: String,
    webhook: Option<&'p WebhookResource>,
    value: Value,
}

/// All resources of a package by their key.
fn declared(package: &CheckedPackage) -> BTreeMap<ResourceKey, Declared<'_>> {
    let mut all = BTreeMap::new();
    for (kind, value) in package.resources().as_object().into_iter().flatten() {
        if kind == WEBHOOK || kind.starts_with('$') {
            continue;
        }
        let pointer = format!("/{}", escape(kind));
        let mut add = |value: &Value, pointer: String, otherwise: &str| {
            let names = ["resourceName", "apiName", "customActionName", "targetName"];
            let name = names.iter().find_map(|name| value.get(name)?.as_str());
            let key = |name: &str| ResourceKey { kind: kind.clone(), resource_name: name.into() };
            // Nothing may hide behind another that has the same name, or none.
            let own = name.map(key).filter(|key| !all.contains_key(key));
            let declared = Declared { pointer, webhook: None, value: value.clone() };
            all.insert(own.unwrap_or_else(|| key(otherwise)), declared);
        };
        match value {
            Value::Array(items) => {
                for (position, item) in items.iter().enumerate() {
                    let otherwise = format!("{kind}[{position}]");
                    add(item, format!("{pointer}/{position}"), &otherwise);
                }
            }
            value => add(value, pointer, kind),
        }
    }
    if let Some(webhook) = &package.webhook {
        let (pointer, value) = (format!("/{WEBHOOK}"), Value::Null);
        let declared = Declared { pointer, webhook: Some(webhook), value };
        all.insert(webhook_key(&webhook.resource_name), declared);
    }
    all
}

/// Lists the smallest parts that differ.
fn compare(before: &Value, after: &Value, pointer: String, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(former), Value::Object(latter)) => {
            let mut keys: Vec<_> = former.keys().chain(latter.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let pointer = format!("{pointer}/{}", escape(key));
                match (former.get(key), latter.get(key)) {
                    (Some(before), Some(after)) => compare(before, after, pointer, changes),
                    (before, after) => changes.push(Change {
                        pointer,
                        before: before.cloned().unwrap_or_default(),
                        after: after.cloned().unwrap_or_default(),
                    }),
                }
            }
        }
        _ => changes.push(Change { pointer, before: before.clone(), after: after.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(resources: &Value) -> CheckedPackage {
        let manifest = json!({
            "locale": ["en"], "service": "DESK", "storage": false, "whiteListedDomains": [],
            "modules": { "widgets": [{ "name": "Panel", "url": "/app/panel.html" }] },
            "connectors": [], "config": [],
        });
        CheckedPackage::from_stored(&manifest, resources).expect("a package")
    }

    #[test]
    fn pointers_lead_to_the_resource_in_the_document_that_has_it() {
        let old = package(&json!({ "fields": [
            { "resourceName": "a" }, { "resourceName": "b" }, { "resourceName": "c" },
        ]}));
        let middle =
            package(&json!({ "fields": [{ "resourceName": "c" }, { "resourceName": "b" }] }));
        let new = package(&json!({ "fields": [{ "resourceName": "b", "maxLength": 5 }] }));
        let place = |planned: &[PlannedResource]| -> Vec<(String, PlanDocument)> {
            planned.iter().map(|one| (one.pointer.clone(), one.document)).collect()
        };
        let installed = Provisioned::of(&old);
        let plan = diff(&installed, &new);
        let gone =
            [("/fields/0".to_owned(), PlanDocument::Old), ("/fields/2".into(), PlanDocument::Old)];
        assert_eq!(place(&plan.delete), gone);
        assert_eq!(place(&plan.update), [("/fields/0".to_owned(), PlanDocument::New)]);
        assert_eq!(plan.update[0].changes[0].pointer, "/fields/0/maxLength");
        // The version between moved what stayed: the pointers are its own.
        let installed = installed.apply(&diff(&installed, &middle));
        assert_eq!(installed, Provisioned::of(&middle));
        let plan = diff(&installed, &new);
        assert_eq!(place(&plan.delete), [("/fields/0".to_owned(), PlanDocument::Old)]);
        assert_eq!(json!(plan)["delete"][0]["document"], "old");
    }

    #[test]
    fn nameless_resources_do_not_hide_each_other() {
        let old = package(&json!({ "gadgets": [{ "size": 1 }, { "size": 2 }] }));
        let new = package(&json!({ "gadgets": [{ "size": 3 }, { "size": 2 }] }));
        let plan = diff(&Provisioned::of(&old), &new);
        assert_eq!((plan.update.len(), plan.unchanged.len()), (1, 1));
        assert_eq!(plan.update[0].changes[0].pointer, "/gadgets/0/size");
        assert!(diff(&Provisioned::of(&old), &old).is_empty());
    }
}
