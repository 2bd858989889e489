//! One request for each of several containers, side by side: stopping ten takes as long as stopping the slowest.

use super::face::Several;
use super::output;
use anyhow::{Result, anyhow};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// As many as Docker asks at once.
const AT_ONCE: usize = 50;

/// Does `work` for each name and prints the names where it went well, in the order given. Errors come together at
/// the end.
pub fn each(names: &[String], work: impl Fn(&str) -> Result<()> + Sync) -> Result<u8> {
    one_by_one(names.iter().zip(side_by_side(names, work)))
}

/// Does `work` for each name; the results in the order given.
pub fn side_by_side(names: &[String], work: impl Fn(&str) -> Result<()> + Sync) -> Vec<Result<()>> {
    let results: Vec<Mutex<Option<Result<()>>>> = names.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let turn = || {
        while let Some((name, result)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| names.get(at).zip(results.get(at)))
        {
            *result.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(work(name));
        }
    };
    match names.len() {
        1 => turn(),
        many => std::thread::scope(|scope| {
            for _ in 0..many.min(AT_ONCE) {
                scope.spawn(turn);
            }
        }),
    }
    let result =
        |done: Mutex<Option<_>>| done.into_inner().ok().flatten().unwrap_or_else(|| Err(anyhow!("interrupted")));
    results.into_iter().map(result).collect()
}

/// Prints the names where it went well, as the results come.
pub fn one_by_one<'a>(results: impl Iterator<Item = (&'a String, Result<()>)>) -> Result<u8> {
    let mut errors = Vec::new();
    for (name, result) in results {
        match result {
            Ok(()) => output::say(&format!("{name}\n"))?,
            Err(error) => errors.push(error),
        }
    }
    together(errors)
}

/// The same with what the docker command says after them, of one too.
pub fn together_and(errors: Vec<anyhow::Error>, after: impl FnOnce() -> String) -> Result<u8> {
    match errors.is_empty() {
        true => Ok(0),
        false => Err(Several { errors, after: Some(after()) }.into()),
    }
}

/// Several errors as one, a line each.
pub fn together(mut errors: Vec<anyhow::Error>) -> Result<u8> {
    match errors.len() {
        0 => Ok(0),
        1 => Err(errors.remove(0)),
        _ => Err(Several { errors, after: None }.into()),
    }
}
