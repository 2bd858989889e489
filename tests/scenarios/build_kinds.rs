//! `dhow build`: Dockerfiles of the kinds that people have, each built by podman too. The files of both images are
//! compared entry by entry, and what their configurations say.

use crate::fixture::{Command, Host, Output, Tar, need, tools_tar};
use serde_json::{Value, json};
use std::path::Path;

/// A Dockerfile with its context.
struct Kind {
    name: &'static str,
    dockerfile: &'static str,
    /// The same in words that podman knows, where it does not know these.
    theirs: Option<&'static str>,
    files: &'static [(&'static str, &'static str)],
}

/// What no image, layer or history may have.
const SECRET: &str = "the tide turns at four";

const KINDS: &[Kind] = &[
    Kind {
        name: "a C program of several files",
        dockerfile: "FROM tools AS build\nWORKDIR /src\nCOPY c/ .\nRUN gcc -O2 -c lib.c main.c && gcc -static -s -o hello lib.o main.o\n\
                     RUN ./hello > said\nFROM scratch\nCOPY --from=build /src/hello /src/said /bin/\nENTRYPOINT [\"/bin/hello\"]\n",
        theirs: None,
        files: &[
            (
                "c/main.c",
                "#include <stdio.h>\nint twice(int);\nint main(void) { printf(\"hello %d\\n\", twice(21)); return 0; }\n",
            ),
            ("c/lib.c", "int twice(int n) { return 2 * n; }\n"),
        ],
    },
    Kind {
        name: "a Rust program with a crate of its own",
        dockerfile: "FROM tools AS build\nARG level=2\nWORKDIR /src\nCOPY rust/ .\n\
                     RUN rustc --edition 2021 -C opt-level=$level --crate-type rlib --crate-name depth depth.rs \\\n\
                     \x20&& rustc --edition 2021 -C opt-level=$level -C strip=symbols --extern depth=libdepth.rlib -o sounding main.rs\n\
                     RUN ./sounding > said\nFROM busybox\nCOPY --from=build /src/sounding /src/said /usr/local/bin/\n\
                     USER 1000:1000\nCMD [\"/usr/local/bin/sounding\"]\n",
        theirs: None,
        files: &[
            ("rust/depth.rs", "pub fn fathoms(metres: f64) -> f64 {\n    metres / 1.8288\n}\n"),
            ("rust/main.rs", "fn main() {\n    println!(\"{:.2} fathoms\", depth::fathoms(10.0));\n}\n"),
        ],
    },
    Kind {
        name: "a Python application of local packages",
        dockerfile: "FROM tools AS build\nENV PYTHONDONTWRITEBYTECODE=1\nCOPY packages/ /packages/\n\
                     RUN pip install --quiet --no-index --no-build-isolation --no-compile --target /app /packages/harbour /packages/ship\n\
                     RUN PYTHONPATH=/app python3 -m ship > /app/said\nFROM busybox\nENV PYTHONPATH=/app\nCOPY --from=build /app /app\n\
                     WORKDIR /app\nLABEL org.example.kind=python\nCMD [\"python3\", \"-m\", \"ship\"]\n",
        theirs: None,
        files: &[
            (
                "packages/harbour/setup.py",
                "from setuptools import setup\nsetup(name='harbour', version='1.2', packages=['harbour'])\n",
            ),
            ("packages/harbour/harbour/__init__.py", "NAME = 'Mombasa'\n"),
            (
                "packages/ship/setup.py",
                "from setuptools import setup\nsetup(name='ship', version='0.1', py_modules=['ship'], install_requires=['harbour>=1'])\n",
            ),
            ("packages/ship/ship.py", "import harbour\nprint('bound for', harbour.NAME)\n"),
        ],
    },
    Kind {
        name: "a Node application of local packages",
        dockerfile: "FROM tools AS build\nWORKDIR /app\nCOPY package.json app.js ./\nCOPY packages/ node_modules/\nENV NODE_ENV=production\n\
                     RUN node app.js > said.json\nFROM busybox\nCOPY --from=build --chown=1000:1000 /app /srv/app\nWORKDIR /srv/app\nENV NODE_ENV=production PORT=3000\n\
                     EXPOSE 3000\nHEALTHCHECK --interval=30s --retries=3 CMD node -e 0\nCMD [\"node\", \"app.js\"]\n",
        theirs: None,
        files: &[
            ("package.json", "{ \"name\": \"app\", \"dependencies\": { \"greeting\": \"file:packages/greeting\" } }\n"),
            (
                "app.js",
                "console.log(JSON.stringify({ said: require('greeting')('sailor'), env: process.env.NODE_ENV }));\n",
            ),
            (
                "packages/greeting/package.json",
                "{ \"name\": \"greeting\", \"version\": \"1.0.0\", \"main\": \"lib/index.js\" }\n",
            ),
            ("packages/greeting/lib/index.js", "module.exports = (who) => `ahoy ${who}`;\n"),
            (".dockerignore", "**/*.log\nnode_modules\n"),
            ("debug.log", "not for the image\n"),
            ("packages/greeting/npm.log", "nor this\n"),
        ],
    },
    Kind {
        name: "on a base with triggers",
        dockerfile: "FROM based\nRUN cat /app/config > /configured\n",
        theirs: None,
        files: &[("app/config", "set by who builds on it\n"), ("app/more/file", "deep\n")],
    },
    Kind {
        name: "scripts in here-documents",
        dockerfile: "# syntax=docker/dockerfile:1\nFROM busybox\nARG who=sailor\nRUN <<EOF\nset -e\nmkdir -p /srv/a\necho \"one $who\" > /srv/a/one\nEOF\n\
                     RUN sh <<'EOF' > /srv/said\necho inside $who\nEOF\n\
                     COPY <<-\"E\" /etc/app.conf\n\t[app]\n\thome = $HOME\nE\nENV X=1\n",
        theirs: Some(
            "FROM busybox\nARG who=sailor\nRUN set -e; mkdir -p /srv/a; echo \"one $who\" > /srv/a/one\n\
             RUN sh -c 'echo inside $who' > /srv/said\nCOPY app.conf /etc/app.conf\nENV X=1\n",
        ),
        files: &[("app.conf", "[app]\nhome = $HOME\n"), (".dockerignore", "Dockerfile\n")],
    },
    Kind {
        name: "a cache that two builds have, the first",
        dockerfile: "FROM busybox\nARG turn=first\nRUN --mount=type=cache,id=kinds,target=/cache echo $turn >> /cache/turns && cp /cache/turns /turns\n",
        theirs: None,
        files: &[],
    },
    Kind {
        name: "a cache that two builds have, the second",
        dockerfile: "FROM busybox\nARG turn=second\nRUN --mount=type=cache,id=kinds,target=/cache echo $turn >> /cache/turns && cp /cache/turns /turns\n",
        theirs: None,
        files: &[],
    },
    Kind {
        name: "a secret for one command",
        dockerfile: "FROM busybox\nRUN --mount=type=secret,id=tide md5sum < /run/secrets/tide > /proof\nRUN test ! -e /run/secrets/tide\n",
        theirs: None,
        files: &[],
    },
    Kind {
        name: "what another stage made, with its owners",
        dockerfile: "FROM busybox AS build\nRUN mkdir -p /srv/a && echo x > /srv/a/f && ln -s f /srv/a/l && chown -hR 1000:2000 /srv && chown 5:6 /srv\n\
                     FROM busybox\nCOPY --from=build /srv /srv\nCOPY --from=build /srv/a/f /deep/way/f\nCOPY --from=build --chown=9:10 /srv/a /given/\n\
                     RUN --mount=type=bind,from=build,source=/srv,target=/m stat -c %u:%g /m /m/a /m/a/f > /said\n",
        theirs: None,
        files: &[],
    },
    Kind {
        name: "copies, links, owners and modes",
        dockerfile: "FROM busybox\nENV A=1 B=\"two words\"\nWORKDIR /work/deep\nCOPY . .\nCOPY --chown=1000:2000 --chmod=640 a /var/owned\n\
                     COPY sub /elsewhere\nADD inside.tar /unpacked/\nCOPY *.txt /texts/\nLABEL x=y \"q r\"='s t'\nEXPOSE 80/tcp 53/udp\nVOLUME /data\n\
                     USER user:extra\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD echo hi\nSTOPSIGNAL SIGINT\nHEALTHCHECK --interval=5s --retries=2 CMD true\n",
        theirs: None,
        files: &[
            ("a", "a"),
            ("b.txt", "b"),
            ("c.txt", "c"),
            ("sub/d", "d"),
            ("sub/e/f", "f"),
            (".dockerignore", "ignored\n"),
            ("ignored/x", ""),
        ],
    },
];

