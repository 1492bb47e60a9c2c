//! Upgrade: another version is to serve. Where it asks for more it waits for consent, and the
//! version before it serves meanwhile.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::applying::PreparedUpgrade;
use super::error::LifecycleError;
use super::service::{Lifecycle, Locked};
use super::state::{Command, Phase, Step, step};
use crate::audit::Actor;
use crate::catalogue::{self, VersionRow};
use crate::identifier::InstallationId;
use crate::manifest::{Growth, Manifest, Plan};
use crate::oauth::{AuthorizationPurpose, OAuthError};
use crate::seam::Timestamp;
use crate::store::UnitOfWork;
use crate::store::entity::upgrade;

/// What the marketplace asks for.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpgradeRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// The version that is to serve; an older one is as good. The one that serves takes back an
    /// upgrade that waits.
    pub version: String,
    /// A lower one than the live one changes nothing.
    #[serde(default)]
    pub generation: Option<i32>,
    /// Parameters that the version declares, beside those that the installation has: what is
    /// mandatory and new must come here.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    pub config: Option<Map<String, Value>>,
    /// Where the browser goes after an authorisation; its origin must be one of
    /// `marketplace.return_urls`.
    #[serde(default)]
    pub return_url: Option<String>,
}

impl std::fmt::Debug for UpgradeRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("UpgradeRequest")
            .field("installation_id", &self.installation_id)
            .field("version", &self.version)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// What came of an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpgradeChange {
    /// The version serves already.
    Nothing,
    /// The version serves now, or is the one to be authorised.
    Applied,
    /// It waits for consent.
    Waits,
}

/// What an upgrade does, or would do.
#[derive(Clone, Debug)]
pub struct UpgradeOutcome {
    /// The installation.
    pub installation_id: Uuid,
    /// Its generation.
    pub generation: i32,
    /// Its state after the call.
    pub state: &'static str,
    /// The version that serves after the call.
    pub version: String,
    /// The version that was asked for.
    pub target_version: String,
    /// The digest of the version that was asked for; consent is bound to it.
    pub digest: String,
    /// What happens to the resources.
    pub plan: Plan,
    /// What the version asks for beyond the serving one.
    pub growth: Vec<Growth>,
    /// Whether it waits, or would wait, for consent.
    pub consent_required: bool,
    /// Whether consent must be an authorisation.
    pub authorization_required: bool,
    /// The consent that it waits for; none in a dry run.
    pub consent_id: Option<Uuid>,
    /// Until when it waits.
    pub deadline: Option<Timestamp>,
    /// The provider's address, where an authorisation is consent.
    pub authorization_url: Option<Url>,
    /// Our one-time address for the browser, where an authorisation is consent.
    pub start_url: Option<Url>,
    pub(super) change: UpgradeChange,
}

impl UpgradeOutcome {
    fn new(locked: &Locked, target: &VersionRow, change: UpgradeChange) -> Self {
        Self {
            installation_id: locked.row.id,
            generation: locked.row.generation,
            state: locked.state().name(),
            version: locked.version.version.clone(),
            target_version: target.version.clone(),
            digest: target.digest.clone(),
            plan: Plan::default(),
            growth: Vec::new(),
            consent_required: false,
            authorization_required: false,
            consent_id: None,
            deadline: None,
            authorization_url: None,
            start_url: None,
            change,
        }
    }
}

/// A version that somebody wants for an installation, and on which terms.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) version: VersionRow,
    /// Parameters that come with it; nothing where none were sent.
    pub(super) config: Option<Map<String, Value>>,
    pub(super) return_url: Option<String>,
    /// Until when it waits for consent; the manifest's own where nothing is said.
    pub(super) deadline: Option<Timestamp>,
    /// The rollout that it belongs to.
    pub(super) rollout_id: Option<Uuid>,
    /// Whether addresses for an authorisation are wanted.
    pub(super) asks: bool,
    /// Whether nothing is to be written.
    pub(super) is_dry: bool,
}

