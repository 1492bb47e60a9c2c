//! Consent to an upgrade that asks for more: bound to what was shown, given once, and in time.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
    Statement,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::applying::PreparedUpgrade;
use super::authorize::{Exchanged, show_granted};
use super::error::LifecycleError;
use super::service::{Lifecycle, Locked};
use super::state::{Command, Settlement};
use super::upgrade::Wish;
use crate::audit::Actor;
use crate::catalogue;
use crate::identifier::InstallationId;
use crate::oauth::OAuthError;
use crate::seam::{Timestamp, crash_point};
use crate::store::entity::{extension_version, upgrade};
use crate::store::{RoutingRevision, UnitOfWork};

/// What stands between who agreed and the versions, in the reason of a consent.
pub const AGREED: &str = " agreed; ";

/// The longest `grantedBy`.
const LONGEST_USER: usize = 64;

/// How many waiting upgrades that are over one round settles.
const SETTLED_AT_ONCE: u64 = 50;

/// What the marketplace brings: somebody's consent.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsentRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// The consent that the upgrade waits for.
    pub consent_id: Uuid,
    /// The digest of the version that was shown.
    pub digest: String,
    /// The user who agreed, as the host names him.
    pub granted_by: String,
    /// A lower one than the live one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
}

/// An upgrade that waits, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingUpgrade {
    /// What it waits for.
    pub consent_id: Uuid,
    /// The version.
    pub version: String,
    /// Its digest: consent is bound to it.
    pub digest: String,
    /// What it changes.
    pub plan: Value,
    /// What it asks for.
    pub growth: Value,
    /// Whether consent must be an authorisation.
    pub authorization_required: bool,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub deadline: Option<Timestamp>,
}

impl WaitingUpgrade {
    pub(super) fn new(row: upgrade::Model, version: String) -> Result<Self, LifecycleError> {
        let read = |text: &str| {
            serde_json::from_str(text)
                .map_err(|_| LifecycleError::Unreadable { what: "plan of the upgrade" })
        };
        Ok(Self {
            consent_id: row.id,
            version,
            digest: row.digest,
            plan: read(&row.plan)?,
            growth: read(&row.growth)?,
            authorization_required: row.needs_authorization != 0,
            since: Timestamp::from_micros(row.created_at),
            deadline: row.deadline.map(Timestamp::from_micros),
        })
    }
}

/// An upgrade whose waiting is over without an answer.
#[derive(Debug, FromQueryResult)]
struct Overdue {
    id: Uuid,
    installation_id: Uuid,
}

/// An upgrade whose deadline passed.
#[derive(Debug, FromQueryResult)]
struct Late {
    id: Uuid,
    installation_id: Uuid,
    deadline: i64,
}

/// How far a round over what waits in vain has come: behind which deadline and upgrade, and behind
/// which upgrade to a withdrawn version it goes on; nothing where it has come to the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    late: Option<(i64, Uuid)>,
    withdrawn: Option<Uuid>,
}

impl Round {
    /// A round that begins.
    pub(super) const BEGIN: Self =
        Self { late: Some((i64::MIN, Uuid::nil())), withdrawn: Some(Uuid::nil()) };

    /// Whether it has come to the end.
    pub(super) const fn is_over(self) -> bool {
        self.late.is_none() && self.withdrawn.is_none()
    }
}

