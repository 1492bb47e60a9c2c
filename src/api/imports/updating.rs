//! What was imported before is brought up to what the other system tells now, where that is asked for.
//! What an export does not have, and what was decided here, stays: secrets, the source whose events are
//! not told, and whether it is switched on.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{End, ImportItem, ImportOutcome, Prepared, Run, in_words};
use crate::api::own_webhooks::shown;
use crate::api::problem::Problem;
use crate::api::rules;
use crate::store::UnitOfWork;
use crate::webhook::importing::{Draft, Fate, Part};
use crate::webhook::own::{
    Current, Definition, Imported, Kept, OwnRefusal, RuleKind, RulePatch, RuleRequest,
    WebhookRequest, imported_key,
};

/// Where in a request secrets are given: what is there already has them.
const CREDENTIALS: &str = "/credentials/";

/// What differs by itself, or says the same as another member.
const NO_CHANGES: [&str; 6] =
    ["modifiedTime", "modifiedBy", "disabledTime", "health", "delivery", "setup"];

/// A member that changed, or would.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChangeBody {
    /// Its name.
    member: String,
    /// As it was; null where it is secret.
    #[schema(value_type = Object)]
    before: Value,
    /// As it is then; null where it is secret.
    #[schema(value_type = Object)]
    after: Value,
}

/// Whether something is missing that what is there does not have either.
pub(super) fn is_blocked(draft: &Draft) -> bool {
    draft
        .missing
        .iter()
        .any(|missing| missing.is_needed && !missing.pointer.starts_with(CREDENTIALS))
}

/// What an imported webhook is to be, put over what is there. `is_enabled` is what the import says for
/// all.
pub(super) fn over(
    seen: &Current,
    wanted: &WebhookRequest,
    is_enabled: Option<bool>,
) -> (WebhookRequest, Kept) {
    let mut request = wanted.clone();
    request.is_enabled = Some(is_enabled.unwrap_or(seen.is_enabled()));
    if request.ignore_source_id.is_none() {
        request.ignore_source_id = seen.ignore_source_id().map(str::to_owned);
    }
    let names_authentication = request.authentication.is_some();
    (request, seen.kept_under(names_authentication))
}

/// The members that differ.
fn changes(before: &impl Serialize, after: &impl Serialize) -> Result<Vec<ChangeBody>, Problem> {
    let members = |body: Result<Value, serde_json::Error>| match body {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(Problem::internal(&error)),
    };
    let before = members(serde_json::to_value(before))?;
    let after = members(serde_json::to_value(after))?;
    let differs = |name: &&String| {
        !NO_CHANGES.contains(&name.as_str()) && before.get(*name) != after.get(*name)
    };
    let of = |members: &Map<String, Value>, name: &str| {
        members.get(name).cloned().unwrap_or(Value::Null)
    };
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let changed = names.filter(differs).map(|name| ChangeBody {
        member: name.clone(),
        before: of(&before, name),
        after: of(&after, name),
    });
    Ok(changed.collect())
}

impl ImportItem {
    /// What a comparison made of something that is there.
    fn compared(draft: &Draft, id: Uuid, changes: Vec<ChangeBody>) -> Self {
        let outcome =
            if changes.is_empty() { ImportOutcome::Exists } else { ImportOutcome::Updated };
        // What no export has is there already.
        Self { id: Some(id), changes, missing: Vec::new(), ..Self::new(draft, outcome) }
    }
}

