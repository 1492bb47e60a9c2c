//! The typed view of a package.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::digest::{Digest, digest};
use super::reading::Part;
use super::rules::OWN_SERVICE;
use super::schema::is_callback_event;
use super::secret::{DeclaredSecret, split_secrets};
use super::source::{MANIFEST_FILE, RESOURCES_FILE};
use super::webhook_resource::WebhookResource;

/// A stored package is not what the rules let pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{pointer} must be {expected}")]
pub struct StoredPackageInvalid {
    /// Which file.
    pub file: &'static str,
    /// Which part of it.
    pub pointer: String,
    /// What it should be.
    pub expected: &'static str,
}

/// Whom an extension is installed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtensionType {
    /// An administrator installs and authorises for everybody.
    Org,
    /// Each user installs and authorises for himself.
    Personal,
}

/// What an extension may do in the help desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorisation {
    /// `connectors`, `oauth` or what the vendor wrote.
    pub kind: String,
    /// The provider, as in `oauth.providers`; `zlabs_integration` where the manifest names none.
    pub service_name: String,
    /// The name by which calls refer to the connection.
    pub connection_link_name: Option<String>,
    /// What administrators see the connection as.
    pub connection_name: Option<String>,
    /// Whether each user has a connection of his own.
    pub user_access: bool,
    /// Whether the vendor defined the service himself.
    pub is_user_defined_service: bool,
    /// Who made the connection. Recorded, never trusted.
    pub shared_by: Option<String>,
    /// The scopes, each once, in the manifest's order.
    pub scopes: Vec<String>,
}

/// A connection to a service of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connector {
    /// What administrators see the connection as.
    pub connection_name: String,
    /// The name by which calls refer to the connection.
    pub connection_link_name: String,
    /// The provider, as in `oauth.providers`.
    pub service_name: String,
    /// Whether each user has a connection of his own.
    pub user_access: bool,
    /// Who made the connection. Recorded, never trusted.
    pub shared_by: Option<String>,
    /// The scopes, each once, in the manifest's order.
    pub scopes: Vec<String>,
}

/// How a parameter is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterKind {
    /// A line of text.
    Text,
    /// A number.
    Number,
    /// One of a few options, all in sight.
    Radio,
    /// On or off.
    Switch,
    /// One of a list of options.
    Picklist,
    /// Any of a list of options.
    Multiselect,
    /// Ticked or not, or any of a few options.
    Checkbox,
}

/// A setting of an extension.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The name by which the extension reads it.
    pub name: String,
    /// What administrators see it as.
    pub display_name: Option<String>,
    /// What it is for; may hold a Markdown link.
    pub description: Option<String>,
    /// Whether administrators fill it in; otherwise the extension itself does.
    pub user_defined: bool,
    /// How it is filled in; only a hidden one may have none.
    pub kind: Option<ParameterKind>,
    /// Whether the extension needs a value.
    pub mandatory: bool,
    /// Whether the value is a secret.
    pub secure: bool,
    /// `org` or `personal`, where the manifest says it.
    pub level: Option<String>,
    /// The values to choose from, as the manifest has them.
    pub options: Vec<Value>,
    /// The value until another is chosen.
    pub default: Option<Value>,
}

/// What `plugin-manifest.json` says. The default says nothing at all.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// The product: `DESK`.
    pub service: String,
    /// Whom the extension is for; a webhook needs [`ExtensionType::Org`].
    pub extension_type: Option<ExtensionType>,
    /// The languages.
    pub locales: Vec<String>,
    /// Whether the extension uses the key-value store.
    pub storage: bool,
    /// What it may do in the help desk; none where the object is missing or empty.
    pub authorisation: Option<Authorisation>,
    /// Its connections to others.
    pub connectors: Vec<Connector>,
    /// Its settings.
    pub parameters: Vec<Parameter>,
    /// The only hosts that it may call, as written, with placeholders.
    pub white_listed_domains: Vec<String>,
    /// Where to call for each event of an installation's life, as the manifest spells the event.
    pub callback_listener: BTreeMap<String, Url>,
    /// The key of callbacks and invoke calls.
    pub secret: Option<DeclaredSecret>,
    /// Asked before each installation.
    pub installation_validator: Option<Url>,
    /// Receives what third parties post.
    pub incoming_webhook: Option<Url>,
    /// When installations must have moved to this version, as written.
    pub update_before: Option<String>,
}

/// A package without errors.
///
/// Its secrets are cut out: neither its JSON nor its `Debug` holds one.
#[derive(Clone, Debug)]
pub struct CheckedPackage {
    /// What the manifest says.
    pub manifest: Manifest,
    /// The webhook, where the extension has one.
    pub webhook: Option<WebhookResource>,
    stripped_manifest: Value,
    resources: Value,
    secrets: Vec<(String, SecretString)>,
}

impl CheckedPackage {
    /// The typed view of a package that passed the rules, as it was sent or as it is stored with
    /// sealed secrets.
    pub fn from_stored(manifest: &Value, resources: &Value) -> Result<Self, StoredPackageInvalid> {
        let (stripped_manifest, secrets) = split_secrets(manifest);
        let root = Part::new(RESOURCES_FILE, resources);
        root.object()?;
        Ok(Self {
            manifest: Manifest::read(&Part::new(MANIFEST_FILE, manifest))?,
            webhook: root.get("webhook").map(|part| WebhookResource::read(&part)).transpose()?,
            stripped_manifest,
            resources: resources.clone(),
            secrets,
        })
    }

    /// The manifest with markers in place of its secrets: what may be stored and shown.
    pub fn stripped_manifest(&self) -> &Value {
        &self.stripped_manifest
    }

