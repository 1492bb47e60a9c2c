//! From the rows of own webhooks to endpoints that are ready to be called.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder as _};
use url::Url;
use uuid::Uuid;

use super::authentication::EndpointAuthentication;
use super::definition::{Settings, WhileDisabled, stored_settings};
use super::development::development_orgs;
use super::face::OwnFace;
use super::plan::{Plan, of_row};
use super::rules::{RequestForm, RoutedRule};
use super::standing::Standing;
use super::{CREDENTIALS_FIELD, FORMER_SECRET_FIELD, KIND, SECRET_FIELD};
use crate::crypto::{AssociatedData, CryptoError, Purpose, SecretText, Signer, SigningSecret};
use crate::dialect::{self, Connection, Dialect, RequestSettings};
use crate::egress::Egress;
use crate::seam::{Randomness, Timestamp};
use crate::store::StoreError;
use crate::store::entity::{
    org_plan, own_webhook, own_webhook_former_secret, webhook, webhook_rule,
};
use crate::webhook::endpoint::{Endpoint, Passage};
use crate::webhook::loading::Loader;
use crate::webhook::matching::Filter;
use crate::webhook::routing::RoutingError;

/// How many doors of their own are kept open for webhooks that may be no more.
const MOST_DOORS: usize = 1_000;

/// What belongs to some own webhooks.
#[derive(Debug, Default)]
pub(in crate::webhook) struct OwnRows {
    rows: HashMap<Uuid, own_webhook::Model>,
    rules: HashMap<Uuid, Vec<webhook_rule::Model>>,
    /// Secrets that were replaced and sign still, the newest first.
    former: HashMap<Uuid, Vec<own_webhook_former_secret::Model>>,
    plans: HashMap<String, Plan>,
    /// Orgs that are for development.
    development: HashSet<String>,
}

/// Doors with TLS settings of their own, kept while the settings stay: so do their connections.
#[derive(Clone, Debug, Default)]
pub(in crate::webhook) struct Doors(Arc<Mutex<HashMap<Uuid, (String, Egress)>>>);

impl Doors {
    fn open(
        &self,
        id: Uuid,
        digest: &str,
        egress: &Egress,
        settings: &Settings,
        secret: Option<&SecretText>,
    ) -> Result<Option<Egress>, String> {
        let Some(profile) = settings.tls_profile(secret) else { return Ok(None) };
        if profile.pinned.is_some() && !egress.is_development() {
            return Err("a certificate is pinned only in orgs that are for development".to_owned());
        }
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, door)) = doors.get(&id)
            && known == digest
        {
            return Ok(Some(door.clone()));
        }
        let door = egress.with_tls(&profile).map_err(|error| error.to_string())?;
        if doors.len() >= MOST_DOORS {
            doors.clear();
        }
        doors.insert(id, (digest.to_owned(), door.clone()));
        Ok(Some(door))
    }
}

/// Whether a row is one of an org's own webhooks.
pub(in crate::webhook) fn is_own(row: &webhook::Model) -> bool {
    row.kind == KIND
}