/// A podman with a store of its own, which needs neither cgroups nor a network of its own to build.
struct Podman<'a>(&'a Host);

impl Podman<'_> {
    fn at(&self, name: &str) -> String {
        self.0.dir().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn run(&self, args: &[&str]) -> String {
        let (root, run) = (self.at("podman"), self.at("podman-run"));
        let fixed = ["--root", &root, "--runroot", &run, "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"];
        let once = || {
            let command = Command::new("podman", fixed.iter().chain(args).copied());
            command.env("HOME", &self.at("home")).env("TMPDIR", &self.at("")).run()
        };
        // It seals a copy of itself to execute that, which the kernel does not let it where a page of the copy is held.
        let was_held = |output: &Output| output.stderr().contains("sealing memfd copy: Device or resource busy");
        (0..9).map(|_| once()).find(|output| !was_held(output)).unwrap_or_else(once).ok()
    }

    fn build(&self, name: &str, dir: &Path, file: &Path) {
        let (dir, file) = (dir.to_str().expect("UTF-8"), file.to_str().expect("UTF-8"));
        let secret = format!("id=tide,src={}", self.at("tide"));
        let line =
            ["build", "-q", "--isolation", "chroot", "--network", "host", "--format", "docker", "--secret", &secret];
        self.run(&line.iter().copied().chain(["-f", file, "-t", name, dir]).collect::<Vec<_>>());
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let (root, run) = (self.at("podman"), self.at("podman-run"));
        // What it has mounted there goes first.
        for at in ["overlay", ""] {
            let _ = Command::new("umount", ["--lazy".to_owned(), format!("{root}/{at}")]).run();
        }
        crate::fixture::tool("rm", ["-rf", root.as_str(), run.as_str()]);
    }
}

