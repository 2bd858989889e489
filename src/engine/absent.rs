//! What is not there, answered as clients expect of an engine that has none of it: a swarm, plugins, and what comes with
//! a later release. A path that Docker knows is never a page that is not found.

use crate::api::{Refusal, Reply, Response};
use anyhow::Result;

pub const NO_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
                          connect this node to swarm and try again.";

/// The answer to a request of that kind; `None` for a path of which nothing is known.
pub fn answer(method: &str, parts: &[&str]) -> Option<Result<Response>> {
    let later = |what: &str| refuse(Refusal::NotImplemented(format!("{what} with a later release of dhow")));
    Some(match (method, parts) {
        ("GET", ["plugins"]) => Ok(Response::new(200, Reply::Json(b"[]".to_vec()))),
        (_, ["plugins", "pull" | "create" | "privileges"]) => refuse(Refusal::NotImplemented(NO_PLUGINS.to_owned())),
        (_, ["plugins", name @ .., "json" | "enable" | "disable" | "upgrade" | "set" | "push"])
        | ("DELETE", ["plugins", name @ ..])
            if !name.is_empty() =>
        {
            refuse(Refusal::NotFound(format!("plugin {:?} not found", name.join("/"))))
        }
        ("POST", ["swarm", "init" | "join"]) => {
            refuse(Refusal::NotImplemented("swarm mode is not part of dhow".to_owned()))
        }
        ("POST", ["swarm", "leave"]) => refuse(Refusal::Unavailable("This node is not part of a swarm".to_owned())),
        (_, ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", ..]) => {
            refuse(Refusal::Unavailable(NO_MANAGER.to_owned()))
        }
        ("PUT", ["volumes", _]) => refuse(Refusal::Unavailable(
            "volume update only valid for cluster volumes, but swarm is unavailable".to_owned(),
        )),
        ("POST", ["session" | "grpc"]) => refuse(Refusal::NotImplemented(crate::build::NO_BUILDKIT.to_owned())),
        (_, ["containers", _, "checkpoints", ..]) => later("checkpoints come"),
        _ => return None,
    })
}

const NO_PLUGINS: &str = "plugins are not part of dhow";

fn refuse(refusal: Refusal) -> Result<Response> {
    Err(refusal.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_paths_have_an_answer() {
        for (line, status) in [
            ("GET plugins", Some(200)),
            ("GET plugins/vieux/sshfs/json", Some(404)),
            ("DELETE plugins/x", Some(404)),
            ("POST plugins/pull", Some(501)),
            ("GET swarm", Some(503)),
            ("GET nodes", Some(503)),
            ("GET nodes/x", Some(503)),
            ("POST services/create", Some(503)),
            ("GET tasks", Some(503)),
            ("GET secrets", Some(503)),
            ("GET configs", Some(503)),
            ("POST swarm/init", Some(501)),
            ("POST swarm/leave", Some(503)),
            ("PUT volumes/x", Some(503)),
            ("POST session", Some(501)),
            ("POST grpc", Some(501)),
            ("GET containers/x/checkpoints", Some(501)),
            ("DELETE containers/x/checkpoints/y", Some(501)),
            ("GET nope", None),
            ("DELETE build", None),
        ] {
            let (method, path) = line.split_once(' ').unwrap();
            let answer = answer(method, &path.split('/').collect::<Vec<_>>());
            let given = answer.map(|answer| match answer {
                Ok(response) => response.status,
                Err(error) => error.downcast_ref::<Refusal>().map_or(500, Refusal::status),
            });
            assert_eq!(given, status, "{line}");
        }
    }
}
