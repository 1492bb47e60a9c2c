//! Rows of what people granted for endpoints, and of why a delivery was not made.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// What somebody granted for the endpoint of an own webhook.
pub(crate) mod own_webhook_grant {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "own_webhook_grants")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub settings_digest: String,
        pub sealed_tokens: Vec<u8>,
        pub expires_at: Option<i64>,
        pub refreshed_at: i64,
        pub claimed_until: Option<i64>,
        #[sea_orm(column_type = "Text", nullable)]
        pub broken_reason: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub granted_by: String,
        pub granted_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An authorisation that was begun.
pub(crate) mod own_webhook_authorization {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "own_webhook_authorizations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub webhook_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub settings_digest: String,
        pub state_digest: Vec<u8>,
        pub link_digest: Vec<u8>,
        pub cookie_digest: Option<Vec<u8>>,
        pub sealed_request: Vec<u8>,
        #[sea_orm(column_type = "Text")]
        pub begun_by: String,
        pub expires_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Why a delivery was given up that nobody tried.
pub(crate) mod delivery_reason {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "delivery_reasons")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub delivery_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub reason: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
