//! From rows to endpoints that are ready to be called.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::Deserialize;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::append_context;
use super::endpoint::{CallbackLane, Endpoint, Owner, Passage, Subscription};
use super::matching::{Direction, Filter};
use super::own;
use super::routing::{OrgRoutes, RoutingError, RoutingOptions};
use crate::crypto::{
    AssociatedData, Ed25519SigningKey, Keys, Locator, Purpose, SecretText, Signer, SigningSecret,
};
use crate::dialect::Dialect;
use crate::egress::Egress;
use crate::identifier::{InstallationId, OrgId, WebhookId};
use crate::manifest::DeliveryWishes;
use crate::seam::{Clock, Timestamp};
use crate::store::entity::{
    endpoint_state, extension_version, installation, signing_secret, webhook,
};
use crate::store::{Store, StoreError};

/// How many ids one statement asks for: under the parameter limits of both databases.
pub(super) const PAGE: usize = 1_000;

/// The options of a subscription, as a webhook's row keeps them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Options {
    department_ids: Option<Vec<String>>,
    fields: Option<Vec<String>>,
    include_prev_state: Option<bool>,
    direction: Option<String>,
}

/// Orgs as they were read.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) orgs: HashMap<Arc<str>, OrgRoutes>,
    pub(super) secrets_until: Option<Timestamp>,
}

/// Reads webhooks and what belongs to them.
#[derive(Clone, Debug)]
pub(super) struct Loader {
    store: Store,
    keys: Keys,
    pub(super) egress: Egress,
    clock: Clock,
    pub(super) options: RoutingOptions,
    pub(super) doors: own::Doors,
}

/// The subscriptions of an org by event type, and its endpoints.
type Routes = (HashMap<Arc<str>, Vec<Subscription>>, Vec<Arc<Endpoint>>);

/// What signs for an extension, and until when that is so.
pub(super) type Signers = HashMap<String, (Arc<Signer>, Option<Timestamp>)>;

impl Loader {
    pub(super) fn new(
        store: Store,
        keys: Keys,
        egress: Egress,
        clock: Clock,
        options: RoutingOptions,
    ) -> Self {
        Self { store, keys, egress, clock, options, doors: own::Doors::default() }
    }

    /// The database.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The keys that unseal and sign.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Reads the webhooks of some orgs, or of all.
    pub(super) async fn orgs(
        &self,
        orgs: Option<&HashSet<String>>,
    ) -> Result<Loaded, RoutingError> {
        let mut loaded = Loaded::default();
        let mut after: Option<Uuid> = None;
        loop {
            let mut query =
                webhook::Entity::find().order_by_asc(webhook::Column::Id).limit(PAGE as u64);
            if let Some(orgs) = orgs {
                query = query.filter(webhook::Column::OrgId.is_in(orgs.iter().cloned()));
            }
            if let Some(after) = after {
                query = query.filter(webhook::Column::Id.gt(after));
            }
            let rows = query.all(self.store.reader()).await.map_err(StoreError::from)?;
            let Some(last) = rows.last() else { break };
            after = Some(last.id);
            let is_last = rows.len() < PAGE;
            self.page(rows, &mut loaded).await?;
            if is_last {
                break;
            }
        }
        self.incoming(orgs, &mut loaded).await?;
        Ok(loaded)
    }

