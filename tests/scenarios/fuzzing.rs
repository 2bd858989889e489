//! libFuzzer over the targets of `src/fuzz.rs`, for a few seconds each: it finds nothing that does more than be refused. What
//! it does find is printed, and kept in `fuzz/artifacts`.

use crate::fixture::{base64, need, scratch};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// One executable for all targets. Who comes first builds it, if nobody has before.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let output = Command::new(source("fuzz/build")).arg("quick").output().expect("run fuzz/build");
        assert!(output.status.success(), "fuzz/build: {}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).expect("UTF-8").trim_end())
    })
}

/// How long each target is tried: `DHOW_FUZZ_SECONDS`, or four seconds.
fn seconds() -> u32 {
    std::env::var("DHOW_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Has libFuzzer try a target from its corpus. The one harmful input that it ends with is in the file `found`.
fn fuzz(target: &str, found: &Path) -> Output {
    let learnt = scratch("fuzz");
    let mut line = Command::new(built());
    line.env("DHOW_FUZZ_TARGET", target);
    // The same beginning every time. The other bounds are on a hang, and on what a small input makes of itself.
    line.args(["-seed=1", "-timeout=100", "-rss_limit_mb=1024"]);
    line.arg(format!("-max_total_time={}", seconds())).arg(format!("-exact_artifact_path={}", found.display()));
    let output = line.arg(&learnt).arg(source("tests/corpus").join(target)).output().expect("run libFuzzer");
    let _ = fs::remove_dir_all(&learnt);
    output
}

fn nothing_does_harm(target: &str) {
    let Some(()) = need("c++") else { return };
    let found = source("fuzz/artifacts").join(target).join("found");
    fs::create_dir_all(found.parent().expect("a folder")).expect("make a folder");
    let _ = fs::remove_file(&found);
    let output = fuzz(target, &found);
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(50).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    if let Ok(bytes) = fs::read(&found) {
        panic!("{target}: {} did harm, in base64:\n{}\n{}", found.display(), base64(&bytes), last.join("\n"));
    }
    assert!(output.status.success(), "{target}: {}\n{}", output.status, last.join("\n"));
    assert!(said.contains(" cov: "), "{target}: nothing was counted\n{}", last.join("\n"));
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { nothing_does_harm(stringify!($name)); })*

        /// Each has a corpus; that each corpus has a target is a test of its own.
        #[test]
        fn none_is_left_out() {
            let folders = fs::read_dir(source("tests/corpus")).expect("list the corpora").flatten();
            let mut folders: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
            folders.sort();
            let mut named = [$(stringify!($name)),*];
            named.sort();
            assert_eq!(folders, named);
        }
    };
}

targets! { http answers frames json filters reference manifest layer spec seccomp log template dockerfile names cdi }
