//! Rows of what orgs' own webhooks have beside an extension's.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// The part of an own webhook that an extension's has not.
pub(crate) mod own_webhook {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "own_webhooks")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub alias: i64,
        #[sea_orm(column_type = "Text")]
        pub connection: String,
        #[sea_orm(column_type = "Text")]
        pub while_disabled: String,
        #[sea_orm(column_type = "Text")]
        pub settings: String,
        pub sealed_secret: Vec<u8>,
        pub sealed_credentials: Option<Vec<u8>>,
        pub credentials_expire_at: Option<i64>,
        pub expiry_told_at: Option<i64>,
        pub disabled_at: Option<i64>,
        #[sea_orm(column_type = "Text", nullable)]
        pub disabled_reason: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An access token for an endpoint, sealed.
pub(crate) mod own_webhook_token {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "own_webhook_tokens")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub settings_digest: String,
        pub sealed_access_token: Vec<u8>,
        pub expires_at: Option<i64>,
        pub fetched_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A former signing secret that signs a while longer.
pub(crate) mod own_webhook_former_secret {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "own_webhook_former_secrets")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub webhook_id: Uuid,
        pub sealed_secret: Vec<u8>,
        pub expires_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Who fetches an access token for an endpoint.
pub(crate) mod own_webhook_token_claim {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "own_webhook_token_claims")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub claim: Uuid,
        pub claimed_until: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What an org may have of its own.
pub(crate) mod org_plan {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "org_plans")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub org_id: String,
        pub webhooks: Option<i32>,
        pub webhooks_per_event: Option<i32>,
        pub invocations_per_minute: Option<i32>,
        #[sea_orm(column_type = "Text", nullable)]
        pub dialects: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub modified_by: Option<String>,
        pub modified_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What a delivery tells of.
pub(crate) mod delivery_variant {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "delivery_variants")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub delivery_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub variant: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
