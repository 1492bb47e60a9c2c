//! The pages and what is in them: fenced blocks, links, headings.

use std::path::{Path, PathBuf};

/// Where pages are, from the root of the repository; folders are walked.
const PLACES: [&str; 9] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs",
    "deploy",
    "examples",
    "fuzz/README.md",
    "schemas",
];

/// Folders of others.
const FOREIGN: [&str; 2] = ["node_modules", ".venv"];

/// A page.
pub(super) struct Page {
    /// Its path from the root of the repository.
    pub(super) path: String,
    pub(super) text: String,
}

/// A fenced block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// The line of the fence, from 1.
    pub(super) line: usize,
    /// What follows the fence.
    pub(super) language: String,
    pub(super) text: String,
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page.
pub(super) fn all() -> Vec<Page> {
    let mut files = Vec::new();
    let mut waiting: Vec<PathBuf> = PLACES.iter().map(|place| root().join(place)).collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            let entries = entries.map(|entry| entry.expect("an entry").path());
            waiting.extend(entries.filter(|path| !FOREIGN.iter().any(|name| path.ends_with(name))));
        } else if path.extension().is_some_and(|ending| ending == "md") {
            files.push(path);
        }
    }
    files.sort();
    assert!(files.len() > 80, "{} pages", files.len());
    files
        .into_iter()
        .map(|path| Page {
            text: std::fs::read_to_string(&path).expect("a page"),
            path: path.strip_prefix(root()).expect("below the root").display().to_string(),
        })
        .collect()
}

/// One page.
pub(super) fn page(path: &str) -> Page {
    let text = std::fs::read_to_string(root().join(path)).expect(path);
    Page { path: path.to_owned(), text }
}

impl Page {
    /// Its fenced blocks.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (number, line) in self.text.lines().enumerate() {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, Some(language)) => {
                    let language = language.trim().to_owned();
                    open = Some(Block { line: number + 1, language, text: String::new() });
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block has no end", self.path);
        blocks
    }

    /// The text without fenced blocks and inline code.
    pub(super) fn prose(&self) -> String {
        let (mut prose, mut is_fenced) = (String::new(), false);
        for line in self.text.lines() {
            if line.trim_start().starts_with("```") {
                is_fenced = !is_fenced;
            } else if !is_fenced {
                for (place, part) in line.split('`').enumerate() {
                    if place % 2 == 0 {
                        prose.push_str(part);
                    }
                }
                prose.push('\n');
            }
        }
        prose
    }

    /// The anchors of its headings.
    pub(super) fn anchors(&self) -> Vec<String> {
        let (mut anchors, mut is_fenced) = (Vec::new(), false);
        for line in self.text.lines() {
            is_fenced ^= line.trim_start().starts_with("```");
            let title = line.trim_start_matches('#');
            if !is_fenced && title.len() < line.len() && title.starts_with(' ') {
                anchors.push(anchor(title.trim()));
            }
        }
        anchors
    }
}

/// The anchor of a heading, as sites that show Markdown make it.
fn anchor(title: &str) -> String {
    title
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

#[test]
fn blocks_links_and_headings_are_found() {
    let page = Page {
        path: "x.md".to_owned(),
        text: "# A `b` (c)\n```sh\n# no heading\n```\n## Two words\nsee `[x](y)` and [z](w)\n"
            .to_owned(),
    };
    let blocks = page.blocks();
    assert_eq!((blocks.len(), blocks[0].language.as_str(), blocks[0].line), (1, "sh", 2));
    assert_eq!(page.anchors(), ["a-b-c", "two-words"]);
    assert!(page.prose().contains("[z](w)") && !page.prose().contains("[x](y)"));
}