impl Lifecycle {
    /// Takes consent: the upgrade is carried out in the same transaction. Returns the installation.
    pub async fn consent(
        &self,
        work: &mut UnitOfWork,
        request: &ConsentRequest,
        actor: &Actor,
    ) -> Result<Uuid, LifecycleError> {
        check_user(&request.granted_by)?;
        let mut locked = self.lock(work, request.installation_id.0).await?;
        if self.is_late(work, &locked.row, request.generation).await? {
            return Ok(locked.row.id);
        }
        let asked = upgrade::Entity::find_by_id(request.consent_id)
            .filter(upgrade::Column::InstallationId.eq(locked.row.id))
            .one(work.connection())
            .await?
            .ok_or_else(|| LifecycleError::UnknownConsent(request.consent_id.to_string()))?;
        if asked.waiting.is_none() {
            // The same consent again is answered again.
            let is_same = asked.state == Settlement::Given.name() && asked.digest == request.digest;
            return if is_same {
                Ok(locked.row.id)
            } else {
                Err(self.settled(work, &locked, asked).await?)
            };
        }
        if asked.digest != request.digest {
            return Err(self.mismatch(work, asked).await?);
        }
        if asked.needs_authorization != 0 {
            return Err(LifecycleError::AuthorizationNeeded { consent: asked.id.to_string() });
        }
        let mut prepared = self.prepare_waiting(work, &locked, asked).await?;
        prepared.granted_by = Some(request.granted_by.clone());
        let reason = format!(
            "{}{AGREED}from {} to {}",
            request.granted_by, locked.version.version, prepared.version.version
        );
        self.agree(work, &mut locked, prepared, actor, &reason).await?;
        Ok(locked.row.id)
    }

    /// Begins the authorisation of the upgrade that waits: of the one that was shown, by its consent
    /// and digest, where one was. Our one-time address for the browser.
    pub async fn authorize_waiting(
        &self,
        work: &mut UnitOfWork,
        installation: InstallationId,
        shown: Option<(Uuid, &str)>,
        actor: &Actor,
    ) -> Result<Option<Url>, LifecycleError> {
        let mut locked = self.lock(work, installation.0).await?;
        let waiting = self.waiting_upgrade(work, &locked.row).await?;
        let is_shown = |waiting: &upgrade::Model| {
            shown.is_none_or(|(id, digest)| waiting.id == id && waiting.digest == digest)
        };
        let waiting = match (waiting.filter(is_shown), shown) {
            (Some(waiting), _) => waiting,
            (None, None) => return Err(LifecycleError::UnknownConsent("none".to_owned())),
            (None, Some((id, _))) => {
                let asked = upgrade::Entity::find_by_id(id)
                    .filter(upgrade::Column::InstallationId.eq(locked.row.id))
                    .one(work.connection())
                    .await?
                    .ok_or_else(|| LifecycleError::UnknownConsent(id.to_string()))?;
                return Err(if asked.waiting.is_none() {
                    self.settled(work, &locked, asked).await?
                } else {
                    self.mismatch(work, asked).await?
                });
            }
        };
        let version = extension_version::Entity::find_by_id(waiting.version_id)
            .one(work.connection())
            .await?
            .ok_or(LifecycleError::Unreadable { what: "version" })?;
        let wish = Wish {
            version,
            config: None,
            return_url: locked.row.return_url.clone(),
            deadline: None,
            rollout_id: None,
            asks: true,
            is_dry: false,
        };
        let proposed = Box::pin(self.propose(work, &mut locked, wish, actor)).await?;
        Ok(proposed.start_url)
    }

    /// The host granted what the version asks for: that is consent, and the new tokens take the
    /// place of the old ones in the transaction that carries the upgrade out.
    pub(super) async fn authorize_upgrade(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        exchanged: &Exchanged,
        consent_id: Uuid,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let waiting = self
            .waiting_upgrade(work, &locked.row)
            .await?
            .filter(|waiting| waiting.id == consent_id && waiting.digest == exchanged.target_digest)
            .ok_or(OAuthError::TargetChanged)?;
        let prepared = self.prepare_waiting(work, locked, waiting).await?;
        let reason =
            format!("authorised; from {} to {}", locked.version.version, prepared.version.version);
        self.agree(work, locked, prepared, actor, &reason).await?;
        // By what the version that serves now declares: whether users share them.
        self.keep_tokens(work, locked, exchanged).await?;
        crash_point("consent.tokens-replaced");
        show_granted(locked, exchanged);
        self.save(work, &locked.row).await
    }

    async fn agree(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        prepared: PreparedUpgrade,
        actor: &Actor,
        reason: &str,
    ) -> Result<(), LifecycleError> {
        locked.prepared = Some(Box::new(prepared));
        self.take(work, locked, Command::Consent, actor, Some(reason)).await?;
        crash_point("consent.applied");
        Ok(())
    }