    async fn page(
        &self,
        rows: Vec<webhook::Model>,
        loaded: &mut Loaded,
    ) -> Result<(), RoutingError> {
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let owners: HashSet<Uuid> = rows.iter().filter_map(|row| row.installation_id).collect();
        let keys: HashSet<String> =
            rows.iter().filter_map(|row| row.extension_key.clone()).collect();
        let installations: HashMap<Uuid, installation::Model> = installation::Entity::find()
            .filter(installation::Column::Id.is_in(owners))
            .all(self.store.reader())
            .await
            .map_err(StoreError::from)?
            .into_iter()
            .map(|row| (row.id, row))
            .collect();
        let states: HashMap<Uuid, endpoint_state::Model> = endpoint_state::Entity::find()
            .filter(endpoint_state::Column::EndpointId.is_in(ids))
            .all(self.store.reader())
            .await
            .map_err(StoreError::from)?
            .into_iter()
            .map(|row| (row.endpoint_id, row))
            .collect();
        let signers = self.signers(&keys).await?;
        let own = self.own_rows(&rows).await?;
        let mut names: HashMap<String, Arc<str>> = HashMap::new();
        let mut by_org: HashMap<Arc<str>, Routes> = HashMap::new();
        for row in rows {
            let owner = row.installation_id.and_then(|id| installations.get(&id));
            let health = states.get(&row.id).map_or("ok", |state| state.health.as_str());
            let (mut endpoint, until) = if own::is_own(&row) {
                self.own_endpoint(&row, &own, health)?
            } else {
                let signer = row.extension_key.as_ref().and_then(|key| signers.get(key));
                let Some((signer, until)) = signer else { continue };
                (self.endpoint(&row, owner, Arc::clone(signer), health)?, *until)
            };
            if let Some(until) = until {
                loaded.secrets_until =
                    Some(loaded.secrets_until.map_or(until, |former| former.min(until)));
            }
            let org: Arc<str> = Arc::from(row.org_id.as_str());
            let Filters { of_all, of_each, unreadable } = filters(&row, owner);
            if let Some(what) = endpoint.unreadable.or(unreadable) {
                // One row must not keep the others from being read: it waits by itself.
                tracing::error!(
                    webhook = %row.id,
                    what,
                    "what is stored of a webhook cannot be read by this release; its deliveries are held"
                );
                endpoint.unreadable = Some(what);
                endpoint.passage = Passage::Held;
            }
            let spread = own::spread(&endpoint, of_each, &of_all);
            endpoint.wants_previous = spread
                .iter()
                .filter(|one| one.filter.include_previous)
                .map(|one| Arc::from(one.event_type.as_str()))
                .collect();
            let endpoint = Arc::new(endpoint);
            let (by_type, endpoints) = by_org.entry(org).or_default();
            for one in spread {
                let event_type = names
                    .entry(one.event_type)
                    .or_insert_with_key(|event_type| Arc::from(event_type.as_str()));
                by_type.entry(Arc::clone(event_type)).or_default().push(Subscription {
                    endpoint: Arc::clone(&endpoint),
                    filter: Arc::new(one.filter),
                    name: one.name,
                    rule: one.rule,
                });
            }
            endpoints.push(endpoint);
        }
        for (org, (mut by_type, mut endpoints)) in by_org {
            // A page may end in the middle of an org.
            if let Some(former) = loaded.orgs.remove(&org) {
                former.join(&mut by_type, &mut endpoints);
            }
            loaded.orgs.insert(org, OrgRoutes::new(by_type, endpoints));
        }
        Ok(())
    }

    pub(super) fn endpoint(
        &self,
        row: &webhook::Model,
        owner: Option<&installation::Model>,
        signer: Arc<Signer>,
        health: &str,
    ) -> Result<Endpoint, RoutingError> {
        let mut unreadable = None;
        let declared = Url::parse(&row.url).ok();
        let org = OrgId::new(&row.org_id).ok();
        let dialect = Dialect::from_name(&row.dialect);
        let wishes = row.delivery.as_deref().map(serde_json::from_str::<DeliveryWishes>);
        let generation = u32::try_from(row.generation).ok();
        for (is_readable, what) in [
            (declared.is_some(), "url"),
            (org.is_some(), "org"),
            (dialect.is_some(), "dialect"),
            (wishes.as_ref().is_none_or(Result::is_ok), "delivery options"),
            (generation.is_some(), "generation"),
        ] {
            if !is_readable && unreadable.is_none() {
                unreadable = Some(what);
            }
        }
        let wishes = wishes.and_then(Result::ok);
        let (url, security_context) = match (declared, org, owner, generation) {
            (Some(declared), Some(org), Some(owner), Some(generation)) => {
                let context = self.keys.ring.seal_security_context(&Locator {
                    installation: InstallationId(owner.id),
                    generation,
                    webhook: Some(WebhookId(row.id)),
                })?;
                (Some(append_context(&declared, &org, context.expose())), Some(context))
            }
            (declared, _, None, _) => (declared, None),
            _ => (None, None),
        };
        let destination = match &url {
            Some(url) => self.egress.vet(url).map_err(|refusal| refusal.to_string()),
            None => Err("the stored address cannot be read".to_owned()),
        };
        let passage = match owner {
            Some(owner) if owner.suspended_by != 0 => Passage::Suspended,
            _ if health == "gone" || health == "disabled" || row.is_enabled == 0 => Passage::Held,
            _ => Passage::Open,
        };
        Ok(Endpoint {
            id: row.id,
            org_id: Arc::from(row.org_id.as_str()),
            owner: owner.map(|owner| Owner {
                installation_id: owner.id,
                extension_key: Arc::from(owner.extension_key.as_str()),
            }),
            generation: row.generation,
            destination,
            security_context,
            dialect: dialect.unwrap_or_default(),
            signer,
            ordered: row.ordered != 0,
            wants_previous: Vec::new(),
            passage,
            is_failing: health == "failing",
            terms: self.options.bounds.terms(wishes.as_ref()),
            unreadable,
            is_incoming: false,
            own: None,
        })
    }

