//! Install: one live installation of an extension per org, and the way to its authorisation.

use aws_lc_rs::digest::{SHA256, digest};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, Statement, sea_query::Expr,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::closing;
use super::error::LifecycleError;
use super::generations;
use super::parameters;
use super::service::{Lifecycle, Locked, read_manifest, state_of};
use super::state::{Command, Phase};
use super::validator::Agreed;
use crate::audit::Actor;
use crate::catalogue;
use crate::crypto::{AssociatedData, Purpose, constant_time_equal};
use crate::identifier::{DepartmentId, ExtensionKey, OrgId};
use crate::manifest::{ExtensionType, Manifest};
use crate::oauth::{AuthorizationPurpose, AuthorizationRequest, DeclaredConnection, authorization};
use crate::store::entity::{endpoint, extension_version, installation, installation_generation};
use crate::store::{RoutingChange, UnitOfWork};

/// The longest name of a user.
const LONGEST_USER: usize = 64;

/// The most departments.
const MOST_DEPARTMENTS: usize = 1_000;

/// What the marketplace asks for.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstallRequest {
    /// The extension.
    #[schema(value_type = String)]
    pub extension_key: ExtensionKey,
    /// The version; missing means the newest stable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The org.
    #[schema(value_type = String)]
    pub org_id: OrgId,
    /// The user who installs, as the host names him.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed_by: Option<String>,
    /// Whose installation it is; for a personal extension, and only for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The departments whose events the extension gets; missing means all.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub department_ids: Option<Vec<DepartmentId>>,
    /// Values of the manifest's parameters.
    #[schema(value_type = Option<Object>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// A lower one than the live one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
    /// Where the browser goes at the end; its origin must be one of `marketplace.return_urls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
}

impl InstallRequest {
    /// Whose installation it is; empty where it is the org's.
    pub(super) fn user(&self) -> &str {
        self.user_id.as_deref().unwrap_or_default()
    }

    /// What makes two requests the same: version, departments and config as they were sent.
    fn digest(&self) -> Vec<u8> {
        let same = serde_json::json!({
            "version": self.version,
            "departmentIds": self.department_ids,
            "config": self.config,
        });
        digest(&SHA256, same.to_string().as_bytes()).as_ref().to_vec()
    }
}

/// An installation after the call.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The installation.
    pub installation_id: Uuid,
    /// Its generation.
    pub generation: i32,
    /// Its state.
    pub state: &'static str,
    /// Whether this call made it.
    pub is_new: bool,
    /// The provider's address, while it waits.
    pub authorization_url: Option<Url>,
    /// Our one-time address for the browser, while it waits.
    pub start_url: Option<Url>,
}

