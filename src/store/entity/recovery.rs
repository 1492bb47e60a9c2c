//! Rows of jobs that send again, and of notices.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// A job that sends deliveries again.
pub(crate) mod recovery_job {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "recovery_jobs")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub webhook_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub extension_key: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub kind: String,
        #[sea_orm(column_type = "Text")]
        pub state: String,
        pub running: Option<i16>,
        pub wanted_state: i16,
        #[sea_orm(column_type = "Text", nullable)]
        pub event_type: Option<String>,
        pub status_code: Option<i32>,
        pub since: Option<i64>,
        pub until: Option<i64>,
        pub per_second: i32,
        pub position: Uuid,
        pub upper: Uuid,
        pub total: Option<i64>,
        pub total_is_estimate: i16,
        pub processed: i64,
        pub requeued: i64,
        #[sea_orm(column_type = "Text")]
        pub skipped: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub reason: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub created_by: String,
        pub created_at: i64,
        pub started_at: Option<i64>,
        pub finished_at: Option<i64>,
        pub next_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Something that people must know.
pub(crate) mod notice {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "notices")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub kind: String,
        #[sea_orm(column_type = "Text")]
        pub subject: String,
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub extension_key: Option<String>,
        pub installation_id: Option<Uuid>,
        pub webhook_id: Option<Uuid>,
        #[sea_orm(column_type = "Text")]
        pub message: String,
        pub occurrences: i64,
        pub first_at: i64,
        pub last_at: i64,
        pub resolved_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Who has seen a notice.
pub(crate) mod notice_dismissal {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "notice_dismissals")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub notice_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        #[sea_orm(column_type = "Text")]
        pub audience: String,
        pub occurrences: i64,
        pub at: i64,
        #[sea_orm(column_type = "Text")]
        pub actor: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A notice on its way to the operator's receiver.
pub(crate) mod notice_outbox {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "notice_outbox")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub body: String,
        pub attempts: i32,
        pub due_at: i64,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
