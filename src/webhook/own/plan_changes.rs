//! A plan changes: what it leaves no room for is switched off, the newest first, and told of.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::{Value, json};
use uuid::Uuid;

use super::KIND;
use super::plan::{self, Plan, PlanUse, counted};
use super::writing::{OwnRefusal, OwnWebhooks, after, erase, subject_of};
use crate::audit::{self, Actor, Entry};
use crate::dialect::Dialect;
use crate::notice::{Notice, NoticeKind};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::{org_plan, own_webhook, webhook};
use crate::store::{RoutingChange, Store, StoreError, UnitOfWork};

/// Why a webhook is off.
const OVER_PLAN: &str = "The org's plan has no room for it.";

/// How many own webhooks of an org that closes go in one transaction.
const GOING: u64 = 5;

/// A plan that was set.
#[derive(Clone, Debug)]
pub struct PlanChanged {
    /// As it is now.
    pub plan: Plan,
    /// How much of it is used.
    pub used: PlanUse,
    /// The webhooks that were switched off since it has no room for them.
    pub disabled: Vec<Uuid>,
}

fn shown(plan: &Plan) -> Value {
    let names = |dialects: &Vec<Dialect>| -> Vec<&str> {
        dialects.iter().map(|one| one.as_str()).collect()
    };
    json!({
        "webhooks": plan.webhooks,
        "webhooksPerEvent": plan.webhooks_per_event,
        "invocationsPerMinute": plan.invocations_per_minute,
        "dialects": plan.dialects.as_ref().map(names),
    })
}

impl OwnWebhooks {
    /// The plan of an org, and how much of it is used.
    pub async fn plan(&self, org_id: &str) -> Result<(Plan, PlanUse), StoreError> {
        let reader = self.store.reader();
        let plan = plan::read(reader, org_id).await?;
        let all = counted(reader, org_id).await?;
        Ok((plan, PlanUse::of(&all)))
    }

    /// Sets the plan of an org.
    pub async fn set_plan(
        &self,
        work: &mut UnitOfWork,
        org_id: &str,
        wanted: Plan,
        actor: &Actor,
    ) -> Result<PlanChanged, OwnRefusal> {
        let now = self.seam.clock.now();
        let former = plan::lock(work, org_id, now).await?;
        let number = |count: u32| Some(i32::try_from(count).unwrap_or(i32::MAX));
        let dialects = wanted.dialects.as_ref().map(|dialects| {
            json!(dialects.iter().map(|one| one.as_str()).collect::<Vec<_>>()).to_string()
        });
        org_plan::Entity::update_many()
            .col_expr(org_plan::Column::Webhooks, Expr::value(number(wanted.webhooks)))
            .col_expr(
                org_plan::Column::WebhooksPerEvent,
                Expr::value(number(wanted.webhooks_per_event)),
            )
            .col_expr(
                org_plan::Column::InvocationsPerMinute,
                Expr::value(wanted.invocations_per_minute.and_then(number)),
            )
            .col_expr(org_plan::Column::Dialects, Expr::value(dialects))
            .col_expr(org_plan::Column::ModifiedBy, Expr::value(Some(actor.name.clone())))
            .col_expr(org_plan::Column::ModifiedAt, Expr::value(now.micros()))
            .filter(org_plan::Column::OrgId.eq(org_id))
            .exec(work.connection())
            .await?;
        let entry = Entry {
            chain: org_id,
            action: "plan.set",
            subject: format!("org:{org_id}"),
            detail: Some(json!({ "before": shown(&former), "after": shown(&wanted) })),
        };
        audit::append(work, entry, actor, now, &self.seam.randomness).await?;
        let mut all = counted(work.connection(), org_id).await?;
        let disabled = wanted.surplus(&all);
        for id in &disabled {
            self.switch_off(work, *id, actor, now).await?;
        }
        for one in &mut all {
            one.is_enabled &= !disabled.contains(&one.id);
        }
        if former != wanted || !disabled.is_empty() {
            work.routing_changed(RoutingChange::Org(org_id.to_owned()));
        }
        Ok(PlanChanged { plan: wanted, used: PlanUse::of(&all), disabled })
    }