/// A digest of everything that a token or a door is made from.
fn digest_of(own: &own_webhook::Model) -> String {
    let mut text = own.settings.clone().into_bytes();
    text.push(0);
    text.extend_from_slice(own.sealed_credentials.as_deref().unwrap_or_default());
    digest(&SHA256, &text).as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// What signs in a dialect: systems that speak of a text take its bytes as they are, Standard
/// Webhooks what `whsec_` stands for.
pub(crate) fn signing_secret(dialect: Dialect, text: &str) -> Result<SigningSecret, CryptoError> {
    match dialect {
        Dialect::Desk | Dialect::Standard | Dialect::Assist if text.starts_with("whsec_") => {
            SigningSecret::parse(text)
        }
        _ => SigningSecret::from_chosen_bytes(text.as_bytes()),
    }
}

/// What of an own webhook could be read, and the first thing that could not.
struct Read {
    signer: Arc<Signer>,
    face: OwnFace,
    unreadable: Option<&'static str>,
    standing: Standing,
}

impl Loader {
    /// Reads what belongs to the own webhooks among some rows.
    pub(in crate::webhook) async fn own_rows(
        &self,
        rows: &[webhook::Model],
    ) -> Result<OwnRows, RoutingError> {
        let own: Vec<&webhook::Model> = rows.iter().filter(|row| is_own(row)).collect();
        if own.is_empty() {
            return Ok(OwnRows::default());
        }
        let orgs: HashSet<&str> = own.iter().map(|row| row.org_id.as_str()).collect();
        let reader = self.store().reader();
        let found = own_webhook::Entity::find()
            .filter(own_webhook::Column::Id.is_in(own.iter().map(|row| row.id)))
            .all(reader)
            .await
            .map_err(StoreError::from)?;
        let plans = org_plan::Entity::find()
            .filter(org_plan::Column::OrgId.is_in(orgs))
            .all(reader)
            .await
            .map_err(StoreError::from)?;
        let development = own.iter().map(|row| row.org_id.clone());
        let development = development_orgs(reader, development.collect::<HashSet<_>>()).await?;
        let connected = found.iter().filter(|row| row.connection != Connection::Events.as_str());
        let connected: Vec<Uuid> = connected.map(|row| row.id).collect();
        let mut rules: HashMap<Uuid, Vec<webhook_rule::Model>> = HashMap::new();
        if !connected.is_empty() {
            let rows = webhook_rule::Entity::find()
                .filter(webhook_rule::Column::WebhookId.is_in(connected))
                .filter(webhook_rule::Column::IsActive.eq(1))
                .order_by_asc(webhook_rule::Column::Position)
                .order_by_asc(webhook_rule::Column::Id)
                .all(reader)
                .await
                .map_err(StoreError::from)?;
            for row in rows {
                rules.entry(row.webhook_id).or_default().push(row);
            }
        }
        let mut former: HashMap<Uuid, Vec<own_webhook_former_secret::Model>> = HashMap::new();
        let kept = own_webhook_former_secret::Entity::find()
            .filter(
                own_webhook_former_secret::Column::WebhookId.is_in(own.iter().map(|row| row.id)),
            )
            .filter(own_webhook_former_secret::Column::ExpiresAt.gt(self.now().micros()))
            .order_by_desc(own_webhook_former_secret::Column::Id)
            .all(reader)
            .await
            .map_err(StoreError::from)?;
        for row in kept {
            former.entry(row.webhook_id).or_default().push(row);
        }
        Ok(OwnRows {
            rules,
            former,
            development,
            rows: found.into_iter().map(|row| (row.id, row)).collect(),
            plans: plans.into_iter().map(|row| (row.org_id.clone(), of_row(&row))).collect(),
        })
    }

    /// An own webhook, ready to be called. Returns until when that is so, where something of it
    /// expires.
    pub(in crate::webhook) fn own_endpoint(
        &self,
        row: &webhook::Model,
        rows: &OwnRows,
        health: &str,
    ) -> Result<(Endpoint, Option<Timestamp>), RoutingError> {
        let own = rows.rows.get(&row.id);
        let (pairs, until) = self.key_pairs();
        let former = rows.former.get(&row.id).map_or(&[][..], Vec::as_slice);
        let former_until = former.iter().map(|one| Timestamp::from_micros(one.expires_at)).min();
        let until = [until, former_until].into_iter().flatten().min();
        let dialect = Dialect::from_name(&row.dialect).unwrap_or_default();
        let is_development = rows.development.contains(&row.org_id);
        let door = if is_development {
            self.egress.development().unwrap_or_else(|error| {
                tracing::error!(%error, "an org for development is served as any other");
                self.egress.clone()
            })
        } else {
            self.egress.clone()
        };
        let Read { signer, mut face, unreadable, mut standing } =
            self.read_own(row, own, former, dialect, &door)?;
        let form = RequestForm { method: face.request.method(), format: face.request.format() };
        for rule in rows.rules.get(&row.id).into_iter().flatten() {
            standing.add_rule(rule);
            if let Some(rule) = RoutedRule::read(rule, form) {
                face.rules.push(Arc::new(rule));
            } else {
                tracing::error!(
                    rule = %rule.id,
                    "what is stored of a trigger or automation cannot be read by this release; it does not fire"
                );
            }
        }
        face.standing = standing.finish();
        let signer = match dialect {
            Dialect::Desk | Dialect::Standard if !pairs.is_empty() => {
                Arc::new((*signer).clone().with_key_pairs(pairs))
            }
            _ => signer,
        };
        let mut endpoint = self.endpoint(row, None, signer, health)?;
        let address = face.request.vetted_address().cloned();
        let declared = || Url::parse(&row.url).ok().filter(|_| is_development);
        if let Some(address) = address.or_else(declared) {
            endpoint.destination = door.vet(&address).map_err(|refusal| refusal.to_string());
        }
        if let Err(reason) = &face.egress {
            endpoint.destination = Err(format!("its TLS settings cannot be used: {reason}"));
        }
        let plan = rows.plans.get(&row.org_id).cloned().unwrap_or_default();
        endpoint.terms = self.options.bounds.own_terms(
            endpoint.dialect,
            &endpoint.org_id,
            plan.invocations_per_minute,
        );
        let queues = own.and_then(|own| WhileDisabled::from_name(&own.while_disabled));
        if row.is_enabled == 0 && queues != Some(WhileDisabled::Queue) {
            endpoint.passage = Passage::Off;
        }
        endpoint.unreadable = endpoint.unreadable.or(unreadable);
        endpoint.own = Some(face);
        Ok((endpoint, until))
    }

    /// Secrets that were replaced and sign still. One that cannot be read signs nothing: the present
    /// one does.
    fn former_secrets(
        &self,
        dialect: Dialect,
        rows: &[own_webhook_former_secret::Model],
    ) -> Vec<SigningSecret> {
        let read = |row: &own_webhook_former_secret::Model| {
            let place = AssociatedData { subject: row.id, field: FORMER_SECRET_FIELD };
            let opened = self.keys().ring.unseal(Purpose::Vault, &place, &row.sealed_secret);
            let secret = opened.ok().and_then(|opened| {
                signing_secret(dialect, std::str::from_utf8(opened.expose()).ok()?).ok()
            });
            if secret.is_none() {
                tracing::error!(webhook = %row.webhook_id, "a former secret cannot be read");
            }
            secret
        };
        rows.iter().filter_map(read).collect()
    }

    fn read_own(
        &self,
        row: &webhook::Model,
        own: Option<&own_webhook::Model>,
        former: &[own_webhook_former_secret::Model],
        dialect: Dialect,
        door: &Egress,
    ) -> Result<Read, RoutingError> {
        let mut unreadable = None;
        let mut note = |what: &'static str| {
            unreadable.get_or_insert(what);
        };
        let settings = own.and_then(stored_settings).unwrap_or_else(|| {
            note("settings");
            Settings::default()
        });
        let connection = own.and_then(|own| Connection::from_name(&own.connection));
        let connection = connection.unwrap_or_else(|| {
            note("connection");
            Connection::Events
        });
        let request = settings
            .wish(&row.url)
            .and_then(|wish| RequestSettings::new(dialect, connection, wish).ok())
            .unwrap_or_else(|| {
                note("request");
                RequestSettings::default()
            });
        let open = |sealed: Option<&Vec<u8>>, field| {
            let sealed = sealed?;
            let place = AssociatedData { subject: row.id, field };
            let opened = self.keys().ring.unseal(Purpose::Vault, &place, sealed).ok()?;
            std::str::from_utf8(opened.expose()).ok().map(SecretText::new)
        };
        let text = open(own.map(|own| &own.sealed_secret), SECRET_FIELD);
        let mut standing = Standing::new(row, own);
        standing.add_secret(text.as_ref());
        let secret = text.and_then(|text| signing_secret(dialect, text.expose()).ok());
        let secret = if let Some(secret) = secret {
            secret
        } else {
            // Nothing is sent of what cannot be read; a signer is needed all the same.
            note("secret");
            SigningSecret::generate(&Randomness::default())?
        };
        let sealed = own.and_then(|own| own.sealed_credentials.as_ref());
        let credentials = open(sealed, CREDENTIALS_FIELD);
        if settings.authentication.is_some() && credentials.is_none() {
            note("credentials");
        }
        standing.add_secret(credentials.as_ref());
        let digest = own.map(digest_of).unwrap_or_default();
        // The same settings behind another door are other settings.
        let of_door = if door.is_development() { format!("{digest}+") } else { digest.clone() };
        let egress = self.doors.open(row.id, &of_door, door, &settings, credentials.as_ref());
        let egress = egress.map(|own| own.or_else(|| door.is_development().then(|| door.clone())));
        let face = OwnFace {
            alias: own.map_or(0, |own| own.alias),
            name: row.name.clone().unwrap_or_default(),
            connection,
            rules: Vec::new(),
            request,
            authentication: EndpointAuthentication {
                how: settings.authentication,
                secret: credentials,
            },
            settings_digest: digest,
            standing: String::new(),
            egress,
        };
        let former = self.former_secrets(dialect, former);
        let signer = Arc::new(Signer::new(std::iter::once(&secret).chain(&former))?);
        Ok(Read { signer, face, unreadable, standing })
    }
}

