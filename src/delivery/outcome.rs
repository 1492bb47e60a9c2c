//! What delivering finds out about an endpoint, and who hears of it: health in the table, and in
//! the index where it decides over the next delivery.

use sea_orm::{ActiveValue::Set, EntityTrait, QuerySelect, sea_query::OnConflict};
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::retry::Decision;
use crate::seam::Timestamp;
use crate::store::entity::{endpoint_state, webhook};
use crate::store::{RoutingChange, StoreError};
use crate::webhook::Endpoint;

/// How an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Ok,
    Failing,
    Gone,
    Disabled,
}

impl Health {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Gone => "gone",
            Self::Disabled => "disabled",
        }
    }

    /// What the receiver said, in words.
    const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Ok | Self::Failing => None,
            Self::Gone => Some("The endpoint answered 410 Gone."),
            Self::Disabled => Some("The endpoint answered with `webhook-delivery: disable`."),
        }
    }
}

impl Dispatcher {
    /// Notes what a webhook's attempt came to, where that changes its health.
    pub(super) fn note_webhook(&self, endpoint: &Endpoint, decision: Decision) {
        let health = match decision {
            Decision::Delivered if endpoint.is_failing => Health::Ok,
            Decision::Failed if !endpoint.is_failing => Health::Failing,
            Decision::Gone => Health::Gone,
            Decision::Disabled { .. } => Health::Disabled,
            Decision::Delivered | Decision::Failed | Decision::Aborted | Decision::RetryAt(_) => {
                return;
            }
        };
        let org = RoutingChange::Org(endpoint.org_id.to_string());
        self.write_health(endpoint.id, health, Some(org));
    }

    /// Notes what a lifecycle callback came to: the vendor's side of the set-up.
    pub(super) fn note_callback(&self, installation: Uuid, decision: Decision) {
        let health = match decision {
            Decision::Delivered | Decision::Disabled { delivered: true } => Health::Ok,
            Decision::Failed | Decision::Aborted | Decision::Gone | Decision::Disabled { .. } => {
                Health::Failing
            }
            Decision::RetryAt(_) => return,
        };
        self.write_health(installation, health, None);
    }

    /// Notes that a lane pauses, or goes on.
    pub(super) fn note_pause(&self, endpoint: Uuid, until: Option<Timestamp>) {
        let dispatcher = self.clone();
        self.inner.tasks.spawn(async move {
            if let Err(error) = dispatcher.store_pause(endpoint, until).await {
                tracing::warn!(%endpoint, error = %error, "cannot keep the breaker's state");
            }
        });
    }

    /// In a task of its own: the worker goes on. What is lost with a failing database is noted
    /// again by the next attempt, since the index did not change.
    fn write_health(&self, endpoint: Uuid, health: Health, change: Option<RoutingChange>) {
        let dispatcher = self.clone();
        self.inner.tasks.spawn(async move {
            if let Err(error) = dispatcher.store_health(endpoint, health, change).await {
                tracing::warn!(%endpoint, error = %error, "cannot keep an endpoint's health");
            }
        });
    }

    async fn store_health(
        &self,
        endpoint: Uuid,
        health: Health,
        change: Option<RoutingChange>,
    ) -> Result<(), StoreError> {
        let now = self.inner.seam.clock.now();
        let mut work = self.inner.store.begin().await?;
        let succeeded = health == Health::Ok;
        // Requests under way end in any order: a late success must not undo a "gone", and nothing
        // is written of a webhook that was removed meanwhile.
        let current = endpoint_state::Entity::find_by_id(endpoint)
            .lock_exclusive()
            .one(work.connection())
            .await?
            .map(|row| row.health);
        let undoes = match health {
            Health::Ok => !matches!(current.as_deref(), Some("failing" | "pending")),
            Health::Failing => matches!(current.as_deref(), Some("gone" | "disabled")),
            Health::Gone | Health::Disabled => false,
        };
        let is_removed = change.is_some()
            && webhook::Entity::find_by_id(endpoint).one(work.connection()).await?.is_none();
        if undoes || is_removed {
            return work.rollback().await;
        }
        let mut row = fresh(endpoint, now);
        row.health = Set(health.name().to_owned());
        row.last_error = Set(health.reason().map(str::to_owned));
        row.last_success_at = Set(succeeded.then(|| now.micros()));
        row.last_failure_at = Set((!succeeded).then(|| now.micros()));
        let seen = if succeeded {
            endpoint_state::Column::LastSuccessAt
        } else {
            endpoint_state::Column::LastFailureAt
        };
        endpoint_state::Entity::insert(row)
            .on_conflict(
                OnConflict::column(endpoint_state::Column::EndpointId)
                    .update_columns([
                        endpoint_state::Column::Health,
                        endpoint_state::Column::LastError,
                        endpoint_state::Column::UpdatedAt,
                        seen,
                    ])
                    .to_owned(),
            )
            .exec_without_returning(work.connection())
            .await?;
        if let Some(change) = change {
            work.routing_changed(change);
        }
        let revision = work.commit(now).await?;
        if let Err(error) = self.inner.routing.settle(revision).await {
            tracing::warn!(%endpoint, error = %error, "cannot apply an endpoint's health");
        }
        Ok(())
    }

    async fn store_pause(
        &self,
        endpoint: Uuid,
        until: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let now = self.inner.seam.clock.now();
        let work = self.inner.store.begin().await?;
        let mut row = fresh(endpoint, now);
        row.breaker_until = Set(until.map(Timestamp::micros));
        endpoint_state::Entity::insert(row)
            .on_conflict(
                OnConflict::column(endpoint_state::Column::EndpointId)
                    .update_columns([
                        endpoint_state::Column::BreakerUntil,
                        endpoint_state::Column::UpdatedAt,
                    ])
                    .to_owned(),
            )
            .exec_without_returning(work.connection())
            .await?;
        let _settled = work.commit(now).await?;
        Ok(())
    }
}

fn fresh(endpoint: Uuid, now: Timestamp) -> endpoint_state::ActiveModel {
    endpoint_state::ActiveModel {
        endpoint_id: Set(endpoint),
        health: Set(Health::Ok.name().to_owned()),
        breaker_until: Set(None),
        consecutive_failures: Set(0),
        last_success_at: Set(None),
        last_failure_at: Set(None),
        last_error: Set(None),
        updated_at: Set(now.micros()),
    }
}
