//! The endpoints of what third parties post: like a webhook's, at the address that the serving
//! version declares for it, but without subscriptions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::Deserialize;
use uuid::Uuid;

use super::loading::{Loaded, Loader, PAGE};
use super::routing::{OrgRoutes, RoutingError};
use crate::store::StoreError;
use crate::store::entity::{extension_version, incoming_lane, installation, webhook};

/// What of a manifest matters here.
#[derive(Deserialize)]
struct Declared {
    mortise: Option<DeclaredBlock>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeclaredBlock {
    incoming_webhook: Option<DeclaredHandler>,
}

#[derive(Deserialize)]
struct DeclaredHandler {
    url: String,
}

/// Where a version takes what third parties post; nothing where it does not say.
fn address(version: &extension_version::Model) -> Option<String> {
    let declared: Declared = serde_json::from_str(&version.manifest).ok()?;
    Some(declared.mortise?.incoming_webhook?.url)
}

impl Loader {
    /// Adds the incoming lanes of some orgs, or of all.
    pub(super) async fn incoming(
        &self,
        orgs: Option<&HashSet<String>>,
        loaded: &mut Loaded,
    ) -> Result<(), RoutingError> {
        let mut after: Option<Uuid> = None;
        loop {
            let mut query = incoming_lane::Entity::find()
                .order_by_asc(incoming_lane::Column::Id)
                .limit(PAGE as u64);
            if let Some(orgs) = orgs {
                query = query.filter(incoming_lane::Column::OrgId.is_in(orgs.iter().cloned()));
            }
            if let Some(after) = after {
                query = query.filter(incoming_lane::Column::Id.gt(after));
            }
            let lanes = query.all(self.store().reader()).await.map_err(StoreError::from)?;
            let Some(last) = lanes.last() else { return Ok(()) };
            after = Some(last.id);
            let is_last = lanes.len() < PAGE;
            self.incoming_page(lanes, loaded).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn incoming_page(
        &self,
        lanes: Vec<incoming_lane::Model>,
        loaded: &mut Loaded,
    ) -> Result<(), RoutingError> {
        let reader = self.store().reader();
        let owners: HashMap<Uuid, installation::Model> = installation::Entity::find()
            .filter(installation::Column::Id.is_in(lanes.iter().map(|lane| lane.installation_id)))
            .all(reader)
            .await
            .map_err(StoreError::from)?
            .into_iter()
            .map(|row| (row.id, row))
            .collect();
        let versions: HashSet<Uuid> = owners.values().map(|owner| owner.version_id).collect();
        let addresses: HashMap<Uuid, String> = extension_version::Entity::find()
            .filter(extension_version::Column::Id.is_in(versions))
            .all(reader)
            .await
            .map_err(StoreError::from)?
            .into_iter()
            .filter_map(|version| Some((version.id, address(&version)?)))
            .collect();
        let keys: HashSet<String> =
            owners.values().map(|owner| owner.extension_key.clone()).collect();
        let signers = self.signers(&keys).await?;
        for lane in lanes {
            let Some(owner) = owners.get(&lane.installation_id) else { continue };
            let Some(url) = addresses.get(&owner.version_id) else { continue };
            let Some((signer, until)) = signers.get(&owner.extension_key) else { continue };
            loaded.secrets_until = [loaded.secrets_until, *until].into_iter().flatten().min();
            let row = as_webhook(&lane, owner, url);
            let mut endpoint = self.endpoint(&row, Some(owner), Arc::clone(signer), "ok")?;
            endpoint.is_incoming = true;
            let org: Arc<str> = Arc::from(row.org_id.as_str());
            let (mut by_type, mut endpoints) = (HashMap::new(), vec![Arc::new(endpoint)]);
            if let Some(former) = loaded.orgs.remove(&org) {
                former.join(&mut by_type, &mut endpoints);
            }
            loaded.orgs.insert(org, OrgRoutes::new(by_type, endpoints));
        }
        Ok(())
    }
}

/// A lane in the form that endpoints are made of.
fn as_webhook(
    lane: &incoming_lane::Model,
    owner: &installation::Model,
    url: &str,
) -> webhook::Model {
    webhook::Model {
        id: lane.id,
        org_id: lane.org_id.clone(),
        kind: "incoming".to_owned(),
        installation_id: Some(owner.id),
        extension_key: Some(owner.extension_key.clone()),
        resource_name: None,
        generation: owner.generation,
        name: None,
        description: None,
        url: url.to_owned(),
        subscriptions: "{}".to_owned(),
        ignore_source_id: None,
        include_events_from: None,
        is_enabled: 1,
        ordered: 0,
        dialect: "desk".to_owned(),
        created_by: None,
        created_at: owner.created_at,
        modified_at: owner.updated_at,
        delivery: None,
    }
}