impl Lifecycle {
    /// Upgrades, or says what that would do: then nothing is to be committed.
    pub async fn upgrade(
        &self,
        work: &mut UnitOfWork,
        request: &UpgradeRequest,
        is_dry: bool,
        actor: &Actor,
    ) -> Result<UpgradeOutcome, LifecycleError> {
        let return_url = self.check_return_url(request.return_url.as_deref())?;
        let mut locked = self.lock(work, request.installation_id.0).await?;
        if self.is_late(work, &locked.row, request.generation).await? {
            let serving = locked.version.clone();
            return Ok(UpgradeOutcome::new(&locked, &serving, UpgradeChange::Nothing));
        }
        let key = &locked.row.extension_key;
        let version = catalogue::version(&self.inner.store, key, &request.version).await?;
        let return_url = return_url.or_else(|| locked.row.return_url.clone());
        let wish = Wish {
            version,
            config: request.config.clone(),
            return_url,
            deadline: None,
            rollout_id: None,
            asks: true,
            is_dry,
        };
        Box::pin(self.propose(work, &mut locked, wish, actor)).await
    }

    /// Applies a version, or has it wait for consent.
    pub(super) async fn propose(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        wish: Wish,
        actor: &Actor,
    ) -> Result<UpgradeOutcome, LifecycleError> {
        let state = locked.state();
        if let Step::Refused(reason) = step(state, Command::Upgrade { needs_consent: false }) {
            return Err(LifecycleError::NotNow {
                command: "upgrade",
                installation: locked.row.id.to_string(),
                reason,
            });
        }
        if wish.version.id == locked.version.id {
            return self.propose_the_same(work, locked, wish, actor).await;
        }
        if wish.version.withdrawn_at.is_some() {
            let (key, version) = (locked.row.extension_key.clone(), wish.version.version);
            return Err(catalogue::CatalogueError::Withdrawn { key, version }.into());
        }
        let waiting = self
            .waiting_upgrade(work, &locked.row)
            .await?
            .filter(|waiting| waiting.version_id == wish.version.id);
        let given = match (&wish.config, &waiting) {
            (Some(config), _) => config.clone(),
            (None, Some(waiting)) => self.given_with(waiting)?,
            (None, None) => Map::new(),
        };
        let mut prepared = self.prepare(work, locked, wish.version.clone(), given).await?;
        let is_pending = state.phase == Phase::PendingAuthorization;
        let needs_consent = !is_pending && prepared.upgrade.consent_required;
        let needs_authorization = needs_consent && prepared.needs_authorization;
        if (needs_authorization || is_pending) && !self.can_be_asked(&prepared.package.manifest) {
            let service = prepared.package.manifest.authorisation.map(|own| own.service_name);
            return Err(OAuthError::UnknownService { service: service.unwrap_or_default() }.into());
        }
        prepared.rollout_id = wish.rollout_id;
        prepared.deadline = wish.deadline.or_else(|| self.own_deadline(&prepared));
        let manifest = prepared.package.manifest.clone();

        let change = if needs_consent { UpgradeChange::Waits } else { UpgradeChange::Applied };
        let mut outcome = UpgradeOutcome::new(locked, &wish.version, change);
        outcome.plan.clone_from(&prepared.upgrade.plan);
        outcome.growth.clone_from(&prepared.upgrade.growth);
        outcome.consent_required = needs_consent;
        outcome.authorization_required = needs_authorization;
        if needs_consent {
            outcome.deadline = prepared.deadline;
        }
        if wish.is_dry {
            return Ok(outcome);
        }
        let waits_already = match &waiting {
            Some(waiting) if needs_consent => {
                Self::is_as_shown(waiting, &prepared) && self.given_with(waiting)? == prepared.given
            }
            _ => false,
        };
        if let (Some(waiting), true) = (&waiting, waits_already) {
            outcome.consent_id = Some(waiting.id);
            outcome.deadline = wish.deadline.or(waiting.deadline.map(Timestamp::from_micros));
            self.join_waiting(work, waiting, &wish).await?;
        } else {
            outcome.consent_id = needs_consent.then_some(prepared.consent_id);
            self.take_upgrade(work, locked, prepared, needs_consent, actor).await?;
        }
        if is_pending && manifest.authorisation.is_none() {
            // Nothing is left to authorise.
            self.take(work, locked, Command::Authorize, actor, None).await?;
        }
        outcome.state = locked.state().name();
        outcome.version.clone_from(&locked.version.version);
        if wish.asks {
            let addresses = if is_pending && manifest.authorisation.is_some() {
                Some(self.ask(work, locked, wish.return_url, false).await?)
            } else if let Some(consent_id) = outcome.consent_id
                && self.can_be_asked(&manifest)
                && manifest.authorisation.is_some()
            {
                // An authorisation is consent enough, always.
                let purpose = AuthorizationPurpose::Upgrade { consent_id };
                let all = self.declared_by(&manifest, &wish.version)?;
                let declared = all
                    .iter()
                    .find(|one| one.is_host())
                    .ok_or(LifecycleError::Unreadable { what: "authorisation of the manifest" })?;
                let mut request = Self::wish_for(locked, declared, purpose);
                request.target_digest.clone_from(&wish.version.digest);
                request.granted_by.clone_from(&locked.row.installed_by);
                request.return_url = wish.return_url;
                let asked = self.ask_for(work, &request).await?;
                Some(asked)
            } else {
                None
            };
            (outcome.authorization_url, outcome.start_url) = addresses.unzip();
        }
        Ok(outcome)
    }

