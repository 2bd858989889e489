//! `RUN --mount=type=…,…`: what is there for the time of one command.

use crate::api::units;
use crate::api::units::parse_bool;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// Who may have a cache at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    #[default]
    Shared,
    /// One that is in use is not given to a second command, which gets another.
    Private,
    /// The second waits.
    Locked,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// A stage, an image or a named context.
    pub from: String,
    pub source: String,
    /// Where none is named, that of a file is the directory that the command runs in.
    pub target: String,
    pub read_only: bool,
    /// Bytes, of a tmpfs; 0 is no limit of its own.
    pub size: u64,
    pub id: String,
    pub sharing: Sharing,
    pub required: bool,
    /// The variable that a secret goes into, too. An empty one has the name of the secret.
    pub env: Option<String>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl Mount {
    /// What a mount is taken from, as it stands there before any variable is known.
    pub fn from_of(text: &str) -> Result<String, String> {
        let mut from = String::new();
        for field in fields(text)? {
            let Some((key, value)) = field.split_once('=') else { continue };
            if key.eq_ignore_ascii_case("from") {
                if value.find('$').is_some_and(|at| at + 1 < value.len()) {
                    return Err(format!("'{key}' doesn't support variable expansion, define alias stage instead"));
                }
                from = value.to_owned();
            }
        }
        Ok(from)
    }

    pub fn parse(text: &str, expand: &mut dyn FnMut(&str) -> Result<String, String>) -> Result<Mount, String> {
        let mut mount = Mount::default();
        let (mut read_only, mut shared) = (None, false);
        for field in fields(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(expand(value)?)),
                None => (field.to_ascii_lowercase(), None),
            };
            let Some(value) = value else {
                match key.as_str() {
                    "readonly" | "ro" => read_only = Some(true),
                    "readwrite" | "rw" => read_only = Some(false),
                    "required" => mount.required = mount.may_require()?,
                    _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
                }
                continue;
            };
            let invalid = || format!("invalid value for {key}: {value}");
            let number =
                |radix: u32| u32::from_str_radix(&value, radix).map_err(|_| format!("invalid value {value} for {key}"));
            match key.as_str() {
                "type" => mount.kind = kind(&value)?,
                "from" => mount.from = value,
                "source" | "src" => mount.source = value,
                "target" | "dst" | "destination" => mount.target = value,
                "readonly" | "ro" => read_only = Some(parse_bool(&value).ok_or_else(invalid)?),
                "readwrite" | "rw" => read_only = Some(!parse_bool(&value).ok_or_else(invalid)?),
                "required" => mount.required = mount.may_require()? && parse_bool(&value).ok_or_else(invalid)?,
                "size" if mount.kind == MountKind::Tmpfs => {
                    let size = units::parse_binary(&value).ok().and_then(|size| u64::try_from(size).ok());
                    mount.size = size.ok_or_else(invalid)?;
                }
                "size" => return Err(format!("unexpected key '{key}' for mount type '{}'", mount.kind.name())),
                "id" => mount.id = value,
                "sharing" => {
                    mount.sharing = match value.to_ascii_lowercase().as_str() {
                        "shared" => Sharing::Shared,
                        "private" => Sharing::Private,
                        "locked" => Sharing::Locked,
                        _ => return Err(format!("unsupported sharing value {value:?}")),
                    };
                    shared = true;
                }
                "mode" => mount.mode = Some(number(8)?),
                "uid" => mount.uid = Some(number(10)?),
                "gid" => mount.gid = Some(number(10)?),
                "env" => mount.env = Some(value),
                _ => {
                    return Err(format!(
                        "unexpected key '{key}' in '{field}'{}",
                        super::suggest(&key, KEYS.iter().copied())
                    ));
                }
            }
        }
        mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
        if shared && mount.kind != MountKind::Cache {
            return Err(format!("invalid cache sharing set for {} mount", mount.kind.name()));
        }
        mount.check()?;
        Ok(mount)
    }

    /// What a secret or an agent is called by who builds.
    pub fn name(&self) -> String {
        let last = || self.target.rsplit('/').next().unwrap_or_default();
        let id = [&self.id, &self.source].into_iter().find(|it| !it.is_empty());
        match (id, self.kind) {
            (Some(id), _) => id.clone(),
            (None, MountKind::Ssh) => "default".to_owned(),
            (None, _) => last().to_owned(),
        }
    }

    fn may_require(&self) -> Result<bool, String> {
        match self.kind {
            MountKind::Secret | MountKind::Ssh => Ok(true),
            kind => Err(format!("unexpected key 'required' for mount type '{}'", kind.name())),
        }
    }

    fn check(&self) -> Result<(), String> {
        if matches!(self.kind, MountKind::Bind | MountKind::Tmpfs) {
            for (name, given) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
                if given.is_some() {
                    return Err(format!("{name} not allowed for {:?} type mounts", self.kind.name()));
                }
            }
        }
        if self.kind == MountKind::Secret {
            if !self.from.is_empty() {
                return Err("secret mount should not have a from".to_owned());
            }
            if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                return Err("invalid secret mount. one of source, target required".to_owned());
            }
            if !self.source.is_empty() && !self.id.is_empty() {
                return Err("both source and id can't be set".to_owned());
            }
        }
        if self.kind == MountKind::Ssh && !self.source.is_empty() {
            return Err("ssh does not support source".to_owned());
        }
        Ok(())
    }
}

