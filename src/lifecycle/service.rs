//! What the steps share: the installation under its lock, and the one place that writes a
//! transition with its effects.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, RelationDef,
    sea_query::LockType,
};
use url::Url;
use uuid::Uuid;

use super::applying::{PreparedUpgrade, extension_webhook};
use super::erasure;
use super::error::LifecycleError;
use super::reconcile;
use super::state::{Command, Effect, Holders, Phase, State, Step, step};
use crate::audit::{self, Actor, Entry};
use crate::config::Origin;
use crate::crypto::Keys;
use crate::delivery::{Callback, Dispatcher, declared_name, enqueue_callback};
use crate::egress::Egress;
use crate::extension_data;
use crate::manifest::{CheckedPackage, Manifest};
use crate::notice::{Board, NoticeKind};
use crate::oauth::{self, Connections, Providers, Revocations};
use crate::seam::{Seam, Timestamp, crash_point};
use crate::store::entity::{extension_version, installation, transition};
use crate::store::{RoutingChange, RoutingRevision, Store, UnitOfWork};
use crate::webhook::provisioning;
use crate::webhook::{ExtensionAuthority, Routing};

/// The life of installations. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) keys: Keys,
    pub(super) routing: Routing,
    pub(super) dispatcher: Dispatcher,
    pub(super) providers: Providers,
    pub(super) revocations: Arc<Revocations>,
    pub(super) connections: Connections,
    pub(super) authority: ExtensionAuthority,
    pub(super) notices: Board,
    pub(super) public_url: Url,
    pub(super) return_urls: Vec<Origin>,
    pub(super) seam: Seam,
    pub(super) options: LifecycleOptions,
}

/// What else the life of installations depends on.
#[derive(Clone, Debug)]
pub struct LifecycleOptions {
    /// How long what is kept of an uninstalled installation stays, unless its erasure is asked for.
    pub erase_after: Duration,
    /// The door out, for the vendors' installation validators.
    pub egress: Egress,
}

/// An installation with the version that serves it, under its lock.
#[derive(Clone, Debug)]
pub(super) struct Locked {
    pub(super) row: installation::Model,
    pub(super) version: extension_version::Model,
    pub(super) manifest: Manifest,
    /// What the upgrade that is being taken brings.
    pub(super) prepared: Option<Box<PreparedUpgrade>>,
    /// The version that served before, where this step changes it.
    pub(super) former_version: Option<String>,
}

impl Locked {
    pub(super) fn new(
        row: installation::Model,
        version: extension_version::Model,
        manifest: Manifest,
    ) -> Self {
        Self { row, version, manifest, prepared: None, former_version: None }
    }

    pub(super) fn state(&self) -> State {
        state_of(&self.row)
    }
}

/// The state of a row.
pub(super) fn state_of(row: &installation::Model) -> State {
    let state = state_of_parts(&row.state, row.suspended_by);
    State { upgrade_waits: row.waiting_upgrade_id.is_some(), ..state }
}

/// The name of the state of a row, as answers have it.
pub(crate) fn installation_state(row: &installation::Model) -> &'static str {
    state_of(row).name()
}

/// The state of a row, by the two columns that say it; an upgrade that waits changes no name.
pub(super) fn state_of_parts(phase: &str, suspended_by: i32) -> State {
    State {
        // A phase that this release does not know cannot do anything.
        phase: Phase::from_name(phase).unwrap_or(Phase::Uninstalled),
        suspended_by: Holders::from_number(suspended_by),
        upgrade_waits: false,
    }
}

