//! Called `docker`, we tell what is wrong with a command line as the docker command does, and give help where it does.

use crate::called_docker::Both;

/// Lines that are no command's.
const WRONG: &str = "
    nosuch
    nosuch x
    nosuch -H x
    nosuch --foo
    nosuch x --foo
    nosuch -- --foo
    nosuch -H
    nosuch -Dz
    nosuch --tls=x
    container nosuch
    container nosuch --foo
    container nosuch x --foo
    container nosuch -z
    container nosuch -H x
    container nosuch --help=x
    container nosuch -- --foo
    container -z
    container --foo
    container --host
    container help
    container help ls
    volume nosuch
    volume --foo
    volume help
    manifest nosuch
    manifest help
    system -z df
    swarm nosuch
    swarm --foo
    swarm -z
    help nosuch
    help container nosuch
    help run x y
    help container help
    help image ls x
    help --nosuch
    help ps --all
    help ps -z
    help -H x ps
    --foo ps
    -Dz
    -DH
    --tls=maybe ps
    --debug=x ps
    -D=x ps
    --version=x
    --help=x
    -H=x -H=y ps
    -Hunix:///nowhere ps
    -H=unix:///nowhere ps
    -DHunix:///nowhere ps
    ps --help=x
    ps --all=x
    ps -a=x
    ps -az
    ps -aq=x
    ps -an
    ps --last=
    ps -n 1x
    ps -n 99999999999999999999
    run --rm=x y
    run -itz busybox
    stop -t 1x y
    logs --tail
";

/// Lines that are answered by help, whose words are ours: how it begins, and where.
const HELP: &str = "
    nosuch --help
    nosuch -h
    nosuch x --help
    container
    container --help
    container -h
    container nosuch --help
    container --help=false
    volume x --help
    swarm nosuch --help
    help
    help help
    help --help
    help -h
    help --help ps
    help ps --help
    help run
    help container
    help container run
    help container list
    help -- ps
    help swarm
    --help
    -h
    --help=false
    --version=false
    -v=false
    --help ps
    -h ps
    --help container ls
    ps --help
    ps -h
    ps --help x
    run --help busybox
    container ls -h
";

#[test]
fn what_is_no_command_line_is_told_as_by_the_docker_command() {
    let Some(both) = Both::new() else { return };
    both.compare(WRONG);
    for line in ["-v", "-Dv", "-vD", "-D=true -v", "--version nosuch"] {
        for ours in [false, true] {
            let (code, out, err) = both.says(ours, line);
            assert!(code == Some(0) && out.starts_with("Docker version ") && err.is_empty(), "{line}: {out} {err}");
        }
    }
}

#[test]
fn what_is_kept_is_told_as_by_the_docker_command() {
    let Some(both) = Both::new() else { return };
    both.docker.command(&["create", "--name", "wreck", "--network", "none", "busybox", "true"]).ok();
    both.compare(
        "
        system df -v --format '{{range .Images}}{{.Repository}} {{.Containers}} {{.Size}}{{end}}'
        system df -v --format '{{range .Containers}}{{.Names}} {{.Size}} {{.LocalVolumes}}{{end}}'
        system df -v --format '{{len .Volumes}} {{len .BuildCache}}'
        system df -v
        system prune -f --volumes --filter until=1h
        ps -a --format '{{.Platform}}'
        rename wreck ''
        inspect -s --type image busybox --format '{{.Os}}'
        run --rm --network-alias x busybox true
    ",
    );
}

#[test]
fn help_is_given_where_the_docker_command_gives_it() {
    let Some(both) = Both::new() else { return };
    let begins = |ours: bool, line: &str| {
        let (code, out, err) = both.says(ours, line);
        let two = |text: String| text.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
        (code, two(out), two(err))
    };
    for line in HELP.lines().map(str::trim).filter(|line| !line.is_empty()) {
        assert_eq!(begins(true, line), begins(false, line), "{line}");
    }
}
