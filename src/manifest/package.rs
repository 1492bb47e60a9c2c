//! A package that was checked, as types.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use url::Url;

/// A package without errors.
#[derive(Debug, Clone)]
pub struct CheckedPackage {
    /// What its manifest declares.
    pub manifest: Manifest,
    /// Its webhook, if it has one.
    pub webhook: Option<WebhookResource>,
    /// The manifest as sent; it holds the secrets, see [`super::split_secrets`].
    pub manifest_json: Value,
    /// The resources as sent.
    pub resources_json: Value,
}

impl CheckedPackage {
    /// The scopes that an installation must be granted.
    pub fn required_scopes(&self) -> &[String] {
        self.manifest.required_scopes()
    }
}

/// Who sees and authorises an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtensionType {
    /// An administrator installs and authorises for everybody.
    Org,
    /// Every user authorises for himself; also what a manifest without a type is.
    Personal,
}

/// The authorisation that a manifest asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The authorisation server; the host's own if absent.
    pub service_name: Option<String>,
    /// The name under which the extension uses the connection.
    pub connection_link_name: Option<String>,
    /// The scopes, as declared.
    pub scopes: Vec<String>,
    /// Whether each user connects for himself.
    pub user_access: bool,
}

/// One configuration parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigParameter {
    /// Its name.
    pub name: String,
    /// `text`, `number`, `radio`, `switch`, `picklist`, `multiselect` or `checkbox`; `text` if absent.
    pub kind: String,
    /// Whether it must have a value.
    pub mandatory: bool,
    /// Whether its value is a secret.
    pub secure: bool,
    /// Whether the one who installs fills it in; else the extension itself does.
    pub user_defined: bool,
    /// What may be chosen.
    pub options: Vec<String>,
    /// The value that holds until another is set.
    pub default: Option<Value>,
    /// Its label; the name if absent.
    pub display_name: Option<String>,
}

/// What a manifest declares, as far as the program acts on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Who sees and authorises it.
    pub extension_type: ExtensionType,
    /// What it asks for; absent if the key is missing or `{}`.
    pub authorization: Option<Authorization>,
    /// Its configuration parameters, in the order of the manifest.
    pub config: Vec<ConfigParameter>,
    /// The only hosts that it may call, as declared.
    pub whitelisted_domains: Vec<String>,
    /// Where each platform event is sent.
    pub callback_listener: BTreeMap<String, Url>,
    /// Whether it has a `secret`.
    pub has_secret: bool,
    /// Whether it uses the data store.
    pub storage: bool,
    /// The codes of its languages.
    pub locales: Vec<String>,
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

impl Manifest {
    /// Reads a manifest that was checked before; `None` if it is no manifest at all.
    pub fn from_stored(manifest: &Value) -> Option<Self> {
        manifest.as_object()?;
        let authorization = manifest
            .get("zohoAuthorisation")
            .filter(|value| value.as_object().is_some_and(|members| !members.is_empty()))
            .map(|value| Authorization {
                service_name: text(value, "serviceName"),
                connection_link_name: text(value, "connectionLinkName"),
                scopes: texts(value.get("scope")),
                user_access: flag(value, "userAccess"),
            });
        let config = manifest.get("config").and_then(Value::as_array);
        let config = config
            .into_iter()
            .flatten()
            .map(ConfigParameter::from_stored)
            .collect::<Option<Vec<_>>>()?;
        let mut callback_listener = BTreeMap::new();
        for (event, url) in
            manifest.get("callbackListener").and_then(Value::as_object).into_iter().flatten()
        {
            callback_listener.insert(event.clone(), Url::parse(url.as_str()?).ok()?);
        }
        Some(Self {
            extension_type: match manifest.get("type").and_then(Value::as_str) {
                Some("org") => ExtensionType::Org,
                _ => ExtensionType::Personal,
            },
            authorization,
            config,
            whitelisted_domains: texts(manifest.get("whiteListedDomains")),
            callback_listener,
            has_secret: text(manifest, "secret").is_some_and(|secret| !secret.is_empty()),
            storage: flag(manifest, "storage"),
            locales: texts(manifest.get("locale")),
        })
    }

    /// The scopes that an installation must be granted.
    pub fn required_scopes(&self) -> &[String] {
        self.authorization.as_ref().map_or(&[], |authorization| &authorization.scopes)
    }
}

impl ConfigParameter {
    fn from_stored(value: &Value) -> Option<Self> {
        // Real options are plain strings; numbers and objects with a value are taken as meant.
        let option = |option: &Value| match option {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Object(_) => text(option, "value").or_else(|| text(option, "name")),
            _ => None,
        };
        Some(Self {
            name: text(value, "name")?,
            kind: text(value, "type").unwrap_or_else(|| "text".to_owned()),
            mandatory: flag(value, "mandatory"),
            secure: flag(value, "secure"),
            user_defined: flag(value, "userdefined"),
            options: value
                .get("options")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(option)
                .collect(),
            default: ["defaultValue", "default"]
                .into_iter()
                .find_map(|key| value.get(key).filter(|value| !value.is_null()))
                .cloned(),
            display_name: text(value, "displayName"),
        })
    }
}

/// The webhook of an extension.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookResource {
    /// Its id among the extension's resources; the same in every org.
    pub resource_name: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Where events are sent.
    pub url: Url,
    /// The events and their filters as declared, without `departmentIds`, which the installation
    /// fills in.
    pub subscriptions: Map<String, Value>,
    /// Events that a call with this `sourceId` caused are not sent.
    pub ignore_source_id: String,
    /// The further sources of events. Absent means "as before" in an upgrade; an explicit `null`
    /// clears the list, and is read as an empty one.
    pub include_events_from: Option<Vec<String>>,
    /// Whether events are sent strictly one after the other (`"mortise":{"ordered":true}`).
    pub ordered: bool,
}

impl WebhookResource {
    /// Reads the webhook of a resource file that was checked before; `None` if it has none.
    pub fn from_stored(resources: &Value) -> Option<Self> {
        let webhook = resources.get("webhook")?;
        let mut subscriptions = webhook.get("subscriptions")?.as_object()?.clone();
        for options in subscriptions.values_mut().filter_map(Value::as_object_mut) {
            options.remove("departmentIds");
        }
        Some(Self {
            resource_name: text(webhook, "resourceName")?,
            name: text(webhook, "name")?,
            description: text(webhook, "description"),
            url: Url::parse(webhook.get("url")?.as_str()?).ok()?,
            subscriptions,
            ignore_source_id: text(webhook, "ignoreSourceId")?,
            include_events_from: webhook.get("includeEventsFrom").map(|list| texts(Some(list))),
            ordered: webhook.pointer("/mortise/ordered").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}
