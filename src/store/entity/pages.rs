//! Rows of the pages' tables.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// A one-time link into the pages, known by the digest of what is secret in it.
pub(crate) mod portal_link {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "portal_links")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub digest: Vec<u8>,
        #[sea_orm(column_type = "Text")]
        pub role: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub org_id: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub vendor: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub subject: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub display_name: Option<String>,
        pub token_id: Uuid,
        pub created_at: i64,
        pub expires_at: i64,
        pub used_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Somebody who looks at the pages, known by the digest of his cookie.
pub(crate) mod page_session {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "page_sessions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub digest: Vec<u8>,
        #[sea_orm(column_type = "Text")]
        pub role: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub org_id: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub vendor: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub scopes: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub subject: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub display_name: Option<String>,
        pub token_id: Uuid,
        pub created_at: i64,
        pub expires_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
