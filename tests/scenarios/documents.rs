//! What is written of tests is true of those that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// All files below a directory.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("list").flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Names of functions and modules of the source, of scenarios, and of what is checked in the guest.
fn names(home: &Path) -> BTreeSet<String> {
    let mut found = Vec::new();
    for dir in ["src", "tests/scenarios", "tests/vm/checks"] {
        files(&home.join(dir), &mut found);
    }
    let mut names = BTreeSet::new();
    for path in found {
        let stem = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        names.extend([stem(&path), stem(path.parent().expect("a folder"))]);
        let text = fs::read_to_string(&path).expect("read a source");
        for line in text.lines() {
            let word = |after: &str| {
                let (_, rest) = line.split_once(after)?;
                Some(rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()?.to_owned())
            };
            names.extend(
                word("fn ").into_iter().chain(word("mod ")).chain(line.strip_suffix("() {").map(str::to_owned)),
            );
        }
    }
    names
}

/// Whether there is one of that name, in which `…` stands for whatever is there.
fn is_there(names: &BTreeSet<String>, wanted: &str) -> bool {
    let Some((first, rest)) = wanted.split_once('…') else { return names.contains(wanted) };
    let fits = |name: &String| name.strip_prefix(first).is_some_and(|end| end.ends_with(rest.trim_matches('…')));
    names.iter().any(fits)
}

#[test]
fn every_test_that_is_named_is_there() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = names(home);
    let mut missing = Vec::new();
    for (file, bare) in [("docs/status.md", true), ("ARCHITECTURE.md", false)] {
        let text = fs::read_to_string(home.join(file)).expect("read");
        for (number, line) in text.lines().enumerate() {
            // What is between two signs is every second part.
            for word in line.split('`').skip(1).step_by(2) {
                let is_name = |letter: char| letter.is_ascii_alphanumeric() || "_:…".contains(letter);
                let named = word.contains("::") || bare && word.contains('_') && word.to_lowercase() == word;
                let last = word.rsplit("::").next().unwrap_or_default();
                if named && word.chars().all(is_name) && !is_there(&names, last) {
                    missing.push(format!("{file}:{}: {word}", number + 1));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    assert!(!is_there(&names, "no_test_of_this_name") && !is_there(&names, "cve_1999_…"));
    assert!(is_there(&names, "every_test_that_is_named_is_there") && is_there(&names, "cve_2016_9962_…"));
}

#[test]
fn no_service_manager_ends_a_container() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = fs::read_to_string(home.join("contrib/systemd/dhow.service")).expect("read the unit");
    for line in ["KillMode=process", "Delegate=yes"] {
        assert!(unit.lines().any(|there| there == line), "{line}");
    }
}