impl Lifecycle {
    /// Installs, where the vendor agreed ([`Lifecycle::ask_validator`]).
    pub async fn install(
        &self,
        work: &mut UnitOfWork,
        request: &InstallRequest,
        agreed: Agreed,
        actor: &Actor,
    ) -> Result<Installed, LifecycleError> {
        let inner = &self.inner;
        let return_url = self.check_return_url(request.return_url.as_deref())?;
        check_texts(request)?;
        let key = request.extension_key.as_str();
        // Under its lock: the kill switch either sees this installation, or is seen here.
        let extension = catalogue::extension_for_install(work, key).await?;
        let generation = self.next_generation(work, request).await?;
        let newest = self.newest(work, request).await?;
        let is_first = newest.is_none();
        if let Some(row) = newest.filter(|row| row.live == 1) {
            if self.is_late(work, &row, request.generation).await? {
                return self.install_late(work, request).await;
            }
            return self.install_again(work, request, row, return_url).await;
        }
        if extension.suspended_at.is_some() {
            return Err(LifecycleError::ExtensionSuspended {
                extension: key.to_owned(),
                reason: extension.suspended_reason.unwrap_or_default(),
            });
        }
        let (version, manifest) = if let Some(read) = agreed.unasked() {
            read
        } else {
            let version = self.version_to_install(request).await?;
            let manifest = read_manifest(&version)?;
            (version, manifest)
        };
        check_whose(request, &manifest)?;
        if manifest.installation_validator.is_some() && !agreed.covers(version.id) {
            return Err(LifecycleError::Outdated);
        }
        if let Some(authorization) = &manifest.authorisation {
            let service = &authorization.service_name;
            if !inner.providers.has(service) {
                let service = service.clone();
                return Err(crate::oauth::OAuthError::UnknownService { service }.into());
            }
        }
        Self::enter_generation(work, request, generation);
        let row = self.new_row(request, &version, &manifest, generation, return_url.as_deref())?;
        let mut locked = Locked::new(row, version, manifest);
        let now = inner.seam.clock.now();
        self.record(work, &locked.row, "install", None, actor, None).await?;
        // Behind the audit, whose head is locked now: a closure that this does not see sees this.
        if closing::is_closing(work, &locked.row.org_id).await? {
            return Err(LifecycleError::OrgCloses { org: locked.row.org_id });
        }
        // Of this org and user: generations count others too, and leap at a restore.
        let reason = if is_first { "first_install" } else { "reinstall" };
        self.tell(work, &mut locked, "onInstall", Some(reason), now).await?;
        Self::insert(work, &locked.row);
        let (authorization_url, start_url) = if locked.manifest.authorisation.is_some() {
            let (authorization, start) = self.ask(work, &locked, return_url, true).await?;
            (Some(authorization), Some(start))
        } else {
            // Nothing to authorise: active at once.
            work.flush().await?;
            self.take(work, &mut locked, Command::Authorize, actor, None).await?;
            (None, None)
        };
        Ok(Installed {
            installation_id: locked.row.id,
            generation,
            state: locked.state().name(),
            is_new: true,
            authorization_url,
            start_url,
        })
    }

    /// The call is for an earlier installation than the live one: it is told how that one is.
    async fn install_late(
        &self,
        work: &UnitOfWork,
        request: &InstallRequest,
    ) -> Result<Installed, LifecycleError> {
        let (key, org) = (request.extension_key.as_str(), request.org_id.as_str());
        let row = self
            .former(work, key, org, request.user(), request.generation)
            .await?
            .ok_or_else(|| LifecycleError::Unknown(format!("of {key} in org {org}")))?;
        Ok(Installed {
            installation_id: row.id,
            generation: row.generation,
            state: state_of(&row).name(),
            is_new: false,
            authorization_url: None,
            start_url: None,
        })
    }

    /// A live installation exists: the same request is answered again, another is refused.
    async fn install_again(
        &self,
        work: &UnitOfWork,
        request: &InstallRequest,
        row: installation::Model,
        return_url: Option<String>,
    ) -> Result<Installed, LifecycleError> {
        if !self.is_same_request(&row, request) {
            return Err(LifecycleError::Installed {
                extension: row.extension_key,
                org: row.org_id,
                installation: row.id.to_string(),
            });
        }
        let locked = self.with_version(work, row).await?;
        let (authorization_url, start_url) = if locked.state().phase == Phase::PendingAuthorization
        {
            let return_url = return_url.or_else(|| locked.row.return_url.clone());
            let (authorization, start) = self.ask(work, &locked, return_url, false).await?;
            (Some(authorization), Some(start))
        } else {
            (None, None)
        };
        Ok(Installed {
            installation_id: locked.row.id,
            generation: locked.row.generation,
            state: locked.state().name(),
            is_new: false,
            authorization_url,
            start_url,
        })
    }

    /// Whether a request is the one that made an installation. Its digest is sealed: it covers
    /// secure parameters, which must not be guessed from it.
    fn is_same_request(&self, row: &installation::Model, request: &InstallRequest) -> bool {
        let place = AssociatedData { subject: row.id, field: "install-request" };
        self.inner
            .keys
            .ring
            .unseal(Purpose::Vault, &place, &row.request_digest)
            .is_ok_and(|digest| constant_time_equal(digest.expose(), &request.digest()))
    }

