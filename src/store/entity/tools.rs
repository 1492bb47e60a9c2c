//! Entities of the tools for vendors.

/// An address that takes any request.
pub(crate) mod inspector {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "inspectors")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub digest: Vec<u8>,
        #[sea_orm(column_type = "Text", nullable)]
        pub org_id: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub vendor: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub name: Option<String>,
        pub webhook_id: Option<Uuid>,
        #[sea_orm(column_type = "Text")]
        pub answer: String,
        pub received: i64,
        pub created_at: i64,
        #[sea_orm(column_type = "Text")]
        pub created_by: String,
        pub expires_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A request that came to an inspector.
pub(crate) mod inspected_request {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "inspected_requests")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub inspector_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub sequence: i64,
        pub at: i64,
        #[sea_orm(column_type = "Text")]
        pub method: String,
        #[sea_orm(column_type = "Text")]
        pub path: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub query: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub headers: String,
        pub headers_dropped: i32,
        pub body: Vec<u8>,
        pub body_bytes: i64,
        pub answered: i32,
        #[sea_orm(column_type = "Text")]
        pub signature: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub signature_reason: Option<String>,
        pub webhook_id: Option<Uuid>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Who listens to deliveries as they are made.
pub(crate) mod listener {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "listeners")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub token_id: Uuid,
        pub webhook_id: Option<Uuid>,
        pub installation_id: Option<Uuid>,
        #[sea_orm(column_type = "Text", nullable)]
        pub extension_key: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub org_id: Option<String>,
        pub tapped: i64,
        pub dropped: i64,
        pub created_at: i64,
        pub expires_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The copy of a request for a listener.
pub(crate) mod tapped_delivery {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "tapped_deliveries")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub listener_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub sequence: i64,
        pub at: i64,
        pub delivery_id: Uuid,
        pub webhook_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(column_type = "Text")]
        pub event_type: String,
        pub attempt: i32,
        #[sea_orm(column_type = "Text")]
        pub method: String,
        #[sea_orm(column_type = "Text")]
        pub url: String,
        #[sea_orm(column_type = "Text")]
        pub headers: String,
        pub body: Option<Vec<u8>>,
        pub body_bytes: i64,
        pub answered: Option<i32>,
        #[sea_orm(column_type = "Text", nullable)]
        pub answer_error: Option<String>,
        pub answer_micros: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
