//! Environment variables and labels, from flags and files.

use super::{Here, values};
use crate::applets::face::{self, Misfit, words};
use anyhow::{Context, Result, anyhow, bail};
use std::path::Path;

/// `--env-file` lines, then `--env`; `NAME` alone takes its value from here.
pub fn environment(files: &[String], given: &[String], here: &Here) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        let lines = lines(file, here).map_err(|error| of_flag("--env-file", error))?;
        all.extend(lines.into_iter().filter_map(|line| valued(line, here)));
    }
    for variable in given {
        if variable.is_empty() || variable.starts_with('=') {
            bail!(Misfit::new("-e, --env", variable, &format!("invalid environment variable: {variable}")));
        }
        // Unknown here, it is sent without a value: that takes one of the image's away.
        all.push(valued(variable.clone(), here).unwrap_or_else(|| variable.clone()));
    }
    Ok(all)
}

/// `--label-file` lines, then `--label`.
pub fn labels(files: &[String], given: &[String], here: &Here) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        let lines = lines(file, here).map_err(|error| of_flag("--label-file", error))?;
        // A line without a value says nothing here, as in Docker.
        all.extend(lines.into_iter().filter(|line| line.contains('=')));
    }
    for label in given {
        values::label(label).map_err(|why| Misfit::new("-l, --label", label, &why))?;
        all.push(label.clone());
    }
    Ok(all)
}

/// We name the flag, docker does not.
fn of_flag(flag: &'static str, error: anyhow::Error) -> anyhow::Error {
    if face::is_docker() { error } else { error.context(flag) }
}

fn valued(variable: String, here: &Here) -> Option<String> {
    if variable.contains('=') {
        return Some(variable);
    }
    (here.env)(&variable).map(|value| format!("{variable}={value}"))
}

/// The lines of a file that say something: no blank ones, no comments, blanks before the name taken off.
fn lines(file: &str, here: &Here) -> Result<Vec<String>> {
    let bytes = (here.read)(Path::new(file)).with_context(|| format!("{} {file}", words("open", "reading")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        anyhow!("reading {file}: invalid utf8 bytes at line {line}")
    })?;
    let mut lines = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.is_empty() {
            bail!("reading {file}: no variable name on line '{line}'");
        }
        if name.contains([' ', '\t']) {
            bail!("reading {file}: variable '{name}' contains whitespaces");
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(text: &'static str) -> (impl Fn(&str) -> Option<String>, impl Fn(&Path) -> std::io::Result<Vec<u8>>) {
        let env = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        (env, move |_: &Path| Ok(text.as_bytes().to_vec()))
    }

    #[test]
    fn variables_from_files_and_flags() {
        let (env, read) = here("\u{feff}# c\n\n  A=1 \nB=x y\nHOME\nNOT_SET\nD=\r\n");
        let here = Here { env: &env, read: &read, cwd: "/".into() };
        let given = ["E=2".to_owned(), "HOME".to_owned(), "NOT_SET".to_owned()];
        assert_eq!(
            environment(&["f".into()], &given, &here).unwrap(),
            ["A=1 ", "B=x y", "HOME=/root", "D=", "E=2", "HOME=/root", "NOT_SET"],
        );
        assert!(environment(&[], &["=x".into()], &here).is_err());
        assert_eq!(labels(&["f".into()], &["l".into()], &here).unwrap(), ["A=1 ", "B=x y", "D=", "l"]);
    }

    #[test]
    fn files_that_are_wrong() {
        for (text, message) in [
            ("A B=1", "--env-file: reading f: variable 'A B' contains whitespaces"),
            ("=1", "--env-file: reading f: no variable name on line '=1'"),
        ] {
            let (env, read) = here(text);
            let here = Here { env: &env, read: &read, cwd: "/".into() };
            assert_eq!(format!("{:#}", environment(&["f".into()], &[], &here).unwrap_err()), message);
        }
        let (env, _) = here("");
        let read = |_: &Path| Ok(vec![b'A', b'\n', 0xff]);
        let here = Here { env: &env, read: &read, cwd: "/".into() };
        let error = format!("{:#}", environment(&["f".into()], &[], &here).unwrap_err());
        assert_eq!(error, "--env-file: reading f: invalid utf8 bytes at line 2");
    }
}
