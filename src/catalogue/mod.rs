//! The catalogue: extensions, their published versions, and the secrets that sign for them.

mod error;
mod publishing;
mod signing;
mod versions;

pub use error::CatalogueError;
pub use publishing::{NewVersion, Published, publish};
pub use signing::{ExpiringSecret, SigningSecrets, rotate, signing_secrets};
pub use versions::{
    ExtensionRow, VersionRow, extension, extension_for_install, extensions, newest_stable, version,
    version_by_id, versions, withdraw,
};