impl MountKind {
    pub fn name(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Cache => "cache",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Secret => "secret",
            MountKind::Ssh => "ssh",
        }
    }
}

fn kind(value: &str) -> Result<MountKind, String> {
    let all = [MountKind::Bind, MountKind::Cache, MountKind::Tmpfs, MountKind::Secret, MountKind::Ssh];
    let found = all.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(value));
    found.ok_or_else(|| {
        format!("unsupported mount type {value:?}{}", super::suggest(value, all.iter().map(|kind| kind.name())))
    })
}

/// One line of comma-separated values; a field in double quotes may hold commas, and a quote by two.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let Some((piece, after)) = rest.split_once('"') else {
                    return Err(format!("a quote is not closed in {text:?}"));
                };
                field.push_str(piece);
                rest = after;
                match rest.strip_prefix('"') {
                    Some(after) => rest = after,
                    None => break,
                }
                field.push('"');
            }
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(format!("a quoted field goes on behind its quote in {text:?}"));
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
            if field.contains('"') {
                return Err(format!("a field that is not quoted has a quote in {text:?}"));
            }
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mount, String> {
        Mount::parse(text, &mut |value| Ok(value.replace("$X", "x")))
    }

    #[test]
    fn mounts_are_read() {
        let mount =
            |kind, target: &str, read_only| Mount { kind, target: target.into(), read_only, ..Mount::default() };
        for (text, expected) in [
            ("target=/a", mount(MountKind::Bind, "/a", true)),
            ("source=x", Mount { source: "x".into(), ..mount(MountKind::Bind, "", true) }),
            ("type=bind,dst=/a,rw", mount(MountKind::Bind, "/a", false)),
            ("TYPE=Cache,target=/$X", mount(MountKind::Cache, "/x", false)),
            ("type=cache,target=/a,readonly", mount(MountKind::Cache, "/a", true)),
            ("type=tmpfs,\"target=/a,b\",size=1m", Mount { size: 1 << 20, ..mount(MountKind::Tmpfs, "/a,b", false) }),
            (
                "type=cache,target=/a,id=i,sharing=locked,from=base,source=/s,mode=0700,uid=1,gid=2",
                Mount {
                    id: "i".into(),
                    sharing: Sharing::Locked,
                    from: "base".into(),
                    source: "/s".into(),
                    mode: Some(0o700),
                    uid: Some(1),
                    gid: Some(2),
                    ..mount(MountKind::Cache, "/a", false)
                },
            ),
            (
                "type=secret,id=k,required=true,env=K",
                Mount { id: "k".into(), required: true, env: Some("K".into()), ..mount(MountKind::Secret, "", true) },
            ),
            ("type=ssh,required", Mount { required: true, ..mount(MountKind::Ssh, "", true) }),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_mount_is_said() {
        for (text, message) in [
            ("type=bnd,target=/a", "unsupported mount type \"bnd\" (did you mean bind?)"),
            ("targt=/a", "unexpected key 'targt' in 'targt=/a' (did you mean target?)"),
            ("type=secret", "invalid secret mount. one of source, target required"),
            ("type=secret,id=a,source=b", "both source and id can't be set"),
            ("type=ssh,source=a", "ssh does not support source"),
            ("type=bind,target=/a,uid=1", "uid not allowed for \"bind\" type mounts"),
            ("type=bind,target=/a,size=1", "unexpected key 'size' for mount type 'bind'"),
            ("type=bind,target=/a,sharing=shared", "invalid cache sharing set for bind mount"),
            ("type=cache,target=/a,sharing=x", "unsupported sharing value \"x\""),
            ("type=cache,target=/a,mode=9", "invalid value 9 for mode"),
            ("type=cache,target=/a,ro=x", "invalid value for ro: x"),
            ("target=/a,required", "unexpected key 'required' for mount type 'bind'"),
            ("target=/a,x", "invalid field 'x' must be a key=value pair"),
            ("\"target=/a", "a quote is not closed in \"\\\"target=/a\""),
        ] {
            assert_eq!(parse(text), Err(message.to_owned()), "{text}");
        }
        assert_eq!(Mount::from_of("type=bind,from=x,target=/a"), Ok("x".to_owned()));
        assert!(Mount::from_of("from=$X").is_err() && Mount::from_of("from=a$").is_ok());
    }
}
