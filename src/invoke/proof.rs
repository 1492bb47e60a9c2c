//! Who calls: securityContext, org and proof, judged together. Whatever is wrong, the work and the
//! answer are the same.

use sea_orm::{ActiveValue::Set, EntityTrait, sea_query::OnConflict};

use super::directory::Present;
use super::error::InvokeError;
use super::request::InvokeRequest;
use super::service::Invoke;
use crate::crypto::{
    DEFAULT_TOLERANCE, SecretText, SignatureHeaders, constant_time_equal, verify_desk_hash,
};
use crate::store::RoutingChange;
use crate::store::entity::invoke_signer;

/// How many secrets are tried: as many as can count at once, so that the time says nothing.
const TRIED: usize = 2;

/// What proves a call.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// The org that the query names.
    pub org_id: Option<&'a str>,
    /// The header `HASH`.
    pub hash: Option<&'a str>,
    /// The Standard Webhooks headers, where any of them is there.
    pub signature: Option<SignatureHeaders<'a>>,
    /// The body as it came, which they sign.
    pub body: &'a [u8],
}

impl Invoke {
    /// Believes a call, or refuses it without saying why.
    pub(super) async fn believe(
        &self,
        request: &InvokeRequest,
        proof: &Proof<'_>,
    ) -> Result<Present, InvokeError> {
        let inner = &self.inner;
        let context = request.security_context.expose();
        let locator = inner.keys.ring.open_security_context(context).ok();
        let present = match &locator {
            Some(locator) => inner.directory.find(locator).await?,
            None => None,
        };
        let tenant = present.as_ref().map(|present| &*present.tenant);
        let canonical = request.canonical();
        let given = proof.hash.unwrap_or_default();
        let secrets = tenant.map_or(&[][..], |tenant| &tenant.secrets);
        let mut is_hashed = false;
        for index in 0..TRIED.max(secrets.len()) {
            let secret = secrets.get(index);
            let fits = verify_desk_hash(
                secret.unwrap_or(&inner.nobodys_secret),
                canonical.as_bytes(),
                given,
            );
            is_hashed |= fits && secret.is_some();
        }
        let is_signed = proof.signature.is_some_and(|signature| {
            let verifier = tenant.and_then(|tenant| tenant.verifier.as_ref());
            let now = inner.seam.clock.now();
            let fits = verifier.unwrap_or(&inner.nobodys_verifier).verify(
                signature,
                proof.body,
                now,
                DEFAULT_TOLERANCE,
            );
            fits.is_ok() && verifier.is_some()
        });
        let is_of_org = constant_time_equal(
            tenant.map_or("", |tenant| &tenant.org_id).as_bytes(),
            proof.org_id.unwrap_or_default().as_bytes(),
        );
        let must_sign = tenant.is_some_and(|tenant| tenant.must_sign);
        let is_proven = if proof.signature.is_some() {
            // A HASH that comes along must fit too.
            is_signed && (is_hashed || proof.hash.is_none())
        } else {
            is_hashed && !must_sign
        };
        let Some(present) = present.filter(|_| is_proven && is_of_org) else {
            return Err(InvokeError::Unproven);
        };
        if let Some(signature) = proof.signature {
            let key = present.tenant.extension_key.clone();
            if !inner.ledger.spend(&key, signature.id).await? {
                return Err(InvokeError::Unproven);
            }
            if !must_sign {
                self.require_signatures(&key).await?;
            }
        }
        Ok(present)
    }

    /// From the first signed call on, an extension's calls must be signed, on every node.
    async fn require_signatures(&self, extension_key: &str) -> Result<(), InvokeError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let mut work = inner.store.begin().await?;
        let row = invoke_signer::ActiveModel {
            extension_key: Set(extension_key.to_owned()),
            since: Set(now.micros()),
        };
        let inserted = invoke_signer::Entity::insert(row)
            .on_conflict(
                OnConflict::column(invoke_signer::Column::ExtensionKey).do_nothing().to_owned(),
            )
            .exec_without_returning(work.connection())
            .await?;
        if inserted == 0 {
            work.rollback().await?;
            return Ok(());
        }
        work.routing_changed(RoutingChange::Extension(extension_key.to_owned()));
        inner.lifecycle.commit(work).await?;
        Ok(())
    }
}

/// A secret of nobody: what is compared with it fails, and takes as long.
pub(super) fn nobodys_secret(bytes: &[u8]) -> SecretText {
    use base64::Engine;
    SecretText::new(base64::engine::general_purpose::STANDARD.encode(bytes))
}
