//! A valid package of an extension, to be bent by tests.

use serde_json::{Value, json};

/// The secret that the manifest carries.
pub(crate) const MANIFEST_SECRET: &str = "manifest-secret-that-nobody-may-see";

/// What is sent to publish a version, in its JSON form.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) vendor: String,
    pub(crate) manifest: Value,
    pub(crate) resources: Value,
}

impl Package {
    /// Version 1.0.0 of the extension `ticket-mirror` of the vendor `acme`, whose webhook is at
    /// `/hooks/desk` and whose callbacks are at `/callbacks` of `vendor_origin`.
    pub(crate) fn new(vendor_origin: &str) -> Self {
        let callbacks = format!("{vendor_origin}/callbacks");
        Self {
            key: "ticket-mirror".to_owned(),
            name: "Ticket Mirror".to_owned(),
            version: "1.0.0".to_owned(),
            vendor: "acme".to_owned(),
            manifest: json!({
                "locale": ["en"],
                "service": "DESK",
                "storage": true,
                "type": "org",
                "whiteListedDomains": ["https://mirror.example.com"],
                "modules": { "widgets": [{
                    "name": "Mirror", "title": "Mirror", "url": "/app/widget.html",
                    "location": "desk.ticket.detail.rightpanel",
                    "logo": "/app/icon.svg", "icon": "/app/icon.svg",
                }] },
                "cspDomains": { "connect-src": ["https://mirror.example.com"] },
                "zohoAuthorisation": {
                    "type": "connectors",
                    "connectionLinkName": "mirror_desk",
                    "connectionName": "MirrorDesk",
                    "serviceName": "zlabs_integration",
                    "userAccess": true,
                    "isUserDefinedService": false,
                    "sharedBy": "1",
                    "scope": ["Desk.events.ALL", "Desk.tickets.READ"],
                },
                "connectors": [],
                "config": [
                    { "name": "mirrorHost", "displayName": "Host", "userdefined": true,
                      "type": "text", "mandatory": false, "secure": false },
                    { "name": "mirrorToken", "displayName": "Token", "userdefined": true,
                      "type": "text", "mandatory": false, "secure": true },
                ],
                "secret": MANIFEST_SECRET,
                "callbackListener": {
                    "onInstall": callbacks,
                    "onZohoAuthorise": callbacks,
                    "onUninstall": callbacks,
                },
            }),
            resources: json!({
                "webhook": {
                    "resourceName": "ticket-mirror",
                    "name": "Ticket Mirror",
                    "description": "Mirrors tickets.",
                    "url": format!("{vendor_origin}/hooks/desk?tenant=a"),
                    "subscriptions": {
                        "Ticket_Add": null,
                        "Ticket_Update": { "fields": ["status"], "includePrevState": true },
                        "Ticket_Comment_Add": null,
                    },
                    "ignoreSourceId": "7d3b1c2e-91f4-11ef-9c5e-0b6a4f2d8e13",
                },
            }),
        }
    }

    /// The same extension in another version.
    pub(crate) fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// The same package under another key.
    pub(crate) fn key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// The same package of another vendor.
    pub(crate) fn vendor(mut self, vendor: &str) -> Self {
        vendor.clone_into(&mut self.vendor);
        self
    }

    /// Without anything to authorise, and so without a webhook.
    pub(crate) fn without_authorization(mut self) -> Self {
        let manifest = self.manifest.as_object_mut().expect("an object");
        manifest.remove("zohoAuthorisation");
        self.resources = json!({});
        self
    }

    /// The package with a change.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The body of `POST /extensions`.
    pub(crate) fn json(&self) -> Value {
        json!({
            "key": self.key,
            "name": self.name,
            "version": self.version,
            "vendor": self.vendor,
            "manifest": self.manifest,
            "resources": self.resources,
        })
    }
}