    /// Makes the addresses of a fresh authorisation.
    pub(super) async fn ask(
        &self,
        work: &UnitOfWork,
        locked: &Locked,
        return_url: Option<String>,
        is_first: bool,
    ) -> Result<(Url, Url), LifecycleError> {
        let declared = self
            .declared(locked)?
            .into_iter()
            .find(DeclaredConnection::is_host)
            .ok_or(LifecycleError::Unreadable { what: "authorisation of the manifest" })?;
        let granted_by =
            locked.row.installed_by.clone().or_else(|| owner_of(&locked.row).map(str::to_owned));
        let mut request = Self::wish_for(locked, &declared, AuthorizationPurpose::Install);
        (request.granted_by, request.return_url) = (granted_by, return_url);
        request.is_first = is_first;
        self.ask_for(work, &request).await
    }

    /// What is asked of a connection for an installation, as it stands.
    pub(super) fn wish_for(
        locked: &Locked,
        declared: &DeclaredConnection,
        purpose: AuthorizationPurpose,
    ) -> AuthorizationRequest {
        AuthorizationRequest {
            installation_id: locked.row.id,
            generation: locked.row.generation,
            purpose,
            connection: declared.name.clone(),
            service: declared.service.clone(),
            scopes: declared.scopes.clone(),
            granted_by: None,
            target_digest: locked.row.target_digest.clone(),
            return_url: None,
            is_first: false,
        }
    }

    /// Makes the addresses at which somebody grants what is asked for.
    pub(super) async fn ask_for(
        &self,
        work: &UnitOfWork,
        request: &AuthorizationRequest,
    ) -> Result<(Url, Url), LifecycleError> {
        let inner = &self.inner;
        let begun = authorization::begin(
            &inner.providers,
            &inner.keys.ring,
            work,
            request,
            inner.seam.clock.now(),
            &inner.seam,
        )
        .await?;
        let mut start_url = inner.public_url.clone();
        start_url.set_path(&format!("/oauth/start/{}", begun.start_nonce));
        Ok((begun.authorization_url, start_url))
    }

    pub(super) fn check_return_url(
        &self,
        text: Option<&str>,
    ) -> Result<Option<String>, LifecycleError> {
        let Some(text) = text else { return Ok(None) };
        let fault = |message: &str| LifecycleError::field("/returnUrl", message);
        let url = Url::parse(text).map_err(|_| fault("returnUrl must be an absolute URL"))?;
        let is_known = self.inner.return_urls.iter().any(|origin| origin.contains(&url));
        if !is_known || !url.username().is_empty() || url.password().is_some() {
            return Err(fault("returnUrl must have an origin of marketplace.return_urls"));
        }
        Ok(Some(url.into()))
    }

    pub(super) async fn version_to_install(
        &self,
        request: &InstallRequest,
    ) -> Result<extension_version::Model, LifecycleError> {
        let store = &self.inner.store;
        let key = request.extension_key.as_str();
        let Some(wanted) = &request.version else {
            return Ok(catalogue::newest_stable(store, key).await?);
        };
        let version = catalogue::version(store, key, wanted).await?;
        if version.withdrawn_at.is_some() {
            let version = version.version;
            let key = key.to_owned();
            return Err(catalogue::CatalogueError::Withdrawn { key, version }.into());
        }
        Ok(version)
    }

