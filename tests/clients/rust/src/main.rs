//! What users of bollard do, part by part: `harbour PART`. The daemon is DOCKER_HOST's; the image busybox is there.

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::*;
use bollard::query_parameters::*;
use bollard::{Docker, body_full};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::fmt::Debug;
use tokio::io::AsyncWriteExt;

type Result<T> = std::result::Result<T, Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // Its own version is newer than any that the daemon speaks.
    let docker = Docker::connect_with_defaults()?.negotiate_version().await?;
    assert_eq!(docker.client_version().to_string(), "1.51");
    match std::env::args().nth(1).as_deref() {
        Some("containers") => containers(&docker).await,
        Some("execs") => execs(&docker).await,
        Some("builds") => builds(&docker).await,
        Some("system") => system(&docker).await,
        other => panic!("no such part: {other:?}"),
    }
}

fn body(line: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("busybox".into()),
        cmd: Some(["sh", "-c", line].map(str::to_owned).into()),
        host_config: Some(HostConfig { network_mode: Some("none".into()), ..Default::default() }),
        ..Default::default()
    }
}

async fn create(docker: &Docker, name: &str, body: ContainerCreateBody) -> Result<String> {
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    Ok(docker.create_container(Some(options), body).await?.id)
}

fn filter(key: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([(key.to_owned(), vec![value.to_owned()])])
}

/// Bollard makes an error of an exit code that is not 0.
async fn ended(docker: &Docker, id: &str, condition: &str) -> i64 {
    let options = WaitContainerOptionsBuilder::new().condition(condition).build();
    match docker.wait_container(id, Some(options)).next().await {
        Some(Ok(ended)) => ended.status_code,
        Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
        other => panic!("{other:?}"),
    }
}

/// Standard output and error, to the end.
async fn apart(output: impl Stream<Item = Result<LogOutput>>) -> Result<(String, String)> {
    let (mut out, mut err) = (String::new(), String::new());
    let mut output = std::pin::pin!(output);
    while let Some(said) = output.try_next().await? {
        match &said {
            LogOutput::StdErr { .. } => err.push_str(&said.to_string()),
            _ => out.push_str(&said.to_string()),
        }
    }
    Ok((out, err))
}

async fn all(bytes: impl Stream<Item = Result<Bytes>>) -> Result<Vec<u8>> {
    Ok(bytes.try_collect::<Vec<_>>().await?.concat())
}

