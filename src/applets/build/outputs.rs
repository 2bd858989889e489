//! `--output`: where what was built goes. Nothing is written before the build has ended well, and a file is there whole or
//! not at all.

use super::super::output;
use super::super::save::Whole;
use crate::api::base64;
use crate::api::units::parse_bool;
use crate::build::dockerfile::mount::fields;
use crate::fs::extract::{self, Owner, Target};
use crate::fs::{merge, path, remove, stream};
use crate::oci::Reference;
use crate::order::Map;
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::io::{BufReader, IsTerminal, PipeWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// One `--output`.
#[derive(Debug, PartialEq)]
pub struct Wanted {
    kind: String,
    name: Option<String>,
    dest: Dest,
    /// Of an image that is pushed: how its layers are compressed, as `push --compression-format` has it.
    push: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Dest {
    /// The store of who builds.
    Store,
    Stdout,
    File(PathBuf),
    Folder(PathBuf),
}

impl Wanted {
    fn new(kind: &str, dest: Dest) -> Wanted {
        Wanted { kind: kind.to_owned(), name: None, dest, push: None }
    }

    /// Reads one as buildx does: a folder, `-` for a tar on stdout, or `type=…` with more fields.
    pub fn parse(text: &str) -> Result<Wanted> {
        let bad = |why: &str| anyhow!("invalid argument {text:?} for --output: {why}");
        let fields = fields(text).map_err(|error| bad(&error))?;
        if let [one] = &fields[..]
            && one == text
            && !text.starts_with("type=")
        {
            return match text {
                "" => Err(bad("it is empty")),
                "-" => Ok(Wanted::new("tar", Dest::Stdout)),
                dir => Ok(Wanted::new("local", Dest::Folder(PathBuf::from(dir)))),
            };
        }
        let (mut kind, mut name, mut dest, mut tar) = (String::new(), None, None, true);
        let (mut push, mut compression) = (None, None);
        for field in &fields {
            let pair = field.split_once('=').map(|(key, value)| (key.trim().to_ascii_lowercase(), value));
            match pair.as_ref().map(|(key, value)| (key.as_str(), *value)) {
                Some(("type", value)) => kind = value.to_owned(),
                Some(("dest", value)) => dest = Some(value.to_owned()).filter(|dest| !dest.is_empty()),
                Some(("name", value)) => name = Some(value.to_owned()),
                Some(("tar", value)) => tar = !matches!(value, "false" | "0"),
                Some(("push", value)) => {
                    push =
                        Some(parse_bool(value).ok_or_else(|| bad(&format!("push={value} is neither true nor false")))?)
                }
                Some(("compression", value @ ("gzip" | "zstd"))) => compression = Some(value.to_owned()),
                _ => return Err(bad(&format!("{field} is not supported"))),
            }
        }
        let named = |dest: Option<String>| match dest.as_deref() {
            None | Some("-") => Dest::Stdout,
            Some(path) => Dest::File(PathBuf::from(path)),
        };
        let dest = match (kind.as_str(), dest) {
            ("", _) => return Err(bad("type is required for output")),
            ("image" | "registry" | "cacheonly", Some(_)) => return Err(bad(&format!("{kind} goes nowhere else"))),
            ("image" | "cacheonly", None) => Dest::Store,
            ("registry", None) => {
                kind = "image".to_owned();
                push.get_or_insert(true);
                Dest::Store
            }
            ("docker", None) if push.is_none() => {
                kind = "image".to_owned();
                Dest::Store
            }
            ("local", None) | ("oci", None) if kind == "local" || !tar => {
                return Err(bad(&format!("dest is required for {kind} exporter")));
            }
            ("local", Some(dir)) => Dest::Folder(PathBuf::from(dir)),
            ("oci", Some(dir)) if !tar => Dest::Folder(PathBuf::from(dir)),
            ("tar" | "oci" | "docker", dest) => named(dest),
            (other, _) => return Err(bad(&format!("output of type {other} is not supported"))),
        };
        if name.is_some() && !matches!(kind.as_str(), "image" | "oci" | "docker") {
            return Err(bad(&format!("{kind} has no name")));
        }
        if push.is_some() && kind != "image" {
            return Err(bad(&format!("{kind} is not pushed")));
        }
        let push = push.unwrap_or_default();
        if !push && let Some(compression) = compression {
            return Err(bad(&format!("compression={compression} is for what is pushed")));
        }
        Ok(Wanted { kind, name, dest, push: push.then(|| compression.unwrap_or_default()) })
    }

    /// Whether an image comes of it, which has an id.
    pub fn has_id(&self) -> bool {
        matches!(self.kind.as_str(), "image" | "oci" | "docker")
    }

    /// Whether there is nothing to write down here.
    fn is_elsewhere(&self) -> bool {
        self.dest == Dest::Store
    }

    fn check(&self) -> Result<()> {
        match &self.dest {
            Dest::Stdout if std::io::stdout().is_terminal() => {
                bail!("dest file is required for {} exporter. refusing to write to console", self.kind)
            }
            Dest::File(path) if path.is_dir() => bail!("destination file {path:?} is a directory"),
            Dest::Folder(path) if path.exists() && !path.is_dir() => {
                bail!("destination directory must be a directory: {path:?}")
            }
            _ => Ok(()),
        }
    }
}

/// All of them, checked before anything is built.
pub struct Outputs {
    all: Vec<Wanted>,
    open: Vec<Open>,
    /// Of the manifest in the last archive that came whole.
    pub digest: Option<String>,
}

/// One that is being written.
enum Open {
    Not,
    Done,
    Stdout,
    File(Whole),
    Folder(Folder),
}

impl Outputs {
    /// `push`: images are pushed, or the image where there is none among the outputs.
    pub fn read(texts: &[String], push: bool) -> Result<Outputs> {
        let mut all = texts.iter().map(|text| Wanted::parse(text)).collect::<Result<Vec<_>>>()?;
        if push {
            if all.iter().all(|wanted| wanted.kind != "image") {
                all.push(Wanted::new("image", Dest::Store));
            }
            for image in all.iter_mut().filter(|wanted| wanted.kind == "image") {
                image.push.get_or_insert_default();
            }
        }
        all.iter().try_for_each(Wanted::check)?;
        if all.iter().filter(|wanted| wanted.dest == Dest::Stdout).count() > 1 {
            bail!("only one output can go to stdout");
        }
        let open = all.iter().map(|_| Open::Not).collect();
        Ok(Outputs { all, open, digest: None })
    }

    /// What the query says of them.
    pub fn query(&self) -> Option<String> {
        let one = |wanted: &Wanted| {
            let attrs = wanted.name.iter().map(|name| ("name".to_owned(), json!(name)));
            json!({"Type": wanted.kind, "Attrs": Map::from_iter(attrs)})
        };
        (!self.all.is_empty()).then(|| Value::from(self.all.iter().map(one).collect::<Vec<_>>()).to_string())
    }

    /// Whether the build ends with the id of an image.
    pub fn have_id(&self) -> bool {
        self.all.is_empty() || self.all.iter().any(Wanted::has_id)
    }

    /// The names that the last image has of its output.
    pub fn names(&self) -> Option<String> {
        self.all.iter().rev().find(|wanted| wanted.has_id())?.name.clone()
    }

    /// The names that are pushed, and how their layers are compressed; `tags` are those of the build.
    pub fn pushed(&self, tags: &[String]) -> Result<Vec<(Reference, String)>> {
        let mut pushed = Vec::new();
        for (wanted, compression) in self.all.iter().filter_map(|wanted| Some((wanted, wanted.push.as_ref()?))) {
            let own: Vec<&str> = wanted.name.iter().flat_map(|names| names.split(',')).collect();
            let names = if own.is_empty() { tags.iter().map(String::as_str).collect() } else { own };
            let before = pushed.len();
            for name in names.into_iter().filter(|name| !name.is_empty()) {
                let name = Reference::parse(name)?.or_latest();
                if name.digest.is_some() {
                    bail!("cannot push a digest reference");
                }
                pushed.push((name, compression.clone()));
            }
            if pushed.len() == before {
                bail!("tag is needed when pushing to registry");
            }
        }
        Ok(pushed)
    }

    pub fn use_stdout(&self) -> bool {
        self.all.iter().any(|wanted| wanted.dest == Dest::Stdout)
    }

    /// Takes a piece of an output. Whether it was one.
    pub fn take(&mut self, aux: &Value) -> Result<bool> {
        let Some(at) = aux.get("output").and_then(Value::as_u64) else { return Ok(false) };
        let wanted = usize::try_from(at).ok().and_then(|at| Some((self.all.get(at)?, self.open.get_mut(at)?)));
        let (wanted, open) =
            wanted.filter(|(wanted, _)| !wanted.is_elsewhere()).context("nobody asked for this output")?;
        if matches!(open, Open::Not) {
            *open = match &wanted.dest {
                Dest::Store | Dest::Stdout => Open::Stdout,
                Dest::File(path) => Open::File(Whole::ordinary(path)?),
                Dest::Folder(path) => Open::Folder(Folder::begin(path)?),
            };
        }
        match aux.get("data").and_then(Value::as_str) {
            Some(text) => {
                let bytes = base64::decode(text).context("read a piece of the output")?;
                match open {
                    Open::Stdout => output::write(&bytes)?,
                    Open::File(file) => file.file.write_all(&bytes).context("write the output")?,
                    Open::Folder(folder) => folder.write(&bytes)?,
                    Open::Not | Open::Done => bail!("an output goes on behind its end"),
                }
            }
            None => {
                match std::mem::replace(open, Open::Done) {
                    Open::File(file) => file.finish()?,
                    Open::Folder(folder) => folder.finish()?,
                    _ => {}
                }
                let digest = aux.get("digest").and_then(Value::as_str);
                self.digest = digest.map(str::to_owned).or_else(|| self.digest.take());
            }
        }
        Ok(true)
    }

    /// The build has ended: all must be there.
    pub fn finish(&self) -> Result<()> {
        let missing =
            self.all.iter().zip(&self.open).find(|(all, open)| !all.is_elsewhere() && !matches!(open, Open::Done));
        match missing {
            Some((wanted, _)) => bail!("who built it has sent no {}: it does not know --output", wanted.kind),
            None => Ok(()),
        }
    }
}

/// A folder that a tar is unpacked into: first beside what is there, and moved when all of it has come.
struct Folder {
    pipe: Option<PipeWriter>,
    whole: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Folder {
    fn begin(dir: &Path) -> Result<Folder> {
        let (reader, pipe) = std::io::pipe().context("make a pipe")?;
        let whole = Arc::new(AtomicBool::new(false));
        let (dir, came) = (dir.to_owned(), Arc::clone(&whole));
        let thread = std::thread::spawn(move || {
            let made = !dir.exists();
            std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
            let part = dir.join(format!(".output.{}", std::process::id()));
            // What bears that name already is not ours to remove.
            std::fs::create_dir(&part).with_context(|| format!("make {}", part.display()))?;
            let placed = (|| -> Result<()> {
                let root = path::open_root(&part)?;
                let owner = Owner::All(nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
                let target = Target { root: root.as_fd(), dir: b"", owner, replace: true, rename: None, ids: None };
                extract::extract(&mut BufReader::with_capacity(stream::BUFFER, reader), &target)?;
                if !came.load(Ordering::SeqCst) {
                    bail!("the output broke off");
                }
                merge::merge(root.as_fd(), path::open_root(&dir)?.as_fd())
            })();
            let removed = remove::tree(&part);
            if placed.is_err() && made {
                let _ = std::fs::remove_dir(&dir);
            }
            placed.with_context(|| format!("write to {}", dir.display()))?;
            removed
        });
        Ok(Folder { pipe: Some(pipe), whole, thread: Some(thread) })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self.pipe.as_mut().map(|pipe| pipe.write_all(bytes)) {
            // It has ended, and says why when it is asked.
            Some(Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(error).context("unpack the output")
            }
            _ => Ok(()),
        }
    }

    fn finish(mut self) -> Result<()> {
        self.whole.store(true, Ordering::SeqCst);
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.pipe.take());
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|_| Err(anyhow!("the thread that unpacks panicked")))
    }
}

/// What has not come whole leaves nothing.
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_place_of_a_part_stays() {
        let dir = std::env::temp_dir().join(format!("dhow-outputs-{}", std::process::id()));
        let theirs = dir.join(format!(".output.{}", std::process::id()));
        std::fs::create_dir_all(&theirs).unwrap();
        std::fs::write(theirs.join("kept"), "").unwrap();
        let error = Folder::begin(&dir).unwrap().finish().unwrap_err();
        assert!(format!("{error:#}").contains("File exists"), "{error:#}");
        assert!(theirs.join("kept").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn outputs_are_read_as_buildx_reads_them() {
        let dest = |text: &str| {
            let wanted = Wanted::parse(text).unwrap();
            (wanted.kind, wanted.dest)
        };
        let file = |path: &str| Dest::File(PathBuf::from(path));
        let folder = |path: &str| Dest::Folder(PathBuf::from(path));
        for (text, kind, wanted) in [
            ("out", "local", folder("out")),
            ("a=b", "local", folder("a=b")),
            ("-", "tar", Dest::Stdout),
            ("type=local,dest=out", "local", folder("out")),
            ("type=tar,dest=-", "tar", Dest::Stdout),
            ("type=tar", "tar", Dest::Stdout),
            ("type=tar,\"dest=a,b\"", "tar", file("a,b")),
            ("type=tar, Dest=x", "tar", file("x")),
            ("type=oci,dest=x.tar,name=a:1", "oci", file("x.tar")),
            ("type=oci,dest=x,tar=false", "oci", folder("x")),
            ("type=docker,dest=x.tar", "docker", file("x.tar")),
            ("type=docker", "image", Dest::Store),
            ("type=image,name=a,push=false", "image", Dest::Store),
            ("type=image,push=true", "image", Dest::Store),
            ("type=registry,name=a,compression=zstd", "image", Dest::Store),
            ("type=cacheonly", "cacheonly", Dest::Store),
        ] {
            assert_eq!(dest(text), (kind.to_owned(), wanted), "{text}");
        }
        for (text, words) in [
            ("", "it is empty"),
            ("dest=a,name=b", "type is required"),
            ("type=local", "dest is required for local exporter"),
            ("type=oci,tar=false", "dest is required for oci exporter"),
            ("type=registry,dest=a", "registry goes nowhere else"),
            ("type=image,push=x", "push=x is neither true nor false"),
            ("type=docker,push=true", "docker is not pushed"),
            ("type=image,compression=zstd", "is for what is pushed"),
            ("type=registry,compression=estargz", "compression=estargz is not supported"),
            ("type=tar,name=a", "tar has no name"),
            ("type=oci,compression=zstd", "compression=zstd is for what is pushed"),
            ("type=x", "output of type x is not supported"),
        ] {
            let error = format!("{:#}", Wanted::parse(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
    #[test]
    fn names_are_pushed() {
        let pushed = |outputs: &[&str], push: bool, tags: &[&str]| -> Result<Vec<String>> {
            let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
            let pushed = Outputs::read(&own(outputs), push)?.pushed(&own(tags))?;
            Ok(pushed.into_iter().map(|(name, compression)| format!("{} {compression}", name.familiar())).collect())
        };
        assert_eq!(pushed(&[], true, &["a", "h:1/b:2"]).unwrap(), ["a:latest ", "h:1/b:2 "]);
        assert_eq!(pushed(&["type=local,dest=x"], true, &["a"]).unwrap(), ["a:latest "]);
        assert_eq!(pushed(&["type=registry,\"name=b,c:1\""], false, &["a"]).unwrap(), ["b:latest ", "c:1 "]);
        let zstd = "type=image,push=true,compression=zstd";
        assert_eq!(pushed(&[zstd, "type=image,name=b"], true, &["a"]).unwrap(), ["a:latest zstd", "b:latest "]);
        assert_eq!(pushed(&["type=image", "type=registry,push=false"], false, &["a"]).unwrap(), [""; 0]);
        for (outputs, push, tags) in [(&[][..], true, &[][..]), (&["type=registry"], false, &[]), (&[], true, &[""])] {
            let error = pushed(outputs, push, tags).unwrap_err().to_string();
            assert_eq!(error, "tag is needed when pushing to registry");
        }
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert!(pushed(&[], true, &[&digest]).unwrap_err().to_string().contains("digest reference"));
    }
}
