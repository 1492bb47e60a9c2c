//! Rows of webhooks, events and deliveries.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// A webhook.
pub(crate) mod webhook {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "webhooks")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(column_type = "Text")]
        pub kind: String,
        pub installation_id: Option<Uuid>,
        #[sea_orm(column_type = "Text", nullable)]
        pub extension_key: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub resource_name: Option<String>,
        pub generation: i32,
        #[sea_orm(column_type = "Text", nullable)]
        pub name: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub description: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub url: String,
        #[sea_orm(column_type = "Text")]
        pub subscriptions: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub ignore_source_id: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub include_events_from: Option<String>,
        pub is_enabled: i32,
        pub ordered: i32,
        #[sea_orm(column_type = "Text")]
        pub dialect: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub created_by: Option<String>,
        pub created_at: i64,
        pub modified_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Where deliveries go or went.
pub(crate) mod endpoint {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "endpoints")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(column_type = "Text")]
        pub lane: String,
        pub installation_id: Option<Uuid>,
        #[sea_orm(column_type = "Text", nullable)]
        pub extension_key: Option<String>,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What delivering found out about an endpoint.
pub(crate) mod endpoint_state {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "endpoint_states")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub endpoint_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub health: String,
        pub breaker_until: Option<i64>,
        pub consecutive_failures: i32,
        pub last_success_at: Option<i64>,
        pub last_failure_at: Option<i64>,
        #[sea_orm(column_type = "Text", nullable)]
        pub last_error: Option<String>,
        pub updated_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An event as it was accepted.
pub(crate) mod event {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "events")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(column_type = "Text")]
        pub event_type: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub department_id: Option<String>,
        pub event_time: i64,
        pub origin: i16,
        #[sea_orm(column_type = "Text", nullable)]
        pub source_id: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub actor: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub event_key: Option<String>,
        pub accepted_at: i64,
        pub payload: Vec<u8>,
        pub previous: Option<Vec<u8>>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The id that a caller gave to an event.
pub(crate) mod event_key {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "event_keys")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        #[sea_orm(column_type = "Text")]
        pub event_key: String,
        pub event_id: Uuid,
        pub deliveries: i32,
        pub accepted_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An event on its way to an endpoint.
pub(crate) mod delivery {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "deliveries")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub event_id: Uuid,
        pub endpoint_id: Uuid,
        pub generation: i32,
        pub state: i16,
        pub due_at: Option<i64>,
        pub claim: Option<i64>,
        pub ordered: Option<i16>,
        pub sequence: i64,
        pub replay: i16,
        pub attempts: i32,
        pub created_at: i64,
        pub first_at: Option<i64>,
        pub first_status: Option<i32>,
        pub first_micros: Option<i64>,
        #[sea_orm(column_type = "Text", nullable)]
        pub first_error: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub first_detail: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An attempt from the second on.
pub(crate) mod attempt {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "attempts")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub delivery_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub number: i32,
        pub at: i64,
        pub status: Option<i32>,
        pub micros: i64,
        #[sea_orm(column_type = "Text", nullable)]
        pub error: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub detail: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
