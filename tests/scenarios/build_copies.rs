//! `dhow build`: files of the context in the image, and contexts that mean harm.

use super::builds::{build, folder, id, made, says};
use crate::fixture::{Host, Tar};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

#[test]
fn what_is_copied_and_how() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nWORKDIR /w\n\
                COPY --chown=user:extra --chmod=640 a.txt /owned/\n\
                COPY --chmod=u+x,go= a.txt x\n\
                COPY *.txt all/\n\
                COPY --exclude=*.o --exclude=deep sub /sub\n\
                COPY --parents sub/deep/./er/*.txt sub/./deep/*.o /par/\n\
                COPY [\"with space\", \"/with space\"]\n\
                COPY --link a.txt /linked/\n\
                COPY <<one <<\"two\" /docs/\nfirst $PATH\none\nsecond $PATH\ntwo\n\
                RUN ln -s /tmp /way\nCOPY a.txt /way/\nCOPY sub/deep /way/\n";
    let files = [
        ("Dockerfile", text),
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("sub/x.o", ""),
        ("sub/y.c", "y"),
        ("sub/deep/z.o", "z"),
        ("sub/deep/er/q.txt", "q"),
        ("with space", "ws"),
    ];
    made(&host, &files, &[]);
    let line = "stat -c '%a %u:%g' /owned/a.txt /owned /w/x; ls /w/all /sub; find /par -type f; cat '/with space' /linked/a.txt; \
                head -c 6 /docs/one; cat /docs/two; cat /tmp/a.txt /tmp/er/q.txt; test -L /way && echo; readlink /way";
    let expected = "640 1000:2000\n640 1000:2000\n700 0:0\n/sub:\ny.c\n\n/w/all:\na.txt\nb.txt\n/par/deep/z.o\n/par/er/q.txt\n\
                    wsafirst second $PATH\naq\n/tmp";
    let said = says(&host, line);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&said), sorted(expected), "{said}");
}

#[test]
fn places_are_found_as_buildkit_finds_them() {
    let Some(host) = Host::with_busybox() else { return };
    // What is not a directory is written anew by each file; nothing may be named by a pattern; a link is followed, also to
    // nothing; every archive that a pattern names is unpacked; a path with its parents is below a directory, and a link there
    // is copied as one; octal digits are for what is made on the way, too, but not for what an archive is unpacked in; a
    // document's name leads nowhere else, and needs no directory.
    let text = "FROM busybox\nRUN ln -s nowhere /file && ln -s /tmp/no/where /dir\n\
                COPY a.t b.t /plain\nCOPY *.t /wild\nCOPY one two /dirs\nCOPY none* /none/\n\
                COPY a.t /file\nCOPY b.t /dir/\nADD *.tar /tars\nCOPY --parents a.t /par\n\
                COPY --exclude=$ign a.t /kept/\nCOPY --parents one/./ln one/./no* /linked/\nCOPY --parents no* /made/\n\
                COPY --chmod=710 a.t /moded/in/\nCOPY --chmod=u=rwx,go= b.t /changed/\nADD --chmod=710 x.tar /loose/\n\
                COPY <<../above /docs/\nd\n../above\nCOPY --parents <<doc /doc\nd\ndoc\n";
    let files = [("Dockerfile", text), ("a.t", "a"), ("b.t", "b"), ("one/1", "1"), ("two/2", "2")];
    let dir = folder(&host, "context", &files);
    for name in ["x", "y"] {
        let tar = Tar::new().file(name, 0o644, name).end();
        fs::write(dir.join(format!("{name}.tar")), tar).expect("write");
    }
    symlink("1", dir.join("one/ln")).expect("make a link");
    made(&host, &[], &[]);
    let line = "cat /plain /wild /dirs/1 /dirs/2 /nowhere /tmp/no/where/b.t /tars/x /tars/y /par/a.t /kept/a.t; \
                test -e /none || readlink /file; readlink /linked/ln";
    assert_eq!(says(&host, line), "bb12abxyaanowhere\n1");
    let line = "stat -c '%n %a' /made /moded /moded/in /changed /changed/b.t /loose /docs/above /doc";
    let expected =
        "/made 755\n/moded 710\n/moded/in 710\n/changed 755\n/changed/b.t 700\n/loose 755\n/docs/above 644\n/doc 644";
    assert_eq!(says(&host, line), expected);
    let told = host.ok(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "made"]);
    assert!(told.contains("COPY a.t b.t /plain") && told.contains("COPY --parents a.t /par"), "{told}");
}

#[test]
fn owners_stay_with_what_a_stage_made() {
    let Some(host) = Host::with_busybox() else { return };
    let text = |owner: &str| {
        format!(
            "FROM busybox AS stage\nRUN mkdir -p /srv/a && echo x > /srv/a/f && ln -s f /srv/a/l && mkfifo /srv/a/p && \
             chown -hR {owner} /srv && chown 5:6 /srv\n\
             FROM busybox\nCOPY --from=stage /srv /new\nCOPY --from=stage /srv/a/f /way/f\n\
             COPY --from=stage --chown=9:10 /srv/a /given/\n\
             RUN --mount=from=stage,source=/srv,target=/m stat -c '%u:%g' /m /m/a /m/a/f > /said\n\
             RUN --mount=type=cache,from=stage,source=/srv,target=/c stat -c '%u:%g' /c/a >> /said\n"
        )
    };
    let files = |text: &str| made(&host, &[("Dockerfile", text), ("mine", "")], &[]);
    files(&text("1000:2000"));
    let line =
        "stat -c '%n %u:%g' /new /new/a /new/a/f /new/a/l /new/a/p /way /way/f /given /given/f /given/l; cat /said";
    let expected = "/new 0:0\n/new/a 1000:2000\n/new/a/f 1000:2000\n/new/a/l 1000:2000\n/new/a/p 1000:2000\n\
                    /way 0:0\n/way/f 1000:2000\n/given 9:10\n/given/f 9:10\n/given/l 9:10\n5:6\n1000:2000\n1000:2000\n1000:2000";
    assert_eq!(says(&host, line), expected);
    // Another owner is another file.
    files(&text("1000:3000"));
    assert_eq!(
        says(&host, "stat -c %u:%g /new/a/f /way/f; head -n 3 /said"),
        "1000:3000\n1000:3000\n5:6\n1000:3000\n1000:3000"
    );
    // Those of a context are nobody's but root's.
    let mine = host.dir().join("context/mine");
    std::os::unix::fs::chown(&mine, Some(1000), Some(1000)).expect("chown");
    files("FROM busybox\nCOPY mine /\nRUN --mount=target=/m stat -c %u:%g /mine /m/mine > /said\n");
    assert_eq!(says(&host, "cat /said"), "0:0\n0:0");
}

#[test]
fn many_files_are_copied_as_they_are() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nCOPY base /d\nCOPY many /many\nCOPY one two /d/\n\
                COPY one/real/* two/real/* /last/\n";
    let dir = folder(
        &host,
        "context",
        &[
            ("Dockerfile", text),
            ("one/link/f", "1"),
            ("two/real/f", "2"),
            ("one/real/f", "1"),
            ("two/real/g", "3"),
            ("base/real/h", "4"),
        ],
    );
    symlink("real", dir.join("base/link")).expect("make a link");
    for n in 0..150 {
        let inner = dir.join(format!("many/{n}"));
        fs::create_dir_all(&inner).expect("make a directory");
        for m in 0..30 {
            fs::write(inner.join(m.to_string()), format!("{n} {m}")).expect("write");
        }
        symlink("0", inner.join("link")).expect("make a link");
        fs::hard_link(inner.join("1"), inner.join("twin")).expect("make a link");
    }
    fs::write(dir.join("many/large"), vec![b'x'; 300_000]).expect("write");
    made(&host, &[], &[]);
    // What is named last is what is there, also where two names lead to one place.
    assert_eq!(says(&host, "cat /d/real/f /d/real/g /last/f /last/g; ls /d"), "2323link\nreal");
    let listed = "cd many && find . ! -type d | sort | while read f; do echo $f; cat $f; done | sha256sum; find . | wc -l; \
                  find . -links 2 -type f | wc -l; find . -type l | wc -l";
    let inside = says(&host, &listed.replace("cd many", "cd /many"));
    let outside = crate::fixture::tool("sh", ["-c", &format!("cd {} && {listed}", dir.display())]);
    assert_eq!(inside.trim(), outside.trim());
    // Read once or twice, it is the same; and what was read on the way is known.
    let first = id(&host, "made");
    let again = made(&host, &[], &["--no-cache"]);
    assert!(!again.contains("CACHED"), "{again}");
    assert_eq!(id(&host, "made"), first);
    let third = made(&host, &[], &[]);
    assert_eq!(third.matches("CACHED").count(), 4, "{third}");
    assert_eq!(id(&host, "made"), first);
    fs::write(dir.join("many/7/7"), "another").expect("write");
    let fourth = made(&host, &[], &[]);
    assert_eq!(fourth.matches("CACHED").count(), 1, "{fourth}");
    assert_eq!(says(&host, "cat /many/7/7"), "another");
    host.assert_tidy();
}

/// As with BuildKit.
#[test]
fn a_socket_of_the_context_is_an_empty_file() {
    let Some(host) = Host::with_busybox() else { return };
    let text =
        "FROM busybox\nCOPY d /d\nCOPY d/sock /way/one\nRUN --mount=target=/m stat -c '%F %a' /m/d/sock > /said\n";
    let dir = folder(&host, "context", &[("Dockerfile", text), ("d/file", "x")]);
    let path = dir.join("d/sock");
    let _socket = std::os::unix::net::UnixListener::bind(&path).expect("make a socket");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).expect("chmod");
    build(&host, &dir, &["-t", "made"]).ok();
    let said = says(&host, "stat -c '%F %a %u' /d/sock /way/one; cat /said");
    assert_eq!(said, "regular empty file 640 0\nregular empty file 640 0\nregular empty file 640");
}

#[test]
fn what_is_ignored_is_not_there() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nCOPY . /c\n";
    let files = [
        ("Dockerfile", text),
        (".dockerignore", "# all but\n*\n!keep\nkeep/*.o\n"),
        ("secret", "s"),
        ("keep/a", "a"),
        ("keep/b.o", "b"),
        ("other/c", "c"),
    ];
    made(&host, &files, &[]);
    assert_eq!(says(&host, "cd /c; find . | sort"), ".\n./keep\n./keep/a");
    host.file("context/Other", text);
    host.file("context/Other.dockerignore", "keep\n*file\n.dockerignore\nOther*\n");
    let file = host.dir().join("context/Other");
    made(&host, &files, &["-f", file.to_str().expect("UTF-8")]);
    assert_eq!(says(&host, "cd /c; find . -type f | sort"), "./other/c\n./secret");
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox\nCOPY secret /\n")]);
    let output = build(&host, &dir, &[]);
    assert!(output.stderr().contains("/secret: not found in the build context"), "{output}");
}

#[test]
fn contexts_come_from_standard_input() {
    let Some(host) = Host::with_busybox() else { return };
    let fixed = ["build", "--network", "none", "-t", "made"];
    let with = |more: &[&str]| fixed.iter().chain(more).map(|word| word.to_string()).collect::<Vec<_>>();
    host.dhow(with(&["-"])).input("FROM busybox\nRUN echo alone > /said\n").ok();
    assert_eq!(says(&host, "cat /said"), "alone");
    let tar = Tar::new().file("d/Dockerfile", 0o644, "FROM busybox\nCOPY x /x\n").file("x", 0o640, "packed").end();
    for packing in [crate::fixture::Packing::Plain, crate::fixture::Packing::Gzip, crate::fixture::Packing::Zstd] {
        host.dhow(with(&["-f", "d/Dockerfile", "-"])).input(packing.pack(&tar)).ok();
        assert_eq!(says(&host, "cat /x; stat -c %a /x"), "packed640");
    }
    for program in ["bzip2", "xz"] {
        let packed = crate::fixture::Command::new(program, ["-c"]).input(tar.clone()).run().out;
        host.dhow(with(&["--no-cache", "-f", "d/Dockerfile", "-"])).input(packed).ok();
        assert_eq!(says(&host, "cat /x; stat -c %a /x"), "packed640");
    }
    let dir = folder(&host, "context", &[("y", "why")]);
    host.dhow(with(&["-f", "-", dir.to_str().expect("UTF-8")])).input("FROM busybox\nCOPY y /y\n").ok();
    assert_eq!(says(&host, "cat /y"), "why");
    let output = host.dhow(with(&["-"])).input(Tar::new().file("x", 0o644, "").end()).run();
    assert!(output.stderr().contains("Cannot locate specified Dockerfile: Dockerfile"), "{output}");
}

#[test]
fn a_hostile_context_leads_nowhere() {
    let Some(host) = Host::with_busybox() else { return };
    let outside = host.file("outside/secret", "theirs");
    for source in ["link", "dir/secret", "../outside/secret", "dir", "abs"] {
        let text = format!("FROM busybox\nCOPY {source} /stolen\n");
        let dir = folder(&host, "context", &[("Dockerfile", &text)]);
        for (name, target) in
            [("link", "../outside/secret"), ("dir", "../outside"), ("abs", outside.to_str().expect("UTF-8"))]
        {
            let _ = symlink(target, dir.join(name));
        }
        let output = build(&host, &dir, &["-t", "made"]);
        assert!(output.stderr().contains("not found in the build context"), "{source}: {output}");
    }
    // A link that is copied stays a link; one of the image leads where it leads inside, also where nothing is.
    let text = "FROM busybox\nRUN ln -s /etc /in && ln -s /nowhere/x /out\nCOPY Dockerfile /in/d\nCOPY Dockerfile /out\nCOPY . /all/\n";
    made(&host, &[("Dockerfile", text)], &[]);
    assert_eq!(
        says(&host, "ls /etc/d; readlink /all/link; readlink /out; test -f /nowhere/x && echo file"),
        "/etc/d\n../outside/secret\n/nowhere/x\nfile"
    );
    let up = Tar::new().file("Dockerfile", 0o644, "FROM busybox\n").file("../../escaped", 0o644, "x").end();
    let way = Tar::new()
        .file("Dockerfile", 0o644, "FROM busybox\n")
        .symlink("way", host.dir().join("outside").to_str().expect("UTF-8"))
        .file("way/planted", 0o644, "x")
        .end();
    for tar in [up, way] {
        let output = host.dhow(["build", "-"]).input(tar).run();
        assert_eq!(output.code(), Some(1), "{output}");
    }
    let beside: Vec<_> = fs::read_dir(host.dir().join("outside")).expect("list").flatten().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    host.assert_tidy();
}

#[test]
fn add_unpacks_and_downloads() {
    let Some(host) = Host::with_busybox() else { return };
    let tar = Tar::new().owner(7, 8).dir("d", 0o750).file("d/f", 0o600, "inside").symlink("l", "d/f").end();
    let dir = folder(&host, "context", &[("plain.gz", "no archive")]);
    for (name, packing) in [("a.tar", crate::fixture::Packing::Plain), ("a.tgz", crate::fixture::Packing::Gzip)] {
        fs::write(dir.join(name), packing.pack(&tar)).expect("write");
    }
    for program in ["bzip2", "xz"] {
        let packed = crate::fixture::Command::new(program, ["-c"]).input(tar.clone()).run().out;
        fs::write(dir.join(format!("a.tar.{program}")), packed).expect("write");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let url = format!("http://{}/p/file.txt?x=1", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nfetched");
        }
    });
    let text = format!(
        "FROM busybox\nADD a.tar /one/\nADD --chown=1000:1000 a.tgz /two\nADD --unpack=false a.tar /three/\n\
         ADD plain.gz /\nADD {url} /four/\nCOPY a.tar /five/\nADD a.tar.bzip2 /six\nADD a.tar.xz /seven\n\
         ADD --unpack=true {url} /eight/\nRUN cmp /four/file.txt /eight/file.txt\n"
    );
    made(&host, &[("Dockerfile", &text)], &[]);
    let line = "stat -c '%u:%g %a' /one/d/f /two/d/f /four/file.txt /six/d/f /seven/d/f; cat /one/l /four/file.txt /plain.gz; ls /three /five";
    assert_eq!(
        says(&host, line),
        "7:8 600\n1000:1000 600\n0:0 600\n7:8 600\n7:8 600\ninsidefetchedno archive/five:\na.tar\n\n/three:\na.tar"
    );
    let sum = crate::fixture::digest(b"fetched");
    let text = format!("FROM busybox\nADD --checksum={sum} {url} /\n");
    made(&host, &[("Dockerfile", &text)], &[]);
    let wrong = crate::fixture::digest(b"other");
    let dir = folder(&host, "context", &[("Dockerfile", &format!("FROM busybox\nADD --checksum={wrong} {url} /\n"))]);
    let output = build(&host, &dir, &[]);
    assert!(output.stderr().contains("digest mismatch"), "{output}");
}

/// Elsewhere such a file would be the removal of another one.
#[test]
fn no_layer_has_names_that_stand_for_removals() {
    let Some(host) = Host::with_busybox() else { return };
    let files = [(".wh.passwd", "x"), ("Dockerfile", "")];
    let dir = folder(&host, "context", &files);
    fs::write(dir.join("a.tar"), Tar::new().file("etc/.wh.passwd", 0o644, "x").end()).expect("write a tar");
    for line in ["COPY .wh.passwd /etc/", "RUN touch /etc/.wh.passwd", "RUN mkdir /etc/.wh.passwd", "ADD a.tar /"] {
        fs::write(dir.join("Dockerfile"), format!("FROM busybox\n{line}\n")).expect("write");
        let output = build(&host, &dir, &["-t", "made"]);
        assert_eq!(output.code(), Some(1), "{line}: {output}");
        assert!(output.stderr().contains("etc/.wh.passwd cannot be in a layer"), "{line}: {output}");
    }
    // Gone before the end of the step it does no harm.
    fs::write(dir.join("Dockerfile"), "FROM busybox\nRUN touch /.wh.x && rm /.wh.x\n").expect("write");
    build(&host, &dir, &["-t", "made"]).ok();
    host.assert_tidy();
}

#[test]
fn what_is_linked_is_the_same_on_every_base() {
    let Some(host) = Host::with_busybox() else { return };
    let text = |first: &str| format!("FROM busybox\nRUN {first}\nCOPY --link file /deep/down/file\n");
    let layer = |first: &str| {
        let dir = folder(&host, "context", &[("Dockerfile", &text(first)), ("file", "x")]);
        // The time of a file is in its layer, though in no key.
        let file = fs::File::options().write(true).open(dir.join("file")).expect("open");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_900_000_000)).expect("set a time");
        build(&host, &dir, &["-t", "made"]).ok();
        let layers = host.inspect("made", "/RootFS/Layers");
        layers.as_array().and_then(|all| all.last()).cloned().expect("a layer")
    };
    let first = layer("touch -d @2000000000 /one");
    assert_eq!(layer("touch -d @2100000000 /two"), first);
    assert_eq!(says(&host, "cat /deep/down/file; ls /two"), "x/two");
}

#[test]
fn what_is_linked_is_made_once() {
    let Some(host) = Host::with_busybox() else { return };
    let text = |base: &str, first: &str, link: &str| {
        format!("FROM {base}\nRUN {first}\nCOPY {link} file data /deep/down/\nRUN cat /deep/down/file > /said\n")
    };
    // The layer that the copy made, and whether it came out of the cache.
    let copied = |text: &str, time: u64, more: &[&str]| {
        let files = [("Dockerfile", text), ("file", "x"), ("data/sub/one", "1"), ("data/sub/two", "2")];
        let dir = folder(&host, "context", &files);
        // In no key, but in a layer that is made.
        let file = fs::File::options().write(true).open(dir.join("file")).expect("open");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(time)).expect("set a time");
        let progress = [&["--progress", "plain", "-t", "made"], more].concat();
        let output = build(&host, &dir, &progress);
        output.ok();
        let told = output.stderr();
        let layers = host.inspect("made", "/RootFS/Layers").as_array().expect("layers").clone();
        let number = told.lines().find(|line| line.contains("] COPY ")).expect("a step")[1..].split(' ').next();
        let cached = told.contains(&format!("#{} CACHED", number.expect("a number")));
        (layers[layers.len() - 2].clone(), cached)
    };
    let (one, other) = ("echo 1 > /first", "echo 2 > /first");
    let (first, cached) = copied(&text("busybox", one, "--link"), 1_500_000_000, &[]);
    assert!(!cached);
    // Another step before it, another base, and both again.
    let base = folder(&host, "base", &[("Dockerfile", "FROM busybox\nRUN echo > /base\n")]);
    build(&host, &base, &["-t", "other"]).ok();
    for (base, step) in [("busybox", other), ("other", one), ("other", other), ("busybox", one)] {
        let again = copied(&text(base, step, "--link"), 1_600_000_000, &[]);
        assert_eq!(again, (first.clone(), true), "{base}, {step}");
        assert_eq!(
            says(&host, "cat /said /deep/down/sub/two; stat -c %Y /deep/down/file; ls /deep/down"),
            "x21500000000\nfile\nsub"
        );
    }
    // It gives its exact tar there, too.
    host.ok(["save", "-o", &host.dir().join("saved.tar").display().to_string(), "made"]);
    // What depends on the base does not go with it: a name is another number there.
    let named = |owner: &str| format!("FROM busybox\nRUN sed -i s/^user:x:1000/user:x:{owner}/ /etc/passwd\n");
    let linked = "COPY --link --chown=user file /owned/\nRUN stat -c %u /owned/file > /said\n";
    for (owner, hit) in [("1000", false), ("1001", false), ("1000", true)] {
        let (_, cached) = copied(&format!("{}{linked}", named(owner)), 1_700_000_000, &[]);
        assert_eq!((says(&host, "cat /said").as_str(), cached), (owner, hit));
    }
    let (_, cached) = copied(&format!("FROM other\nRUN echo\n{linked}"), 1_700_000_000, &[]);
    assert!(cached, "the same number by another way");
    // Nor what is copied, nor to where, nor with which times; and no cache is none.
    let (_, cached) = copied(&text("other", one, "--link --chmod=600"), 1_700_000_000, &[]);
    assert!(!cached);
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=0"];
    let (old, cached) = copied(&text("other", one, "--link"), 1_700_000_000, &epoch);
    assert!(!cached && old != first);
    let (anew, cached) = copied(&text("other", one, "--link"), 1_700_000_000, &["--no-cache"]);
    assert!(!cached && anew != first);
    // Without the image that it was made for, it is still one.
    let (last, _) = copied(&text("busybox", "echo 3", "--link"), 1_800_000_000, &[]);
    assert_eq!(last, anew);
    host.ok(["rmi", "-f", "made"]);
    let (again, cached) = copied(&text("busybox", "echo 4", "--link"), 1_800_000_000, &[]);
    assert_eq!((again, cached), (anew, true));
    assert_eq!(says(&host, "cat /said /deep/down/sub/one; stat -c %Y /deep/down/file"), "x11700000000");
}
