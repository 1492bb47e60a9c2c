//! The whole story of an extension on one machine, told step by step: what `mortise demo` does.
//!
//! The server is the real one, on an embedded database in a temporary folder; the authorisation
//! server and the vendor are the real HTTP servers of [`crate::development`]. Every step goes over
//! HTTP, says what to look at, and checks that it did what it says.

mod client;
mod narrator;
mod sample;
mod scene;
mod stage;
mod story;

use std::path::PathBuf;

pub use self::{narrator::Narrator, stage::Demo};
use crate::config::ConfigError;
use crate::development::DevelopmentError;
use crate::server::StartError;

/// Why the story could not be told to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A step did not do what it says.
    #[error("step {step}, {title}: expected {expected}, got {got}")]
    Unkept {
        /// The step's number.
        step: usize,
        /// The step's title.
        title: &'static str,
        /// What should have been.
        expected: String,
        /// What was.
        got: String,
    },
    /// The story took longer than it may.
    #[error("the story was not told within {seconds} s")]
    TooSlow {
        /// How long it might take.
        seconds: u64,
    },
    /// The temporary folder cannot be made, read or removed.
    #[error("the temporary folder {path}: {error}")]
    Folder {
        /// The folder or the file in it.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The server's configuration is not accepted.
    #[error("the configuration of the demo's server: {0}")]
    Configuration(#[from] ConfigError),
    /// The server does not start.
    #[error("the demo's server: {0}")]
    Server(#[from] StartError),
    /// A development server failed.
    #[error(transparent)]
    Development(#[from] DevelopmentError),
    /// The server did not answer a call.
    #[error("{call}: {error}")]
    Call {
        /// Method and path.
        call: String,
        /// What went wrong.
        #[source]
        error: reqwest::Error,
    },
    /// The sample package cannot be packed.
    #[error("the sample package cannot be packed: {0}")]
    Package(#[from] zip::result::ZipError),
    /// The story cannot be printed.
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
}
