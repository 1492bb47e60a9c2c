//! Rows of installations and their connections.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// How often an extension was installed in an org.
pub(crate) mod installation_generation {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "installation_generations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        #[sea_orm(column_type = "Text")]
        pub extension_key: String,
        pub generation: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An installation.
pub(crate) mod installation {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "installations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(column_type = "Text")]
        pub extension_key: String,
        pub version_id: Uuid,
        pub generation: i32,
        pub live: i32,
        #[sea_orm(column_type = "Text")]
        pub state: String,
        pub suspended_by: i32,
        #[sea_orm(column_type = "Text", nullable)]
        pub installed_by: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub department_ids: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub config: String,
        pub sealed_config: Option<Vec<u8>>,
        pub request_digest: Vec<u8>,
        #[sea_orm(column_type = "Text")]
        pub target_digest: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub return_url: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub granted_scopes: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub connection_health: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub connection_reason: Option<String>,
        pub callback_sequence: i64,
        #[sea_orm(column_type = "Text")]
        pub cleanup: String,
        pub created_at: i64,
        pub authorized_at: Option<i64>,
        pub uninstalled_at: Option<i64>,
        pub updated_at: i64,
        #[sea_orm(column_type = "Text")]
        pub user_id: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A step in the life of an installation.
pub(crate) mod transition {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "transitions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub installation_id: Uuid,
        pub at: i64,
        #[sea_orm(column_type = "Text")]
        pub actor: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub address: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub command: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub from_state: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub to_state: String,
        pub generation: i32,
        #[sea_orm(column_type = "Text", nullable)]
        pub reason: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A browser on its way to the provider and back.
pub(crate) mod authorization_request {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "authorization_requests")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub state_digest: Vec<u8>,
        pub installation_id: Uuid,
        pub generation: i32,
        #[sea_orm(column_type = "Text")]
        pub connection: String,
        #[sea_orm(column_type = "Text")]
        pub target_digest: String,
        pub sealed_verifier: Vec<u8>,
        pub sealed_url: Vec<u8>,
        pub start_digest: Vec<u8>,
        pub browser_digest: Option<Vec<u8>>,
        #[sea_orm(column_type = "Text", nullable)]
        pub return_url: Option<String>,
        pub created_at: i64,
        pub expires_at: i64,
        pub consumed_at: Option<i64>,
        #[sea_orm(column_type = "Text")]
        pub purpose: String,
        pub consent_id: Option<Uuid>,
        #[sea_orm(column_type = "Text")]
        pub user_id: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub service_name: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub scopes: Option<String>,
        pub declared_in: Option<Uuid>,
        #[sea_orm(column_type = "Text", nullable)]
        pub granted_by: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The tokens of a connection, sealed.
pub(crate) mod connection {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "connections")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub installation_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub name: String,
        #[sea_orm(column_type = "Text")]
        pub service_name: String,
        pub sealed_access_token: Vec<u8>,
        pub sealed_refresh_token: Option<Vec<u8>>,
        pub access_expires_at: Option<i64>,
        #[sea_orm(column_type = "Text")]
        pub scopes: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub granted_by: Option<String>,
        pub created_at: i64,
        pub updated_at: i64,
        #[sea_orm(column_type = "Text")]
        pub user_id: String,
        pub declared_in: Option<Uuid>,
        #[sea_orm(column_type = "Text", nullable)]
        pub asked: Option<String>,
        pub shared: i32,
        pub version: i64,
        #[sea_orm(column_type = "Text")]
        pub health: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub reason: Option<String>,
        pub sealed_former_refresh_token: Option<Vec<u8>>,
        pub claimed_by: Option<Uuid>,
        pub claimed_until: Option<i64>,
        pub refresh_due_at: Option<i64>,
        pub refresh_failures: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A token that lives on only to be revoked.
pub(crate) mod revocation {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "revocations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub installation_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub service_name: String,
        #[sea_orm(column_type = "Text")]
        pub token_kind: String,
        pub sealed_token: Vec<u8>,
        pub due_at: i64,
        pub give_up_at: i64,
        pub attempts: i32,
        #[sea_orm(column_type = "Text", nullable)]
        pub last_error: Option<String>,
        pub created_at: i64,
        pub declared_in: Option<Uuid>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
