//! What going from one version to another means, in words.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::growth::{Growth, growth};
use super::json::{shown, shown_path};
use super::package::CheckedPackage;
use super::plan::{Plan, PlanDocument, PlannedResource, Provisioned, diff};

/// What an upgrade changes, and whether it needs consent. Shown with `Display`.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// What happens to the resources.
    pub plan: Plan,
    /// What the new version asks for beyond the old one.
    pub growth: Vec<Growth>,
    /// Whether somebody must agree: where it asks for more.
    pub consent_required: bool,
}

impl Upgrade {
    /// For an installation that has exactly what the old version declares.
    pub fn between(old: &CheckedPackage, new: &CheckedPackage) -> Self {
        Self::from_installed(&Provisioned::of(old), old, new)
    }

    /// For an installation that has more than that left from earlier versions.
    pub fn from_installed(
        installed: &Provisioned,
        old: &CheckedPackage,
        new: &CheckedPackage,
    ) -> Self {
        let growth = growth(old, new);
        Self { plan: diff(installed, new), consent_required: !growth.is_empty(), growth }
    }
}

impl fmt::Display for Upgrade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("create", &self.plan.create),
            ("update", &self.plan.update),
            ("delete", &self.plan.delete),
            ("keep", &self.plan.unchanged),
        ];
        for (what, resources) in lists {
            for resource in resources {
                write_resource(what, resource, formatter)?;
            }
        }
        if self.plan.is_empty() {
            writeln!(formatter, "No resource changes.")?;
        }
        if self.growth.is_empty() {
            return writeln!(formatter, "No consent is needed: it asks for nothing more.");
        }
        writeln!(formatter, "Consent is needed, because it asks for more:")?;
        self.growth.iter().try_for_each(|grown| writeln!(formatter, "  + {grown}"))
    }
}

fn write_resource(
    what: &str,
    resource: &PlannedResource,
    formatter: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (kind, name) = (shown(&resource.key.kind), shown(&resource.key.resource_name));
    write!(formatter, "{what:<7} {kind} {name}")?;
    match resource.document {
        PlanDocument::New => writeln!(formatter)?,
        PlanDocument::Old => {
            writeln!(
                formatter,
                " (in the old resources.json at {})",
                shown_path(&resource.pointer)
            )?;
        }
    }
    for change in &resource.changes {
        let pointer = shown_path(&change.pointer);
        let (before, after) = (brief(&change.before), brief(&change.after));
        writeln!(formatter, "        {pointer}: {before} -> {after}")?;
    }
    Ok(())
}

fn brief(value: &Value) -> String {
    shown(&value.to_string())
}

impl fmt::Display for Growth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection { service_name } => {
                write!(formatter, "connection to {}", shown(service_name))
            }
            Self::Scope { service_name, scope } => {
                write!(formatter, "scope {} of {}", shown(scope), shown(service_name))
            }
            Self::Event { event_type } => write!(formatter, "event {}", shown(event_type)),
            Self::CallbackHost { host } => write!(formatter, "calls to {}", shown(host)),
            Self::SecretParameter { name } => {
                write!(formatter, "secret parameter {}", shown(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(scopes: &Value, webhook: &Value) -> CheckedPackage {
        let manifest = json!({
            "locale": ["en"], "service": "DESK", "storage": false, "type": "org",
            "whiteListedDomains": [], "connectors": [], "config": [],
            "modules": { "widgets": [{ "name": "Panel", "url": "/app/panel.html" }] },
            "zohoAuthorisation": { "type": "connectors", "scope": scopes },
        });
        let mut resources = json!({ "webhook": {
            "resourceName": "hook", "url": "https://a.example.com/h", "name": "Hook",
            "subscriptions": { "Ticket_Add": null },
            "ignoreSourceId": "7b1c2d04-3a58-4f6e-9c1d-5e0f8a9b2c31",
        }});
        for (key, member) in webhook.as_object().expect("an object") {
            resources["webhook"][key] = member.clone();
        }
        CheckedPackage::from_stored(&manifest, &resources).expect("a package")
    }

    #[test]
    fn an_upgrade_says_what_changes_and_why_it_needs_consent() {
        let old = package(&json!(["Desk.events.ALL"]), &json!({}));
        let new = package(
            &json!(["Desk.events.ALL", "Desk.tickets.READ"]),
            &json!({ "url": "https://b.example.com/h", "subscriptions": { "Ticket_Add": null, "Ticket_Update": { "fields": ["status"] } } }),
        );
        let upgrade = Upgrade::between(&old, &new);
        assert!(upgrade.consent_required);
        assert_eq!(
            upgrade.to_string(),
            "update  webhook hook\n        \
             /webhook/subscriptions/Ticket_Update: null -> {\"fields\":[\"status\"]}\n        \
             /webhook/url: \"https://a.example.com/h\" -> \"https://b.example.com/h\"\n\
             Consent is needed, because it asks for more:\n  \
             + scope Desk.tickets.READ of zlabs_integration\n  \
             + event Ticket_Update\n  \
             + calls to b.example.com:443\n"
        );
        let document = json!(upgrade);
        assert_eq!(document["consentRequired"], true);
        assert_eq!(document["plan"]["update"][0]["resourceName"], "hook");
        assert_eq!(
            document["growth"][0],
            json!({ "kind": "scope", "serviceName": "zlabs_integration", "scope": "Desk.tickets.READ" })
        );
    }

    #[test]
    fn what_goes_is_named_with_its_place_in_the_old_document() {
        let old = package(&json!(["Desk.events.ALL"]), &json!({}));
        let new = CheckedPackage::from_stored(old.stripped_manifest(), &json!({}));
        let upgrade = Upgrade::between(&old, &new.expect("a package"));
        let told = upgrade.to_string();
        let line = "delete  webhook hook (in the old resources.json at /webhook)\n";
        assert!(told.starts_with(line), "{told}");
    }

    #[test]
    fn less_needs_no_consent() {
        let old = package(&json!(["Desk.events.ALL", "Desk.tickets.ALL"]), &json!({}));
        let new = package(&json!(["Desk.events.ALL", "Desk.tickets.READ"]), &json!({}));
        let upgrade = Upgrade::between(&old, &new);
        assert_eq!(
            upgrade.to_string(),
            "keep    webhook hook\nNo resource changes.\nNo consent is needed: it asks for nothing more.\n"
        );
    }
}
