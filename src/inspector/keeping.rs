//! Inspectors and what came to them, in the database.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderMap;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, Statement,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::answer::ChosenAnswer;
use super::judging::SignatureVerdict;
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::crypto::{CryptoError, SecretText};
use crate::delivery::is_credential;
use crate::seam::{Clock, Seam, Timestamp};
use crate::store::entity::{inspected_request, inspector};
use crate::store::{Store, StoreError, UnitOfWork};
use crate::telemetry::METRICS;

/// How many requests of an inspector are kept.
pub const KEPT: i64 = 100;

/// For how long a request is kept.
pub const KEPT_FOR: Duration = Duration::from_hours(24);

/// How many inspectors an org, a vendor, or the operator may have at a time.
pub const MOST_INSPECTORS: u64 = 20;

/// The longest life of an inspector.
pub const LONGEST_LIFE: Duration = Duration::from_hours(7 * 24);

/// The largest body that is taken, in bytes. The signature is checked over all of it.
pub const BODY_LIMIT: usize = 1 << 20;

/// How much of a body is kept, in bytes.
pub const BODY_KEPT: usize = 64 * 1_024;

/// How much of the headers is kept: so many, and so many bytes in all.
const HEADERS_KEPT: (usize, usize) = (100, 16 * 1_024);

/// How much of a path and of a query is kept, in bytes.
const TARGET_KEPT: usize = 4 * 1_024;

/// How many rows one step of pruning touches.
const STEP: u64 = 500;

/// How often pruning looks for something to do, and its pause between steps.
const PRUNE_EVERY: Duration = Duration::from_mins(1);
const BETWEEN_STEPS: Duration = Duration::from_millis(50);

/// Random bytes of an address: nobody guesses 192 bits.
const RANDOM_BYTES: usize = 24;
const TEXT_LENGTH: usize = 32;

/// Whose inspectors: they see and end no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InspectorOwner {
    /// An org's.
    Org(String),
    /// A vendor's.
    Vendor(String),
    /// The operator's own.
    Operator,
}

impl InspectorOwner {
    fn columns(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Org(org) => (Some(org.clone()), None),
            Self::Vendor(vendor) => (None, Some(vendor.clone())),
            Self::Operator => (None, None),
        }
    }

    /// Exactly this owner's.
    fn own(&self) -> Condition {
        let (org, vendor) = self.columns();
        let condition = Condition::all();
        match (org, vendor) {
            (Some(org), _) => condition.add(inspector::Column::OrgId.eq(org)),
            (None, Some(vendor)) => condition.add(inspector::Column::Vendor.eq(vendor)),
            (None, None) => condition
                .add(inspector::Column::OrgId.is_null())
                .add(inspector::Column::Vendor.is_null()),
        }
    }

    /// What it may see: the operator everything.
    fn visible(&self) -> Condition {
        if *self == Self::Operator { Condition::all() } else { self.own() }
    }

    fn chain(&self) -> &str {
        match self {
            Self::Org(org) => org,
            Self::Vendor(_) | Self::Operator => PLATFORM_CHAIN,
        }
    }
}

/// The secret part of an inspector's address.
#[derive(Clone, Debug)]
pub struct InspectorAddress(SecretText);

impl InspectorAddress {
    /// Reads what may be one; nothing where it cannot be.
    pub fn parse(text: &str) -> Option<Self> {
        let is_fit = text.len() == TEXT_LENGTH
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        is_fit.then(|| Self(SecretText::new(text.to_owned())))
    }