/// What an endpoint gets of one type of the host's.
#[derive(Debug)]
pub(in crate::webhook) struct Spread {
    /// The type.
    pub(in crate::webhook) event_type: String,
    /// Which of its events pass.
    pub(in crate::webhook) filter: Filter,
    /// What its deliveries say that they tell of.
    pub(in crate::webhook) name: Option<Arc<str>>,
    /// The trigger or automation that decides.
    pub(in crate::webhook) rule: Option<Arc<RoutedRule>>,
}

/// The host's types that an endpoint gets: those of its subscriptions, which the dialect may know by
/// names of its own, and those that its triggers and automations can fire on. What those get of
/// automation's and of their own doing is as for every webhook: `of_all` says it.
pub(in crate::webhook) fn spread(
    endpoint: &Endpoint,
    filters: Vec<(String, Filter)>,
    of_all: &Filter,
) -> Vec<Spread> {
    let mut all = Vec::new();
    for (name, filter) in filters {
        if !endpoint.dialect.has_names() {
            all.push(Spread { event_type: name, filter, name: None, rule: None });
            continue;
        }
        let own_name: Arc<str> = Arc::from(name.as_str());
        all.extend(dialect::host_types(endpoint.dialect, &name).into_iter().map(|event_type| {
            Spread {
                event_type: event_type.to_owned(),
                filter: filter.clone(),
                name: Some(Arc::clone(&own_name)),
                rule: None,
            }
        }));
    }
    for rule in endpoint.own.iter().flat_map(|own| &own.rules) {
        let variant = rule.variant();
        let types = match rule.conditions.event_types() {
            Some(types) => types,
            None => dialect::known_names(Dialect::Standard).to_vec(),
        };
        all.extend(types.into_iter().map(|event_type| Spread {
            event_type: event_type.to_owned(),
            filter: of_all.clone(),
            name: Some(Arc::clone(&variant)),
            rule: Some(Arc::clone(rule)),
        }));
    }
    all
}
