//! `commit`: what a container changed becomes a layer, and with its image's layers an image.

use super::super::containers::{self, Doing};
use super::super::layers::{self, Staged};
use super::super::protocol::{Message, Op};
use super::super::shim::{self, Whose};
use super::super::store::Store;
use super::super::{Record, events, files};
use super::{Image, changes, find, register, tag};
use crate::api::time::Time;
use crate::api::types::ContainerConfig;
use crate::cgroup;
use crate::failpoint;
use crate::fs::unpack::Unpacked;
use crate::fs::{repack, settle};
use crate::log;
use crate::oci::image::{Empty, Healthcheck, History, ImageConfig, RunConfig};
use crate::oci::{Digest, Reference};
use crate::order::Map;
use anyhow::{Context, Result, anyhow};
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a shim may take to let a container's processes go on.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked of a commit, checked.
pub struct Commit {
    name: Option<Reference>,
    comment: String,
    author: String,
    pause: bool,
    /// Over the container's own.
    config: RunConfig,
    changes: Vec<String>,
}

impl Commit {
    /// Reads the query and the body of `POST /commit`. Errors are 400.
    pub fn asked(
        (repository, tag): (&str, &str),
        (comment, author): (&str, &str),
        pause: bool,
        changes: Vec<String>,
        body: ContainerConfig,
    ) -> Result<Commit> {
        changes::apply(&mut RunConfig::default(), &changes)?;
        Ok(Commit {
            name: tag::name(repository, tag)?,
            comment: comment.to_owned(),
            author: author.to_owned(),
            pause,
            config: run_config(body),
            changes,
        })
    }
}

/// Makes an image of a container. Either it is there whole when this returns, or nothing of it is.
pub fn commit(store: &Store, container: &str, asked: Commit) -> Result<Digest> {
    let id = containers::find(store, container)?;
    let lease = store.lease()?;
    let (now, lock) = files::hold(store, &id)?;
    let record = now.record;
    let gone = |error| anyhow!("{error}: the image that container {container} was made of was removed");
    let parent = find(store, &record.image).map_err(gone)?;
    for layer in &parent.layers {
        if !layers::exists(store, &lease, &layer.id)? {
            return Err(gone(anyhow!("no layer {}", layer.id)));
        }
    }
    let staging = lease.tmp()?.join("layer");
    std::fs::create_dir(&staging).with_context(|| format!("make {}", staging.display()))?;
    let layer = {
        // One that does not run does not start meanwhile; one that runs stands still, if it is to.
        let _lock = if now.doing.is_alive() { None } else { Some(lock) };
        let freeze = asked.pause && now.doing == Doing::Running && !now.live.cgroup.is_empty();
        let still = if freeze { Some(Still::new(store, &id, &now.live.cgroup)?) } else { None };
        if still.is_some() {
            events::container(store, &record, "pause", &[]);
        }
        failpoint::reach("commit.still");
        let made = layer(store, &record, &staging);
        if let Some(still) = still {
            drop(still);
            events::container(store, &record, "unpause", &[]);
        }
        made.with_context(|| format!("commit {}", record.name))?
    };
    let mut diff_ids = parent.config.rootfs.diff_ids.clone();
    let mut staged = vec![None; diff_ids.len()];
    if let Some(unpacked) = &layer {
        settle::settle(unpacked, &staging, &record.lower_dirs(store))?;
        diff_ids.push(unpacked.diff_id.clone());
        staged.push(Some(Staged { dir: staging, size: unpacked.size, opaque: unpacked.opaque }));
        layers::commit(store, &lease, &diff_ids, &staged)?;
    }
    let config = config(&record, &parent, &asked, diff_ids, layer.is_none())?;
    let config = serde_json::to_vec(&config).context("encode an image's config")?;
    let image = register(store, &lease, None, &config, Some(&parent.id))?;
    let id = image.id.to_string();
    events::image(store, image.config.config.labels.as_ref(), "create", &id, &id);
    let mut reference = String::new();
    if let Some(name) = &asked.name {
        tag::give(store, &id, name)?;
        reference = name.familiar();
    }
    let told = [("comment", asked.comment.as_str()), ("imageID", &id), ("imageRef", &reference)];
    events::container(store, &record, "commit", &told);
    Ok(image.id)
}

/// The container's processes stand still as long as this lives.
struct Still {
    cgroup: PathBuf,
    /// The shim lets them go on when this ends, however we end; `None` for a shim of a build that does not know how.
    shim: Option<UnixStream>,
}

impl Still {
    fn new(store: &Store, id: &str, cgroup: &str) -> Result<Still> {
        let mut shim = shim::connect(store, &Whose::container(id))?;
        if let Some(stream) = &mut shim
            && shim::tell(stream, Message::new(Op::Still, 0, 0), &[]).is_err()
        {
            shim = None;
        }
        let still = Still { cgroup: PathBuf::from(cgroup), shim };
        cgroup::freeze(&still.cgroup, true)?;
        Ok(still)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        if let Some(shim) = &mut self.shim {
            // Its end comes after it has let them go on: a pause that follows is not undone.
            let _ = shim.set_read_timeout(Some(PATIENCE)).and_then(|()| shim.shutdown(Shutdown::Write));
            let _ = shim.read(&mut [0]);
        }
        if let Err(error) = cgroup::freeze(&self.cgroup, false) {
            log::warning!("{error:#}");
        }
    }
}