    /// The version that serves is wanted: an upgrade that waits is not.
    async fn propose_the_same(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        wish: Wish,
        actor: &Actor,
    ) -> Result<UpgradeOutcome, LifecycleError> {
        if wish.config.as_ref().is_some_and(|config| !config.is_empty()) {
            let version = &locked.version.version;
            return Err(LifecycleError::field(
                "/config",
                format!("version {version} serves already: change its parameters by configure"),
            ));
        }
        let prepared = self.prepare(work, locked, wish.version.clone(), Map::new()).await?;
        if !wish.is_dry {
            let reason = format!("version {} is to stay", locked.version.version);
            self.take(work, locked, Command::WithdrawUpgrade, actor, Some(&reason)).await?;
        }
        let mut outcome = UpgradeOutcome::new(locked, &wish.version, UpgradeChange::Nothing);
        outcome.plan = prepared.upgrade.plan;
        Ok(outcome)
    }

    async fn take_upgrade(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        prepared: PreparedUpgrade,
        needs_consent: bool,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let mut reason = format!("from {} to {}", locked.version.version, prepared.version.version);
        if needs_consent {
            reason.push_str("; waits for consent");
        }
        locked.prepared = Some(Box::new(prepared));
        let command = Command::Upgrade { needs_consent };
        self.take(work, locked, command, actor, Some(&reason)).await?;
        Ok(())
    }

    /// The same upgrade waits already: a rollout takes it over, with its deadline.
    async fn join_waiting(
        &self,
        work: &UnitOfWork,
        waiting: &upgrade::Model,
        wish: &Wish,
    ) -> Result<(), LifecycleError> {
        let Some(rollout_id) = wish.rollout_id else { return Ok(()) };
        let deadline = wish.deadline.map(Timestamp::micros).or(waiting.deadline);
        upgrade::Entity::update_many()
            .col_expr(upgrade::Column::RolloutId, Expr::value(Some(rollout_id)))
            .col_expr(upgrade::Column::Deadline, Expr::value(deadline))
            .filter(upgrade::Column::Id.eq(waiting.id))
            .exec(work.connection())
            .await?;
        Ok(())
    }

    /// Whether what a manifest asks of the host can be granted here.
    fn can_be_asked(&self, manifest: &Manifest) -> bool {
        let own = manifest.authorisation.as_ref();
        own.is_none_or(|own| self.inner.providers.has(&own.service_name))
    }

    /// The deadline that a manifest sets, where it is a moment to come.
    fn own_deadline(&self, prepared: &PreparedUpgrade) -> Option<Timestamp> {
        let text = prepared.package.manifest.update_before.as_deref()?;
        let deadline = Timestamp::parse_rfc3339(text)?;
        (deadline > self.inner.seam.clock.now()).then_some(deadline)
    }
}