/// Every entry of a tar but its time: what it is, with a digest of what is in it.
const ENTRIES: &str = "
import hashlib, sys, tarfile
tar, lines = tarfile.open(sys.argv[1]), []
for entry in tar:
    content = hashlib.sha256(tar.extractfile(entry).read()).hexdigest() if entry.isreg() else ''
    what = [entry.name, entry.type.decode(), oct(entry.mode), entry.uid, entry.gid, entry.size, entry.linkname, content]
    lines.append(' '.join(str(word) for word in what))
print('\\n'.join(sorted(lines)))
";

/// Places that engines mount on, which podman leaves in its layers.
const MOUNTED: [&str; 5] = ["etc/hostname", "etc/hosts", "etc/resolv.conf", "run", "run/secrets"];

/// The files of an image.
fn entries(host: &Host, image: &str) -> Vec<String> {
    let id = host.ok(["create", "--network", "none", image, "x"]);
    let tar = host.dir().join("exported.tar");
    let tar = tar.to_str().expect("UTF-8");
    host.ok(["export", "-o", tar, &id]);
    host.ok(["rm", &id]);
    let listed = Command::new("python3", ["-c", ENTRIES, tar]).ok();
    let kept = |line: &&str| !line.split(' ').next().is_some_and(|name| MOUNTED.contains(&name));
    listed.lines().filter(kept).map(str::to_owned).collect()
}

/// What an image says of itself, without what each engine adds of its own.
fn config(host: &Host, image: &str) -> Vec<(&'static str, Value)> {
    let mut config = host.inspect(image, "/Config");
    let env = config["Env"].as_array().into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned));
    let mut env: Vec<String> = env.filter(|it| !it.starts_with("PATH=")).collect();
    env.sort();
    config["Env"] = json!(env);
    if let Some(labels) = config["Labels"].as_object_mut() {
        labels.retain(|name, _| !name.starts_with("io.buildah"));
        if labels.is_empty() {
            config["Labels"] = Value::Null;
        }
    }
    let keys = ["Env", "Labels", "ExposedPorts", "Volumes", "User", "WorkingDir", "Entrypoint", "Cmd", "Healthcheck"];
    let said = |key: &'static str| {
        let value = config[key].clone();
        // What is empty is nothing, and who works nowhere works in the root.
        let empty = value == json!("") || value == json!([]) || value == json!({}) || value == json!("/");
        (key, if empty { Value::Null } else { value })
    };
    keys.into_iter().chain(["StopSignal"]).map(said).collect()
}

