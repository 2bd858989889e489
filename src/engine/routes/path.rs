//! A path as the routes see it.

/// The parts of a path. A name may have slashes itself, as a link gives it (`/web/db`), or in front, as inspect shows it,
/// and is one part. One at the end of the path leads to no page, as with Docker.
pub fn parts<'a>(method: &str, path: &'a str) -> Vec<&'a str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut parts: Vec<&str> = path.split('/').collect();
    // How many follow the name.
    let behind = match (method, parts.as_slice()) {
        // Images have names that are taken apart where they are read.
        (_, ["containers", _, "checkpoints", ..]) => return parts,
        (_, ["containers", .., "attach", "ws"]) => 2,
        ("DELETE", ["containers" | "networks" | "volumes", ..]) | ("GET" | "PUT", ["networks" | "volumes", ..]) => 0,
        (_, ["containers" | "networks" | "exec", ..]) => 1,
        _ => return parts,
    };
    let end = parts.len() - behind;
    if end > 2 {
        let tail: usize = parts[end..].iter().map(|part| part.len() + 1).sum();
        let name = &path[parts[0].len() + 1..path.len() - tail];
        parts.splice(1..end, [name.trim_start_matches('/')]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_part() {
        for (line, expected) in [
            ("GET /info", &["info"][..]),
            ("GET /", &[""]),
            ("GET /info/", &["info", ""]),
            ("GET /containers/json", &["containers", "json"]),
            ("GET /containers/json/", &["containers", "json", ""]),
            ("GET /containers/web/json", &["containers", "web", "json"]),
            ("GET /containers//web/json", &["containers", "web", "json"]),
            ("GET /containers/web/json/", &["containers", "web/json", ""]),
            ("GET /containers/web/db/json", &["containers", "web/db", "json"]),
            ("POST /containers//web/db/start", &["containers", "web/db", "start"]),
            ("GET /containers/web/attach/ws", &["containers", "web", "attach", "ws"]),
            ("GET /containers/web/db/attach/ws", &["containers", "web/db", "attach", "ws"]),
            ("DELETE /containers/web", &["containers", "web"]),
            ("DELETE /containers//web/db", &["containers", "web/db"]),
            ("DELETE /containers/web/", &["containers", "web/"]),
            ("DELETE /containers/x/checkpoints/y", &["containers", "x", "checkpoints", "y"]),
            ("POST /containers/create", &["containers", "create"]),
            ("GET /containers", &["containers"]),
            ("GET /networks/", &["networks", ""]),
            ("GET /networks/a/b", &["networks", "a/b"]),
            ("POST /networks/a/b/connect", &["networks", "a/b", "connect"]),
            ("DELETE /volumes/a/b", &["volumes", "a/b"]),
            ("GET /images/a/b/json", &["images", "a", "b", "json"]),
            ("POST /exec/x/y/start", &["exec", "x/y", "start"]),
        ] {
            let (method, path) = line.split_once(' ').unwrap();
            assert_eq!(parts(method, path), expected, "{line}");
        }
    }
}
