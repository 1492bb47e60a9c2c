//! Who calls: securityContext, org and proof, judged together. Whatever is wrong, the work and the
//! answer are the same.

use sea_orm::{ActiveValue::Set, EntityTrait, sea_query::OnConflict};
use uuid::Uuid;

use super::directory::Present;
use super::error::InvokeError;
use super::request::InvokeRequest;
use super::service::Invoke;
use super::tenant::Tenant;
use crate::crypto::{
    DEFAULT_TOLERANCE, Locator, SecretText, SignatureHeaders, constant_time_equal, verify_desk_hash,
};
use crate::extension_data::former_versions;
use crate::identifier::InstallationId;
use crate::store::RoutingChange;
use crate::store::entity::invoke_signer;

/// How many secrets are tried: as many as can count at once, so that the time says nothing.
const TRIED: usize = 1 + former_versions::MOST as usize;

/// Where a context leads that does not open: to no installation, by the way of one that is dead.
const NOWHERE: Locator =
    Locator { installation: InstallationId(Uuid::nil()), generation: 0, webhook: None };

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

/// What trying secrets came to.
#[derive(Debug, PartialEq, Eq)]
struct Tries {
    /// Whether the hash is of one of them.
    fits: bool,
    /// How many hashes were made.
    made: usize,
}

/// Tries the secrets of an installation, and nobody's for those that it has not.
fn try_secrets(secrets: &[SecretText], nobodys: &SecretText, text: &str, given: &str) -> Tries {
    let mut tries = Tries { fits: false, made: 0 };
    for index in 0..TRIED.max(secrets.len()) {
        let secret = secrets.get(index);
        let fits = verify_desk_hash(secret.unwrap_or(nobodys), text.as_bytes(), given);
        tries.fits |= fits && secret.is_some();
        tries.made += 1;
    }
    tries
}

impl Invoke {
    /// Believes a call, or refuses it without saying why. Nothing is written.
    pub(super) async fn believe(
        &self,
        request: &InvokeRequest,
        proof: &Proof<'_>,
    ) -> Result<Present, InvokeError> {
        let inner = &self.inner;
        let context = request.security_context.expose();
        let locator = inner.keys.ring.open_security_context(context).unwrap_or(NOWHERE);
        let present = inner.directory.find(&locator).await?;
        let tenant = present.as_ref().map(|present| &*present.tenant);
        let secrets = tenant.map_or(&[][..], |tenant| &tenant.secrets);
        let given = proof.hash.unwrap_or_default();
        let tries = try_secrets(secrets, &inner.nobodys_secret, &request.canonical(), given);
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
        // An extension without a secret cannot call, however it signs.
        let has_secret = tenant.is_some_and(|tenant| tenant.has_secret);
        let is_proven = if proof.signature.is_some() {
            // A HASH that comes along must fit too.
            is_signed && (tries.fits || proof.hash.is_none())
        } else {
            tries.fits && !must_sign
        };
        let is_believed = is_proven && is_of_org && has_secret;
        present.filter(|_| is_believed).ok_or(InvokeError::Unproven)
    }

    /// Uses the id of a signed call up, which has its places by now: what is refused for want of one
    /// can be sent again as it is.
    pub(super) async fn use_up(
        &self,
        tenant: &Tenant,
        proof: &Proof<'_>,
    ) -> Result<(), InvokeError> {
        let Some(signature) = proof.signature else { return Ok(()) };
        if !self.inner.ledger.spend(&tenant.extension_key, signature.id).await? {
            return Err(InvokeError::Unproven);
        }
        if !tenant.must_sign {
            self.require_signatures(&tenant.extension_key).await?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::desk_hash;

    #[test]
    fn as_many_hashes_are_made_whoever_calls() {
        let nobodys = nobodys_secret(&[7; 32]);
        let all: Vec<_> = (0..TRIED).map(|n| SecretText::new(format!("secret-{n}"))).collect();
        let wrong = "0".repeat(64);
        for number in 0..=TRIED {
            for given in ["", wrong.as_str()] {
                let tries = try_secrets(&all[..number], &nobodys, "text", given);
                assert_eq!(tries, Tries { fits: false, made: TRIED }, "{number} {given}");
            }
            for secret in &all[..number] {
                let right = desk_hash(secret, b"text").expect("a hash");
                let tries = try_secrets(&all[..number], &nobodys, "text", &right);
                assert_eq!(tries, Tries { fits: true, made: TRIED }, "{number}");
            }
        }
        let his = desk_hash(&nobodys, b"text").expect("a hash");
        assert!(!try_secrets(&[], &nobodys, "text", &his).fits, "nobody's proves nothing");
        assert!(!try_secrets(&all, &nobodys, "text", &his).fits);
    }
}