impl Lifecycle {
    /// Puts the parts together.
    #[expect(clippy::too_many_arguments, reason = "called once, where the server is wired")]
    pub fn new(
        store: Store,
        keys: Keys,
        routing: Routing,
        dispatcher: Dispatcher,
        providers: Providers,
        revocations: Arc<Revocations>,
        connections: Connections,
        authority: ExtensionAuthority,
        notices: Board,
        public_url: Url,
        return_urls: Vec<Origin>,
        seam: Seam,
        options: LifecycleOptions,
    ) -> Self {
        let inner = Inner {
            store,
            keys,
            routing,
            dispatcher,
            providers,
            revocations,
            connections,
            authority,
            notices,
            public_url,
            return_urls,
            seam,
            options,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Begins the transaction of a step.
    pub async fn begin(&self) -> Result<UnitOfWork, LifecycleError> {
        Ok(self.inner.store.begin().await?)
    }

    /// Commits a step, and returns when its effect on deliveries is true on every node.
    pub async fn commit(&self, work: UnitOfWork) -> Result<(), LifecycleError> {
        crash_point("lifecycle.before-commit");
        let revision: RoutingRevision = work.commit(self.inner.seam.clock.now()).await?;
        crash_point("lifecycle.after-commit");
        self.inner.routing.settle(revision).await?;
        self.inner.dispatcher.poke();
        self.inner.revocations.poke();
        Ok(())
    }

    /// Reads an installation under its lock, with the version that serves it.
    pub(super) async fn lock(&self, work: &UnitOfWork, id: Uuid) -> Result<Locked, LifecycleError> {
        let serving: RelationDef = installation::Entity::belongs_to(extension_version::Entity)
            .from(installation::Column::VersionId)
            .to(extension_version::Column::Id)
            .into();
        let mut both = installation::Entity::find_by_id(id)
            .join(JoinType::InnerJoin, serving)
            .select_also(extension_version::Entity);
        // The version is shared by all its installations, and none holds the others up.
        QuerySelect::query(&mut both).lock_with_tables(LockType::Update, [installation::Entity]);
        if let Some((row, Some(version))) = both.one(work.connection()).await? {
            let manifest = read_manifest(&version)?;
            return Ok(Locked::new(row, version, manifest));
        }
        // There is none; or PostgreSQL waited for the lock while another version began to serve,
        // and joins the row as it is now with the version that was.
        let row = self.lock_row(work, id).await?;
        self.with_version(work, row).await
    }

    /// Reads the row of an installation under its lock, whatever can be read of its version.
    pub(super) async fn lock_row(
        &self,
        work: &UnitOfWork,
        id: Uuid,
    ) -> Result<installation::Model, LifecycleError> {
        installation::Entity::find_by_id(id)
            .lock_exclusive()
            .one(work.connection())
            .await?
            .ok_or_else(|| LifecycleError::Unknown(id.to_string()))
    }

    /// The installation as its end needs it. A version that this release cannot read holds nobody:
    /// without it nobody knows whom to tell, and all else goes as it does.
    pub(super) async fn for_its_end(
        &self,
        work: &UnitOfWork,
        row: installation::Model,
    ) -> Result<Locked, LifecycleError> {
        let id = row.version_id;
        match self.with_version(work, row.clone()).await {
            Err(LifecycleError::Unreadable { what }) => {
                tracing::warn!(
                    installation = %row.id, version = %id, what,
                    "the version cannot be read: at its end the vendor is not told"
                );
                let version = extension_version::Entity::find_by_id(id).one(work.connection());
                let version = version.await?.unwrap_or_else(|| extension_version::Model {
                    id,
                    extension_key: row.extension_key.clone(),
                    version: String::new(),
                    name: row.extension_key.clone(),
                    digest: row.target_digest.clone(),
                    manifest: String::new(),
                    resources: String::new(),
                    sealed_secrets: None,
                    required_scopes: String::new(),
                    warnings: String::new(),
                    withdrawn_at: None,
                    created_at: 0,
                });
                Ok(Locked::new(row, version, Manifest::default()))
            }
            read => read,
        }
    }

    pub(super) async fn with_version(
        &self,
        work: &UnitOfWork,
        row: installation::Model,
    ) -> Result<Locked, LifecycleError> {
        let version = extension_version::Entity::find_by_id(row.version_id)
            .one(work.connection())
            .await?
            .ok_or(LifecycleError::Unreadable { what: "version" })?;
        let manifest = read_manifest(&version)?;
        Ok(Locked::new(row, version, manifest))
    }

    /// Takes a step: asks the table, writes state, effects, history and audit. Returns whether
    /// anything changed.
    pub(super) async fn take(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        command: Command,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<bool, LifecycleError> {
        let before = locked.state();
        let (after, effects) = match step(before, command) {
            Step::To(after, effects) => (after, effects),
            Step::Nothing => return Ok(false),
            Step::Refused(why) => {
                return Err(LifecycleError::NotNow {
                    command: command.name(),
                    installation: locked.row.id.to_string(),
                    reason: why,
                });
            }
        };
        let now = self.inner.seam.clock.now();
        after.phase.name().clone_into(&mut locked.row.state);
        locked.row.suspended_by = after.suspended_by.number();
        locked.row.live = i32::from(after.phase.is_live());
        locked.row.updated_at = now.micros();
        for effect in effects {
            // The effects are large futures, and every step would carry them.
            Box::pin(self.bring_about(work, locked, *effect, actor, reason, now)).await?;
        }
        self.save(work, &locked.row).await?;
        work.routing_changed(RoutingChange::Org(locked.row.org_id.clone()));
        self.record(work, &locked.row, command.name(), Some(before.name()), actor, reason)
            .await
            .map(|()| true)
    }

    async fn bring_about(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        effect: Effect,
        actor: &Actor,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let inner = &self.inner;
        match effect {
            Effect::ProvisionWebhooks => {
                locked.row.authorized_at = Some(now.micros());
                self.provision(work, locked, now).await
            }
            Effect::RemoveWebhooks => {
                let (org, id) = (&locked.row.org_id, locked.row.id);
                provisioning::remove(&inner.authority, &inner.store, work, org, id).await?;
                reconcile::forget(work, id).await
            }
            // The gate holds what is queued as soon as routing knows. What was held goes on after
            // the commit, in bounded steps: whoever looks over the table settles what is held of a
            // live webhook, in order, and leaves alone what a reactivation left behind.
            Effect::HoldDeliveries | Effect::ReleaseDeliveries => Ok(()),
            Effect::RevokeCredentials => {
                let id = locked.row.id;
                inner.connections.remove(work, id, None).await?;
                // In this order: whoever uses a state up now is waited for, and his exchange counted.
                oauth::authorization::drop_states(work, id).await?;
                extension_data::erase(&inner.store, work, id).await?;
                let tokens = inner.connections.waiting_revocations(work, id).await?;
                locked.row.sealed_config = None;
                locked.row.request_digest = Vec::new();
                locked.row.uninstalled_at = Some(now.micros());
                erasure::schedule(work, &mut locked.row, inner.options.erase_after, now).await?;
                "none".clone_into(&mut locked.row.connection_health);
                // What was to be done about an installation that is no more is over. That the vendor
                // was not told of a step (`callback.failed`) is still so.
                let stays = [NoticeKind::CallbackFailed];
                inner.notices.resolve_installation(work, id, &stays).await?;
                let cleanup = if tokens == 0 { "done" } else { "pending" };
                cleanup.clone_into(&mut locked.row.cleanup);
                Ok(())
            }
            Effect::TellAuthorized => {
                self.tell(work, locked, "onZohoAuthorise", Some("authorization"), now).await
            }
            Effect::TellUninstalled => {
                let reason = reason.or(Some("uninstalled"));
                self.tell(work, locked, "onUninstall", reason, now).await
            }
            Effect::Retarget => self.retarget(work, locked, actor, now).await,
            Effect::ApplyUpgrade => self.apply_upgrade(work, locked, actor, now).await,
            Effect::AwaitConsent => self.await_consent(work, locked, actor, now).await,
            Effect::SettleUpgrade(how) => self.settle_upgrade(work, locked, how, actor, now).await,
            Effect::TellUpdated => {
                self.tell(work, locked, "onUpdate", Some("version_change"), now).await
            }
        }
    }

    async fn provision(
        &self,
        work: &mut UnitOfWork,
        locked: &Locked,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let Some(webhook) = read_package(&locked.version)?.webhook else { return Ok(()) };
        let webhook = webhook.provision(None);
        let inner = &self.inner;
        let new = extension_webhook(&locked.row, &webhook);
        let id = provisioning::provision(&inner.authority, work, new, now, &inner.seam.randomness);
        reconcile::remember(work, id, &locked.row, &webhook).await
    }

    /// Queues a callback where the manifest declares one.
    pub(super) async fn tell(
        &self,
        work: &UnitOfWork,
        locked: &mut Locked,
        event: &str,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        self.tell_of(work, locked, event, reason, None, now).await
    }

    /// The same, of a connection and whose it is; empty where it is the org's.
    pub(super) async fn tell_of(
        &self,
        work: &UnitOfWork,
        locked: &mut Locked,
        event: &str,
        reason: Option<&str>,
        connection: Option<(&str, &str)>,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let Some(name) = declared_name(&locked.manifest.callback_listener, event) else {
            return Ok(());
        };
        locked.row.callback_sequence += 1;
        let callback = Callback {
            event: name.to_owned(),
            org_id: locked.row.org_id.clone(),
            extension_key: locked.row.extension_key.clone(),
            installation_id: locked.row.id,
            generation: locked.row.generation,
            sequence: locked.row.callback_sequence,
            version: locked.version.version.clone(),
            reason: reason.map(str::to_owned),
            connection: connection.map(|(name, _)| name.to_owned()),
            user_id: connection.map(|(_, user)| user.to_owned()).filter(|user| !user.is_empty()),
            former_version: locked.former_version.clone(),
            erase_at: locked.row.erase_at.map(Timestamp::from_micros),
        };
        enqueue_callback(work, &callback, now, &self.inner.seam).await?;
        Ok(())
    }

    /// Writes the whole row.
    pub(super) async fn save(
        &self,
        work: &UnitOfWork,
        row: &installation::Model,
    ) -> Result<(), LifecycleError> {
        let mut active: installation::ActiveModel = row.clone().into();
        active = active.reset_all();
        active.id = Unchanged(row.id);
        active.update(work.connection()).await?;
        work.installation_changed(row.id);
        Ok(())
    }

    /// Writes a step into history and audit.
    pub(super) async fn record(
        &self,
        work: &UnitOfWork,
        row: &installation::Model,
        command: &'static str,
        from: Option<&str>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<(), LifecycleError> {
        let now = self.inner.seam.clock.now();
        let to = state_of(row).name();
        work.write_later(&transition::Entity::insert(transition::ActiveModel {
            id: Set(self.inner.seam.randomness.id()),
            installation_id: Set(row.id),
            at: Set(now.micros()),
            actor: Set(actor.name.clone()),
            address: Set(actor.address.map(|address| address.to_string())),
            command: Set(command.to_owned()),
            from_state: Set(from.map(str::to_owned)),
            to_state: Set(to.to_owned()),
            generation: Set(row.generation),
            reason: Set(reason.map(str::to_owned)),
        }));
        work.transitioned(command, to);
        audit::append(
            work,
            Entry {
                chain: &row.org_id,
                action: &format!("installation.{command}"),
                subject: format!("installation:{}", row.id),
                detail: Some(serde_json::json!({
                    "extensionKey": row.extension_key,
                    "generation": row.generation,
                    "from": from,
                    "to": to,
                    "reason": reason,
                })),
            },
            actor,
            now,
            &self.inner.seam.randomness,
        )
        .await?;
        Ok(())
    }

    /// Holds an installation live until the transaction ends: its end waits for that, and what is
    /// written for one that has ended is refused.
    pub async fn hold_live(&self, work: &UnitOfWork, id: Uuid) -> Result<(), LifecycleError> {
        let row = installation::Entity::find_by_id(id)
            .lock_shared()
            .one(work.connection())
            .await?
            .filter(|row| row.live == 1);
        row.map(|_| ()).ok_or_else(|| LifecycleError::Unknown(id.to_string()))
    }

    /// The generation of an installation that takes what third parties post: it is active, and its
    /// serving version says where that goes. Its end waits for the transaction.
    pub async fn incoming_generation(
        &self,
        work: &UnitOfWork,
        id: Uuid,
    ) -> Result<Option<i32>, LifecycleError> {
        let row = installation::Entity::find_by_id(id)
            .lock_shared()
            .one(work.connection())
            .await?
            .filter(|row| state_of(row).name() == "active");
        let Some(row) = row else { return Ok(None) };
        let locked = self.with_version(work, row).await?;
        Ok(locked.manifest.incoming_webhook.is_some().then_some(locked.row.generation))
    }

    /// Whether an installation takes what third parties post, as far as can be seen without holding
    /// it: asked before a rate is taken, so that what is refused costs no transaction.
    pub async fn takes_incoming(&self, id: Uuid) -> Result<bool, LifecycleError> {
        let reader = self.inner.store.reader();
        let row = installation::Entity::find_by_id(id).one(reader).await?;
        let Some(row) = row.filter(|row| state_of(row).name() == "active") else {
            return Ok(false);
        };
        let version = extension_version::Entity::find_by_id(row.version_id)
            .one(reader)
            .await?
            .ok_or(LifecycleError::Unreadable { what: "version" })?;
        Ok(read_manifest(&version)?.incoming_webhook.is_some())
    }

    /// The live installation of an extension in an org; of a personal one, that of a user.
    pub(super) async fn live(
        &self,
        work: &UnitOfWork,
        extension_key: &str,
        org_id: &str,
        user_id: &str,
    ) -> Result<Option<installation::Model>, LifecycleError> {
        Ok(installation::Entity::find()
            .filter(installation::Column::ExtensionKey.eq(extension_key))
            .filter(installation::Column::OrgId.eq(org_id))
            .filter(installation::Column::UserId.eq(user_id))
            .filter(installation::Column::Live.eq(1))
            .lock_exclusive()
            .one(work.connection())
            .await?)
    }

    /// Whether a call comes late: it names a lower generation than that of the live installation.
    /// Such a call changes nothing.
    pub(super) async fn is_late(
        &self,
        work: &UnitOfWork,
        row: &installation::Model,
        generation: Option<i32>,
    ) -> Result<bool, LifecycleError> {
        let Some(generation) = generation else { return Ok(false) };
        if row.live == 1 || generation < row.generation {
            return Ok(generation < row.generation);
        }
        let live = self.live(work, &row.extension_key, &row.org_id, &row.user_id).await?;
        Ok(live.is_some_and(|live| generation < live.generation))
    }

    /// Whether a call for an installation comes late, by its generation.
    pub async fn is_late_call(
        &self,
        work: &UnitOfWork,
        id: Uuid,
        generation: Option<i32>,
    ) -> Result<bool, LifecycleError> {
        let row = self.lock_row(work, id).await?;
        self.is_late(work, &row, generation).await
    }

    /// The installation of a generation, or the newest one.
    pub(super) async fn former(
        &self,
        work: &UnitOfWork,
        extension_key: &str,
        org_id: &str,
        user_id: &str,
        generation: Option<i32>,
    ) -> Result<Option<installation::Model>, LifecycleError> {
        let mut query = installation::Entity::find()
            .filter(installation::Column::ExtensionKey.eq(extension_key))
            .filter(installation::Column::OrgId.eq(org_id))
            .filter(installation::Column::UserId.eq(user_id))
            .order_by_desc(installation::Column::Generation);
        if let Some(generation) = generation {
            query = query.filter(installation::Column::Generation.eq(generation));
        }
        Ok(query.one(work.connection()).await?)
    }
}

/// The typed manifest of a version.
pub(super) fn read_manifest(
    version: &extension_version::Model,
) -> Result<Manifest, LifecycleError> {
    read_package(version).map(|package| package.manifest)
}

/// The package of a version.
pub(super) fn read_package(
    version: &extension_version::Model,
) -> Result<CheckedPackage, LifecycleError> {
    let unreadable = |what| LifecycleError::Unreadable { what };
    let manifest = serde_json::from_str(&version.manifest).map_err(|_| unreadable("manifest"))?;
    let resources =
        serde_json::from_str(&version.resources).map_err(|_| unreadable("resources"))?;
    CheckedPackage::from_stored(&manifest, &resources).map_err(|_| unreadable("package"))
}
