//! The stylesheet, the script and the mark: parts of the program, under names that follow from what
//! is in them, so that browsers may keep them for ever.

use std::fmt::Write as _;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::trouble::Trouble;
use super::visit::Part;

/// A file of the pages.
#[derive(Debug)]
pub(super) struct Asset {
    kind: &'static str,
    text: &'static str,
    path: LazyLock<String>,
}

/// A name with a digest of the content in it.
fn named(stem: &str, ending: &str, text: &str) -> String {
    let mut path = format!("/assets/{stem}-");
    for byte in &digest(&SHA256, text.as_bytes()).as_ref()[..6] {
        // Writing to a text never fails.
        let _infallible = write!(path, "{byte:02x}");
    }
    path + ending
}

const STYLE_TEXT: &str = include_str!("assets/pages.css");
const SCRIPT_TEXT: &str = include_str!("assets/pages.js");
const MARK_TEXT: &str = include_str!("assets/mark.svg");

/// The stylesheet.
pub(super) static STYLE: Asset = Asset {
    kind: "text/css; charset=utf-8",
    text: STYLE_TEXT,
    path: LazyLock::new(|| named("pages", ".css", STYLE_TEXT)),
};

/// The script.
pub(super) static SCRIPT: Asset = Asset {
    kind: "text/javascript; charset=utf-8",
    text: SCRIPT_TEXT,
    path: LazyLock::new(|| named("pages", ".js", SCRIPT_TEXT)),
};

/// The mark, as browsers show it in tabs.
pub(super) static MARK: Asset = Asset {
    kind: "image/svg+xml",
    text: MARK_TEXT,
    path: LazyLock::new(|| named("mark", ".svg", MARK_TEXT)),
};

impl Asset {
    /// Where it is.
    pub(super) fn path(&'static self) -> &'static str {
        &self.path
    }
}

/// Serves them.
pub(super) async fn show(Part(name): Part<String>) -> Result<Response, Trouble> {
    let wanted = [&STYLE, &SCRIPT, &MARK]
        .into_iter()
        .find(|asset| asset.path().strip_prefix("/assets/") == Some(name.as_str()))
        .ok_or_else(Trouble::not_found)?;
    let headers =
        [(CONTENT_TYPE, wanted.kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, wanted.text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_content() {
        assert_ne!(named("a", ".css", "1"), named("a", ".css", "2"));
        assert!(STYLE.path().starts_with("/assets/pages-") && STYLE.path().contains(".css"));
    }
}