    /// Takes the lock of (org, extension) and says which generation would be next.
    async fn next_generation(
        &self,
        work: &UnitOfWork,
        request: &InstallRequest,
    ) -> Result<i32, LifecycleError> {
        let connection = work.connection();
        let row = connection
            .query_one_raw(Statement::from_sql_and_values(
                connection.get_database_backend(),
                // The update of an unchanged value locks the row, so that two installs wait in turn.
                "insert into installation_generations (org_id, extension_key, generation)
                 values ($1, $2, coalesce(
                     (select cast(value as integer) from settings where name = $3), 0))
                 on conflict (org_id, extension_key)
                     do update set generation = installation_generations.generation
                 returning generation",
                [
                    request.org_id.as_str().into(),
                    request.extension_key.as_str().into(),
                    generations::FLOOR.into(),
                ],
            ))
            .await?
            .ok_or(LifecycleError::Unreadable { what: "generation" })?;
        let generation: i32 = row.try_get_by_index(0)?;
        Ok(generation + 1)
    }

    /// The live installation of an extension in an org, of a personal one that of a user; where none
    /// lives, the last one that did. Under its lock.
    async fn newest(
        &self,
        work: &UnitOfWork,
        request: &InstallRequest,
    ) -> Result<Option<installation::Model>, LifecycleError> {
        use installation::Column;
        Ok(installation::Entity::find()
            .filter(Column::ExtensionKey.eq(request.extension_key.as_str()))
            .filter(Column::OrgId.eq(request.org_id.as_str()))
            .filter(Column::UserId.eq(request.user()))
            .order_by_desc(Column::Live)
            .order_by_desc(Column::Generation)
            .limit(1)
            .lock_exclusive()
            .one(work.connection())
            .await?)
    }

    /// Counts an installation; the row is locked already.
    fn enter_generation(work: &UnitOfWork, request: &InstallRequest, generation: i32) {
        use installation_generation::Column;
        work.write_later(
            &installation_generation::Entity::update_many()
                .col_expr(Column::Generation, Expr::value(generation))
                .filter(Column::OrgId.eq(request.org_id.as_str()))
                .filter(Column::ExtensionKey.eq(request.extension_key.as_str())),
        );
    }

    fn new_row(
        &self,
        request: &InstallRequest,
        version: &extension_version::Model,
        manifest: &Manifest,
        generation: i32,
        return_url: Option<&str>,
    ) -> Result<installation::Model, LifecycleError> {
        let now = self.inner.seam.clock.now();
        let id = self.inner.seam.randomness.id();
        let given = request.config.clone().unwrap_or_default();
        let mut checked = parameters::check(&given, &manifest.parameters, true)?;
        // Null means that nothing is set, and nothing is kept of it: shown, it would look set.
        checked.open.retain(|_, value| !value.is_null());
        checked.secure.retain(|_, value| !value.is_null());
        Ok(installation::Model {
            id,
            org_id: request.org_id.to_string(),
            extension_key: request.extension_key.to_string(),
            version_id: version.id,
            generation,
            live: 1,
            state: Phase::PendingAuthorization.name().to_owned(),
            suspended_by: 0,
            installed_by: request.installed_by.clone(),
            department_ids: request
                .department_ids
                .as_ref()
                .map(|departments| serde_json::json!(departments).to_string()),
            config: Value::Object(checked.open).to_string(),
            sealed_config: self.seal_config(id, &checked.secure)?,
            request_digest: self.seal_request(id, request)?,
            target_digest: version.digest.clone(),
            return_url: return_url.map(str::to_owned),
            granted_scopes: None,
            connection_health: "none".to_owned(),
            connection_reason: None,
            callback_sequence: 0,
            cleanup: "done".to_owned(),
            created_at: now.micros(),
            authorized_at: None,
            uninstalled_at: None,
            updated_at: now.micros(),
            user_id: request.user().to_owned(),
            waiting_upgrade_id: None,
            former_version_id: None,
            upgraded_at: None,
            change_position: 0,
            erase_at: None,
            erased_at: None,
        })
    }

