//! API tokens, and the links that open the pages.

use serde::{Deserialize, Serialize};

use super::call::Call;
use super::catalogue::Limit;
use super::client::Client;
use super::error::Error;
use super::identifiers::{OrgId, TokenId, VendorKey};
use super::operation;
use super::page::Pages;
use super::secret::Secret;

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Role {
    /// Everything.
    Operator,
    /// The catalogue and the lifecycle.
    Marketplace,
    /// The help desk itself, which posts events.
    Host,
    /// One vendor.
    Vendor,
    /// One org.
    Admin,
    /// As an admin, but only to look.
    Viewer,
    /// One that this client does not know.
    #[serde(other)]
    Other,
}

/// A token that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TokenRequest {
    /// Its role.
    pub role: Role,
    /// Its org; needed for an admin or viewer, and for them only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_id: Option<OrgId>,
    /// Its vendor; needed for a vendor, and for it only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<VendorKey>,
    /// What it is narrowed to, such as `Desk.webhooks.READ`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it stops working by itself, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

impl TokenRequest {
    /// Of the platform: operator, marketplace or host.
    pub fn new(role: Role) -> Self {
        Self { role, org_id: None, vendor: None, scopes: None, name: None, expires_at: None }
    }

    /// Of an org: admin or viewer.
    pub fn of_org(role: Role, org_id: OrgId) -> Self {
        Self { org_id: Some(org_id), ..Self::new(role) }
    }

    /// Of a vendor.
    pub fn of_vendor(vendor: VendorKey) -> Self {
        Self { vendor: Some(vendor), ..Self::new(Role::Vendor) }
    }
}

/// A token, without its value.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Its role.
    pub role: Role,
    /// Its org.
    pub org_id: Option<OrgId>,
    /// Its vendor.
    pub vendor: Option<VendorKey>,
    /// What it is narrowed to.
    pub scopes: Option<Vec<String>>,
    /// Its name.
    pub name: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it stops working by itself.
    pub expires_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
    /// Told once, where it was made: its value.
    #[serde(rename = "token", skip_serializing_if = "Option::is_none")]
    pub value: Option<Secret>,
}

/// A link that opens the pages for somebody.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PortalLinkRequest {
    /// As what.
    pub role: Role,
    /// Of which org.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_id: Option<OrgId>,
    /// Of which vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<VendorKey>,
    /// Who it is, as the host names him: the actor in history and audit.
    pub subject: String,
    /// His name, as the pages show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// How long the link may be used, in seconds, up to 900.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

impl PortalLinkRequest {
    /// An admin's or viewer's pages of an org.
    pub fn of_org(role: Role, org_id: OrgId, subject: impl Into<String>) -> Self {
        Self {
            role,
            org_id: Some(org_id),
            vendor: None,
            subject: subject.into(),
            display_name: None,
            ttl_seconds: None,
        }
    }

    /// A vendor's pages.
    pub fn of_vendor(vendor: VendorKey, subject: impl Into<String>) -> Self {
        Self {
            role: Role::Vendor,
            org_id: None,
            vendor: Some(vendor),
            subject: subject.into(),
            display_name: None,
            ttl_seconds: None,
        }
    }
}

/// A link that works once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PortalLink {
    /// Where it leads; whoever opens it is signed in.
    pub url: Secret,
    /// Until when it works, RFC 3339.
    pub expires_at: String,
}

impl Client {
    /// Lists tokens, without their values.
    pub fn tokens(&self) -> Pages<Token> {
        Pages::of(self, operation::TOKENS, &[], &Limit::default())
    }

    /// Makes a token; its `value` is told here and never again.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<Token, Error> {
        self.send(Call::new(self, operation::CREATE_TOKEN, &[])?.json(request)?).await
    }

    /// Revokes a token at once.
    pub async fn revoke_token(&self, id: TokenId) -> Result<(), Error> {
        self.send_off(Call::new(self, operation::REVOKE_TOKEN, &[&id])?).await
    }

    /// Makes a link that opens the pages for somebody.
    pub async fn portal_link(&self, request: &PortalLinkRequest) -> Result<PortalLink, Error> {
        self.send(Call::new(self, operation::PORTAL_LINK, &[])?.json(request)?).await
    }
}
