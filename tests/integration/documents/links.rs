//! Links: each leads to a file that is there, and to a heading that it has.

use super::pages::{Page, all, page, root};

/// The targets of the links of a page.
fn targets(page: &Page) -> Vec<String> {
    let link = regex::Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
    link.captures_iter(&page.prose()).map(|found| found[1].to_owned()).collect()
}

#[test]
fn no_link_is_dead() {
    let mut dead = Vec::new();
    let mut seen = 0;
    for page in all() {
        for target in targets(&page) {
            seen += 1;
            if ["https://", "http://"].iter().any(|scheme| target.starts_with(scheme)) {
                continue;
            }
            if let Some(why) = why_dead(&page, &target) {
                dead.push(format!("{}: {target}: {why}", page.path));
            }
        }
    }
    assert!(seen > 100, "{seen} links");
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

fn why_dead(from: &Page, target: &str) -> Option<String> {
    let (path, anchor) =
        target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let own = root().join(&from.path);
    let file = if path.is_empty() { own } else { own.parent().expect("a folder").join(path) };
    if !file.exists() {
        return Some("there is no such file".to_owned());
    }
    let anchor = anchor?;
    let text = std::fs::read_to_string(&file).ok()?;
    let anchors = Page { path: target.to_owned(), text }.anchors();
    (!anchors.iter().any(|known| known == anchor)).then(|| format!("it has {anchors:?}"))
}

/// The site is made of `docs` alone: what lies beside it is named, and not linked to.
#[test]
fn no_link_leads_out_of_the_site() {
    for page in all().into_iter().filter(|page| page.path.starts_with("docs/")) {
        let depth = page.path.matches('/').count() - 1;
        for target in targets(&page) {
            let up = target.split('/').take_while(|part| *part == "..").count();
            assert!(up <= depth, "{}: {target}", page.path);
        }
    }
}

#[test]
fn the_site_has_every_page_once_and_no_other() {
    let summary = page("docs/SUMMARY.md");
    let mut listed: Vec<String> =
        targets(&summary).into_iter().map(|target| format!("docs/{target}")).collect();
    listed.sort();
    let mut there: Vec<String> = all()
        .into_iter()
        .map(|page| page.path)
        .filter(|path| path.starts_with("docs/") && path != "docs/SUMMARY.md")
        .collect();
    there.sort();
    assert_eq!(listed, there);
    let book = std::fs::read_to_string(root().join("docs/book.toml")).expect("the site");
    let book: toml::Table = book.parse().expect("TOML");
    assert_eq!(book["book"]["src"].as_str(), Some("."));
}
