//! Packing an extension's folder into the archive that is published.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Cursor, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use url::Url;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::source::{
    Limits, MANIFEST_FILE, PackageSource, RESOURCES_FILE, UnusablePackage, read_bounded,
};

/// Why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackingError {
    /// It is no extension's folder.
    #[error(transparent)]
    Unusable(#[from] UnusablePackage),
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("the archive cannot be written: {0}")]
    Archive(#[from] zip::result::ZipError),
    /// The same.
    #[error("the archive cannot be written: {0}")]
    Writing(#[from] io::Error),
    /// An address cannot be led elsewhere.
    #[error("{file}: the address at {pointer} cannot be led elsewhere: {problem}")]
    Address {
        /// In which file.
        file: &'static str,
        /// Where in it.
        pointer: String,
        /// Why not.
        problem: &'static str,
    },
}

/// Packs a folder into a zip archive. With an origin, the addresses of webhook and callbacks are led
/// to it, path and query as they are; the folder stays as it is.
pub fn pack_folder(
    folder: &Path,
    limits: &Limits,
    origin: Option<&Url>,
) -> Result<Vec<u8>, PackingError> {
    let source = PackageSource::from_folder(folder, limits)?;
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for name in source.files.keys() {
        let path = folder.join(name);
        let file = fs::File::open(&path)
            .map_err(|source| PackingError::Unreadable { path: path.clone(), source })?;
        let mut content = read_bounded(file, &path, limits.file_bytes)?;
        if let Some(origin) = origin {
            content = relocated(name, content, origin)?;
        }
        archive.start_file(name.as_str(), SimpleFileOptions::default())?;
        archive.write_all(&content)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// The file with its addresses led elsewhere. What is no JSON is left to the checker.
fn relocated(name: &str, content: Vec<u8>, origin: &Url) -> Result<Vec<u8>, PackingError> {
    let file = match name {
        MANIFEST_FILE => MANIFEST_FILE,
        RESOURCES_FILE => RESOURCES_FILE,
        _ => return Ok(content),
    };
    let (Ok(mut text), Ok(document)) =
        (String::from_utf8(content.clone()), serde_json::from_slice::<Value>(&content))
    else {
        return Ok(content);
    };
    let mut moved = BTreeSet::new();
    for (pointer, address) in addresses(file, &document) {
        // All places that say the same are led elsewhere at once.
        if !moved.insert(address) {
            continue;
        }
        let refused = |problem| PackingError::Address { file, pointer: pointer.clone(), problem };
        let mut url = Url::parse(address).map_err(|_| refused("it is no absolute address"))?;
        let is_moved = url.set_scheme(origin.scheme()).is_ok()
            && url.set_host(origin.host_str()).is_ok()
            && url.set_port(origin.port()).is_ok();
        if !is_moved {
            return Err(refused("its scheme is not one of the web"));
        }
        // In the text, so that everything else in it keeps its place.
        let (old, new) = (Value::from(address).to_string(), Value::from(url.as_str()).to_string());
        if !text.contains(&old) {
            return Err(refused("it is written with escapes; write it plainly"));
        }
        text = text.replace(&old, &new);
    }
    Ok(text.into_bytes())
}

/// Where a document says where events and callbacks go.
fn addresses<'d>(file: &str, document: &'d Value) -> Vec<(String, &'d str)> {
    let found = |pointer: &str, value: &'d Value| Some((pointer.to_owned(), value.as_str()?));
    if file == RESOURCES_FILE {
        let pointer = "/webhook/url";
        return document.pointer(pointer).and_then(|url| found(pointer, url)).into_iter().collect();
    }
    let callbacks = document["callbackListener"].as_object();
    callbacks
        .into_iter()
        .flatten()
        .filter_map(|(event, url)| found(&format!("/callbackListener/{event}"), url))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{HostVerdict, Policy, check};

    #[test]
    fn a_folder_is_packed_and_its_addresses_are_led_elsewhere() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ticket-mirror");
        let limits = Limits::default();
        let plain = pack_folder(&folder, &limits, None).expect("an archive");
        let source = PackageSource::from_zip(&plain, &limits).expect("a package");
        assert_eq!(
            source.content(MANIFEST_FILE).expect("the manifest"),
            fs::read(folder.join(MANIFEST_FILE)).expect("the manifest"),
        );
        assert!(check(&source, &Policy::strict_offline()).is_valid());

        let origin = Url::parse("http://127.0.0.1:9000").expect("an origin");
        let moved = pack_folder(&folder, &limits, Some(&origin)).expect("an archive");
        let source = PackageSource::from_zip(&moved, &limits).expect("a package");
        let policy = Policy {
            require_https: false,
            host_vetting: std::sync::Arc::new(|_: &url::Host<&str>, _: u16| HostVerdict::Public),
            ..Policy::strict_offline()
        };
        let package = check(&source, &policy).package.expect("it is valid");
        let url = package.webhook.expect("a webhook").url.to_string();
        assert_eq!(url, "http://127.0.0.1:9000/hooks/desk?tenant=a");
        let manifest = String::from_utf8_lossy(source.content(MANIFEST_FILE).expect("it"));
        assert_eq!(manifest.matches("\"http://127.0.0.1:9000/callbacks\"").count(), 3);
        assert!(manifest.contains("\"whiteListedDomains\": [\"https://vendor.example\"]"));
    }

    #[test]
    fn addresses_that_cannot_be_led_elsewhere_are_named() {
        let origin = Url::parse("http://127.0.0.1:9000").expect("an origin");
        for (text, expected) in [
            (r#"{"webhook":{"url":"nowhere"}}"#, "no absolute address"),
            (r#"{"webhook":{"url":"mailto:a@b.example"}}"#, "scheme"),
            (r#"{"webhook":{"url":"https:\/\/a.example/x"}}"#, "escapes"),
        ] {
            let refused = relocated(RESOURCES_FILE, text.as_bytes().to_vec(), &origin);
            let told = refused.expect_err(text).to_string();
            assert!(told.contains("/webhook/url") && told.contains(expected), "{told}");
        }
        let untouched = relocated("app/a.json", b"{\"webhook\":1}".to_vec(), &origin);
        assert_eq!(untouched.expect("as it was"), b"{\"webhook\":1}");
    }
}
