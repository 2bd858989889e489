//! Dockerfile → steps → layers.
//!
//! ```text
//! request ─asked, context→ Dockerfile ─schedule→ stages that the target needs, side by side ─builder→ steps
//!     RUN   a container of `run`'s own kind; its upper directory becomes the layer
//!     COPY  into an overlay over the stage, whose upper directory becomes the layer
//!     each step under a key of all that it depends on: the cache knows what came of it
//! ```

mod agent;
pub mod asked;
mod bases;
mod builder;
pub mod cache;
pub mod cache_from;
mod caches;
mod context;
pub mod contexts;
mod devices;
pub mod dockerfile;
mod durable;
mod export;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod git;
pub mod ignore;
pub mod keys;
pub mod lint;
pub mod metadata;
mod mounts;
pub mod prune;
mod removals;
mod report;
mod run;
mod running;
mod schedule;
mod state;
mod steps;
pub mod trace;
mod transfer;

use crate::api::Refusal;
use crate::api::types::{ErrorDetail, ProgressLine};
use crate::api::wire::{Body, Reply, Request, Response};
use crate::engine::Engine;
use crate::engine::store::Store;
use crate::order::Set;
use anyhow::Result;
use asked::Asked;
use builder::{Builder, Failed, Shared};
use context::Context;
use dockerfile::Dockerfile;
use report::Output;
use running::Running;
pub use running::end;
use std::sync::Arc;

/// What a folder says that is to be ignored of it.
pub fn ignored(root: std::os::fd::BorrowedFd) -> Result<ignore::Ignore> {
    context::ignored(root, "")
}

pub use context::lower;

/// What clients with the buildx plugin are told.
pub const NO_BUILDKIT: &str = "BuildKit's protocol is not spoken here: set DOCKER_BUILDKIT=0, and docker build asks \
                               for the same build by POST /build, which knows BuildKit's Dockerfiles";

/// `POST /build`.
pub fn route(engine: &Arc<Engine>, mut request: Request) -> Result<Response> {
    let body = std::mem::replace(&mut request.body, Body::Empty);
    let asked = Asked::read(&request)?;
    let sent = context::Sent { body, folders: std::mem::take(&mut request.given.folders) };
    cache::prepare(&engine.store)?;
    clear(&engine.store)?;
    let running = Running::begin(&request.caller)?;
    let (engine, caller) = (Arc::clone(engine), request.caller.clone());
    let lease = engine.store.lease()?;
    // What is wrong with the request is told by its status, and not in the stream.
    let context = Context::open(&engine.store, &lease, &asked, sent, &engine.settings.registry(), &caller)?;
    let file = Dockerfile::parse(&context.name, &context.dockerfile)?;
    builder::target(&file, &asked.target)?;
    let shared = Shared::new(&file, &context);
    checked(&file, Builder::new(&engine, &lease, &asked, (&file, &context), &shared, &caller))?;
    let producer = move |out: &mut dyn std::io::Write| {
        // It has ended when nothing of it is left.
        let (_running, lease, context) = (running, lease, context);
        let mut send = |line: ProgressLine| -> std::io::Result<()> {
            let mut bytes = serde_json::to_vec(&line)?;
            bytes.extend_from_slice(b"\r\n");
            out.write_all(&bytes)
        };
        let mut output = Output::new(&mut send, asked.style, asked.quiet);
        let builder = || Builder::new(&engine, &lease, &asked, (&file, &context), &shared, &caller);
        let built = builder().run(&mut output);
        let built = match builder().lint() {
            Ok((warnings, _)) => built.and(output.warnings(lint::statuses(&file, &warnings))),
            Err(error) => built.and(Err(error)),
        };
        let built = match built {
            Ok(()) => engine.settings.cache_size().and_then(|size| prune::limit(&engine.store, &lease, size)),
            Err(error) => output.recall().and(Err(error)),
        };
        match built {
            Ok(()) => Ok(()),
            Err(error) => {
                let line = ProgressLine::failed(format!("{error:#}"));
                let code = error.downcast_ref::<Failed>().map_or(0, |failed| failed.code);
                let error_detail = Some(ErrorDetail { code, message: line.error.clone() });
                send(ProgressLine { error_detail, ..line })
            }
        }
    };
    Ok(Response::new(200, Reply::Stream(Box::new(producer))).with("Content-Type", "application/json"))
}

/// Refuses a Dockerfile that has asked to be checked, and with which something is wrong.
fn checked(file: &Dockerfile, builder: Builder) -> Result<()> {
    // Variables that images set are told of in the end: nothing is pulled for it.
    let (warnings, error) = builder.lint()?;
    if error && !warnings.is_empty() {
        let rules: crate::order::Set<&str> = Set::from_iter(warnings.iter().map(|warning| warning.rule));
        let rules: Vec<&str> = rules.into_iter().collect();
        let text = format!("lint violation found for rules: {}\n{}", rules.join(", "), lint::show(file, &warnings));
        anyhow::bail!(Refusal::BadParameter(text));
    }
    Ok(())
}

/// Clears what builds that were killed have left: containers, which nobody takes anything from, and secrets.
pub fn clear(store: &Store) -> Result<()> {
    use crate::engine::{Record, containers, record, store};
    let mut left = Vec::new();
    for id in record::ids(store)? {
        if Record::load(store, &id)?.is_some_and(|record| record.step) {
            left.push(id);
        }
    }
    let dir = mounts::secrets_of(store);
    let secrets = store::read_dir(&dir)?;
    if left.is_empty() && secrets.is_empty() {
        return Ok(());
    }
    let leased = store.leased()?;
    for name in secrets.iter().filter(|name| !leased.contains(&mounts::lent(name))) {
        store::remove(&dir.join(name))?;
    }
    for id in left.iter().filter(|id| !leased.contains(&format!("container:{id}"))) {
        match containers::remove(store, id, true, true) {
            Err(error) if containers::is_not_found(&error) => {}
            other => other?,
        }
    }
    Ok(())
}