/// Unpacks what the container changed as a layer, so that it lies in the store as one that was pulled. `None` where it
/// changed nothing.
fn layer(store: &Store, record: &Record, staging: &Path) -> Result<Option<Unpacked>> {
    let differences = files::differences(store, record)?;
    if differences.is_empty() {
        return Ok(None);
    }
    let upper = store.container(&record.id).join("upper");
    repack::repack(&upper, &differences, staging).map(Some)
}

fn config(
    record: &Record,
    parent: &Image,
    asked: &Commit,
    diff_ids: Vec<Digest>,
    empty_layer: bool,
) -> Result<ImageConfig> {
    let created = Some(Time::now().to_string());
    let mut run = over(run_config(record.config.clone()), asked.config.clone());
    changes::apply(&mut run, &asked.changes)?;
    // A new entrypoint makes nothing of the old command.
    let mut alone = RunConfig::default();
    changes::apply(&mut alone, &asked.changes)?;
    if alone.entrypoint.is_some_and(|entrypoint| !entrypoint.is_empty()) && alone.cmd.is_none() {
        run.cmd = None;
    }
    let mut history = parent.config.history.clone();
    history.push(History {
        created: created.clone(),
        created_by: record.config.cmd.clone().unwrap_or_default().join(" "),
        author: asked.author.clone(),
        comment: asked.comment.clone(),
        empty_layer,
    });
    let mut config = ImageConfig {
        created,
        author: asked.author.clone(),
        comment: asked.comment.clone(),
        config: run,
        container_config: None,
        history,
        ..parent.config.clone()
    };
    config.rootfs.diff_ids = diff_ids;
    Ok(config)
}

/// What a container's config says of containers of its image.
fn run_config(config: ContainerConfig) -> RunConfig {
    let set = |keys: Vec<String>| (!keys.is_empty()).then(|| Map::from_iter(keys.into_iter().map(|key| (key, Empty))));
    RunConfig {
        user: config.user,
        exposed_ports: set(config.exposed_ports.unwrap_or_default().into_keys().collect()),
        env: config.env.unwrap_or_default(),
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        volumes: set(config.volumes.unwrap_or_default().into_keys().collect()),
        working_dir: config.working_dir,
        labels: config.labels,
        stop_signal: config.stop_signal,
        stop_timeout: config.stop_timeout,
        healthcheck: config.healthcheck.map(|check| Healthcheck {
            test: check.test,
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        shell: config.shell,
        on_build: config.on_build,
        args_escaped: config.args_escaped,
    }
}

/// One config over another: what it says counts, maps and variables are joined.
fn over(mut below: RunConfig, above: RunConfig) -> RunConfig {
    let text = |below: String, above: String| if above.is_empty() { below } else { above };
    let key = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let kept = below.env.into_iter().filter(|old| above.env.iter().all(|new| key(new) != key(old)));
    let env = kept.chain(above.env.iter().cloned()).collect();
    if above.entrypoint.as_ref().is_some_and(|entrypoint| !entrypoint.is_empty()) && above.cmd.is_none() {
        below.cmd = None;
    }
    fn join<V>(
        below: Option<crate::order::Map<String, V>>,
        above: Option<crate::order::Map<String, V>>,
    ) -> Option<crate::order::Map<String, V>> {
        match (below, above) {
            (Some(mut below), Some(above)) => {
                below.extend(above);
                Some(below)
            }
            (below, above) => above.or(below),
        }
    }
    RunConfig {
        user: text(below.user, above.user),
        exposed_ports: join(below.exposed_ports, above.exposed_ports),
        env,
        entrypoint: above.entrypoint.or(below.entrypoint),
        cmd: above.cmd.or(below.cmd),
        volumes: join(below.volumes, above.volumes),
        working_dir: text(below.working_dir, above.working_dir),
        labels: join(below.labels, above.labels),
        stop_signal: text(below.stop_signal, above.stop_signal),
        stop_timeout: above.stop_timeout.or(below.stop_timeout),
        healthcheck: above.healthcheck.or(below.healthcheck),
        shell: above.shell.or(below.shell),
        on_build: above.on_build.or(below.on_build),
        args_escaped: above.args_escaped || below.args_escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_config_over_another() {
        let words = |text: &str| Some(text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let below = RunConfig {
            user: "a".into(),
            env: vec!["A=1".into(), "B=2".into()],
            cmd: words("run it"),
            labels: Some([("x".to_owned(), "1".to_owned()), ("y".to_owned(), "2".to_owned())].into()),
            ..RunConfig::default()
        };
        assert_eq!(over(below.clone(), RunConfig::default()), below);
        let above = RunConfig {
            env: vec!["A=3".into()],
            entrypoint: words("sh -c"),
            labels: Some([("x".to_owned(), "4".to_owned())].into()),
            ..RunConfig::default()
        };
        let both = over(below, above);
        assert_eq!((both.user.as_str(), both.cmd, both.entrypoint), ("a", None, words("sh -c")));
        assert_eq!(both.env, ["B=2", "A=3"]);
        assert_eq!(both.labels.unwrap().into_iter().map(|(k, v)| k + &v).collect::<Vec<_>>(), ["x4", "y2"]);
    }
}