#[test]
fn podman_makes_the_same_of_every_kind() {
    let (Some(()), Some(())) = (need("podman"), need("python3")) else { return };
    let Some((host, tools)) = Host::with_busybox().zip(tools_tar()) else { return };
    let podman = Podman(&host);
    let archive = host.file("busybox.tar", host.dhow(["save", "busybox"]).run().out);
    podman.run(&["load", "-q", "-i", archive.to_str().expect("UTF-8")]);
    let tools = tools.to_str().expect("UTF-8");
    host.ok(["import", tools, "tools"]);
    podman.run(&["import", "-q", tools, "tools"]);
    let tide = host.file("tide", SECRET);
    let secret = format!("id=tide,src={}", tide.display());
    let build = |name: &str, dir: &Path, file: &Path| {
        let (dir, file) = (dir.to_str().expect("UTF-8"), file.to_str().expect("UTF-8"));
        host.ok(["build", "-q", "--network", "none", "--secret", &secret, "-f", file, "-t", name, dir]);
    };
    let base = "FROM busybox\nONBUILD COPY app /app\nONBUILD RUN find /app | sort > /found\nONBUILD ENV BUILT=yes\n";
    let base = host.file("base/Dockerfile", base);
    build("based", base.parent().expect("a folder"), &base);
    podman.build("based", base.parent().expect("a folder"), &base);
    let mut wrong = String::new();
    for (at, kind) in KINDS.iter().enumerate() {
        let (dir, ours, theirs) = (format!("kind-{at}"), format!("ours-{at}"), format!("theirs-{at}"));
        let file = host.file(&format!("{dir}/Dockerfile"), kind.dockerfile);
        for (name, text) in kind.files {
            host.file(&format!("{dir}/{name}"), text);
        }
        let dir = host.dir().join(dir);
        if kind.name.starts_with("copies") {
            let tar = Tar::new().owner(7, 8).dir("d", 0o750).file("d/f", 0o4711, "x").symlink("l", "/d/f").end();
            std::fs::write(dir.join("inside.tar"), tar).expect("write a tar");
            std::os::unix::fs::symlink("sub/e", dir.join("way")).expect("link");
        }
        build(&ours, &dir, &file);
        let file = kind.theirs.map_or(file, |text| host.file(&format!("theirs-{at}/Dockerfile"), text));
        podman.build(&theirs, &dir, &file);
        let tar = podman.at("theirs.tar");
        podman.run(&["save", "-q", "--format", "docker-archive", "-o", &tar, &theirs]);
        host.ok(["load", "-q", "-i", &tar]);
        std::fs::remove_file(&tar).expect("remove an archive");
        let theirs = format!("localhost/{theirs}");
        let (ours_has, theirs_has) = (entries(&host, &ours), entries(&host, &theirs));
        let only = |some: &[String], other: &[String]| -> Vec<String> {
            some.iter().filter(|line| !other.contains(line)).take(10).cloned().collect()
        };
        let (more, less) = (only(&ours_has, &theirs_has), only(&theirs_has, &ours_has));
        if !more.is_empty() || !less.is_empty() {
            wrong += &format!("{}: ours {more:#?}, theirs {less:#?}\n", kind.name);
        }
        for (ours, theirs) in
            config(&host, &ours).iter().zip(&config(&host, &theirs)).filter(|(ours, theirs)| ours != theirs)
        {
            wrong += &format!("{}: {}: ours {}, theirs {}\n", kind.name, ours.0, ours.1, theirs.1);
        }
        // What was said to it is in no layer and no history.
        let saved = host.dhow(["save", &ours]).run().out;
        let has = |what: &str| saved.windows(what.len()).any(|bytes| bytes == what.as_bytes());
        if has(SECRET) {
            wrong += &format!("{}: the secret is in the image\n", kind.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