    /// What signs for each extension: every live secret at once while a rotation overlaps.
    pub(super) async fn signers(&self, keys: &HashSet<String>) -> Result<Signers, RoutingError> {
        let now = self.clock.now();
        let rows = signing_secret::Entity::find()
            .filter(signing_secret::Column::ExtensionKey.is_in(keys.iter().cloned()))
            .order_by_desc(signing_secret::Column::Id)
            .all(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        let mut secrets: HashMap<String, (Vec<SigningSecret>, Option<Timestamp>)> = HashMap::new();
        for row in rows {
            let expires_at = row.expires_at.map(Timestamp::from_micros);
            if expires_at.is_some_and(|expires_at| expires_at <= now) {
                continue;
            }
            let secret = unseal_signing_secret(&self.keys, &row)?;
            let (live, until) = secrets.entry(row.extension_key).or_default();
            live.push(secret);
            *until = match (*until, expires_at) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        let (pairs, pairs_until) = self.key_pairs();
        secrets
            .into_iter()
            .map(|(key, (secrets, until))| {
                let signer = Signer::new(&secrets)?.with_key_pairs(pairs.iter().cloned());
                let until = [until, pairs_until].into_iter().flatten().min();
                Ok((key, (Arc::new(signer), until)))
            })
            .collect()
    }

    /// The time of day.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The key pairs that sign beside the secrets, and when that changes.
    pub(super) fn key_pairs(&self) -> (Vec<Arc<Ed25519SigningKey>>, Option<Timestamp>) {
        if !self.options.ed25519 {
            return (Vec::new(), None);
        }
        let now = self.clock.now();
        (self.keys.signing.ed25519(now), self.keys.signing.next_expiry(now))
    }

    /// What signs for an extension: every live secret, and the `secret` of a version's manifest.
    pub(super) async fn extension_signer(
        &self,
        version: &extension_version::Model,
    ) -> Result<(Arc<Signer>, Option<SecretText>), RoutingError> {
        let key = &version.extension_key;
        let mut signers = self.signers(&HashSet::from([key.clone()])).await?;
        let (signer, _) = signers.remove(key).ok_or_else(|| RoutingError::Unreadable {
            what: "signing secret",
            subject: format!("extension {key}"),
        })?;
        let secrets = unseal_manifest_secrets(&self.keys, version)?;
        let secret = secrets.get("/secret").map(|secret| SecretText::new(secret.expose()));
        Ok((signer, secret))
    }

    /// Reads where the callbacks of an installation go.
    pub(super) async fn callback_lane(
        &self,
        installation_id: Uuid,
    ) -> Result<Option<CallbackLane>, RoutingError> {
        let Some(owner) = installation::Entity::find_by_id(installation_id)
            .one(self.store.reader())
            .await
            .map_err(StoreError::from)?
        else {
            return Ok(None);
        };
        let unreadable = |what| RoutingError::Unreadable {
            what,
            subject: format!("installation {installation_id}"),
        };
        let version = extension_version::Entity::find_by_id(owner.version_id)
            .one(self.store.reader())
            .await
            .map_err(StoreError::from)?
            .ok_or_else(|| unreadable("version"))?;
        let mut signers = self.signers(&HashSet::from([owner.extension_key.clone()])).await?;
        let (signer, _) =
            signers.remove(&owner.extension_key).ok_or_else(|| unreadable("signing secret"))?;
        let manifest: Declared =
            serde_json::from_str(&version.manifest).map_err(|_| unreadable("manifest"))?;
        let secrets = unseal_manifest_secrets(&self.keys, &version)?;
        let security_context = self.keys.ring.seal_security_context(&Locator {
            installation: InstallationId(installation_id),
            generation: u32::try_from(owner.generation).map_err(|_| unreadable("generation"))?,
            webhook: None,
        })?;
        Ok(Some(CallbackLane {
            installation_id,
            org_id: owner.org_id,
            generation: owner.generation,
            addresses: manifest
                .callback_listener
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(event, url)| Some((event, Url::parse(url.as_str()?).ok()?)))
                .collect(),
            hash_secret: secrets.get("/secret").map(|secret| SecretText::new(secret.expose())),
            signer,
            security_context,
        }))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Declared {
    callback_listener: Option<HashMap<String, serde_json::Value>>,
}

/// Opens a signing secret.
pub(crate) fn unseal_signing_secret(
    keys: &Keys,
    row: &signing_secret::Model,
) -> Result<SigningSecret, RoutingError> {
    let place = AssociatedData { subject: row.id, field: "signing-secret" };
    let text = keys.ring.unseal(Purpose::Vault, &place, &row.sealed)?;
    let text = std::str::from_utf8(text.expose()).map_err(|_| RoutingError::Unreadable {
        what: "signing secret",
        subject: format!("extension {}", row.extension_key),
    })?;
    Ok(SigningSecret::parse(text)?)
}

/// Opens the secrets that were cut out of a manifest, by their pointers.
pub(crate) fn unseal_manifest_secrets(
    keys: &Keys,
    row: &extension_version::Model,
) -> Result<BTreeMap<String, SecretText>, RoutingError> {
    let Some(sealed) = &row.sealed_secrets else { return Ok(BTreeMap::new()) };
    let place = AssociatedData { subject: row.id, field: "manifest-secrets" };
    let text = keys.ring.unseal(Purpose::Vault, &place, sealed)?;
    serde_json::from_slice(text.expose()).map_err(|_| RoutingError::Unreadable {
        what: "secrets",
        subject: format!("extension {} {}", row.extension_key, row.version),
    })
}

/// What a webhook asks of events.
struct Filters {
    /// Of all of them, whatever their type.
    of_all: Filter,
    /// Of each type that it names.
    of_each: Vec<(String, Filter)>,
    /// What of it cannot be read.
    unreadable: Option<&'static str>,
}

/// What a webhook asks of events. What is not understood narrows nothing: one delivery too many is
/// held rather than one lost.
fn filters(row: &webhook::Model, owner: Option<&installation::Model>) -> Filters {
    let mut unreadable = None;
    let mut note = |what| unreadable = Some(what);
    let subscriptions: BTreeMap<String, Value> = serde_json::from_str(&row.subscriptions)
        .unwrap_or_else(|_| {
            note("subscriptions");
            BTreeMap::new()
        });
    let installation_departments = match owner.and_then(|owner| owner.department_ids.as_ref()) {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| {
            note("departments");
            None
        }),
        None => None,
    };
    let automation = match &row.include_events_from {
        Some(text) => serde_json::from_str::<Option<Vec<String>>>(text).map_or_else(
            |_| {
                note("includeEventsFrom");
                true
            },
            |from| from.is_some_and(|from| from.iter().any(|origin| origin == "AUTOMATION")),
        ),
        None => false,
    };
    let of_all = Filter {
        installation_departments,
        automation,
        ignore_source_id: row.ignore_source_id.clone(),
        ..Filter::default()
    };
    let of_each = subscriptions
        .into_iter()
        .map(|(event_type, options)| {
            let options = serde_json::from_value::<Option<Options>>(options)
                .unwrap_or_else(|_| {
                    note("options of a subscription");
                    None
                })
                .unwrap_or_default();
            let filter = Filter {
                // An extension's departments come from its installation alone.
                subscription_departments: options.department_ids.filter(|_| owner.is_none()),
                fields: options.fields.unwrap_or_default(),
                direction: options.direction.as_deref().and_then(Direction::from_name),
                include_previous: options.include_prev_state.unwrap_or(false),
                ..of_all.clone()
            };
            (event_type, filter)
        })
        .collect();
    Filters { of_all, of_each, unreadable }
}