    /// Works an upgrade that waits out anew, and holds it to what was shown.
    async fn prepare_waiting(
        &self,
        work: &UnitOfWork,
        locked: &Locked,
        waiting: upgrade::Model,
    ) -> Result<PreparedUpgrade, LifecycleError> {
        let now = self.inner.seam.clock.now();
        if waiting.deadline.is_some_and(|deadline| deadline <= now.micros()) {
            return Err(self.settled(work, locked, waiting).await?);
        }
        let version = extension_version::Entity::find_by_id(waiting.version_id)
            .one(work.connection())
            .await?
            .ok_or(LifecycleError::Unreadable { what: "version" })?;
        if version.withdrawn_at.is_some() {
            let (key, version) = (version.extension_key, version.version);
            return Err(catalogue::CatalogueError::Withdrawn { key, version }.into());
        }
        let given = self.given_with(&waiting)?;
        let mut prepared = self.prepare(work, locked, version, given).await?;
        // Another release may see more in the same package: what was not shown is not done.
        if !Self::is_as_shown(&waiting, &prepared) {
            return Err(self.mismatch(work, waiting).await?);
        }
        prepared.consent_id = waiting.id;
        Ok(prepared)
    }

    /// The refusal of consent to an upgrade that does not wait any more.
    async fn settled(
        &self,
        work: &UnitOfWork,
        locked: &Locked,
        asked: upgrade::Model,
    ) -> Result<LifecycleError, LifecycleError> {
        let state = if asked.waiting.is_some() {
            Settlement::Expired.name().to_owned()
        } else {
            asked.state
        };
        let present = locked.row.waiting_upgrade_id.filter(|id| *id != asked.id);
        let present = match present {
            Some(id) => upgrade::Entity::find_by_id(id).one(work.connection()).await?,
            None => None,
        };
        let shown = match present {
            Some(present) => Some(Box::new(self.shown(work, present).await?)),
            None => None,
        };
        Ok(LifecycleError::ConsentSettled { consent: asked.id.to_string(), state, shown })
    }

    /// The refusal of consent to something else than what waits.
    async fn mismatch(
        &self,
        work: &UnitOfWork,
        waiting: upgrade::Model,
    ) -> Result<LifecycleError, LifecycleError> {
        let consent = waiting.id.to_string();
        let shown = Box::new(self.shown(work, waiting).await?);
        Ok(LifecycleError::ConsentMismatch { consent, shown })
    }

    async fn shown(
        &self,
        work: &UnitOfWork,
        row: upgrade::Model,
    ) -> Result<WaitingUpgrade, LifecycleError> {
        let version = extension_version::Entity::find_by_id(row.version_id)
            .one(work.connection())
            .await?
            .ok_or(LifecycleError::Unreadable { what: "version" })?;
        WaitingUpgrade::new(row, version.version)
    }

