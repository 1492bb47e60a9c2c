//! What delivering finds out about an endpoint, and who hears of it: health in the table, in the
//! index where it decides over the next delivery, and on the board of notices.

use sea_orm::{ConnectionTrait, EntityTrait, QuerySelect, Statement};
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::pulse::{MERGE, Pulse};
use super::retry::Decision;
use crate::notice::{Notice, NoticeKind};
use crate::seam::Timestamp;
use crate::store::entity::{endpoint_state, installation, webhook};
use crate::store::{RoutingChange, StoreError, UnitOfWork};
use crate::webhook::Endpoint;

/// How an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Ok,
    Failing,
    /// The endpoint said that it is no more.
    Gone,
    /// Policy: it failed for too long.
    Disabled,
    /// The endpoint said that it wants no more.
    Declined,
}

impl Health {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Gone => "gone",
            Self::Disabled | Self::Declined => "disabled",
        }
    }

    /// Why, in words, where there is something to say.
    pub(super) const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Ok => None,
            Self::Failing => Some(
                "All attempts of a delivery were used up, and nothing was taken since. New events are still sent.",
            ),
            Self::Gone => Some(
                "The endpoint answered 410 Gone. Nothing is sent until somebody reactivates the webhook; deliveries are held.",
            ),
            Self::Disabled => Some(
                "The endpoint failed for so long that it is called no more. Nothing is sent until somebody reactivates the webhook; deliveries are held.",
            ),
            Self::Declined => Some(
                "The endpoint answered with `webhook-delivery: disable`. Nothing is sent until somebody reactivates the webhook; deliveries are held.",
            ),
        }
    }

    const fn notice(self) -> NoticeKind {
        match self {
            Self::Ok => NoticeKind::WebhookRecovered,
            Self::Failing => NoticeKind::WebhookFailing,
            Self::Gone => NoticeKind::WebhookGone,
            Self::Disabled | Self::Declined => NoticeKind::WebhookDisabled,
        }
    }
}

/// What a webhook's notices are filed under.
pub(super) fn notice_subject(webhook: Uuid) -> String {
    format!("webhook:{webhook}")
}

/// Whether an endpoint of `endpoints` still exists: its webhook, or the installation of a lane.
pub(super) const LIVES: &str = "(exists (select 1 from webhooks w where w.id = endpoints.id) \
     or exists (select 1 from installations i where i.id = endpoints.id and i.erased_at is null))";

/// Whether a callback is the reference's installation handler, whose outcome is `vendorSetup`.
fn event_is_setup(event: &str) -> bool {
    event == "onInstall"
}

/// The notices that are over when a webhook works again.
pub(super) const TROUBLE: &[NoticeKind] =
    &[NoticeKind::WebhookFailing, NoticeKind::WebhookGone, NoticeKind::WebhookDisabled];

impl Dispatcher {
    /// Notes what a webhook's attempt came to, where that changes its health.
    pub(super) fn note_webhook(&self, endpoint: &Endpoint, decision: Decision) {
        if endpoint.is_incoming {
            // There is no webhook that could be failing: its deliveries tell how they went.
            return;
        }
        // Of the present index: an attempt under way knows its webhook as it was at its begin.
        let present = self.inner.routing.endpoint(endpoint.id);
        let is_failing = present.map_or(endpoint.is_failing, |present| present.is_failing);
        let health = match decision {
            Decision::Delivered if is_failing => Health::Ok,
            Decision::Failed if !is_failing => Health::Failing,
            Decision::Gone => Health::Gone,
            Decision::Disabled { .. } => Health::Declined,
            Decision::Delivered | Decision::Failed | Decision::Aborted | Decision::RetryAt(_) => {
                return;
            }
        };
        let org = RoutingChange::Org(endpoint.org_id.to_string());
        self.write_health(endpoint.id, health, Some(org));
    }

    /// Notes what a lifecycle callback came to: who must know of one that was given up, and for
    /// `onInstall` the vendor's side of the set-up.
    pub(super) fn note_callback(&self, installation: Uuid, event: &str, decision: Decision) {
        let health = match decision {
            Decision::Delivered | Decision::Disabled { delivered: true } => Health::Ok,
            Decision::Failed | Decision::Aborted | Decision::Gone | Decision::Disabled { .. } => {
                Health::Failing
            }
            Decision::RetryAt(_) => return,
        };
        let is_setup = event_is_setup(event);
        let (dispatcher, event) = (self.clone(), event.to_owned());
        self.inner.tasks.spawn(async move {
            if let Err(error) = dispatcher.tell_callback(installation, &event, health).await {
                tracing::warn!(%installation, error = %error, "cannot note a callback's outcome");
            }
        });
        if is_setup {
            self.write_health(installation, health, None);
        }
    }

    /// Says that a callback was given up, or that it arrived after all.
    async fn tell_callback(
        &self,
        installation: Uuid,
        event: &str,
        health: Health,
    ) -> Result<(), StoreError> {
        let now = self.inner.seam.clock.now();
        let board = &self.inner.options.notices;
        let subject = format!("callback:{installation}:{event}");
        let work = self.inner.store.begin().await?;
        if health == Health::Ok {
            board.resolve(&work, &[NoticeKind::CallbackFailed], &subject).await?;
        } else if let Some(row) =
            installation::Entity::find_by_id(installation).one(work.connection()).await?
        {
            let notice = Notice {
                kind: NoticeKind::CallbackFailed,
                subject,
                org_id: row.org_id.clone(),
                message: format!(
                    "The vendor of {} did not take {event} of org {}: all attempts are used up. The \
                     step itself stands; the callback can be sent again from the journal.",
                    row.extension_key, row.org_id
                ),
                extension_key: Some(row.extension_key),
                installation_id: Some(installation),
                webhook_id: None,
            };
            board.post(&work, &notice).await?;
        }
        let _settled = work.commit(now).await?;
        Ok(())
    }

