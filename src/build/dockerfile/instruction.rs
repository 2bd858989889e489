//! What an instruction says, once it is read. Words keep their quotes and variables: they are expanded when their turn
//! comes, with the variables of that moment.

use super::device::Device;
use super::lines::Heredoc;
use super::mount::Mount;
use super::source::Place;
use crate::oci::image::Healthcheck;

/// A word as it is written, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub place: Place,
}

/// One instruction of a file.
#[derive(Clone, Debug)]
pub struct Instruction {
    pub place: Place,
    /// Its last line, with its here-documents.
    pub last: usize,
    /// As it is written; in whatever case.
    pub keyword: String,
    /// The whole line, joined.
    pub text: String,
    /// An empty line stands inside of it.
    pub has_empty: bool,
    /// What stands above it.
    pub comments: Vec<String>,
    pub kind: Kind,
}

impl Instruction {
    /// The stages and images that it takes files from, as far as they can be known before its turn.
    pub fn sources(&self) -> Vec<String> {
        match &self.kind {
            Kind::Copy(transfer) => transfer.from.iter().map(|word| word.text.clone()).collect(),
            Kind::Run(run) => {
                let of = |word: &Word| Mount::from_of(&word.text).ok().filter(|from| !from.is_empty());
                run.mounts.iter().filter_map(of).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Kind {
    Add(Transfer),
    Arg(Vec<Arg>),
    Cmd(Command),
    Copy(Transfer),
    Entrypoint(Command),
    Env(Vec<Pair>),
    Expose(Vec<Word>),
    From(From),
    Healthcheck(Healthcheck),
    Label(Vec<Pair>),
    Maintainer(String),
    /// The instruction that whoever builds on the image begins with.
    OnBuild(String),
    Run(Run),
    Shell(Vec<String>),
    StopSignal(Word),
    User(Word),
    Volume(Vec<Word>),
    Workdir(Word),
}

/// `FROM image AS name`
#[derive(Clone, Debug, Default)]
pub struct From {
    pub image: Word,
    pub platform: Option<Word>,
    /// In lower case.
    pub name: Option<String>,
    /// Everything behind the keyword as written.
    pub words: Vec<String>,
}

/// `ARG name=default`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    pub name: String,
    pub default: Option<Word>,
    pub place: Place,
}

/// `name=value`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub name: Word,
    pub value: Word,
    /// `name value`, as it was written long ago.
    pub old: bool,
}

/// A command: the words of a JSON list as they are, or one line for the shell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    pub words: Vec<String>,
    pub shell: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Run {
    pub command: Command,
    pub heredocs: Vec<Heredoc>,
    /// As written; see [`super::mount::Mount`].
    pub mounts: Vec<Word>,
    pub network: RunNetwork,
    /// `--security=insecure`
    pub insecure: bool,
    pub devices: Vec<Device>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// Whatever the build has.
    #[default]
    Default,
    None,
    Host,
}

/// `COPY` and `ADD`.
#[derive(Clone, Debug, Default)]
pub struct Transfer {
    /// Paths, and for `ADD` URLs.
    pub sources: Vec<Word>,
    /// Files that are written in the Dockerfile itself.
    pub heredocs: Vec<Heredoc>,
    pub destination: Word,
    pub from: Option<Word>,
    pub chown: Option<Word>,
    pub chmod: Option<Word>,
    pub link: bool,
    pub parents: bool,
    pub exclude: Vec<Word>,
    pub checksum: Option<Word>,
    pub unpack: Option<bool>,
    pub keep_git_dir: Option<bool>,
}
