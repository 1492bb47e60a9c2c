//! What should be: the webhook of an installation from its serving version and what earlier
//! versions left, and how a row differs from that.

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, sea_query::OnConflict};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::drift::DriftKind;
use crate::lifecycle::LifecycleError;
use crate::manifest::{DeliveryWishes, EventOrigin, ProvisionedWebhook, WebhookResource};
use crate::store::UnitOfWork;
use crate::store::entity::{installation, provisioned_webhook, webhook};
use crate::webhook::provisioning::NewExtensionWebhook;

/// What the merge rule may keep from an earlier version: the optional keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    description: Option<String>,
    include_events_from: Vec<EventOrigin>,
    ordered: bool,
    delivery: Option<DeliveryWishes>,
}

/// Keeps what was provisioned, in the transaction that provisions it.
pub(in crate::lifecycle) async fn remember(
    work: &UnitOfWork,
    webhook_id: Uuid,
    owner: &installation::Model,
    provisioned: &ProvisionedWebhook,
) -> Result<(), LifecycleError> {
    use provisioned_webhook::Column;
    let kept = Kept {
        description: provisioned.description.clone(),
        include_events_from: provisioned.include_events_from.iter().copied().collect(),
        ordered: provisioned.ordered,
        delivery: provisioned.delivery.clone(),
    };
    let document = serde_json::to_string(&kept)
        .map_err(|_| LifecycleError::Unreadable { what: "webhook of the package" })?;
    let row = provisioned_webhook::ActiveModel {
        webhook_id: Set(webhook_id),
        installation_id: Set(owner.id),
        resource_name: Set(provisioned.resource_name.replace('\0', "\u{fffd}")),
        version_id: Set(owner.version_id),
        document: Set(document),
    };
    let insert = provisioned_webhook::Entity::insert(row).on_conflict(
        OnConflict::column(Column::WebhookId)
            .update_columns([
                Column::InstallationId,
                Column::ResourceName,
                Column::VersionId,
                Column::Document,
            ])
            .to_owned(),
    );
    work.write_later(&insert);
    Ok(())
}

/// Forgets what was provisioned for an installation, in the transaction that removes it.
pub(in crate::lifecycle) async fn forget(
    work: &UnitOfWork,
    installation_id: Uuid,
) -> Result<(), LifecycleError> {
    provisioned_webhook::Entity::delete_many()
        .filter(provisioned_webhook::Column::InstallationId.eq(installation_id))
        .exec(work.connection())
        .await?;
    Ok(())
}

/// The webhook that an installation should have of a resource.
///
/// What was remembered of the serving version says it exactly. Without that (an installation from
/// before there was such a memory, or one whose version was changed without it) the optional keys
/// that the version leaves out are taken as the row has them: nothing is undone on a guess.
pub(super) fn desired(
    resource: &WebhookResource,
    owner: &installation::Model,
    remembered: Option<&provisioned_webhook::Model>,
    row: Option<&webhook::Model>,
) -> ProvisionedWebhook {
    let bare = resource.provision(None);
    let kept = remembered
        .filter(|remembered| remembered.version_id == owner.version_id)
        .and_then(|remembered| serde_json::from_str::<Kept>(&remembered.document).ok())
        .or_else(|| row.map(kept_by));
    let Some(kept) = kept else { return bare };
    let former = ProvisionedWebhook {
        description: kept.description,
        include_events_from: kept.include_events_from.into_iter().collect(),
        ordered: kept.ordered,
        delivery: kept.delivery,
        ..bare
    };
    resource.provision(Some(&former))
}

fn kept_by(row: &webhook::Model) -> Kept {
    let read = |text: &Option<String>| text.as_deref().map(str::to_owned);
    Kept {
        description: row.description.clone(),
        include_events_from: read(&row.include_events_from)
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default(),
        ordered: row.ordered != 0,
        delivery: read(&row.delivery).and_then(|text| serde_json::from_str(&text).ok()),
    }
}

/// How a row differs: each kind with the columns that say so.
pub(super) fn differences(
    wanted: &NewExtensionWebhook,
    row: &webhook::Model,
) -> Vec<(DriftKind, Vec<&'static str>)> {
    let owner = [
        ("org_id", row.org_id == wanted.org_id),
        ("installation_id", row.installation_id == Some(wanted.installation_id)),
        ("extension_key", row.extension_key.as_ref() == Some(&wanted.extension_key)),
        ("kind", row.kind == "extension"),
    ];
    let edited = [
        ("resource_name", row.resource_name.as_ref() == Some(&wanted.resource_name)),
        ("name", row.name.as_ref() == Some(&wanted.name)),
        ("description", row.description == wanted.description),
        ("subscriptions", is_same_json(Some(&row.subscriptions), Some(&wanted.subscriptions))),
        ("ignore_source_id", row.ignore_source_id.as_ref() == Some(&wanted.ignore_source_id)),
        (
            "include_events_from",
            is_same_json(row.include_events_from.as_ref(), wanted.include_events_from.as_ref()),
        ),
        ("ordered", (row.ordered != 0) == wanted.ordered),
        ("dialect", row.dialect == "desk"),
        ("delivery", is_same_json(row.delivery.as_ref(), wanted.delivery.as_ref())),
    ];
    let different = |columns: &[(&'static str, bool)]| -> Vec<&'static str> {
        columns.iter().filter(|(_, is_same)| !is_same).map(|(name, _)| *name).collect()
    };
    let mut found = Vec::new();
    let mut note = |kind, columns: &[(&'static str, bool)]| {
        let columns = different(columns);
        if !columns.is_empty() {
            found.push((kind, columns));
        }
    };
    note(DriftKind::WebhookOwner, &owner);
    note(DriftKind::WebhookContext, &[("generation", row.generation == wanted.generation)]);
    note(DriftKind::WebhookUrl, &[("url", row.url == wanted.url)]);
    note(DriftKind::WebhookDisabled, &[("is_enabled", row.is_enabled == 1)]);
    note(DriftKind::WebhookEdited, &edited);
    found
}

/// Whether two documents say the same; a text that is no JSON is like itself only.
fn is_same_json(one: Option<&String>, other: Option<&String>) -> bool {
    let read = |text: Option<&String>| match text {
        None => Ok(Value::Null),
        Some(text) => serde_json::from_str::<Value>(text).map_err(|_| text.clone()),
    };
    read(one) == read(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_compared_by_what_they_say() {
        let text = |text: &str| Some(text.to_owned());
        for (one, other, same) in [
            (text("{\"a\":1,\"b\":2}"), text("{\"b\":2, \"a\":1}"), true),
            (None, text("null"), true),
            (None, text("{}"), false),
            (text("nonsense"), text("nonsense"), true),
            (text("nonsense"), text("null"), false),
            (text("[\"AUTOMATION\"]"), None, false),
        ] {
            assert_eq!(is_same_json(one.as_ref(), other.as_ref()), same, "{one:?} {other:?}");
        }
    }
}
