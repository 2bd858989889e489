//! What people write, and what nobody should.

use super::device::Device;
use super::instruction::{Command, RunNetwork, Transfer};
use super::*;

fn parse(text: &str) -> Result<Dockerfile, String> {
    Dockerfile::parse("Dockerfile", text.as_bytes()).map_err(|error| format!("{error:#}"))
}

/// The first instruction of a stage.
fn kind(text: &str) -> Result<Kind, String> {
    let file = parse(&format!("FROM scratch\n{text}"))?;
    Ok(file.stages[0].instructions[0].kind.clone())
}

fn texts(words: &[instruction::Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

#[test]
fn stages_and_global_arguments() {
    let text = "ARG A=1\nARG B\nFROM a:$A AS One\nRUN x\nfrom --platform=linux/$B one As two\nFROM two";
    let file = parse(text).unwrap();
    assert_eq!((file.globals.len(), file.stages.len()), (2, 3));
    let names: Vec<_> = file.stages.iter().map(|stage| stage.from.name.as_deref()).collect();
    assert_eq!(names, [Some("one"), Some("two"), None]);
    assert_eq!(file.stages[0].from.image.text, "a:$A");
    assert_eq!(file.stages[1].from.platform.as_ref().map(|word| word.text.as_str()), Some("linux/$B"));
    for (name, stage) in [("one", Some(0)), ("ONE", Some(0)), ("2", Some(2)), ("3", None), ("three", None)] {
        assert_eq!(file.stage(name), stage, "{name}");
    }
}

#[test]
fn commands_are_json_or_for_the_shell() {
    let of = |text: &str| match kind(text).unwrap() {
        Kind::Cmd(command) | Kind::Entrypoint(command) => (command.words, command.shell),
        Kind::Run(run) => (run.command.words, run.command.shell),
        other => panic!("{other:?}"),
    };
    let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    for (text, expected, shell) in [
        (r#"CMD ["a", "b c"]"#, words(&["a", "b c"]), false),
        (r#"CMD ["a", "b c"] "#, words(&["a", "b c"]), false),
        (r#"CMD ['a', 'b']"#, words(&["['a', 'b']"]), true),
        (r#"CMD ["a", "b"] c"#, words(&[r#"["a", "b"] c"#]), true),
        (r#"CMD ["a" "b"]"#, words(&[r#"["a" "b"]"#]), true),
        ("CMD []", words(&[]), false),
        ("CMD", words(&[]), true),
        ("RUN", words(&[]), true),
        ("ENTRYPOINT a  'b'", words(&["a  'b'"]), true),
        (r#"RUN ["a\u0041"]"#, words(&["aA"]), false),
        ("RUN --network=host -- --x", words(&["--x"]), true),
        ("RUN a \\\n  && b", words(&["a   && b"]), true),
    ] {
        assert_eq!(of(text), (expected, shell), "{text}");
    }
}

#[test]
fn variables_and_labels() {
    let of = |text: &str| match kind(text).unwrap() {
        Kind::Env(pairs) | Kind::Label(pairs) => {
            pairs.into_iter().map(|pair| (pair.name.text, pair.value.text, pair.old)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let pair = |name: &str, value: &str, old| (name.to_owned(), value.to_owned(), old);
    for (text, expected) in [
        ("ENV a=b", vec![pair("a", "b", false)]),
        (
            "ENV a=b c='d e' f=\"g\\\" h\"",
            vec![pair("a", "b", false), pair("c", "'d e'", false), pair("f", "\"g\\\" h\"", false)],
        ),
        ("ENV a b  c=d", vec![pair("a", "b  c=d", true)]),
        ("ENV a=b\\ c d=", vec![pair("a", "b\\ c", false), pair("d", "", false)]),
        ("LABEL \"x y\"=z \\\n  # no\n w=v", vec![pair("\"x y\"", "z", false), pair("w", "v", false)]),
        ("LABEL a=b\\", vec![pair("a", "b", false)]),
    ] {
        assert_eq!(of(text), expected, "{text}");
    }
    let Kind::Arg(args) = kind("ARG a b=c d='e f'").unwrap() else { panic!() };
    let args: Vec<_> =
        args.iter().map(|arg| (arg.name.as_str(), arg.default.as_ref().map(|it| it.text.as_str()))).collect();
    assert_eq!(args, [("a", None), ("b", Some("c")), ("d", Some("'e f'"))]);
}

#[test]
fn what_is_copied() {
    let of = |text: &str| match kind(text).unwrap() {
        Kind::Copy(transfer) | Kind::Add(transfer) => transfer,
        other => panic!("{other:?}"),
    };
    let copy = of("COPY --from=a --chown=1:2 --chmod=u+x --link --parents=false --exclude=*.o --exclude=x a b /c/");
    assert_eq!((texts(&copy.sources), copy.destination.text.as_str()), (vec!["a", "b"], "/c/"));
    assert_eq!(copy.from.unwrap().text, "a");
    assert_eq!((copy.link, copy.parents), (true, false));
    assert_eq!(texts(&copy.exclude), ["*.o", "x"]);
    let copy = of(r#"COPY ["a b", "c d"]"#);
    assert_eq!((texts(&copy.sources), copy.destination.text.as_str()), (vec!["a b"], "c d"));
    let add = of("ADD --checksum=sha256:0 --keep-git-dir --unpack=false https://h/x /x");
    assert_eq!((add.keep_git_dir, add.unpack), (Some(true), Some(false)));
    let Transfer { heredocs, sources, .. } = of("COPY <<a.txt x <<-'b' /\none\na.txt\n\ttwo\n\tb\n");
    assert_eq!(texts(&sources), ["x"]);
    let files: Vec<_> = heredocs.iter().map(|it| (it.name.as_str(), it.text(), it.expand)).collect();
    assert_eq!(files, [("a.txt", "one\n".to_owned(), true), ("b", "two\n".to_owned(), false)]);
}

#[test]
fn run_with_all_that_belongs_to_it() {
    let text = "RUN --mount=type=cache,target=/c --mount=type=secret,id=s --network=none --security=insecure --device=x=all,required a <<E\nb\nE";
    let Kind::Run(run) = kind(text).unwrap() else { panic!() };
    assert_eq!(texts(&run.mounts), ["type=cache,target=/c", "type=secret,id=s"]);
    assert_eq!((run.network, run.insecure), (RunNetwork::None, true));
    assert_eq!(run.devices, [Device { name: "x=all".to_owned(), required: true }]);
    assert_eq!(run.command, Command { words: vec!["a <<E".to_owned()], shell: true });
    assert_eq!(run.heredocs[0].content, "b\n");
}

#[test]
fn the_others() {
    let Kind::Healthcheck(check) = kind("HEALTHCHECK --interval=5s --retries=3 CMD curl x").unwrap() else { panic!() };
    assert_eq!((check.interval, check.retries), (5_000_000_000, 3));
    assert_eq!(check.test.unwrap(), ["CMD-SHELL", "curl x"]);
    let Kind::Healthcheck(check) = kind("HEALTHCHECK --timeout=3s none").unwrap() else { panic!() };
    assert_eq!(check.test.unwrap(), ["NONE"]);
    let Kind::Volume(paths) = kind(r#"VOLUME ["/a b", "/c"]"#).unwrap() else { panic!() };
    assert_eq!(texts(&paths), ["/a b", "/c"]);
    let Kind::Expose(ports) = kind("EXPOSE 80 $P  90-91/udp").unwrap() else { panic!() };
    assert_eq!(texts(&ports), ["80", "$P", "90-91/udp"]);
    let Kind::Workdir(path) = kind("WORKDIR /a b").unwrap() else { panic!() };
    assert_eq!(path.text, "/a b");
    let Kind::Shell(words) = kind(r#"SHELL ["/bin/bash", "-c"]"#).unwrap() else { panic!() };
    assert_eq!(words, ["/bin/bash", "-c"]);
    let Kind::OnBuild(text) = kind("onbuild copy <<a /b\nx\na").unwrap() else { panic!() };
    assert_eq!(text, "copy <<a /b\nx\na");
    assert!(matches!(trigger(&text).unwrap().kind, Kind::Copy(copy) if copy.heredocs[0].content == "x\n"));
}

/// As BuildKit does, for whom they mean nothing.
#[test]
fn flags_of_arg_and_stopsignal_are_passed_over() {
    let Kind::Arg(args) = kind("ARG --link --x=y name=value").unwrap() else { panic!("no ARG") };
    assert_eq!((args.len(), args[0].name.as_str()), (1, "name"));
    let Kind::StopSignal(signal) = kind("STOPSIGNAL --x SIGTERM").unwrap() else { panic!("no STOPSIGNAL") };
    assert_eq!(signal.text, "SIGTERM");
    assert!(kind("STOPSIGNAL --x").unwrap_err().contains("STOPSIGNAL requires exactly one argument"));
    assert!(kind("USER --x y").unwrap_err().contains("unknown flag: --x"));
}

#[test]
fn images_are_named() {
    let text = "ARG base=one/two\nARG tag=v1\nFROM $base:$tag AS a\nCOPY --from=three x y\nCOPY --from=a x y\nFROM a\nFROM scratch\nCOPY --from=0 x y\n\
                RUN --mount=from=four,target=/m --mount=type=cache,target=/c --mount=from=a,target=/n x";
    let file = parse(text).unwrap();
    assert_eq!(file.images(&|_| None), ["one/two:v1", "three", "four"]);
    assert_eq!(file.images(&|name| (name == "tag").then(|| "v2".to_owned())), ["one/two:v2", "three", "four"]);
}

#[test]
fn errors_say_where() {
    for (text, expected) in [
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
        ("# x\n", "dockerfile parse error on line 1: file with no instructions\nDockerfile:1:1: # x"),
        ("ARG a", "dockerfile parse error on line 1: dockerfile contains no stages to build\nDockerfile:1:1: ARG a"),
        (
            "# x\n  RUM true",
            "dockerfile parse error on line 2: unknown instruction: RUM (did you mean RUN?)\nDockerfile:2:3:   RUM true",
        ),
        ("RUN true", "dockerfile parse error on line 1: no build stage in current context\nDockerfile:1:1: RUN true"),
        (
            "FROM a\nCOPY --chwon=1 \\\n  --link \\\n  a b",
            "dockerfile parse error on line 2: unknown flag: --chwon (did you mean chown?)\nDockerfile:2:6: COPY --chwon=1 \\",
        ),
        (
            "FROM a\nCOPY --link \\\n   --from \\\n  a b",
            "dockerfile parse error on line 3: missing a value on flag: --from\nDockerfile:3:4:    --from \\",
        ),
        (
            "FROM a\nENV a=b \\\n\n    c",
            "dockerfile parse error on line 4: Syntax error - can't find = in \"c\". Must be of the form: name=value\nDockerfile:4:5:     c",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn what_is_refused() {
    for (text, message) in [
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", "invalid name for build stage: \"1b\""),
        ("COPY a", "COPY requires at least two arguments"),
        ("COPY a <<B\nB", "COPY cannot accept a heredoc as a destination"),
        ("COPY --from=$x a b", "variable expansion is not supported for --from"),
        ("COPY --from=a --from=b a b", "duplicate flag specified: --from"),
        ("COPY --link=maybe a b", "expecting boolean value for flag --link, not: maybe"),
        ("COPY [1, \"b\"]", "arrays must be comprised of strings only"),
        ("COPY [\"a\", 1]", "arrays must be comprised of strings only"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV =b", "ENV names can not be blank"),
        ("ARG =b", "ARG names can not be blank"),
        ("LABEL", "LABEL requires at least one argument"),
        ("RUN []", "RUN requires at least one argument"),
        ("RUN --mount=type=x,target=/a b", "unsupported mount type \"x\""),
        ("RUN --network=x b", "invalid network mode \"x\""),
        ("RUN --network= b", "invalid network mode \"\""),
        ("RUN --security=x b", "security \"x\" is not valid"),
        ("RUN --link b", "unknown flag: --link"),
        ("COPY ----link a b", "unknown flag: ----link (did you mean link?)"),
        ("rum x", "unknown instruction: rum (did you mean run?)"),
        ("SHELL a", "SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("HEALTHCHECK x y", "Unknown type \"X\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --link NONE", "unknown flag: --link"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK --interval=1us CMD x", "cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD"),
        ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("USER", "USER requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
    ] {
        let error = kind(text).err().unwrap_or_default();
        assert!(error.contains(message), "{text}: {error:?}");
    }
}

#[test]
fn hostile_sizes_have_an_end() {
    assert!(parse(&"#".repeat(LARGEST + 1)).unwrap_err().contains("larger than"));
    assert!(parse(&"FROM a\n".repeat(MOST_STAGES + 1)).unwrap_err().contains("more than 1000 stages"));
    let long = format!("FROM a\nRUN {}", "x \\\n".repeat(100_000));
    assert_eq!(parse(&long).unwrap().stages[0].instructions.len(), 1);
    assert!(kind(&format!("CMD {}{}", "[".repeat(100_000), "]".repeat(100_000))).is_ok());
    let shown = parse(&format!("FROM a\nX {}", "y".repeat(1000))).unwrap_err();
    assert!(shown.ends_with('…') && shown.len() < 300, "{shown}");
}

#[test]
fn other_bytes_are_refused_where_they_count() {
    for (bytes, line) in [
        (&b"# M\xfcller\nFROM a\n # \xfc\nRUN x"[..], None),
        (b"FROM a\nRUN echo \xfc", Some(2)),
        (b"FROM a\nRUN <<E\nx\n\xfc\nE\n", Some(4)),
        (b"ARG a=\xfc\nFROM a", Some(1)),
        ("FROM a\nRUN echo \u{fffd}\u{fc}".as_bytes(), None),
    ] {
        let read = Dockerfile::parse("Dockerfile", bytes);
        match line {
            None => drop(read.unwrap()),
            Some(line) => {
                let error = format!("{:#}", read.unwrap_err());
                assert!(error.contains(&format!("parse error on line {line}: it is not UTF-8")), "{error}");
            }
        }
    }
}
