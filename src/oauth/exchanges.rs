//! Exchanges of codes, journalled before they are made: a process that dies between the provider's
//! answer and our commit leaves tokens that nobody knows.
//!
//! Whoever comes after presents the code once more. A code that was not redeemed yet gives tokens,
//! which go into the revocation job; of one that was, the provider revokes the tokens (RFC 6749,
//! section 4.1.2).

use std::time::Duration;

use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, FromQueryResult, Statement};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::error::OAuthError;
use super::provider::{Providers, Service};
use super::revocation::{self, Revocation};
use crate::crypto::{AssociatedData, KeyRing, Purpose};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::token_exchange;
use crate::store::{Store, StoreError, UnitOfWork};

/// How often abandoned exchanges are looked for.
const LOOK: Duration = Duration::from_secs(2);

/// After how long an exchange is abandoned whose process may still live: longer than one can take.
const ABANDONED_AFTER: Duration = Duration::from_mins(5);

/// For how long a code is presented again where the provider cannot be reached: none lives longer.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_hours(24);

/// How many are finished in one round.
const ROUND: usize = 16;

/// What the provider is asked with.
#[derive(Serialize, Deserialize)]
struct Presented {
    code: String,
    verifier: String,
}

fn place(id: Uuid) -> AssociatedData<'static> {
    AssociatedData { subject: id, field: "token-exchange" }
}

/// Journals an exchange, in the transaction that uses its state up. Returns its id.
pub(super) async fn begin(
    work: &UnitOfWork,
    ring: &KeyRing,
    installation_id: Uuid,
    service: &Service,
    code: &str,
    verifier: &str,
    seam: &Seam,
) -> Result<Uuid, OAuthError> {
    let id = seam.randomness.id();
    let presented = Presented { code: code.to_owned(), verifier: verifier.to_owned() };
    let text =
        serde_json::to_vec(&presented).map_err(|_| OAuthError::Unreadable { what: "code" })?;
    token_exchange::Entity::insert(token_exchange::ActiveModel {
        id: Set(id),
        installation_id: Set(installation_id),
        service_name: Set(service.name.clone()),
        declared_in: Set(service.declared_in),
        sealed: Set(ring.seal(Purpose::Vault, &place(id), &text, &seam.randomness)?),
        started_at: Set(seam.clock.now().micros()),
    })
    .exec_without_returning(work.connection())
    .await?;
    Ok(id)
}

/// Ends an exchange, in the transaction that stores or discards its tokens.
pub(crate) async fn end(work: &UnitOfWork, id: Uuid) -> Result<(), StoreError> {
    token_exchange::Entity::delete_by_id(id).exec(work.connection()).await?;
    Ok(())
}

/// Finishes abandoned exchanges until told to stop.
pub(crate) async fn run(
    store: Store,
    ring: KeyRing,
    providers: Providers,
    seam: Seam,
    stop: CancellationToken,
) {
    loop {
        if let Err(error) = round(&store, &ring, &providers, &seam).await {
            tracing::warn!(%error, "cannot finish exchanges that a dead process left");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = seam.clock.sleep(LOOK) => {}
        }
    }
}

/// Those whose process is dead: every live node started after them. Each compares with its own
/// clock, since a node began before whatever it exchanges.
const ABANDONED: &str = "select id, installation_id, service_name, declared_in, sealed, started_at
    from token_exchanges where started_at < $1
        or started_at < (select min(started_at) from nodes)
    order by started_at limit 16";

async fn round(
    store: &Store,
    ring: &KeyRing,
    providers: &Providers,
    seam: &Seam,
) -> Result<(), OAuthError> {
    let now = seam.clock.now();
    let rows = token_exchange::Model::find_by_statement(Statement::from_sql_and_values(
        store.dialect(),
        ABANDONED,
        [now.minus(ABANDONED_AFTER).micros().into()],
    ))
    .all(store.reader())
    .await?;
    for row in rows.into_iter().take(ROUND) {
        finish(store, ring, providers, seam, row).await?;
    }
    Ok(())
}

async fn finish(
    store: &Store,
    ring: &KeyRing,
    providers: &Providers,
    seam: &Seam,
    row: token_exchange::Model,
) -> Result<(), OAuthError> {
    let now = seam.clock.now();
    let is_over = now.since(Timestamp::from_micros(row.started_at)) >= GIVE_UP_AFTER;
    let presented = ring
        .unseal(Purpose::Vault, &place(row.id), &row.sealed)
        .ok()
        .and_then(|text| serde_json::from_slice::<Presented>(text.expose()).ok());
    let Some(presented) = presented else {
        tracing::error!(installation = %row.installation_id, "an exchange cannot be read; dropped");
        let work = store.begin().await?;
        end(&work, row.id).await?;
        let _settled = work.commit(now).await?;
        return Ok(());
    };
    let service = Service { name: row.service_name.clone(), declared_in: row.declared_in };
    let answered = providers.exchange(&service, &presented.code, &presented.verifier).await;
    if let Err(error @ OAuthError::Unreachable { .. }) = &answered
        && !is_over
    {
        tracing::warn!(installation = %row.installation_id, %error, "a code is presented again later");
        return Ok(());
    }
    let work = store.begin().await?;
    if let Ok(tokens) = &answered {
        let refresh = tokens.refresh.as_ref().map(|token| ("refresh_token", token));
        let all = std::iter::once(("access_token", &tokens.access)).chain(refresh);
        for (kind, token) in all {
            let job = Revocation {
                installation_id: row.installation_id,
                service: service.clone(),
                kind,
                token,
            };
            revocation::schedule(ring, &work, job, now, seam).await?;
        }
        // Where it was uninstalled meanwhile, its clean-up begins anew.
        work.connection()
            .execute_raw(Statement::from_sql_and_values(
                store.dialect(),
                "update installations set cleanup = 'pending' where id = $1 and live = 0",
                [row.installation_id.into()],
            ))
            .await
            .map_err(StoreError::from)?;
    }
    end(&work, row.id).await?;
    let _settled = work.commit(now).await?;
    tracing::info!(
        installation = %row.installation_id,
        "finished an exchange that a dead process left: its tokens are revoked"
    );
    Ok(())
}