impl Run<'_> {
    /// Brings something that is there up to date, within the transaction.
    pub(super) async fn update(
        &self,
        work: &mut UnitOfWork,
        one: &Prepared,
        id: Uuid,
        known: &Imported,
    ) -> Result<ImportItem, End> {
        let draft = &one.draft;
        let told = |outcome| ImportItem { id: Some(id), ..ImportItem::new(draft, outcome) };
        match (&draft.fate, &one.definition, &one.seen) {
            (Fate::Skipped | Fate::Impossible, ..) => Ok(told(ImportOutcome::Exists)),
            _ if is_blocked(draft) => Ok(told(ImportOutcome::Blocked)),
            (Fate::Webhook(wanted), Some(Ok(definition)), Some(seen)) => {
                self.update_webhook(work, draft, (seen, definition, wanted)).await
            }
            (Fate::Webhook(_), Some(Err(reasons)), _) => {
                let mut item = told(ImportOutcome::Impossible);
                item.reasons.extend_from_slice(reasons);
                Ok(item)
            }
            // It was made by another import since the others were checked.
            (Fate::Webhook(_), ..) => Err(OwnRefusal::Changed.into()),
            (Fate::Rule { kind, webhook, request }, ..) => {
                let called = imported_key(Part::called_by(*kind), webhook);
                let Some(called) = known.get(&called) else {
                    let reason = format!("The webhook {webhook} that it calls is not here.");
                    return Ok(told(ImportOutcome::Blocked).because(reason));
                };
                let mut request = (**request).clone();
                request.action.webhook_id = *called;
                self.update_rule(work, draft, id, (*kind, request)).await
            }
        }
    }

    async fn update_webhook(
        &self,
        work: &mut UnitOfWork,
        draft: &Draft,
        (seen, definition, wanted): (&Current, &Definition, &WebhookRequest),
    ) -> Result<ImportItem, End> {
        let own = &self.state.services()?.own_webhooks;
        let (id, actor) = (seen.id(), self.caller.actor());
        let before = shown(self.state, work, id).await?;
        let names_secret = wanted.secret.is_some();
        let definition = definition.clone();
        let has_credentials = definition.credentials.is_some();
        let warnings = definition.warnings.clone();
        if let Err(refusal) = own.update(work, seen, definition, names_secret, true, &actor).await {
            let refused = self.refused(draft, refusal)?;
            return Ok(ImportItem { id: Some(id), ..refused });
        }
        let after = shown(self.state, work, id).await?;
        let mut changes = changes(&before, &after)?;
        for (member, is_given) in [("secret", names_secret), ("credentials", has_credentials)] {
            if is_given {
                let member = member.to_owned();
                changes.push(ChangeBody { member, before: Value::Null, after: Value::Null });
            }
        }
        let mut item = ImportItem::compared(draft, id, changes);
        item.notes.extend(warnings);
        item.webhook = Some(after);
        Ok(item)
    }

    async fn update_rule(
        &self,
        work: &mut UnitOfWork,
        draft: &Draft,
        id: Uuid,
        (kind, request): (RuleKind, RuleRequest),
    ) -> Result<ImportItem, End> {
        let before = rules::shown(self.state, work, kind, id).await?;
        let patch = RulePatch {
            name: Some(request.name),
            conditions: Some(request.conditions),
            action: Some(request.action),
            position: request.position,
            is_active: self.is_enabled,
            after_minutes: request.after_minutes,
            unless: Some(request.unless),
        };
        let own = &self.state.services()?.own_webhooks;
        let actor = self.caller.actor();
        let changed = rules::write_change(self.state, own, work, (kind, id), patch, &actor).await;
        let warnings = match changed {
            Ok(warnings) => warnings,
            Err(OwnRefusal::Faults(faults)) => {
                let mut item = ImportItem::new(draft, ImportOutcome::Impossible);
                item.id = Some(id);
                item.reasons.extend(in_words(faults));
                return Ok(item);
            }
            Err(refusal) => {
                let refused = self.refused(draft, refusal)?;
                return Ok(ImportItem { id: Some(id), ..refused });
            }
        };
        let after = rules::shown(self.state, work, kind, id).await?;
        let mut item = ImportItem::compared(draft, id, changes(&before, &after)?);
        item.notes.extend(warnings);
        item.rule = Some(after);
        Ok(item)
    }
}
