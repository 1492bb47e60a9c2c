//! How triggers and automations come into being, change and go: under the lock of the org's plan, as
//! own webhooks do, so that no rule is left without its webhook.

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::definition::{FieldFault, Settings, stored_settings};
use super::imported::forget_imported;
use super::plan;
use super::rules::{
    MOST_RULES, RequestForm, RuleDefinition, RuleKind, RulePatch, RuleRequest, content_text,
    stored_content,
};
use super::writing::{OwnRefusal, OwnWebhooks, refuse_while_closing};
use crate::audit::{self, Actor, Entry};
use crate::dialect::{BodyFormat, Content, RequestMethod, Template};
use crate::seam::Timestamp;
use crate::store::entity::{automation_mark, own_webhook, webhook, webhook_rule};
use crate::store::{RoutingChange, StoreError, UnitOfWork};

/// A rule as it is shown.
#[derive(Clone, Debug)]
pub struct RuleView {
    row: webhook_rule::Model,
}

impl RuleView {
    /// Its id.
    pub fn id(&self) -> Uuid {
        self.row.id
    }

    /// Its org.
    pub fn org_id(&self) -> &str {
        &self.row.org_id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.row.name
    }

    /// The webhook that it calls.
    pub fn webhook_id(&self) -> Uuid {
        self.row.webhook_id
    }

    /// Its place among the others.
    pub fn position(&self) -> i32 {
        self.row.position
    }

    /// Whether it fires.
    pub fn is_active(&self) -> bool {
        self.row.is_active != 0
    }

    /// When it fires, as JSON.
    pub fn conditions(&self) -> Value {
        serde_json::from_str(&self.row.conditions).unwrap_or_default()
    }