    /// Switches off what the plan has no room for.
    async fn switch_off(
        &self,
        work: &UnitOfWork,
        id: Uuid,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), OwnRefusal> {
        let row = webhook::Entity::find_by_id(id)
            .one(work.connection())
            .await?
            .ok_or(OwnRefusal::Unknown)?;
        self.write_off(work, &row, Some(OVER_PLAN), now).await?;
        let detail = json!({
            "reason": "plan", "before": { "isEnabled": true }, "after": { "isEnabled": false },
        });
        self.audit(work, &row, "webhook.disable", detail, actor, now).await?;
        let name = row.name.as_deref().unwrap_or("without a name");
        let notice = Notice {
            kind: NoticeKind::WebhookOverPlan,
            subject: subject_of(id),
            org_id: row.org_id.clone(),
            extension_key: None,
            installation_id: None,
            webhook_id: Some(id),
            message: format!(
                "The webhook {name} was switched off: the plan of the org has no room for it any \
                 more. Delete another one or have the plan raised, then switch it on."
            ),
        };
        self.board.post(work, &notice).await?;
        Ok(())
    }
}

/// Switches an own webhook on, where the plan has room for it. What was held is the caller's.
pub(crate) async fn switch_on(
    work: &UnitOfWork,
    row: &webhook::Model,
    seam: &Seam,
) -> Result<(), OwnRefusal> {
    let now = seam.clock.now();
    let plan = plan::lock(work, &row.org_id, now).await?;
    let dialect = Dialect::from_name(&row.dialect).ok_or(OwnRefusal::Unreadable)?;
    let all = counted(work.connection(), &row.org_id).await?;
    let events =
        all.iter().find(|one| one.id == row.id).map(|one| one.events.clone()).unwrap_or_default();
    let others = PlanUse::of(all.iter().filter(|one| one.id != row.id));
    plan.admits(&others, dialect, &events, Some(&events), true)?;
    webhook::Entity::update_many()
        .col_expr(webhook::Column::IsEnabled, Expr::value(1))
        .col_expr(webhook::Column::ModifiedAt, Expr::value(after(row, now).micros()))
        .filter(webhook::Column::Id.eq(row.id))
        .exec(work.connection())
        .await?;
    own_webhook::Entity::update_many()
        .col_expr(own_webhook::Column::DisabledAt, Expr::value(Option::<i64>::None))
        .col_expr(own_webhook::Column::DisabledReason, Expr::value(Option::<String>::None))
        .filter(own_webhook::Column::Id.eq(row.id))
        .exec(work.connection())
        .await?;
    Ok(())
}

/// Removes some of the own webhooks of an org that closes, each with its audit row. Returns how many
/// went: where there are none left, none.
pub(crate) async fn remove_some_of_org(
    store: &Store,
    work: &mut UnitOfWork,
    org_id: &str,
    actor: &Actor,
    seam: &Seam,
) -> Result<usize, StoreError> {
    let now = seam.clock.now();
    // Whoever began to make one before the org began to close has the lock, and is waited for.
    plan::lock(work, org_id, now).await?;
    let rows = webhook::Entity::find()
        .filter(webhook::Column::OrgId.eq(org_id))
        .filter(webhook::Column::Kind.eq(KIND))
        .order_by_asc(webhook::Column::Id)
        .limit(GOING)
        .all(work.connection())
        .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    for row in &rows {
        erase(store, work, row.id).await?;
        let entry = Entry {
            chain: org_id,
            action: "webhook.delete",
            subject: subject_of(row.id),
            detail: Some(json!({ "reason": "the org was closed" })),
        };
        audit::append(work, entry, actor, now, &seam.randomness).await?;
    }
    work.routing_changed(RoutingChange::Org(org_id.to_owned()));
    Ok(rows.len())
}
