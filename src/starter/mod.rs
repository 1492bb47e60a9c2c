//! A new extension, complete enough to be published: the package, a receiver that verifies
//! signatures, and a page with the next commands. The files are in `files/`, with marks where names go.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use url::Url;

use crate::identifier::{ExtensionKey, VendorKey};
use crate::seam::{Randomness, RandomnessExhausted};

/// The longest name, in characters: that of a webhook.
const LONGEST_NAME: usize = 100;

/// The rule of names, as the package checker has it: no mark of JSON, HTML or Markdown passes.
const NAME_RULE: &str =
    "1 to 100 letters, digits, blanks, `-` and `_` of ASCII, and a letter first";

/// In which language the receiver is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// JavaScript for Node, without a dependency.
    #[default]
    Node,
    /// Python, with its standard library alone.
    Python,
}

impl Language {
    /// The receiver: its file, its text, how it is run.
    const fn receiver(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Node => {
                ("server.mjs", include_str!("files/server.mjs"), "node receiver/server.mjs")
            }
            Self::Python => {
                ("server.py", include_str!("files/server.py"), "python3 receiver/server.py")
            }
        }
    }
}

/// What a new extension is called, and where it is to be reached.
#[derive(Clone, Debug)]
pub struct Starter {
    key: ExtensionKey,
    name: String,
    vendor: VendorKey,
    origin: String,
    language: Language,
}

/// Why there is no new extension.
#[derive(Debug, thiserror::Error)]
pub enum StarterError {
    /// The name breaks the rule of names.
    #[error("the name must be {NAME_RULE}, and `{name}` is not; give another")]
    Name {
        /// What was given.
        name: String,
    },
    /// The address is not one of a receiver.
    #[error("{url} must be an http or https address of a host, without a path, a query and a user")]
    Address {
        /// What was given.
        url: Box<Url>,
    },
    /// Something is there already.
    #[error("{path} is there already and is not empty; name a folder that is not")]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{path} cannot be written: {source}")]
    Unwritable {
        /// What was to be written.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No secret can be made.
    #[error(transparent)]
    Randomness(#[from] RandomnessExhausted),
}

/// One file of a new extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StarterFile {
    /// Its path from the extension's folder.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
}

impl Starter {
    /// Checks the name and the address; without an address it is a name for documentation, which
    /// the checker warns of until it is a real one.
    pub fn new(
        key: ExtensionKey,
        name: String,
        vendor: VendorKey,
        url: Option<&Url>,
        language: Language,
    ) -> Result<Self, StarterError> {
        let is_fit = name.len() <= LONGEST_NAME
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        if !is_fit {
            return Err(StarterError::Name { name });
        }
        let origin = match url {
            None => format!("https://{key}.example"),
            Some(url) => origin_of(url)
                .ok_or_else(|| StarterError::Address { url: Box::new(url.clone()) })?,
        };
        Ok(Self { key, name, vendor, origin, language })
    }

    /// All files, with a secret of its own and a `sourceId` of its own.
    pub fn files(&self, randomness: &Randomness) -> Result<Vec<StarterFile>, StarterError> {
        let secret = randomness.bytes::<16>()?.into_iter().map(|byte| format!("{byte:02x}"));
        let (server, receiver, run) = self.language.receiver();
        let marks = [
            ("@KEY@", self.key.as_str().to_owned()),
            ("@NAME@", self.name.clone()),
            ("@VENDOR@", self.vendor.as_str().to_owned()),
            ("@ORIGIN@", self.origin.clone()),
            ("@LINK@", self.key.as_str().replace('-', "_")),
            ("@SECRET@", secret.collect()),
            ("@SOURCE_ID@", random_uuid(randomness)?),
            ("@SERVER@", server.to_owned()),
            ("@RUN@", run.to_owned()),
        ];
        let filled = |path: String, text: &str| StarterFile {
            path,
            content: marks
                .iter()
                .fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value))
                .into_bytes(),
        };
        let texts = [
            ("README.md", include_str!("files/README.md")),
            ("extension/plugin-manifest.json", include_str!("files/plugin-manifest.json")),
            ("extension/resources.json", include_str!("files/resources.json")),
            ("extension/app/widget.html", include_str!("files/app/widget.html")),
            ("extension/app/widget.css", include_str!("files/app/widget.css")),
            ("extension/app/widget.js", include_str!("files/app/widget.js")),
            ("extension/app/translations/en.json", include_str!("files/app/translations/en.json")),
            ("extension/app/img/icon.svg", include_str!("files/app/img/icon.svg")),
        ];
        let mut files: Vec<StarterFile> =
            texts.iter().map(|(path, text)| filled((*path).to_owned(), text)).collect();
        files.push(filled(format!("receiver/{server}"), receiver));
        files.push(StarterFile {
            path: "extension/app/img/logo.png".to_owned(),
            content: include_bytes!("files/app/img/logo.png").to_vec(),
        });
        Ok(files)
    }

    /// Writes all files into a folder that is not there yet, or is empty; overwrites nothing.
    pub fn write(
        &self,
        folder: &Path,
        randomness: &Randomness,
    ) -> Result<Vec<StarterFile>, StarterError> {
        let unwritable = |path: &Path| {
            let path = path.to_path_buf();
            |source| StarterError::Unwritable { path, source }
        };
        match fs::read_dir(folder) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(StarterError::Occupied { path: folder.to_path_buf() });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unwritable(folder)(error)),
        }
        let files = self.files(randomness)?;
        for file in &files {
            let path = folder.join(&file.path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(unwritable(parent))?;
            }
            let mut opened = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)
                .map_err(unwritable(&path))?;
            opened.write_all(&file.content).map_err(unwritable(&path))?;
        }
        Ok(files)
    }
}