    /// The resources as they were sent.
    pub fn resources(&self) -> &Value {
        &self.resources
    }

    /// The secrets that were in the manifest, each with its place; none in a stored one.
    pub fn secrets(&self) -> &[(String, SecretString)] {
        &self.secrets
    }

    /// What the package is known by.
    pub fn digest(&self) -> Digest {
        digest(&self.stripped_manifest, &self.resources)
    }

    /// The scopes that an authorisation must grant, each once, in the manifest's order.
    pub fn required_scopes(&self) -> &[String] {
        self.manifest.authorisation.as_ref().map_or(&[], |declared| &declared.scopes)
    }
}

type Outcome<T> = Result<T, StoredPackageInvalid>;

impl Manifest {
    fn read(root: &Part<'_>) -> Outcome<Self> {
        let extension_type = match root.get("type") {
            None => None,
            Some(part) => match part.text()? {
                "org" => Some(ExtensionType::Org),
                "personal" => Some(ExtensionType::Personal),
                _ => return part.invalid("`org` or `personal`"),
            },
        };
        let declared = root.get("zohoAuthorisation");
        let authorisation = match declared {
            Some(part) if !part.object()?.is_empty() => Some(Authorisation::read(&part)?),
            _ => None,
        };
        let mut callback_listener = BTreeMap::new();
        if let Some(listener) = root.get("callbackListener") {
            for (event, url) in listener.members()? {
                // Only an event that nothing is ever sent to may have anything but a URL.
                if url.text().is_err() && !is_callback_event(event) {
                    continue;
                }
                callback_listener.insert(event.to_owned(), url.url()?);
            }
        }
        let endpoint = |name: &str| -> Outcome<Option<Url>> {
            let part = root.get("mortise").and_then(|block| block.get(name));
            part.map(|part| part.need("url")?.url()).transpose()
        };
        let secret = match root.get("secret") {
            None => None,
            Some(part) => match DeclaredSecret::read(part.value) {
                Some(secret) => Some(secret),
                None => return part.invalid("a text"),
            },
        };
        Ok(Self {
            service: root.need("service")?.text()?.to_owned(),
            extension_type,
            locales: root.need("locale")?.texts()?,
            storage: root.need("storage")?.flag()?,
            authorisation,
            connectors: each(&root.need("connectors")?, Connector::read)?,
            parameters: each(&root.need("config")?, Parameter::read)?,
            white_listed_domains: root.need("whiteListedDomains")?.texts()?,
            callback_listener,
            secret,
            installation_validator: endpoint("installationValidator")?,
            incoming_webhook: endpoint("incomingWebhook")?,
            update_before: root.loose_text("updateBefore"),
        })
    }
}

fn each<T>(list: &Part<'_>, read: impl Fn(&Part<'_>) -> Outcome<T>) -> Outcome<Vec<T>> {
    list.items()?.iter().map(read).collect()
}

fn scopes(part: &Part<'_>) -> Outcome<Vec<String>> {
    part.get("scope").map_or_else(|| Ok(Vec::new()), |scopes| scopes.texts())
}

fn shared_by(part: &Part<'_>) -> Option<String> {
    match part.value.get("sharedBy")? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Authorisation {
    fn read(part: &Part<'_>) -> Outcome<Self> {
        let service_name = match part.get("serviceName") {
            Some(name) => name.text()?.to_owned(),
            None => OWN_SERVICE.to_owned(),
        };
        Ok(Self {
            kind: part.need("type")?.text()?.to_owned(),
            service_name,
            connection_link_name: part.loose_text("connectionLinkName"),
            connection_name: part.loose_text("connectionName"),
            user_access: part.loose_flag("userAccess"),
            is_user_defined_service: part.loose_flag("isUserDefinedService"),
            shared_by: shared_by(part),
            scopes: scopes(part)?,
        })
    }
}

impl Connector {
    fn read(part: &Part<'_>) -> Outcome<Self> {
        Ok(Self {
            connection_name: part.need("connectionName")?.text()?.to_owned(),
            connection_link_name: part.need("connectionLinkName")?.text()?.to_owned(),
            service_name: part.need("serviceName")?.text()?.to_owned(),
            user_access: part.loose_flag("userAccess"),
            shared_by: shared_by(part),
            scopes: scopes(part)?,
        })
    }
}

impl Parameter {
    fn read(part: &Part<'_>) -> Outcome<Self> {
        let kind = match part.get("type") {
            None => None,
            Some(kind) => Some(match kind.text()? {
                "text" => ParameterKind::Text,
                "number" => ParameterKind::Number,
                "radio" => ParameterKind::Radio,
                "switch" => ParameterKind::Switch,
                "picklist" => ParameterKind::Picklist,
                "multiselect" => ParameterKind::Multiselect,
                "checkbox" => ParameterKind::Checkbox,
                _ => return kind.invalid("a kind of parameter"),
            }),
        };
        let mut defaults =
            ["default", "defaultValue"].iter().filter_map(|key| part.value.get(*key));
        let options = part.value.get("options").and_then(Value::as_array);
        Ok(Self {
            name: part.need("name")?.text()?.to_owned(),
            display_name: part.loose_text("displayName"),
            description: part.loose_text("description"),
            user_defined: part.loose_flag("userdefined"),
            kind,
            mandatory: part.loose_flag("mandatory"),
            secure: part.loose_flag("secure"),
            level: part.loose_text("authType"),
            options: options.cloned().unwrap_or_default(),
            default: defaults.find(|value| !value.is_null()).cloned(),
        })
    }
}
