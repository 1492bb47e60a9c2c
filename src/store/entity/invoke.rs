//! Rows of the vendor's way back in, and of what extensions keep here.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// A call that was made through invoke.
pub(crate) mod invocation {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "invocations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub installation_id: Uuid,
        pub at: i64,
        #[sea_orm(column_type = "Text")]
        pub method: String,
        #[sea_orm(column_type = "Text")]
        pub host: String,
        #[sea_orm(column_type = "Text")]
        pub path: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub connection: Option<String>,
        pub status: Option<i32>,
        #[sea_orm(column_type = "Text", nullable)]
        pub error: Option<String>,
        pub micros: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An id of a signed call that was used.
pub(crate) mod invoke_message_id {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "invoke_message_ids")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        #[sea_orm(column_type = "Text")]
        pub extension_key: String,
        #[sea_orm(primary_key, auto_increment = false)]
        #[sea_orm(column_type = "Text")]
        pub message_id: String,
        pub used_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An extension that signs its calls.
pub(crate) mod invoke_signer {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "invoke_signers")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        #[sea_orm(column_type = "Text")]
        pub extension_key: String,
        pub since: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A version whose secret counts a while longer.
pub(crate) mod former_version {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "former_versions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub installation_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub version_id: Uuid,
        pub until: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A value of an extension's key-value store.
pub(crate) mod extension_storage {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "extension_storage")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub installation_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        #[sea_orm(column_type = "Text")]
        pub storage_key: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub queriable_value: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub value: String,
        pub updated_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A property of an extension.
pub(crate) mod extension_property {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "extension_properties")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        #[sea_orm(column_type = "Text")]
        pub extension_key: String,
        #[sea_orm(primary_key, auto_increment = false)]
        #[sea_orm(column_type = "Text")]
        pub name: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub value: Option<String>,
        pub sealed_value: Option<Vec<u8>>,
        pub updated_at: i64,
        #[sea_orm(column_type = "Text")]
        pub updated_by: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The digest of a user's token.
pub(crate) mod user_token {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "user_tokens")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub installation_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(column_type = "Text")]
        pub extension_key: String,
        #[sea_orm(column_type = "Text")]
        pub user_id: String,
        pub digest: Vec<u8>,
        pub created_at: i64,
        #[sea_orm(column_type = "Text")]
        pub created_by: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The lane of what third parties post for an installation.
pub(crate) mod incoming_lane {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "incoming_lanes")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub installation_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