    /// Where those are told who must know.
    pub(crate) fn notices(&self) -> &crate::notice::Board {
        &self.inner.options.notices
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
            let org = change.clone();
            match dispatcher.store_health(endpoint, health, change).await {
                // A success that ended before the index knew of the failing wrote nothing of it.
                Ok(true) => {
                    if let Err(error) = dispatcher.store_health(endpoint, Health::Ok, org).await {
                        tracing::warn!(%endpoint, %error, "cannot keep that an endpoint recovered");
                    }
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%endpoint, error = %error, "cannot keep an endpoint's health");
                }
            }
        });
    }

    /// Writes what is new of an endpoint's health. Says whether the endpoint took a delivery after
    /// the failure that is written, so that it has recovered already.
    pub(super) async fn store_health(
        &self,
        endpoint: Uuid,
        health: Health,
        change: Option<RoutingChange>,
    ) -> Result<bool, StoreError> {
        let now = self.inner.seam.clock.now();
        let mut work = self.inner.store.begin().await?;
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
            Health::Gone | Health::Disabled | Health::Declined => {
                current.as_deref() == Some("gone")
            }
        };
        let row = match &change {
            Some(_) => webhook::Entity::find_by_id(endpoint).one(work.connection()).await?,
            None => None,
        };
        if undoes || (change.is_some() && row.is_none()) {
            work.rollback().await?;
            return Ok(false);
        }
        let may_recover = health == Health::Failing && change.is_some();
        let took_before = may_recover && self.inner.pulses.took_the_last(endpoint);
        let is_news = current.as_deref().unwrap_or("ok") != health.name();
        self.write_state(&work, endpoint, health, is_news, change.is_none(), now).await?;
        if let Some(row) = row.filter(|_| is_news) {
            self.tell(&work, &row, health).await?;
        }
        if let Some(change) = change {
            work.routing_changed(change);
        }
        let revision = work.commit(now).await?;
        if let Err(error) = self.inner.routing.settle(revision).await {
            tracing::warn!(%endpoint, error = %error, "cannot apply an endpoint's health");
        }
        Ok(may_recover && (took_before || self.inner.pulses.took_the_last(endpoint)))
    }

    /// Writes a health with all that was noted of the endpoint.
    pub(super) async fn write_state(
        &self,
        work: &UnitOfWork,
        endpoint: Uuid,
        health: Health,
        is_news: bool,
        is_callback: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // Callbacks have no pulse: their outcome is all that is known of the lane.
        let pulse = match (is_callback, health) {
            (false, _) => self.inner.pulses.take(endpoint).unwrap_or_default(),
            (true, Health::Ok) => Pulse::of_success(now),
            (true, _) => Pulse::of_failure(now, "a lifecycle callback was not taken"),
        };
        let [failures, success, failure, error] = pulse.values();
        let since = if is_news { "excluded.health_since" } else { "endpoint_states.health_since" };
        let sql = format!(
            "insert into endpoint_states (endpoint_id, health, reason, health_since, updated_at, \
             consecutive_failures, last_success_at, last_failure_at, last_error) \
             values ($1, $2, $3, $4, $4, $5, $6, $7, $8) \
             on conflict (endpoint_id) do update set health = excluded.health, \
             reason = excluded.reason, health_since = {since}, {MERGE}"
        );
        work.connection()
            .execute_raw(Statement::from_sql_and_values(
                self.inner.store.dialect(),
                sql,
                [
                    endpoint.into(),
                    health.name().into(),
                    health.reason().into(),
                    now.micros().into(),
                    failures,
                    success,
                    failure,
                    error,
                ],
            ))
            .await?;
        Ok(())
    }

    /// Tells those who must know of a webhook's new health.
    pub(super) async fn tell(
        &self,
        work: &UnitOfWork,
        row: &webhook::Model,
        health: Health,
    ) -> Result<(), StoreError> {
        let board = &self.inner.options.notices;
        let subject = notice_subject(row.id);
        if health == Health::Ok {
            board.resolve(work, TROUBLE, &subject).await?;
        }
        let name = row.name.as_deref().unwrap_or("without a name");
        let what = match health {
            Health::Ok => "It takes deliveries again.",
            other => other.reason().unwrap_or_default(),
        };
        let owner = row
            .extension_key
            .as_ref()
            .map_or_else(String::new, |key| format!(" of the extension {key}"));
        let notice = Notice {
            kind: health.notice(),
            subject,
            org_id: row.org_id.clone(),
            extension_key: row.extension_key.clone(),
            installation_id: row.installation_id,
            webhook_id: Some(row.id),
            message: format!("The webhook {name}{owner}: {what}"),
        };
        board.post(work, &notice).await
    }

    async fn store_pause(
        &self,
        endpoint: Uuid,
        until: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let now = self.inner.seam.clock.now();
        let work = self.inner.store.begin().await?;
        // Nothing is written of a webhook that was removed meanwhile.
        let sql = format!(
            "insert into endpoint_states (endpoint_id, health, breaker_until, \
             consecutive_failures, updated_at) \
             select id, 'ok', $2, 0, $3 from endpoints where id = $1 and {LIVES} \
             on conflict (endpoint_id) do update set breaker_until = excluded.breaker_until, \
             updated_at = excluded.updated_at"
        );
        let until: sea_orm::Value = until.map(Timestamp::micros).into();
        work.connection()
            .execute_raw(Statement::from_sql_and_values(
                self.inner.store.dialect(),
                sql,
                [endpoint.into(), until, now.micros().into()],
            ))
            .await?;
        let _settled = work.commit(now).await?;
        Ok(())
    }
}