    fn seal_request(&self, id: Uuid, request: &InstallRequest) -> Result<Vec<u8>, LifecycleError> {
        let place = AssociatedData { subject: id, field: "install-request" };
        let inner = &self.inner;
        let digest = request.digest();
        Ok(inner.keys.ring.seal(Purpose::Vault, &place, &digest, &inner.seam.randomness)?)
    }

    /// Seals the parameters that may not be shown.
    pub(super) fn seal_config(
        &self,
        installation_id: Uuid,
        secure: &Map<String, Value>,
    ) -> Result<Option<Vec<u8>>, LifecycleError> {
        if secure.is_empty() {
            return Ok(None);
        }
        let text = serde_json::to_vec(secure)
            .map_err(|_| LifecycleError::Unreadable { what: "config" })?;
        let place = AssociatedData { subject: installation_id, field: "config" };
        let inner = &self.inner;
        let ring = &inner.keys.ring;
        Ok(Some(ring.seal(Purpose::Vault, &place, &text, &inner.seam.randomness)?))
    }

    fn insert(work: &mut UnitOfWork, row: &installation::Model) {
        let every_column = installation::ActiveModel::from(row.clone()).reset_all();
        work.write_later(&installation::Entity::insert(every_column));
        work.write_later(&endpoint::Entity::insert(endpoint::ActiveModel {
            id: Set(row.id),
            org_id: Set(row.org_id.clone()),
            lane: Set("lifecycle".to_owned()),
            installation_id: Set(Some(row.id)),
            extension_key: Set(Some(row.extension_key.clone())),
            created_at: Set(row.created_at),
        }));
        work.routing_changed(RoutingChange::Installation(row.id.to_string()));
        work.installation_changed(row.id);
    }
}

pub(super) fn check_texts(request: &InstallRequest) -> Result<(), LifecycleError> {
    check_user("/installedBy", request.installed_by.as_deref())?;
    check_user("/userId", request.user_id.as_deref())?;
    check_departments(request.department_ids.as_deref())
}

/// Checks the name of a user at a place of a request.
pub(super) fn check_user(pointer: &str, user: Option<&str>) -> Result<(), LifecycleError> {
    let is_fit = |user: &str| {
        !user.is_empty()
            && user.chars().count() <= LONGEST_USER
            && !user.chars().any(char::is_control)
    };
    if user.is_none_or(is_fit) {
        return Ok(());
    }
    let field = pointer.trim_start_matches('/');
    let message = format!("{field} must have 1 to 64 characters, none a control character");
    Err(LifecycleError::field(pointer, message))
}

/// A personal extension is a user's, any other is the org's.
pub(super) fn check_whose(
    request: &InstallRequest,
    manifest: &crate::manifest::Manifest,
) -> Result<(), LifecycleError> {
    let is_personal = manifest.extension_type == Some(ExtensionType::Personal);
    match (is_personal, &request.user_id) {
        (true, None) => Err(LifecycleError::field(
            "/userId",
            "this extension is personal: each user installs it for himself; say in userId who",
        )),
        (false, Some(_)) => Err(LifecycleError::field(
            "/userId",
            "this extension is for the whole org: leave userId out, and say in installedBy who \
             installs it",
        )),
        _ => Ok(()),
    }
}

/// Whose a personal installation is.
pub(super) fn owner_of(row: &installation::Model) -> Option<&str> {
    (!row.user_id.is_empty()).then_some(row.user_id.as_str())
}

/// Checks a choice of departments.
pub(super) fn check_departments(
    departments: Option<&[DepartmentId]>,
) -> Result<(), LifecycleError> {
    match departments {
        Some([]) => Err(LifecycleError::field(
            "/departmentIds",
            "departmentIds must name a department; leave it out for all of them",
        )),
        Some(many) if many.len() > MOST_DEPARTMENTS => Err(LifecycleError::field(
            "/departmentIds",
            format!("departmentIds may name {MOST_DEPARTMENTS} departments at the most"),
        )),
        _ => Ok(()),
    }
}
