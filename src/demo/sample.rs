//! The sample extension and its events, carried in the program so that it works anywhere.

use std::io::{Cursor, Write as _};

use serde_json::Value;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::DemoError;
use crate::manifest::{MANIFEST_FILE, RESOURCES_FILE};

/// The extension's key.
pub(super) const KEY: &str = "ticket-mirror";
/// The extension's name.
pub(super) const NAME: &str = "Ticket Mirror";
/// The version.
pub(super) const VERSION: &str = "1.0.0";
/// The vendor.
pub(super) const VENDOR: &str = "sample-vendor";
/// The org in which it is installed; the payloads are of it.
pub(super) const ORG: &str = "761336011";
/// The manifest's secret, which makes `HASH`.
pub(super) const SECRET: &str = "0f3c6b1e9d7a4c52b8e1f0a96d2c7b43";
/// The path of the vendor's receiver.
pub(super) const HOOK: &str = "/hooks/desk";
/// The path of the vendor's callback listener.
pub(super) const CALLBACKS: &str = "/callbacks";

/// The origin that the sample's files name.
const DECLARED: &str = "https://vendor.example";

const MANIFEST: &str = include_str!("../../fixtures/ticket-mirror/plugin-manifest.json");
const RESOURCES: &str = include_str!("../../fixtures/ticket-mirror/resources.json");
const APP: [(&str, &[u8]); 6] = [
    ("app/img/icon.svg", include_bytes!("../../fixtures/ticket-mirror/app/img/icon.svg")),
    ("app/img/logo.png", include_bytes!("../../fixtures/ticket-mirror/app/img/logo.png")),
    (
        "app/translations/en.json",
        include_bytes!("../../fixtures/ticket-mirror/app/translations/en.json"),
    ),
    ("app/widget.css", include_bytes!("../../fixtures/ticket-mirror/app/widget.css")),
    ("app/widget.html", include_bytes!("../../fixtures/ticket-mirror/app/widget.html")),
    ("app/widget.js", include_bytes!("../../fixtures/ticket-mirror/app/widget.js")),
];

const TICKET_ADD: &str = include_str!("../../fixtures/payloads/Ticket_Add.json");
const TICKET_UPDATE: &str = include_str!("../../fixtures/payloads/Ticket_Update.json");

/// The sample as a zip archive, with its receiver and its callback listener at the vendor's origin.
pub(super) fn package(vendor: &str) -> Result<Vec<u8>, DemoError> {
    packed(&at(MANIFEST, vendor), &at(RESOURCES, vendor))
}

/// The same with two mistakes that vendors make: a scope forgotten and an event misspelt.
pub(super) fn broken_package(vendor: &str) -> Result<Vec<u8>, DemoError> {
    let manifest = at(MANIFEST, vendor).replace("\"Desk.events.ALL\",", "");
    let resources = at(RESOURCES, vendor).replace("Ticket_Comment_Add", "Ticket_Coment_Add");
    packed(&manifest, &resources)
}

/// A new ticket. Its time is left out, so that it is the present one.
pub(super) fn ticket_add() -> Value {
    event(TICKET_ADD)
}

/// A ticket that was closed.
pub(super) fn ticket_update() -> Value {
    event(TICKET_UPDATE)
}

fn at(text: &str, vendor: &str) -> String {
    [HOOK, CALLBACKS].iter().fold(text.to_owned(), |text, path| {
        text.replace(&format!("{DECLARED}{path}"), &format!("{vendor}{path}"))
    })
}

fn packed(manifest: &str, resources: &str) -> Result<Vec<u8>, DemoError> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let texts = [(MANIFEST_FILE, manifest.as_bytes()), (RESOURCES_FILE, resources.as_bytes())];
    for (name, content) in texts.iter().chain(&APP) {
        archive.start_file(*name, SimpleFileOptions::default())?;
        archive.write_all(content)?;
    }
    Ok(archive.finish()?.into_inner())
}

fn event(delivered: &str) -> Value {
    let mut event = serde_json::from_str::<Value>(delivered)
        .ok()
        .and_then(|mut events| events.get_mut(0).map(Value::take))
        .unwrap_or_default();
    if let Some(event) = event.as_object_mut() {
        event.remove("eventTime");
    }
    event
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::manifest::{HostVerdict, Limits, PackageSource, Policy, Severity, check};

    fn lenient() -> Policy {
        let host_vetting = Arc::new(|_: &url::Host<&str>, _: u16| HostVerdict::Public);
        Policy { require_https: false, host_vetting, ..Policy::strict_offline() }
    }

    #[test]
    fn the_sample_is_accepted_and_the_broken_one_refused_for_both_mistakes() {
        let read = |bytes: Vec<u8>| PackageSource::from_zip(&bytes, &Limits::default()).unwrap();
        let vendor = "http://127.0.0.1:9";
        let good = check(&read(package(vendor).unwrap()), &lenient());
        let package = good.package.expect("it is accepted");
        let secret = package.secrets().iter().map(|(_, secret)| secret.expose_secret());
        assert_eq!(secret.collect::<Vec<_>>(), [SECRET]);
        let url = package.webhook.expect("it has a webhook").url;
        assert!(url.to_string().starts_with("http://127.0.0.1:9/hooks/desk?"), "{url}");
        let bad = check(&read(broken_package(vendor).unwrap()), &lenient());
        let errors = bad.of_severity(Severity::Error).count();
        assert_eq!(errors, 2, "{:?}", bad.diagnostics);
    }

    #[test]
    fn the_events_are_of_the_org() {
        for event in [ticket_add(), ticket_update()] {
            assert_eq!(event["orgId"], ORG);
            assert!(event["payload"].is_object() && event.get("eventTime").is_none());
        }
        assert_ne!(ticket_update()["payload"]["status"], ticket_update()["prevState"]["status"]);
    }
}