    /// Ends the waiting of upgrades whose deadline passed or whose version was withdrawn, a page at a
    /// time. A round goes on behind what it has seen: those that cannot be ended hold no other.
    pub(super) async fn settle_overdue(&self, round: &mut Round) -> Result<(), LifecycleError> {
        let now = self.inner.seam.clock.now();
        if let Some((deadline, id)) = round.late {
            let late: Vec<Late> = upgrade::Entity::find()
                .select_only()
                .columns([
                    upgrade::Column::Id,
                    upgrade::Column::InstallationId,
                    upgrade::Column::Deadline,
                ])
                .filter(
                    Condition::all()
                        .add(upgrade::Column::Waiting.is_not_null())
                        .add(upgrade::Column::Deadline.gte(deadline))
                        .add(upgrade::Column::Deadline.lte(now.micros())),
                )
                .filter(
                    Condition::any()
                        .add(upgrade::Column::Deadline.gt(deadline))
                        .add(upgrade::Column::Id.gt(id)),
                )
                .order_by_asc(upgrade::Column::Deadline)
                .order_by_asc(upgrade::Column::Id)
                .limit(SETTLED_AT_ONCE)
                .into_model()
                .all(self.inner.store.reader())
                .await?;
            round.late = late
                .last()
                .filter(|_| late.len() as u64 >= SETTLED_AT_ONCE)
                .map(|last| (last.deadline, last.id));
            let late = late
                .into_iter()
                .map(|late| Overdue { id: late.id, installation_id: late.installation_id });
            let late: Vec<Overdue> = late.collect();
            self.settle_all(late, Command::ExpireUpgrade, "its deadline passed", now).await?;
        }
        if let Some(id) = round.withdrawn {
            let withdrawn = Overdue::find_by_statement(Statement::from_sql_and_values(
                self.inner.store.dialect(),
                format!(
                    "select u.id as id, u.installation_id as installation_id \
                     from extension_versions v \
                     join upgrades u on u.version_id = v.id and u.waiting is not null \
                     where v.withdrawn_at is not null and u.id > $1 order by u.id \
                     limit {SETTLED_AT_ONCE}"
                ),
                [id.into()],
            ))
            .all(self.inner.store.reader())
            .await?;
            round.withdrawn = withdrawn
                .last()
                .filter(|_| withdrawn.len() as u64 >= SETTLED_AT_ONCE)
                .map(|last| last.id);
            let why = "the version was withdrawn";
            self.settle_all(withdrawn, Command::WithdrawUpgrade, why, now).await?;
        }
        Ok(())
    }

    async fn settle_all(
        &self,
        all: Vec<Overdue>,
        command: Command,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let mut last = RoutingRevision(None);
        for overdue in all {
            // One that fails must not keep the others waiting.
            match self.settle_one(&overdue, command, reason, now).await {
                Ok(revision) => last = revision.max(last),
                Err(error) => tracing::warn!(
                    installation = %overdue.installation_id, %error,
                    "cannot end the waiting of an upgrade; tried again"
                ),
            }
        }
        Ok(self.inner.routing.settle(last).await?)
    }

    async fn settle_one(
        &self,
        overdue: &Overdue,
        command: Command,
        reason: &str,
        now: Timestamp,
    ) -> Result<RoutingRevision, LifecycleError> {
        let mut work = self.begin().await?;
        let mut locked = self.lock(&work, overdue.installation_id).await?;
        let waiting = upgrade::Entity::find_by_id(overdue.id).one(work.connection()).await?;
        let has_time = waiting.is_none_or(|waiting| {
            command == Command::ExpireUpgrade
                && waiting.deadline.is_none_or(|deadline| deadline > now.micros())
        });
        if has_time {
            // A rollout gave it another deadline meanwhile.
            work.rollback().await?;
            return Ok(RoutingRevision(None));
        }
        if locked.row.waiting_upgrade_id == Some(overdue.id) && locked.state().phase.is_live() {
            let actor = Actor::system("upgrades");
            self.take(&mut work, &mut locked, command, &actor, Some(reason)).await?;
        } else {
            // A node of the former release uninstalled it, and did not know of upgrades.
            upgrade::Entity::update_many()
                .col_expr(upgrade::Column::State, Expr::value(Settlement::Uninstalled.name()))
                .col_expr(upgrade::Column::Waiting, Expr::value(Option::<i16>::None))
                .col_expr(upgrade::Column::SealedConfig, Expr::value(Option::<Vec<u8>>::None))
                .col_expr(upgrade::Column::SettledAt, Expr::value(now.micros()))
                .filter(upgrade::Column::Id.eq(overdue.id))
                .filter(upgrade::Column::Waiting.is_not_null())
                .exec(work.connection())
                .await?;
        }
        Ok(work.commit(now).await?)
    }
}

fn check_user(user: &str) -> Result<(), LifecycleError> {
    let length = user.chars().count();
    if length == 0 || length > LONGEST_USER || user.chars().any(char::is_control) {
        return Err(LifecycleError::field(
            "/grantedBy",
            "grantedBy must have 1 to 64 characters, none a control character",
        ));
    }
    Ok(())
}
