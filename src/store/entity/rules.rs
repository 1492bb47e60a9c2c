//! Rows of triggers and automations.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// A trigger or an automation.
pub(crate) mod webhook_rule {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "webhook_rules")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(column_type = "Text")]
        pub kind: String,
        pub webhook_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub name: String,
        pub position: i32,
        pub is_active: i32,
        #[sea_orm(column_type = "Text")]
        pub conditions: String,
        #[sea_orm(column_type = "Text")]
        pub content: String,
        pub after_minutes: Option<i32>,
        #[sea_orm(column_type = "Text", nullable)]
        pub unless: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub created_by: String,
        pub created_at: i64,
        #[sea_orm(column_type = "Text")]
        pub modified_by: String,
        pub modified_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Something that an automation waited not to happen.
pub(crate) mod automation_mark {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "automation_marks")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub rule_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub subject: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub event_id: Uuid,
        pub at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
