//! Another help desk's webhooks, triggers and automations, made here.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::call::{Call, parameters};
use super::client::Client;
use super::error::Error;
use super::identifiers::OrgId;
use super::operation;
use super::secret::Secret;

/// Another help desk's definitions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportRequest {
    /// `zendesk` or `zohoDesk`.
    pub source: String,
    /// What its API answered for webhooks, page by page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Value>,
    /// What it answered for triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Value>,
    /// What it answered for automations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub automations: Vec<Value>,
    /// What is secret, by the webhook's id there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Value>,
    /// What its fields, values and placeholders are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Value>,
    /// Whether everything is made switched on or off; as it was there where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_enabled: Option<bool>,
    /// What is done with what an earlier import made: `keep` or `update`; it is kept where this is
    /// left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing: Option<String>,
}

impl ImportRequest {
    /// Nothing yet, from `zendesk` or `zohoDesk`.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            webhooks: Vec::new(),
            triggers: Vec::new(),
            automations: Vec::new(),
            credentials: None,
            mapping: None,
            is_enabled: None,
            existing: None,
        }
    }
}

/// An import.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Imported {
    /// What came of it.
    pub report: ImportReport,
    /// The whole answer as it came.
    pub document: Value,
}

/// What came of an import, or would.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportReport {
    /// Whether nothing was made.
    pub dry_run: bool,
    /// Where it came from.
    pub source: String,
    /// How many were made, or would be.
    pub made: u64,
    /// How many that an earlier import made were brought up to date, or would be.
    pub updated: u64,
    /// How many were there already.
    pub exists: u64,
    /// How many wait for something to be given.
    pub blocked: u64,
    /// How many the plan has no room for.
    pub over_plan: u64,
    /// How many cannot be carried over.
    pub impossible: u64,
    /// How many have nothing to do with webhooks.
    pub skipped: u64,
    /// Each definition.
    pub items: Vec<ImportedItem>,
    /// What may have been forgotten.
    pub warnings: Vec<String>,
}

/// One definition of an import.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportedItem {
    /// `webhook`, `trigger` or `automation`.
    pub kind: String,
    /// Of a webhook: what makes it send.
    pub connection: Option<String>,
    /// Its id in the other system.
    pub source_id: String,
    /// Its name there.
    pub name: String,
    /// `made`, `updated`, `exists`, `blocked`, `overPlan`, `impossible` or `skipped`.
    pub outcome: String,
    /// Its id here.
    pub id: Option<Uuid>,
    /// What the webhook signs with, told once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Of what is brought up to date: what changes.
    pub changes: Vec<ImportedChange>,
    /// What must or may be given.
    pub missing: Vec<MissingPart>,
    /// Why nothing is made.
    pub reasons: Vec<String>,
    /// What is not quite as it was there.
    pub notes: Vec<String>,
}

/// A member that an import changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportedChange {
    /// Its name.
    pub member: String,
    /// What it is now.
    pub before: Value,
    /// What it becomes.
    pub after: Value,
}

/// Something that an export does not have.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MissingPart {
    /// Where in the request it is to be given.
    pub pointer: String,
    /// What it is.
    pub message: String,
    /// Whether nothing is made without it.
    pub is_needed: bool,
}

/// How an import is run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImportQuery {
    pub(crate) org_id: Option<String>,
    pub(crate) dry_run: bool,
}

impl Client {
    /// Makes webhooks, triggers and automations of another help desk's definitions, in one step; with
    /// `dry_run` it only says what would be made.
    pub async fn import(
        &self,
        org: Option<&OrgId>,
        request: &ImportRequest,
        dry_run: bool,
    ) -> Result<Imported, Error> {
        let query = ImportQuery { org_id: org.map(ToString::to_string), dry_run };
        let call = Call::new(self, operation::IMPORT, &[])?.query(parameters(&query)?);
        let document: Value = self.send(call.json(request)?).await?;
        let report = ImportReport::deserialize(&document)
            .map_err(|error| Error::Unreadable(error.to_string()))?;
        Ok(Imported { report, document })
    }
}