    /// What keeps it from firing, as JSON.
    pub fn unless(&self) -> Value {
        let unless = self.row.unless.as_deref();
        unless.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// How long it waits.
    pub fn after_minutes(&self) -> Option<i32> {
        self.row.after_minutes
    }

    /// What it sends.
    pub fn content(&self) -> Option<Content> {
        stored_content(&self.row.content)
    }

    /// Who made it, and when.
    pub fn created(&self) -> (&str, Timestamp) {
        (&self.row.created_by, Timestamp::from_micros(self.row.created_at))
    }

    /// Who changed it last, and when.
    pub fn modified(&self) -> (&str, Timestamp) {
        (&self.row.modified_by, Timestamp::from_micros(self.row.modified_at))
    }

    /// The rule in the form of a request.
    fn as_request(&self) -> Value {
        let mut action = json!({ "webhookId": self.row.webhook_id });
        match self.content() {
            Some(Content::Payload(payload)) => action["payload"] = payload.into(),
            Some(Content::Parameters(pairs)) => action["parameters"] = json!(pairs),
            None => {}
        }
        let mut request = json!({
            "name": self.row.name,
            "conditions": self.conditions(),
            "action": action,
            "position": self.row.position,
            "isActive": self.is_active(),
        });
        if let Some(minutes) = self.row.after_minutes {
            request["afterMinutes"] = minutes.into();
        }
        if self.row.unless.is_some() {
            request["unless"] = self.unless();
        }
        request
    }
}

/// How a webhook's requests look, by its settings.
pub(super) fn form_of(settings: &Settings) -> Option<RequestForm> {
    Some(RequestForm {
        method: RequestMethod::from_name(&settings.method)?,
        format: BodyFormat::from_name(&settings.format)?,
    })
}

/// The rules of a webhook, in their order.
pub(super) async fn rules_of(
    connection: &impl ConnectionTrait,
    webhook_id: Uuid,
) -> Result<Vec<webhook_rule::Model>, StoreError> {
    Ok(webhook_rule::Entity::find()
        .filter(webhook_rule::Column::WebhookId.eq(webhook_id))
        .order_by_asc(webhook_rule::Column::Position)
        .order_by_asc(webhook_rule::Column::Id)
        .limit(2 * MOST_RULES)
        .all(connection)
        .await?)
}

/// Refuses to take out a webhook that rules name.
pub(super) async fn refuse_while_in_use(
    connection: &impl ConnectionTrait,
    webhook_id: Uuid,
) -> Result<(), OwnRefusal> {
    let rules = rules_of(connection, webhook_id).await?;
    if rules.is_empty() {
        return Ok(());
    }
    let named = rules.into_iter().map(|row| (row.kind, row.id, row.name)).collect();
    Err(OwnRefusal::InUse { rules: named })
}

/// Refuses settings with which a rule of the webhook could send nothing any more.
pub(super) async fn refuse_unfit_for_rules(
    connection: &impl ConnectionTrait,
    webhook_id: Uuid,
    settings: &Settings,
) -> Result<(), OwnRefusal> {
    let Some(form) = form_of(settings) else { return Ok(()) };
    let rules = rules_of(connection, webhook_id).await?;
    let faults: Vec<FieldFault> = rules
        .iter()
        .filter_map(|row| {
            let content = stored_content(&row.content)?;
            let fault = Template::parse(form.method, form.format, &content).err()?;
            let rule = format!("does not fit the {} `{}`: {fault}", row.kind, row.name);
            Some(FieldFault::new("/method", rule))
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(OwnRefusal::Faults(faults)) }
}

/// Takes out the rules of a webhook that goes.
pub(super) async fn erase_rules(
    connection: &impl ConnectionTrait,
    webhook_id: Uuid,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = rules_of(connection, webhook_id).await?.iter().map(|row| row.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    webhook_rule::Entity::delete_many()
        .filter(webhook_rule::Column::Id.is_in(ids.clone()))
        .exec(connection)
        .await?;
    automation_mark::Entity::delete_many()
        .filter(automation_mark::Column::RuleId.is_in(ids.clone()))
        .exec(connection)
        .await?;
    forget_imported(connection, ids).await
}

impl OwnWebhooks {
    /// A page of an org's rules of a kind, in the order of their positions. `after` is the position
    /// and id of the last one seen.
    pub async fn rules(
        &self,
        org_id: &str,
        kind: RuleKind,
        webhook_id: Option<Uuid>,
        after: Option<(i32, Uuid)>,
        limit: u64,
    ) -> Result<Vec<RuleView>, StoreError> {
        use sea_orm::Condition;
        let mut query = webhook_rule::Entity::find()
            .filter(webhook_rule::Column::OrgId.eq(org_id))
            .filter(webhook_rule::Column::Kind.eq(kind.as_str()))
            .order_by_asc(webhook_rule::Column::Position)
            .order_by_asc(webhook_rule::Column::Id)
            .limit(limit);
        if let Some(webhook_id) = webhook_id {
            query = query.filter(webhook_rule::Column::WebhookId.eq(webhook_id));
        }
        if let Some((position, id)) = after {
            query = query.filter(
                Condition::any().add(webhook_rule::Column::Position.gt(position)).add(
                    Condition::all()
                        .add(webhook_rule::Column::Position.eq(position))
                        .add(webhook_rule::Column::Id.gt(id)),
                ),
            );
        }
        let rows = query.all(self.store.reader()).await?;
        Ok(rows.into_iter().map(|row| RuleView { row }).collect())
    }

    /// A rule.
    pub async fn rule(&self, kind: RuleKind, id: Uuid) -> Result<Option<RuleView>, StoreError> {
        read_rule(self.store.reader(), kind, id).await
    }

    /// A rule as a transaction leaves it.
    pub async fn rule_within(
        &self,
        work: &UnitOfWork,
        kind: RuleKind,
        id: Uuid,
    ) -> Result<Option<RuleView>, StoreError> {
        read_rule(work.connection(), kind, id).await
    }

    /// What a request for a new rule is checked against: how the requests of its webhook look. From
    /// here on no other change comes between.
    pub async fn check_rule(
        &self,
        work: &UnitOfWork,
        org_id: &str,
        kind: RuleKind,
        request: RuleRequest,
    ) -> Result<(RequestForm, RuleRequest), OwnRefusal> {
        plan::lock(work, org_id, self.seam.clock.now()).await?;
        refuse_while_closing(work, org_id).await?;
        let form = self.form(work, org_id, kind, request.action.webhook_id).await?;
        Ok((form, request))
    }

    /// Makes a rule.
    pub async fn create_rule(
        &self,
        work: &mut UnitOfWork,
        org_id: &str,
        definition: &RuleDefinition,
        actor: &Actor,
    ) -> Result<Uuid, OwnRefusal> {
        let now = self.seam.clock.now();
        let kind = definition.kind;
        let of_kind = webhook_rule::Entity::find()
            .filter(webhook_rule::Column::OrgId.eq(org_id))
            .filter(webhook_rule::Column::Kind.eq(kind.as_str()));
        if of_kind.clone().count(work.connection()).await? >= MOST_RULES {
            return Err(OwnRefusal::TooManyRules { kind, limit: MOST_RULES });
        }
        let position = match definition.position {
            Some(position) => position,
            None => of_kind
                .order_by_desc(webhook_rule::Column::Position)
                .one(work.connection())
                .await?
                .map_or(0, |last| last.position.saturating_add(1)),
        };
        let id = self.seam.randomness.id();
        let row = webhook_rule::Model {
            id,
            created_by: actor.name.clone(),
            created_at: now.micros(),
            ..row_of(definition, org_id, position, actor, now)
        };
        webhook_rule::Entity::insert(row.clone().into_active_model())
            .exec_without_returning(work.connection())
            .await?;
        let view = RuleView { row };
        let detail = json!({ "after": view.as_request() });
        self.audit_rule(work, &view, "create", detail, actor, now).await?;
        work.routing_changed(RoutingChange::Org(org_id.to_owned()));
        Ok(id)
    }

    /// What a patch makes of a rule, to be checked as a whole, with the rule as it is. From here on
    /// no other change comes between.
    pub async fn patched_rule(
        &self,
        work: &UnitOfWork,
        seen: &RuleView,
        kind: RuleKind,
        patch: RulePatch,
    ) -> Result<(RequestForm, RuleRequest, RuleView), OwnRefusal> {
        plan::lock(work, seen.org_id(), self.seam.clock.now()).await?;
        let current =
            read_rule(work.connection(), kind, seen.id()).await?.ok_or(OwnRefusal::UnknownRule)?;
        let mut request: RuleRequest =
            serde_json::from_value(current.as_request()).map_err(|_| OwnRefusal::Unreadable)?;
        let RulePatch { name, conditions, action, position, is_active, after_minutes, unless } =
            patch;
        request.name = name.unwrap_or(request.name);
        request.conditions = conditions.unwrap_or(request.conditions);
        request.action = action.unwrap_or(request.action);
        request.position = position.or(request.position);
        request.is_active = is_active.or(request.is_active);
        request.after_minutes = after_minutes.or(request.after_minutes);
        request.unless = unless.unwrap_or(request.unless);
        let form = self.form(work, seen.org_id(), kind, request.action.webhook_id).await?;
        Ok((form, request, current))
    }

    /// Changes a rule from what it is to what a definition says.
    pub async fn update_rule(
        &self,
        work: &mut UnitOfWork,
        current: &RuleView,
        definition: &RuleDefinition,
        actor: &Actor,
    ) -> Result<(), OwnRefusal> {
        let now = self.seam.clock.now();
        let org_id = current.org_id();
        let position = definition.position.unwrap_or(current.position());
        let row = webhook_rule::Model {
            id: current.id(),
            created_by: current.row.created_by.clone(),
            created_at: current.row.created_at,
            ..row_of(definition, org_id, position, actor, now)
        };
        let is_changed = webhook_rule::Model {
            modified_at: current.row.modified_at,
            modified_by: current.row.modified_by.clone(),
            ..row.clone()
        } != current.row;
        if !is_changed {
            return Ok(());
        }
        row.clone().into_active_model().reset_all().update(work.connection()).await?;
        let view = RuleView { row };
        let detail = json!({ "before": current.as_request(), "after": view.as_request() });
        self.audit_rule(work, &view, "update", detail, actor, now).await?;
        work.routing_changed(RoutingChange::Org(org_id.to_owned()));
        Ok(())
    }

    /// Removes a rule. What it made goes on, and what it was waiting with is cancelled when due.
    pub async fn remove_rule(
        &self,
        work: &mut UnitOfWork,
        seen: &RuleView,
        kind: RuleKind,
        actor: &Actor,
    ) -> Result<(), OwnRefusal> {
        let now = self.seam.clock.now();
        let org_id = seen.org_id();
        plan::lock(work, org_id, now).await?;
        let current =
            read_rule(work.connection(), kind, seen.id()).await?.ok_or(OwnRefusal::UnknownRule)?;
        webhook_rule::Entity::delete_by_id(current.id()).exec(work.connection()).await?;
        automation_mark::Entity::delete_many()
            .filter(automation_mark::Column::RuleId.eq(current.id()))
            .exec(work.connection())
            .await?;
        forget_imported(work.connection(), [current.id()]).await?;
        let detail = json!({ "before": current.as_request() });
        self.audit_rule(work, &current, "delete", detail, actor, now).await?;
        work.routing_changed(RoutingChange::Org(org_id.to_owned()));
        Ok(())
    }

    /// How the requests of a rule's webhook look, where the rule may call it.
    async fn form(
        &self,
        work: &UnitOfWork,
        org_id: &str,
        kind: RuleKind,
        webhook_id: Uuid,
    ) -> Result<RequestForm, OwnRefusal> {
        let refused = || {
            let rule = format!(
                "must be an own webhook of the org with the connection {}",
                kind.connection().as_str()
            );
            OwnRefusal::Faults(vec![FieldFault::new("/action/webhookId", rule)])
        };
        let row = webhook::Entity::find_by_id(webhook_id)
            .filter(webhook::Column::OrgId.eq(org_id))
            .one(work.connection())
            .await?
            .ok_or_else(refused)?;
        let own = own_webhook::Entity::find_by_id(row.id)
            .one(work.connection())
            .await?
            .filter(|own| own.connection == kind.connection().as_str())
            .ok_or_else(refused)?;
        stored_settings(&own).as_ref().and_then(form_of).ok_or(OwnRefusal::Unreadable)
    }

    async fn audit_rule(
        &self,
        work: &UnitOfWork,
        rule: &RuleView,
        what: &str,
        detail: Value,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let kind = &rule.row.kind;
        let action = format!("{kind}.{what}");
        let entry = Entry {
            chain: rule.org_id(),
            action: &action,
            subject: format!("{kind}:{}", rule.id()),
            detail: Some(detail),
        };
        audit::append(work, entry, actor, now, &self.seam.randomness).await
    }
}

async fn read_rule(
    connection: &impl ConnectionTrait,
    kind: RuleKind,
    id: Uuid,
) -> Result<Option<RuleView>, StoreError> {
    let row = webhook_rule::Entity::find_by_id(id)
        .filter(webhook_rule::Column::Kind.eq(kind.as_str()))
        .one(connection)
        .await?;
    Ok(row.map(|row| RuleView { row }))
}

/// The columns that a definition decides; the others are the caller's.
fn row_of(
    definition: &RuleDefinition,
    org_id: &str,
    position: i32,
    actor: &Actor,
    now: Timestamp,
) -> webhook_rule::Model {
    let content = definition.action.content().unwrap_or(Content::Parameters(Vec::new()));
    webhook_rule::Model {
        id: Uuid::nil(),
        org_id: org_id.to_owned(),
        kind: definition.kind.as_str().to_owned(),
        webhook_id: definition.action.webhook_id,
        name: definition.name.clone(),
        position,
        is_active: i32::from(definition.is_active),
        conditions: json!(definition.conditions).to_string(),
        content: content_text(&content),
        after_minutes: definition.after_minutes.and_then(|minutes| i32::try_from(minutes).ok()),
        unless: definition.unless.as_ref().map(|unless| json!(unless).to_string()),
        created_by: String::new(),
        created_at: 0,
        modified_by: actor.name.clone(),
        modified_at: now.micros(),
    }
}
