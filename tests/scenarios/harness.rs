//! The parts that the scenarios lean on, so that a red scenario is not their fault.

use crate::fixture::{Command, Host, Image, Layout, Login, Packing, Registry, Tar, Terminal, busybox_tar, need, tool};
use std::fs;

#[test]
fn a_registry_takes_what_skopeo_pushes() {
    let (Some(registry), Some(())) = (Registry::shared(), need("skopeo")) else { return };
    let Some(name) = registry.busybox() else { return };
    let shown = tool("skopeo", ["inspect", "--tls-verify=false", &format!("docker://{name}")]);
    assert!(shown.contains("\"Architecture\""), "{shown}");
}

#[test]
fn a_registry_keeps_layers_as_they_are() {
    let (Some(registry), Some(())) = (Registry::shared(), need("skopeo")) else { return };
    let tar = |text: &str| Tar::new().file("hello", 0o644, text).end();
    let image = Image::new(tar("one")).layer(tar("two"), Packing::Zstd).layer(tar("three"), Packing::Plain);
    registry.upload(&image, "harness/packings", "latest");
    let name = format!("docker://{}", registry.name("harness/packings"));
    let raw = tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &name]);
    for packing in [Packing::Gzip, Packing::Zstd, Packing::Plain] {
        assert!(raw.contains(packing.media_type()), "{raw}");
    }
}

#[test]
fn a_registry_takes_an_index() {
    let (Some(registry), Some(())) = (Registry::shared(), need("skopeo")) else { return };
    let host = Host::anyone();
    let mut layout = Layout::new(host.dir().join("layout"));
    let image = |text: &str| Image::new(Tar::new().file("arch", 0o644, text).end());
    layout.add_index(&[image("a").platform("amd64", None), image("b").platform("arm", Some("v7"))], "both");
    registry.push(&layout, "both", "harness/index:both");
    let name = format!("docker://{}", registry.name("harness/index:both"));
    let raw = tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &name]);
    assert!(raw.contains("\"variant\":\"v7\"") && raw.contains("amd64"), "{raw}");
}

#[test]
fn a_registry_with_tls_wants_a_password() {
    let Some(()) = need("skopeo") else { return };
    let Some(registry) = Registry::start(true, Some(Login::SAILOR)) else { return };
    let Some(name) = registry.busybox() else { return };
    let folder = registry.ca().parent().expect("a folder").join("certs");
    fs::create_dir(&folder).expect("make a folder");
    fs::copy(registry.ca(), folder.join("ca.crt")).expect("copy the certificate");
    let inspect = |creds: &str| {
        let (folder, name) = (format!("--cert-dir={}", folder.display()), format!("docker://{name}"));
        Command::new("skopeo", ["inspect", &folder, creds, &name]).run()
    };
    let login = Login::SAILOR;
    let output = inspect(&format!("--creds={}:{}", login.user, login.password));
    assert!(output.status.success(), "{output}");
    assert!(!inspect("--creds=sailor:wrong").status.success());
}

#[test]
fn the_tar_writer_writes_what_tar_reads() {
    let host = Host::anyone();
    let long = format!("{}/end", "a-rather-long-name".repeat(9));
    let tar = Tar::new()
        .dir("d", 0o755)
        .owner(12, 34)
        .file("d/file", 0o640, "content")
        .hardlink("d/again", "d/file")
        .symlink("d/link", "file")
        .pax("SCHILY.xattr.user.colour", "red")
        .file(&long, 0o600, vec![7; 1000]);
    let path = host.file("made.tar", tar.end());
    let listed = tool("tar", ["--numeric-owner", "-tvf", path.to_str().expect("a path in UTF-8")]);
    for words in ["-rw-r----- 12/34", "d/again link to d/file", "d/link -> file", &long] {
        assert!(listed.contains(words), "{words} is not in {listed}");
    }
}

#[test]
fn busybox_runs() {
    let Some(tar) = busybox_tar() else { return };
    let listed = tool("tar", ["-tf", tar.to_str().expect("a path in UTF-8")]);
    assert!(listed.lines().any(|line| line == "bin/sh"), "{listed}");
}

#[test]
fn a_terminal_is_one() {
    let mut terminal = Terminal::start(Command::new("sh", ["-c", "tty; stty size; read word; echo got $word"]));
    terminal.expect("/dev/pts/");
    terminal.expect("24 80");
    terminal.send("anchor\n");
    terminal.expect("got anchor");
    assert!(terminal.end().success());
}