/// The origin, where the address says nothing more.
fn origin_of(url: &Url) -> Option<String> {
    let is_bare = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    is_bare.then(|| url.origin().ascii_serialization())
}

/// A UUID of version 4: unlike our own ids it tells no time.
fn random_uuid(randomness: &Randomness) -> Result<String, RandomnessExhausted> {
    let bytes = randomness.bytes::<16>()?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
}

/// A key for the name of a folder, such as `my-first-extension` for `My First Extension`.
pub fn key_of(folder_name: &str) -> Option<ExtensionKey> {
    let mut key = String::new();
    for c in folder_name.chars() {
        if c.is_ascii_alphanumeric() {
            key.push(c.to_ascii_lowercase());
        } else if !key.is_empty() && !key.ends_with('-') {
            key.push('-');
        }
    }
    key.truncate(64);
    ExtensionKey::new(key.trim_end_matches('-')).ok()
}

/// A name for a key, such as `My first extension` for `my-first-extension`.
pub fn name_of(key: &ExtensionKey) -> String {
    let words = key.as_str().replace('-', " ");
    let (first, rest) = words.split_at(1);
    let name = format!("{}{rest}", first.to_ascii_uppercase());
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("Extension {name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Limits, PackageSource, Policy, check};

    fn starter(url: Option<&str>, language: Language) -> Starter {
        let url = url.map(|url| Url::parse(url).expect("an address"));
        Starter::new(
            ExtensionKey::new("first-try").expect("a key"),
            "First try".to_owned(),
            VendorKey::new("acme").expect("a vendor"),
            url.as_ref(),
            language,
        )
        .expect("a starter")
    }

    #[test]
    fn what_is_made_is_a_valid_package_without_a_finding() {
        for language in [Language::Node, Language::Python] {
            let folder = tempfile::tempdir().expect("a folder");
            let starter = starter(Some("https://hooks.example.com"), language);
            let files = starter.write(folder.path(), &Randomness::default()).expect("files");
            assert_eq!(files.len(), 10);
            let source =
                PackageSource::from_folder(&folder.path().join("extension"), &Limits::default());
            let checked = check(&source.expect("a package"), &Policy::strict_offline());
            assert!(checked.is_valid(), "{:?}", checked.diagnostics);
            assert!(checked.diagnostics.is_empty(), "{:?}", checked.diagnostics);
            for file in &files {
                let text = String::from_utf8_lossy(&file.content);
                for mark in ["@KEY@", "@NAME@", "@ORIGIN@", "@SECRET@", "@RUN@", "@SERVER@"] {
                    assert!(!text.contains(mark), "{mark} in {}", file.path);
                }
            }
        }
    }

    #[test]
    fn an_address_that_nobody_has_is_warned_of_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let starter = starter(None, Language::Node);
        starter.write(folder.path(), &Randomness::default()).expect("files");
        let source =
            PackageSource::from_folder(&folder.path().join("extension"), &Limits::default());
        let checked = check(&source.expect("a package"), &Policy::strict_offline());
        assert!(checked.is_valid() && !checked.diagnostics.is_empty());
        for one in &checked.diagnostics {
            assert_eq!(one.code, "url.documentation-host", "{one:?}");
        }
    }

    #[test]
    fn secrets_are_new_each_time_and_nothing_is_overwritten() {
        let starter = starter(None, Language::Python);
        let manifests = [(); 2].map(|()| {
            let files = starter.files(&Randomness::default()).expect("files");
            files.into_iter().find(|file| file.path.ends_with("manifest.json")).expect("it")
        });
        assert_ne!(manifests[0], manifests[1]);
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("mine"), "x").expect("a file");
        let refused = starter.write(folder.path(), &Randomness::default());
        assert!(matches!(refused, Err(StarterError::Occupied { .. })), "{refused:?}");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn names_and_keys_follow_from_the_folder() {
        for (folder, key, name) in [
            ("my-first-extension", "my-first-extension", "My first extension"),
            ("My First.Extension!", "my-first-extension", "My first extension"),
            ("2fa", "2fa", "Extension 2fa"),
        ] {
            let found = key_of(folder).expect(folder);
            assert_eq!((found.as_str(), name_of(&found).as_str()), (key, name));
        }
        assert_eq!(key_of("ä"), None);
        assert_eq!(key_of(&"x-".repeat(60)).expect("a key").as_str().len(), 63);
    }

    #[test]
    fn what_would_not_pass_the_checker_is_refused() {
        let make = |name: &str, url: Option<&str>| {
            let url = url.map(|url| Url::parse(url).expect("an address"));
            Starter::new(
                ExtensionKey::new("a").expect("a key"),
                name.to_owned(),
                VendorKey::new("b").expect("a vendor"),
                url.as_ref(),
                Language::Node,
            )
        };
        for name in ["", "1st", "<b>", "a\"b", "a\nb", "a`b", &"x".repeat(101)] {
            assert!(matches!(make(name, None), Err(StarterError::Name { .. })), "{name}");
        }
        for url in ["https://a.example/path", "ftp://a.example", "https://u@a.example/?q"] {
            assert!(matches!(make("a", Some(url)), Err(StarterError::Address { .. })), "{url}");
        }
        assert!(make("a", Some("http://127.0.0.1:9000")).is_ok());
    }
}
