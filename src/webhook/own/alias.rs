//! Webhooks by their other id: a number, for systems whose ids are numbers.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::writing::OwnWebhooks;
use crate::store::StoreError;
use crate::store::entity::own_webhook;

impl OwnWebhooks {
    /// The webhook with an alias.
    pub async fn id_of(&self, alias: i64) -> Result<Option<Uuid>, StoreError> {
        let row = own_webhook::Entity::find()
            .filter(own_webhook::Column::Alias.eq(alias))
            .one(self.store.reader())
            .await?;
        Ok(row.map(|row| row.id))
    }
}
