//! Which events a client wants, by Docker's rules: a type and an action word for word, a name or an id from its
//! beginning, an image with its tag or without.

use crate::api::types::Event;
use crate::engine::filters::Filters;
use anyhow::Result;

const KEYS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// The keys whose values are names or beginnings of ids of a kind of thing, of which that key is the name.
const KINDS: [&str; 8] = ["config", "daemon", "network", "node", "plugin", "secret", "service", "volume"];

/// Actions that have what was executed, or the health, behind a colon: asked for by the word, all are meant.
const OPEN: [&str; 3] = ["health_status", "exec_create", "exec_start"];

pub fn accept(filters: &Filters) -> Result<()> {
    filters.accept(&KEYS)
}

pub fn takes(filters: &Filters, event: &Event) -> bool {
    let any = |key: &str, holds: &dyn Fn(&str) -> bool| {
        !filters.has(key) || filters.get(key).iter().any(|value| holds(value))
    };
    let attributes = &event.actor.attributes;
    let open = filters.get("event").iter().any(|action| OPEN.contains(&action.as_str()));
    any("type", &|value| value == event.r#type)
        && any("scope", &|value| value == event.scope)
        && any("event", &|value| value == event.action || open && event.action.starts_with(value))
        && any("image", &|value| is_image(event, value))
        && (!filters.has("container") || event.r#type == "container" && begins(filters, "container", event))
        && KINDS.iter().all(|kind| !filters.has(kind) || event.r#type == *kind && begins(filters, kind, event))
        && filters.labels(attributes)
}

fn begins(filters: &Filters, key: &str, event: &Event) -> bool {
    let name = event.actor.attributes.get("name").map_or("", String::as_str);
    filters.get(key).iter().any(|value| event.actor.id.starts_with(value) || name.starts_with(value))
}

/// Whether an event is of that image, or of a container made from it.
fn is_image(event: &Event, wanted: &str) -> bool {
    let key = if event.r#type == "image" { "name" } else { "image" };
    let name = event.actor.attributes.get(key).map_or("", String::as_str);
    [event.actor.id.as_str(), name].into_iter().any(|name| name == wanted || without_tag(name) == wanted)
}

/// `localhost:5000/x:tag` without its tag.
fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') && !repository.ends_with("@sha256") => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Actor;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Event {
            r#type: kind.into(),
            action: action.into(),
            actor: Actor { id: id.into(), attributes },
            scope: "local".into(),
            ..Event::default()
        }
    }

    #[test]
    fn what_a_filter_takes() {
        let start = event("container", "start", "b501e6", &[("a", "b"), ("image", "nginx:alpine"), ("name", "gold")]);
        let check = event("container", "exec_create: /bin/sh -c true", "b501e6", &[("image", "localhost:5000/x")]);
        let health = event("container", "health_status: healthy", "b501e6", &[("image", "x"), ("name", "gold")]);
        let pull = event("image", "pull", "nginx:alpine", &[("name", "nginx")]);
        let volume = event("volume", "create", "gv", &[("driver", "local")]);
        let all = [("start", &start), ("check", &check), ("health", &health), ("pull", &pull), ("volume", &volume)];
        for (filter, expected) in [
            ("{}", "start check health pull volume"),
            (r#"{"type":["image","volume"]}"#, "pull volume"),
            (r#"{"event":["start","create"]}"#, "start volume"),
            (r#"{"event":["exec"]}"#, ""),
            (r#"{"event":["exec_create"]}"#, "check"),
            (r#"{"event":["health_status"]}"#, "health"),
            (r#"{"event":["health_status: healthy"]}"#, "health"),
            (r#"{"event":["health_status: unhealthy"]}"#, ""),
            (r#"{"container":["gol"]}"#, "start health"),
            (r#"{"container":["b501"]}"#, "start check health"),
            (r#"{"container":["old"]}"#, ""),
            (r#"{"image":["nginx"]}"#, "start pull"),
            (r#"{"image":["nginx:alpine"]}"#, "start pull"),
            (r#"{"image":["nginx:al"]}"#, ""),
            (r#"{"image":["localhost:5000/x"]}"#, "check"),
            (r#"{"volume":["gv"]}"#, "volume"),
            (r#"{"network":["gv"]}"#, ""),
            (r#"{"label":["a=b"]}"#, "start"),
            (r#"{"label":["a=c"]}"#, ""),
            (r#"{"scope":["swarm"]}"#, ""),
            (r#"{"type":{"container":true},"event":{"start":true}}"#, "start"),
        ] {
            let filters = Filters::parse(Some(filter)).unwrap();
            let taken = all.iter().filter(|(_, event)| takes(&filters, event)).map(|(name, _)| *name);
            assert_eq!(taken.collect::<Vec<_>>().join(" "), expected, "{filter}");
        }
        assert!(accept(&Filters::parse(Some(r#"{"colour":["red"]}"#)).unwrap()).is_err());
    }
}