fn refused<T: Debug>(status: u16, words: &str, result: Result<T>) {
    match result {
        Err(Error::DockerResponseServerError { status_code, message }) => {
            assert_eq!(status_code, status, "{message}");
            assert!(message.contains(words), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

/// A tar of files.
fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in files {
        let mut head = [0; 512];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[100..124].copy_from_slice(b"0000644\x000000000\x000000000\0");
        head[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        head[136..156].copy_from_slice(b"07346545000\0        ");
        head[156] = b'0';
        head[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&head);
        tar.extend_from_slice(content.as_bytes());
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

async fn containers(docker: &Docker) -> Result<()> {
    let labels = Some(HashMap::from([("sea".to_owned(), "red".to_owned())]));
    let hull = ContainerCreateBody { labels, ..body("echo out; echo err >&2; exit 3") };
    let id = create(docker, "hull", hull).await?;
    let streams = AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true);
    let AttachContainerResults { output, .. } = docker.attach_container(&id, Some(streams.clone().build())).await?;
    docker.start_container("hull", None).await?;
    assert_eq!(ended(docker, &id, "not-running").await, 3);
    assert_eq!(apart(output).await?, ("out\n".into(), "err\n".into()));
    let shown = docker.inspect_container(&id, None).await?;
    let state = shown.state.expect("a state");
    assert_eq!((shown.name.as_deref(), state.exit_code), (Some("/hull"), Some(3)));
    assert_eq!(state.status, Some(ContainerStateStatusEnum::EXITED));
    let logs = LogsOptionsBuilder::new().follow(true).stderr(true).tail("1").build();
    assert_eq!(apart(docker.logs(&id, Some(logs))).await?, (String::new(), "err\n".into()));
    let listed = ListContainersOptionsBuilder::new().all(true).filters(&filter("label", "sea=red")).build();
    let listed = docker.list_containers(Some(listed)).await?;
    assert_eq!((listed.len(), listed[0].names.as_deref()), (1, Some(&["/hull".to_owned()][..])));
    assert_eq!(listed[0].state, Some(ContainerSummaryStateEnum::EXITED));
    refused(409, "is already in use by container", create(docker, "hull", body("true")).await);
    // Already stopped: 304 is no error.
    docker.stop_container(&id, None).await?;
    docker.rename_container(&id, RenameContainerOptionsBuilder::new().name("wreck").build()).await?;
    docker.remove_container("wreck", None).await?;
    refused(404, &format!("No such container: {id}"), docker.inspect_container(&id, None).await);

    // A shell on a terminal.
    let shell = ContainerCreateBody {
        cmd: Some(vec!["sh".into()]),
        tty: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        ..body("")
    };
    let id = create(docker, "shell", shell).await?;
    let AttachContainerResults { output, mut input } =
        docker.attach_container(&id, Some(streams.stdin(true).build())).await?;
    docker.start_container(&id, None).await?;
    docker.resize_container_tty(&id, ResizeContainerTTYOptionsBuilder::new().h(33).w(77).build()).await?;
    input.write_all(b"stty size\nexit 4\n").await?;
    assert_eq!(ended(docker, &id, "not-running").await, 4);
    assert!(apart(output).await?.0.contains("33 77\r\n"));
    let pruned = docker.prune_containers(None).await?;
    assert_eq!(pruned.containers_deleted, Some(vec![id]));
    Ok(())
}

/// What a command in a container says, given something to read, and its exit code.
async fn run(
    docker: &Docker,
    id: &str,
    options: CreateExecOptions<&str>,
    typed: &[u8],
) -> Result<(String, String, i64)> {
    let options = CreateExecOptions { attach_stdout: Some(true), attach_stderr: Some(true), ..options };
    let exec = docker.create_exec(id, options).await?.id;
    let StartExecResults::Attached { output, mut input } = docker.start_exec(&exec, None).await? else {
        panic!("it is detached")
    };
    input.write_all(typed).await?;
    input.shutdown().await?;
    let (out, err) = apart(output).await?;
    let code = docker.inspect_exec(&exec).await?.exit_code.expect("an exit code");
    Ok((out, err, code))
}

async fn execs(docker: &Docker) -> Result<()> {
    let id = create(docker, "busy", body("while :; do sleep 0.1; done")).await?;
    docker.start_container(&id, None).await?;
    let line = |line| CreateExecOptions { cmd: Some(vec!["sh", "-c", line]), ..Default::default() };
    let seen = run(docker, &id, line("echo out; echo err >&2; exit 9"), b"").await?;
    assert_eq!(seen, ("out\n".into(), "err\n".into(), 9));
    let there = CreateExecOptions {
        env: Some(vec!["A=b"]),
        working_dir: Some("/tmp"),
        user: Some("1000"),
        ..line("echo $A; pwd; id -u")
    };
    assert_eq!(run(docker, &id, there, b"").await?.0, "b\n/tmp\n1000\n");
    let cat = CreateExecOptions { attach_stdin: Some(true), cmd: Some(vec!["cat"]), ..Default::default() };
    assert_eq!(run(docker, &id, cat, b"down the wire").await?, ("down the wire".into(), String::new(), 0));

    let once = StatsOptionsBuilder::new().stream(false).build();
    let stats: Vec<_> = docker.stats(&id, Some(once)).try_collect().await?;
    assert_eq!((stats.len(), stats[0].id.as_deref()), (1, Some(id.as_str())));
    let live: Vec<_> = docker.stats(&id, None).take(2).try_collect().await?;
    assert_eq!(live.len(), 2);

    let into = UploadToContainerOptionsBuilder::new().path("/tmp").build();
    docker.upload_to_container(&id, Some(into), body_full(tar(&[("cargo", "tea\n")]).into())).await?;
    assert_eq!(run(docker, &id, line("cat /tmp/cargo"), b"").await?.0, "tea\n");
    let from = DownloadFromContainerOptionsBuilder::new().path("/tmp/cargo").build();
    let copied = all(docker.download_from_container(&id, Some(from))).await?;
    assert_eq!((&copied[..5], &copied[512..516]), (&b"cargo"[..], &b"tea\n"[..]));
    let changes = docker.container_changes(&id).await?.expect("changes");
    assert!(changes.iter().any(|change| change.path == "/tmp/cargo" && change.kind == ChangeType::_1));

    let options =
        CommitContainerOptionsBuilder::new().container(&id).repo("ship/hold").tag("one").changes("ENV CARGO=tea");
    let made = docker.commit_container(options.build(), ContainerConfig::default()).await?;
    assert!(made.id.starts_with("sha256:"), "{}", made.id);
    let image = docker.inspect_image("ship/hold:one").await?;
    assert!(image.config.and_then(|config| config.env).expect("an environment").contains(&"CARGO=tea".to_owned()));
    docker.remove_container(&id, Some(RemoveContainerOptionsBuilder::new().force(true).v(true).build())).await?;
    let saved = all(docker.export_image("ship/hold:one")).await?;
    let removed = docker.remove_image("ship/hold:one", None::<RemoveImageOptions>, None).await?;
    assert!(removed.iter().any(|it| it.untagged.as_deref() == Some("ship/hold:one")));
    refused(404, "No such image: ship/hold:one", docker.inspect_image("ship/hold:one").await);
    let options = ImportImageOptionsBuilder::new().build();
    let told: Vec<_> = docker.import_image(options, body_full(saved.into()), None).try_collect().await?;
    let last = told.last().and_then(|line| line.stream.as_deref());
    assert_eq!(last, Some("Loaded image: ship/hold:one\n"));
    docker.remove_image("ship/hold:one", None::<RemoveImageOptions>, None).await.map(drop)
}

async fn builds(docker: &Docker) -> Result<()> {
    let lines = "FROM busybox\nARG who=nobody\nRUN echo hello $who | tee /said\nCOPY x /x\nLABEL a=b\n";
    let context = tar(&[("Dockerfile", lines), ("x", "content")]);
    let args = HashMap::from([("who", "me")]);
    let options = BuildImageOptionsBuilder::new().t("harbour/made:1").networkmode("none").buildargs(&args).build();
    let told: Vec<_> = docker.build_image(options, None, Some(body_full(context.into()))).try_collect().await?;
    let said: String = told.iter().filter_map(|line| line.stream.as_deref()).collect();
    for part in ["Step 1/5 : FROM busybox", "hello me", "Successfully tagged harbour/made:1"] {
        assert!(said.contains(part), "{said}");
    }
    let image = docker.inspect_image("harbour/made:1").await?;
    let told = told.iter().find_map(|line| line.aux.as_ref()).and_then(|aux| aux.id.as_ref());
    assert_eq!(told, image.id.as_ref());
    let made = ContainerCreateBody { image: Some("harbour/made:1".into()), ..body("cat /said /x") };
    let id = create(docker, "made", made).await?;
    docker.start_container(&id, None).await?;
    let logs = LogsOptionsBuilder::new().follow(true).stdout(true).build();
    assert_eq!(apart(docker.logs(&id, Some(logs))).await?.0, "hello me\ncontent");
    let context = tar(&[("Dockerfile", "FROM busybox\nRUN exit 3\n")]);
    let options = BuildImageOptionsBuilder::new().networkmode("none").build();
    let told: Result<Vec<_>> = docker.build_image(options, None, Some(body_full(context.into()))).try_collect().await;
    match told {
        Err(Error::DockerStreamError { error }) => assert!(error.contains("returned a non-zero code: 3"), "{error}"),
        other => panic!("{other:?}"),
    }
    Ok(())
}

async fn system(docker: &Docker) -> Result<()> {
    assert_eq!(docker.ping().await?, "OK");
    assert_eq!(docker.version().await?.api_version.as_deref(), Some("1.51"));
    assert_eq!(docker.info().await?.os_type.as_deref(), Some("linux"));

    let mut wanted = filter("type", "container");
    wanted.insert("event".into(), ["create", "start", "die", "destroy"].map(str::to_owned).into());
    // Nothing is asked before somebody reads, which may be after the first of them.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let options = EventsOptionsBuilder::new().since(&(now - 1).to_string()).filters(&wanted).build();
    let mut events = Box::pin(docker.events(Some(options)));
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|action| action != "destroy") {
            let event = events.next().await.expect("more of it").expect("an event");
            seen.extend(event.action);
        }
        seen
    });
    // Whoever waits for its removal has had time to say so.
    let mut hull = body("sleep 2; exit 6");
    hull.host_config.as_mut().expect("there is one").auto_remove = Some(true);
    let id = create(docker, "hull", hull).await?;
    let (code, started) = tokio::join!(ended(docker, &id, "removed"), docker.start_container(&id, None));
    started?;
    assert_eq!(code, 6);
    assert_eq!(seen.await.expect("the events"), ["create", "start", "die", "destroy"]);

    let deck = HashMap::from([("deck".to_owned(), "lower".to_owned())]);
    let hold = VolumeCreateRequest { name: Some("hold".into()), labels: Some(deck), ..Default::default() };
    docker.create_volume(hold).await?;
    assert_eq!(docker.inspect_volume("hold").await?.labels["deck"], "lower");
    let options = ListVolumesOptionsBuilder::new().filters(&filter("label", "deck=lower")).build();
    assert_eq!(docker.list_volumes(Some(options)).await?.volumes.expect("volumes").len(), 1);
    docker.remove_volume("hold", None::<RemoveVolumeOptions>).await?;
    refused(404, "hold", docker.inspect_volume("hold").await);

    let sea = NetworkCreateRequest { name: "sea".into(), ..Default::default() };
    docker.create_network(sea).await?;
    assert_eq!(docker.inspect_network("sea", None).await?.driver.as_deref(), Some("bridge"));
    let named = ListNetworksOptionsBuilder::new().filters(&filter("name", "sea")).build();
    assert_eq!(docker.list_networks(Some(named)).await?.len(), 1);
    docker.remove_network("sea").await?;
    refused(503, "This node is not a swarm manager", docker.list_services(None::<ListServicesOptions>).await);

    // pull, its progress followed to the end.
    let name = format!("{}/busybox", std::env::var("REGISTRY").expect("a registry"));
    let options = CreateImageOptionsBuilder::new().from_image(&name).tag("latest").build();
    let told: Vec<_> = docker.create_image(Some(options), None, None).try_collect().await?;
    let last = told.last().and_then(|line| line.status.clone()).expect("a status");
    assert_eq!(last, format!("Status: Downloaded newer image for {name}:latest"));
    docker.remove_image(&name, None::<RemoveImageOptions>, None).await.map(drop)
}
