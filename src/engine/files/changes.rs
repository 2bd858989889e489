//! What a container changed in its image: `GET /containers/{id}/changes`, and what a commit takes.

use super::super::record::Record;
use super::super::store::Store;
use super::view;
use crate::api::types::Change;
use crate::fs::diff::{self, Difference, Is};
use anyhow::Result;

/// What differs between a container and its image, on disk. What is there for all containers is no difference.
pub fn differences(store: &Store, record: &Record) -> Result<Vec<Difference>> {
    let upper = store.container(&record.id).join("upper");
    diff::differences(&upper, &view::layers(store, record)?, record.copied)
}

/// The same as the API tells it; `None` where nothing differs.
pub fn changes(store: &Store, record: &Record) -> Result<Option<Vec<Change>>> {
    let told = diff::changes(differences(store, record)?).into_iter().map(|(path, is)| Change {
        path: format!("/{}", String::from_utf8_lossy(&path)),
        kind: match is {
            Is::Added => Change::ADDED,
            Is::Deleted => Change::DELETED,
            Is::Modified | Is::Same => Change::MODIFIED,
        },
    });
    let told: Vec<Change> = told.collect();
    Ok((!told.is_empty()).then_some(told))
}
