//! docs/COMPATIBILITY.md names a test for each promise: they are there.

use std::fs;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The texts between backticks of a cell.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The file of a test, and its function where one is named.
fn place(test: &str) -> (PathBuf, Option<&str>) {
    let (file, function) = match test.split_once("::") {
        Some((file, function)) => (file, Some(function)),
        None => (test, None),
    };
    let file = if file.starts_with("src/") {
        root().join(file)
    } else {
        root().join("tests/integration").join(format!("{file}.rs"))
    };
    (file, function)
}

#[test]
fn every_promise_names_a_test_that_is_there() {
    let document = fs::read_to_string(root().join("docs/COMPATIBILITY.md")).expect("the document");
    let (mut rows, mut tests) = (0, 0);
    for line in document.lines().filter(|line| line.starts_with("| ") && !line.contains("---")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 3, "{line}");
        if cells[2].trim() == "test" {
            continue;
        }
        rows += 1;
        let is_receivers = cells[1].contains("is the receiver's");
        let mut any = false;
        for test in named(cells[2]) {
            any = true;
            tests += 1;
            let (file, function) = place(test);
            assert!(file.exists(), "{test}: no {}", file.display());
            if let Some(function) = function {
                let text = fs::read_to_string(&file).expect("a source");
                assert!(
                    text.contains(&format!("fn {function}(")),
                    "{test} is in no {}",
                    file.display()
                );
            }
        }
        assert!(any || is_receivers, "no test is named: {line}");
    }
    assert!(rows > 50 && tests > 60, "{rows} rows, {tests} tests");
}