    fn generate(seam: &Seam) -> Result<Self, CryptoError> {
        let bytes = seam.randomness.bytes::<RANDOM_BYTES>().map_err(|_| CryptoError::Randomness)?;
        Ok(Self(SecretText::new(URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The text, for its owner.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    pub(super) fn digest(&self) -> Vec<u8> {
        // 192 random bits: a plain digest is enough.
        digest(&SHA256, self.0.expose().as_bytes()).as_ref().to_vec()
    }
}

/// Why an inspector was not made, or not found.
#[derive(Debug, thiserror::Error)]
pub enum InspectorError {
    /// There are as many as there may be.
    #[error("there are {MOST_INSPECTORS} inspectors already; delete one, or let one expire")]
    Full,
    /// There is none, or it has ended.
    #[error("there is no such inspector, or it has expired")]
    Unknown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Randomness failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl From<sea_orm::DbErr> for InspectorError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// What an inspector is made of.
#[derive(Clone, Debug)]
pub struct NewInspector {
    /// Whose.
    pub owner: InspectorOwner,
    /// For its owner's eyes.
    pub name: Option<String>,
    /// The webhook whose secrets sign what comes.
    pub webhook_id: Option<Uuid>,
    /// What it answers.
    pub answer: ChosenAnswer,
    /// How long it lives.
    pub life: Duration,
}

/// An inspector, without its address.
#[derive(Clone, Debug)]
pub struct InspectorView {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub owner: InspectorOwner,
    /// For its owner's eyes.
    pub name: Option<String>,
    /// The webhook whose secrets sign what comes.
    pub webhook_id: Option<Uuid>,
    /// What it answers.
    pub answer: ChosenAnswer,
    /// How many requests came in all.
    pub received: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl TryFrom<inspector::Model> for InspectorView {
    type Error = StoreError;

    fn try_from(row: inspector::Model) -> Result<Self, StoreError> {
        let answer = serde_json::from_str(&row.answer)
            .map_err(|_| StoreError::Corrupt { what: "answer of an inspector" })?;
        let owner = match (row.org_id, row.vendor) {
            (Some(org), _) => InspectorOwner::Org(org),
            (None, Some(vendor)) => InspectorOwner::Vendor(vendor),
            (None, None) => InspectorOwner::Operator,
        };
        Ok(Self {
            id: row.id,
            owner,
            name: row.name,
            webhook_id: row.webhook_id,
            answer,
            received: row.received,
            created_at: Timestamp::from_micros(row.created_at),
            expires_at: Timestamp::from_micros(row.expires_at),
        })
    }
}

/// Makes an inspector, with its audit row. The address is told once.
pub async fn make(
    work: &UnitOfWork,
    new: NewInspector,
    actor: &Actor,
    seam: &Seam,
) -> Result<(InspectorView, InspectorAddress), InspectorError> {
    let now = seam.clock.now();
    // Those that ended count until what came to them is removed: what lies there is bounded too.
    let kept = inspector::Entity::find().filter(new.owner.own()).count(work.connection()).await?;
    if kept >= MOST_INSPECTORS {
        return Err(InspectorError::Full);
    }
    let address = InspectorAddress::generate(seam)?;
    let (org_id, vendor) = new.owner.columns();
    let answer = serde_json::to_string(&new.answer)
        .map_err(|_| StoreError::Corrupt { what: "answer of an inspector" })?;
    let row = inspector::Model {
        id: seam.randomness.id(),
        digest: address.digest(),
        org_id,
        vendor,
        name: new.name,
        webhook_id: new.webhook_id,
        answer,
        received: 0,
        created_at: now.micros(),
        created_by: actor.name.clone(),
        expires_at: now.plus(new.life.min(LONGEST_LIFE)).micros(),
    };
    inspector::Entity::insert(inspector::ActiveModel {
        id: Set(row.id),
        digest: Set(row.digest.clone()),
        org_id: Set(row.org_id.clone()),
        vendor: Set(row.vendor.clone()),
        name: Set(row.name.clone()),
        webhook_id: Set(row.webhook_id),
        answer: Set(row.answer.clone()),
        received: Set(row.received),
        created_at: Set(row.created_at),
        created_by: Set(row.created_by.clone()),
        expires_at: Set(row.expires_at),
    })
    .exec_without_returning(work.connection())
    .await?;
    note(work, &new.owner, row.id, "inspector.make", actor, seam).await?;
    Ok((row.try_into()?, address))
}

async fn note(
    work: &UnitOfWork,
    owner: &InspectorOwner,
    id: Uuid,
    action: &str,
    actor: &Actor,
    seam: &Seam,
) -> Result<(), StoreError> {
    let entry =
        Entry { chain: owner.chain(), action, subject: format!("inspector:{id}"), detail: None };
    audit::append(work, entry, actor, seam.clock.now(), &seam.randomness).await
}

/// Ends an inspector, with what came to it and an audit row.
pub async fn remove(
    work: &UnitOfWork,
    owner: &InspectorOwner,
    id: Uuid,
    actor: &Actor,
    seam: &Seam,
) -> Result<(), InspectorError> {
    let row = inspector::Entity::find_by_id(id)
        .filter(owner.visible())
        .one(work.connection())
        .await?
        .ok_or(InspectorError::Unknown)?;
    let view = InspectorView::try_from(row)?;
    inspector::Entity::delete_by_id(id).exec(work.connection()).await?;
    inspected_request::Entity::delete_many()
        .filter(inspected_request::Column::InspectorId.eq(id))
        .exec(work.connection())
        .await?;
    note(work, &view.owner, id, "inspector.remove", actor, seam).await?;
    Ok(())
}

/// Lists inspectors that live, the oldest first.
pub async fn list(
    store: &Store,
    owner: &InspectorOwner,
    after: Option<Uuid>,
    limit: u64,
    now: Timestamp,
) -> Result<Vec<InspectorView>, StoreError> {
    let mut query = inspector::Entity::find()
        .filter(owner.visible())
        .filter(inspector::Column::ExpiresAt.gt(now.micros()))
        .order_by_asc(inspector::Column::Id)
        .limit(limit);
    if let Some(after) = after {
        query = query.filter(inspector::Column::Id.gt(after));
    }
    query.all(store.reader()).await?.into_iter().map(InspectorView::try_from).collect()
}

/// One inspector that lives.
pub async fn read(
    store: &Store,
    owner: &InspectorOwner,
    id: Uuid,
    now: Timestamp,
) -> Result<Option<InspectorView>, StoreError> {
    inspector::Entity::find_by_id(id)
        .filter(owner.visible())
        .filter(inspector::Column::ExpiresAt.gt(now.micros()))
        .one(store.reader())
        .await?
        .map(InspectorView::try_from)
        .transpose()
}

/// The inspector at an address, where it lives.
pub async fn find(
    store: &Store,
    address: &InspectorAddress,
    now: Timestamp,
) -> Result<Option<InspectorView>, StoreError> {
    inspector::Entity::find()
        .filter(inspector::Column::Digest.eq(address.digest()))
        .filter(inspector::Column::ExpiresAt.gt(now.micros()))
        .one(store.reader())
        .await?
        .map(InspectorView::try_from)
        .transpose()
}

/// The digests of the addresses of all inspectors that have not ended, but no more than so many: the
/// youngest.
pub(super) async fn live_digests(
    store: &Store,
    now: Timestamp,
    most: u64,
) -> Result<HashSet<Vec<u8>>, StoreError> {
    let digests: Vec<Vec<u8>> = inspector::Entity::find()
        .select_only()
        .column(inspector::Column::Digest)
        .filter(inspector::Column::ExpiresAt.gt(now.micros()))
        .order_by_desc(inspector::Column::Id)
        .limit(most)
        .into_tuple()
        .all(store.reader())
        .await?;
    Ok(digests.into_iter().collect())
}

/// Whether an inspector's owner may know whose signature it is: its org's webhooks, and for a
/// vendor those of its extensions. `vendors_extensions` are the keys of that vendor's extensions.
pub fn open_to(
    owner: &InspectorOwner,
    endpoint: &crate::webhook::Endpoint,
    vendors_extensions: &[String],
) -> bool {
    match owner {
        InspectorOwner::Operator => true,
        InspectorOwner::Org(org) => **org == *endpoint.org_id,
        InspectorOwner::Vendor(_) => endpoint.owner.as_ref().is_some_and(|owner| {
            vendors_extensions.iter().any(|key| **key == *owner.extension_key)
        }),
    }
}

/// A request that came, whole.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// Its method, whatever it is.
    pub method: &'a str,
    /// What follows the address in the path.
    pub path: &'a str,
    /// Its query, as it was written.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body, up to the limit.
    pub body: &'a Bytes,
    /// What its signature is worth.
    pub verdict: SignatureVerdict,
    /// The webhook whose delivery it is, or says that it is: it is erased with that one's.
    pub webhook_id: Option<Uuid>,
}

/// Keeps a request, and forgets the oldest beyond [`KEPT`]. Returns its number, from 1, which says
/// whether it is one of the first that are to fail.
pub async fn take(
    store: &Store,
    view: &InspectorView,
    received: &Received<'_>,
    now: Timestamp,
) -> Result<i64, InspectorError> {
    let work = store.begin().await?;
    // The row's lock is what numbers requests one after the other, on all nodes.
    let numbered = work
        .connection()
        .query_one_raw(Statement::from_sql_and_values(
            store.dialect(),
            "update inspectors set received = received + 1 where id = $1 and expires_at > $2 \
             returning received",
            [view.id.into(), now.micros().into()],
        ))
        .await
        .map_err(StoreError::from)?;
    let Some(numbered) = numbered else {
        work.rollback().await?;
        return Err(InspectorError::Unknown);
    };
    let sequence: i64 = numbered.try_get_by_index(0).map_err(StoreError::from)?;
    let (headers, headers_dropped) = kept_headers(received.headers);
    let body = without_context(received.body);
    let kept = body.get(..BODY_KEPT).unwrap_or(&body);
    inspected_request::Entity::insert(inspected_request::ActiveModel {
        inspector_id: Set(view.id),
        sequence: Set(sequence),
        at: Set(now.micros()),
        method: Set(cut(received.method).to_owned()),
        path: Set(cut(received.path).to_owned()),
        query: Set(received.query.map(|query| cut(query).to_owned())),
        headers: Set(headers),
        headers_dropped: Set(headers_dropped),
        body: Set(kept.to_vec()),
        body_bytes: Set(i64::try_from(received.body.len()).unwrap_or(i64::MAX)),
        answered: Set(i32::from(view.answer.status_of(sequence).as_u16())),
        signature: Set(received.verdict.name().to_owned()),
        signature_reason: Set(received.verdict.reason().map(str::to_owned)),
        webhook_id: Set(received.webhook_id),
    })
    .exec_without_returning(work.connection())
    .await?;
    inspected_request::Entity::delete_many()
        .filter(inspected_request::Column::InspectorId.eq(view.id))
        .filter(inspected_request::Column::Sequence.lte(sequence - KEPT))
        .exec(work.connection())
        .await?;
    let _settled = work.commit(now).await?;
    METRICS.inspected.add(1);
    Ok(sequence)
}

/// A text of a stranger, cut to what is kept.
fn cut(text: &str) -> &str {
    if text.len() <= TARGET_KEPT {
        return text;
    }
    let end = (0..=TARGET_KEPT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// A body without the securityContext that a lifecycle callback has in it: that is for the vendor's
/// own receiver alone.
fn without_context(body: &[u8]) -> Cow<'_, [u8]> {
    const NAME: &str = "securityContext";
    if !body.windows(NAME.len()).any(|window| window == NAME.as_bytes()) {
        return Cow::Borrowed(body);
    }
    let Ok(text) = std::str::from_utf8(body) else { return Cow::Borrowed(body) };
    let document: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    match document[NAME].as_str().filter(|context| !context.is_empty()) {
        Some(context) => Cow::Owned(text.replace(context, "***").into_bytes()),
        None => Cow::Borrowed(body),
    }
}

/// The headers as a JSON array of pairs, in their order and without credentials, and how many were
/// left out.
fn kept_headers(headers: &HeaderMap) -> (String, i32) {
    let mut left = HEADERS_KEPT.1;
    let mut kept: Vec<[String; 2]> = Vec::new();
    for (name, value) in headers.iter().take(HEADERS_KEPT.0) {
        let value = if is_credential(name) {
            "***".to_owned()
        } else {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        let Some(rest) = left.checked_sub(name.as_str().len() + value.len()) else { break };
        left = rest;
        kept.push([name.as_str().to_owned(), value]);
    }
    let dropped = i32::try_from(headers.len().saturating_sub(kept.len())).unwrap_or(i32::MAX);
    (serde_json::to_string(&kept).unwrap_or_else(|_| "[]".to_owned()), dropped)
}

/// A request as it is shown.
#[derive(Clone, Debug)]
pub struct InspectedView {
    /// Its number at this inspector, from 1.
    pub sequence: i64,
    /// When it came.
    pub at: Timestamp,
    /// Its method.
    pub method: String,
    /// What followed the address in the path.
    pub path: String,
    /// Its query, as it was written.
    pub query: Option<String>,
    /// Its headers, in their order.
    pub headers: Vec<(String, String)>,
    /// How many headers are not kept.
    pub headers_dropped: i32,
    /// The beginning of its body.
    pub body: Vec<u8>,
    /// How long the body was, in bytes.
    pub body_bytes: i64,
    /// The status that it was answered with.
    pub answered: i32,
    /// `valid`, `invalid`, `unsigned` or `unknown`.
    pub signature: String,
    /// Why.
    pub signature_reason: Option<String>,
}

impl From<inspected_request::Model> for InspectedView {
    fn from(row: inspected_request::Model) -> Self {
        Self {
            sequence: row.sequence,
            at: Timestamp::from_micros(row.at),
            method: row.method,
            path: row.path,
            query: row.query,
            headers: serde_json::from_str(&row.headers).unwrap_or_default(),
            headers_dropped: row.headers_dropped,
            body: row.body,
            body_bytes: row.body_bytes,
            answered: row.answered,
            signature: row.signature,
            signature_reason: row.signature_reason,
        }
    }
}

/// What came to an inspector within [`KEPT_FOR`], the latest first.
pub async fn requests(
    store: &Store,
    id: Uuid,
    before: Option<i64>,
    limit: u64,
    now: Timestamp,
) -> Result<Vec<InspectedView>, StoreError> {
    let mut query = inspected_request::Entity::find()
        .filter(inspected_request::Column::InspectorId.eq(id))
        .filter(inspected_request::Column::At.gt(now.minus(KEPT_FOR).micros()))
        .order_by_desc(inspected_request::Column::Sequence)
        .limit(limit);
    if let Some(before) = before {
        query = query.filter(inspected_request::Column::Sequence.lt(before));
    }
    Ok(query.all(store.reader()).await?.into_iter().map(InspectedView::from).collect())
}

/// Removes what is too old, in steps that hold nobody up, until told to stop.
pub async fn run_pruning(store: Store, clock: Clock, stop: CancellationToken) {
    loop {
        let pause = match prune_step(&store, clock.now()).await {
            Ok(true) => BETWEEN_STEPS,
            Ok(false) => PRUNE_EVERY,
            Err(error) => {
                tracing::warn!(%error, "inspected requests could not be removed; tried again");
                PRUNE_EVERY
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(pause) => {}
        }
    }
}

/// One step. Returns whether there may be more to do.
async fn prune_step(store: &Store, now: Timestamp) -> Result<bool, StoreError> {
    // An inspector that ended goes with what came to it, and last: a request that was on its way
    // when it ended may still come to lie there.
    const AGED: &str = "delete from inspected_requests where (inspector_id, sequence) in (\
         select inspector_id, sequence from inspected_requests where at < $1 order by at limit 500)";
    const OF_ENDED: &str = "delete from inspected_requests where (inspector_id, sequence) in (\
         select r.inspector_id, r.sequence from inspectors i \
         join inspected_requests r on r.inspector_id = i.id where i.expires_at < $1 limit 500)";
    const ENDED: &str = "delete from inspectors where id in (\
         select i.id from inspectors i where i.expires_at < $1 and not exists (\
         select 1 from inspected_requests r where r.inspector_id = i.id) \
         order by i.expires_at limit 500)";
    let mut is_more = false;
    for (sql, cut) in [(AGED, now.minus(KEPT_FOR)), (OF_ENDED, now), (ENDED, now)] {
        let work = store.begin().await?;
        let statement = Statement::from_sql_and_values(store.dialect(), sql, [cut.micros().into()]);
        let removed = work.connection().execute_raw(statement).await?.rows_affected();
        let _settled = work.commit(now).await?;
        is_more |= removed >= STEP;
    }
    Ok(is_more)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn what_cannot_be_an_address_is_not_looked_up() {
        let made = InspectorAddress::generate(&Seam::default()).expect("randomness");
        assert!(InspectorAddress::parse(made.expose()).is_some());
        for wrong in ["", "a", &"a".repeat(31), &"a".repeat(33), &"ä".repeat(16), "../../../api"] {
            assert!(InspectorAddress::parse(wrong).is_none(), "{wrong}");
        }
        assert!(!format!("{made:?}").contains(made.expose()), "it is a secret");
    }

    #[test]
    fn what_is_the_vendors_alone_is_not_kept() {
        let callback = br#"{"event":"onInstall","securityContext":"geheim","orgId":1}"#;
        let kept = without_context(callback);
        assert_eq!(&*kept, br#"{"event":"onInstall","securityContext":"***","orgId":1}"#);
        for as_it_is in [&b"{}"[..], b"securityContext", b"\xff securityContext", b""] {
            assert_eq!(&*without_context(as_it_is), as_it_is);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in [("authorization", "Bearer x"), ("x-api-key", "y"), ("x-mine", "z")] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let (kept, _) = kept_headers(&headers);
        assert_eq!(kept, r#"[["authorization","***"],["x-api-key","***"],["x-mine","z"]]"#);
    }

    #[test]
    fn headers_are_kept_to_a_cap_and_what_is_left_out_is_counted() {
        let mut headers = HeaderMap::new();
        for number in 0..10_u8 {
            let name = HeaderName::try_from(format!("x-{number}")).expect("a name");
            let value = HeaderValue::try_from("y".repeat(4_000)).expect("a value");
            headers.insert(name, value);
        }
        let (kept, dropped) = kept_headers(&headers);
        assert!(kept.len() < HEADERS_KEPT.1 + 1_000);
        assert_eq!(dropped, 6);
        let mut odd = HeaderMap::new();
        odd.insert("x-odd", HeaderValue::from_bytes(b"\xff\xfe").expect("bytes"));
        assert_eq!(kept_headers(&odd).1, 0, "what is no UTF-8 is shown with replacements");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let text = "ä".repeat(TARGET_KEPT);
        assert!(cut(&text).len() <= TARGET_KEPT && text.starts_with(cut(&text)));
        assert_eq!(cut("/a?b"), "/a?b");
    }
}
