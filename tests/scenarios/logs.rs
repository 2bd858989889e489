//! What a container said, kept and read back.

use crate::fixture::{Host, eventually};
use std::fs;

#[test]
fn they_are_read_as_they_were_written() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sh", "-c", "echo one; echo two >&2; printf 'no newline'"]);
    host.ok(["wait", &id]);
    let output = host.run(["logs", &id]);
    assert_eq!((output.out.as_slice(), output.err.as_slice()), (&b"one\nno newline"[..], &b"two\n"[..]), "{output}");
    assert_eq!(host.run(["logs", "--tail", "1", &id]).out, b"no newline");
    assert_eq!(host.run(["logs", "--tail", "0", &id]).out, b"");
    let stamped = host.ok(["logs", "--timestamps", "--tail", "1", &id]);
    let (time, rest) = stamped.split_once(' ').expect("a time");
    assert!(time.ends_with('Z') && time.contains('T') && rest == "no newline", "{stamped}");
    assert_eq!(host.run(["logs", "--since", "1h", &id]).stdout(), "one\nno newline");
    assert_eq!(host.run(["logs", "--until", "2001-01-01", &id]).out, b"");
    let text = host.refused(1, ["logs", "no-such"]);
    assert!(text.contains("No such container: no-such"), "{text}");
}

#[test]
fn following_ends_with_the_container() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"]);
    assert_eq!(host.ok(["logs", "--follow", &id]), "1\n2\n3\n4\n5");
    assert_eq!(host.ok(["logs", "--follow", &id]), "1\n2\n3\n4\n5");
}

/// As with Docker: who follows hears of one life, and asks anew for the next one.
#[test]
fn following_ends_where_a_restart_begins() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sh", "-c", "echo life; exec sleep 1000"]);
    eventually("it has spoken", || host.ok(["logs", &id]) == "life");
    let mut follows = host.dhow(["logs", "--follow", "--tail", "1", &id]);
    let mut follows = follows.inner().stdout(std::process::Stdio::piped()).spawn().expect("follow");
    let mut said = std::io::BufReader::new(follows.stdout.take().expect("its output"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).expect("read");
    // It follows: what is restarted now is another life.
    host.ok(["restart", "-t", "0", &id]);
    eventually("it has spoken again", || host.ok(["logs", &id]) == "life\nlife");
    std::io::Read::read_to_string(&mut said, &mut line).expect("read");
    assert_eq!(line, "life\n");
    assert!(follows.wait().expect("wait").success());
}

#[test]
fn long_lines_and_odd_bytes_survive() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "head -c 100000 /dev/zero | tr '\\0' x; echo; printf '\\377\\376 \"quoted\" \\\\ \\t\\001\\n'";
    let id = host.detached(&[], &["sh", "-c", line]);
    host.ok(["wait", &id]);
    let out = host.run(["logs", &id]).out;
    let first = out.iter().position(|byte| *byte == b'\n').expect("a line");
    assert_eq!(first, 100_000);
    let rest = String::from_utf8_lossy(&out[first + 1..]).into_owned();
    assert!(rest.ends_with(" \"quoted\" \\ \t\u{1}\n"), "{rest:?}");
}

#[test]
fn rotation_bounds_them() {
    let Some(host) = Host::with_busybox() else { return };
    let flags = ["--log-opt", "max-size=10k", "--log-opt", "max-file=3"];
    let id = host.detached(&flags, &["sh", "-c", "seq 1 5000"]);
    host.ok(["wait", &id]);
    let seen = host.ok(["logs", &id]);
    let numbers: Vec<u32> = seen.lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(numbers.last(), Some(&5000));
    assert!(numbers.len() < 1000 && numbers.len() > 100, "{} lines are kept", numbers.len());
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a gap in the log");
    let line = "echo first; until test -e /go; do sleep 0.02; done; \
                i=1; while [ $i -lt 400 ]; do echo $i; i=$((i + 1)); sleep 0.002; done";
    let id = host.detached(&flags, &["sh", "-c", line]);
    let follows = host.dhow(["logs", "--follow", &id]).spawn();
    follows.says("first\n");
    host.ok(["exec", &id, "touch", "/go"]);
    assert_eq!(follows.wait().stdout().lines().count(), 400, "following loses nothing over a rotation");
}

const COMPRESSED: [&str; 6] = ["--log-opt", "max-size=20k", "--log-opt", "max-file=100", "--log-opt", "compress=true"];

/// The numbers of the files of a log that were rotated away, and whether they are compressed.
fn rotated(host: &Host, id: &str) -> Vec<(u32, bool)> {
    let name = format!("{id}-json.log.");
    let entries = fs::read_dir(host.root().join("containers").join(id)).expect("list the container");
    let mut found = Vec::new();
    for entry in entries {
        let (path, file) = entry.map(|entry| (entry.path(), entry.file_name())).expect("an entry");
        let Some(rest) = file.to_str().and_then(|file| file.strip_prefix(&name)) else { continue };
        let is_packed = rest.ends_with(".gz");
        if let Ok(number) = rest.trim_end_matches(".gz").parse() {
            found.push((number, is_packed));
            // It may have another number by now.
            let is_gzip = fs::read(path).map(|bytes| bytes.starts_with(&[0x1f, 0x8b, 8]));
            assert!(is_gzip.unwrap_or(true) || !is_packed, "{rest} is no gzip file");
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn what_is_rotated_away_is_compressed() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&COMPRESSED, &["sh", "-c", "seq 1 5000; echo middle; sleep 2; seq 1 5000"]);
    host.ok(["wait", &id]);
    eventually("all of it is compressed", || rotated(&host, &id).iter().all(|(_, is_packed)| *is_packed));
    let files = rotated(&host, &id);
    assert!((20..100).contains(&files.len()), "{files:?}");
    assert!(files.iter().map(|(number, _)| *number).eq(1..=files.len() as u32), "{files:?}");
    let seen = host.ok(["logs", &id]);
    let lines: Vec<&str> = seen.lines().collect();
    let numbers = || (1..=5000).map(|n: u32| n.to_string());
    assert!(lines[..5000].iter().copied().eq(numbers()) && lines[5001..].iter().copied().eq(numbers()));
    for tail in [0, 1, 40, 100, 1000, 5000, 5001, 5002, 9999, 10_001, 20_000] {
        let seen = host.ok(["logs", "--tail", &tail.to_string(), &id]);
        assert!(seen.lines().eq(lines[lines.len().saturating_sub(tail)..].iter().copied()), "the last {tail} lines");
    }
    // Files are passed over by their times, which are those of what is in them: a line's time is that at which it was read.
    let stamped = host.ok(["logs", "--timestamps", &id]);
    let times: Vec<&str> = stamped.lines().map(|line| line.split_once(' ').expect("a time").0).collect();
    assert!(times.len() == lines.len() && times.is_sorted(), "{} times", times.len());
    for at in [0, 700, 5000, 5001, 9000, 10_000] {
        let (first, last) =
            (times.partition_point(|time| *time < times[at]), times.partition_point(|time| *time <= times[at]));
        let since = host.ok(["logs", "--since", times[at], &id]);
        let until = host.ok(["logs", "--until", times[at], &id]);
        assert!(since.lines().eq(lines[first..].iter().copied()), "{} lines since line {at}", since.lines().count());
        assert!(until.lines().eq(lines[..last].iter().copied()), "{} lines until line {at}", until.lines().count());
    }
    assert_eq!(host.ok(["logs", "--follow", &id]), seen);
    // The next run goes on with them.
    host.ok(["start", &id]);
    host.ok(["wait", &id]);
    let again = host.ok(["logs", &id]);
    assert!(again.starts_with(&seen) && again.lines().count() == 2 * lines.len());
    host.ok(["rm", &id]);
}

#[test]
fn following_loses_nothing_that_is_compressed_meanwhile() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "i=0; while [ ! -e /enough ]; do seq $((i * 100)) $((i * 100 + 99)); i=$((i + 1)); sleep 0.02; done";
    // More than it will say until all of them follow.
    let kept = COMPRESSED.map(|word| if word == "max-file=100" { "max-file=2000" } else { word });
    let id = host.detached(&kept, &["sh", "-c", line]);
    let followers: Vec<_> = (0..3)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(400));
            host.dhow(["logs", "--follow", &id]).spawn()
        })
        .collect();
    let last = host.dhow(["logs", "--follow", "--tail", "50", &id]).spawn();
    eventually("some of it is compressed while it runs", || {
        rotated(&host, &id).iter().any(|(_, is_packed)| *is_packed)
    });
    // It may end with the container before it can tell how it ended.
    host.run(["exec", &id, "touch", "/enough"]);
    host.ok(["wait", &id]);
    let end: u32 = host.ok(["logs", "--tail", "1", &id]).parse().expect("a number");
    let numbers = |from: u32| (from..=end).map(|n| n.to_string());
    for follower in followers {
        let seen = follower.wait().stdout();
        assert!(seen.lines().map(str::to_owned).eq(numbers(0)), "{} lines", seen.lines().count());
    }
    let seen = last.wait().stdout();
    let first = seen.lines().next().and_then(|line| line.parse().ok()).expect("a number");
    assert!(seen.lines().map(str::to_owned).eq(numbers(first)), "{} lines from {first}", seen.lines().count());
}

#[test]
fn nothing_is_compressed_that_is_not_rotated() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "compress cannot be true when max-file is less than 2 or max-size is not set";
    for flags in [&["compress=true"][..], &["compress=true", "max-size=1m"], &["compress=1", "max-file=3"]] {
        let flags: Vec<&str> = flags.iter().flat_map(|option| ["--log-opt", option]).collect();
        let said = host.busybox(&flags, &["true"]).refused(125);
        assert!(said.contains(text), "{said}");
    }
    let said = host.busybox(&["--log-driver", "local", "--log-opt", "max-file=1"], &["true"]).refused(125);
    assert!(said.contains("compression cannot be enabled when max file count is 1"), "{said}");
}

#[test]
fn the_driver_local_is_bounded_and_read() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&["--log-driver", "local", "--log-opt", "max-size=10k"], &["sh", "-c", "seq 1 5000"]);
    host.ok(["wait", &id]);
    // As with Docker it is compressed unless that is declined.
    eventually("it is compressed", || rotated(&host, &id) == [1, 2, 3, 4].map(|number| (number, true)));
    let seen = host.ok(["logs", &id]);
    let lines = seen.lines().count();
    assert!(seen.ends_with("\n5000") && (100..1000).contains(&lines), "{lines} lines are kept");
    assert_eq!(host.inspect(&id, "/LogPath"), "");
    let text = host.busybox(&["--log-driver", "local", "--log-opt", "colour=red"], &["true"]).refused(125);
    assert!(text.contains("unknown log opt 'colour' for log driver local"), "{text}");
}

#[test]
fn a_driver_may_keep_none() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&["--log-driver", "none"], &["echo", "unheard"]);
    host.ok(["wait", &id]);
    let text = host.refused(1, ["logs", &id]);
    assert!(text.contains("does not support reading"), "{text}");
    let text = host.busybox(&["--log-driver", "smoke"], &["true"]).refused(125);
    assert!(text.contains("smoke"), "{text}");
    let text = host.busybox(&["--log-opt", "colour=red"], &["true"]).refused(125);
    assert!(text.contains("unknown log opt 'colour' for json-file log driver"), "{text}");
}

#[test]
fn attaching_shows_what_comes() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "while [ ! -e /go ]; do sleep 0.02; done; echo later; exit 8";
    let id = host.detached(&["--name", "talks"], &["sh", "-c", line]);
    let attached = host.dhow(["attach", "--no-stdin", "talks"]).spawn();
    let told = ["events", "--since", "0", "--until", "0s", "--filter", "event=attach"];
    eventually("it is attached", || !host.ok(told).is_empty());
    host.ok(["exec", &id, "touch", "/go"]);
    let output = attached.wait();
    assert_eq!((output.code(), output.stdout().as_str()), (Some(8), "later"), "{output}");
}

#[test]
fn heavy_output_is_complete() {
    let Some(host) = Host::with_busybox() else { return };
    let output = host.busybox(&[], &["sh", "-c", "seq 1 200000"]).run();
    assert_eq!(output.stdout().lines().count(), 200_000);
    let id = host.detached(&[], &["sh", "-c", "seq 1 200000"]);
    host.ok(["wait", &id]);
    assert_eq!(host.ok(["logs", &id]).lines().count(), 200_000);
}

/// A shim sheds what its start left in memory, also where a prompt stands there without the end of its line.
#[test]
fn a_prompt_is_kept_by_a_shim_that_sheds_its_memory() {
    let Some(host) = Host::with_busybox() else { return };
    host.detached(
        &["--name", "asks"],
        &["sh", "-c", "printf 'who? '; while [ ! -e /end ]; do sleep 0.02; done; echo me"],
    );
    let shim = host.shim("asks");
    let words = || fs::read_to_string(format!("/proc/{shim}/cmdline")).expect("its shim lives");
    // Until it is a second old.
    assert!(words().contains("\0launch\0") || words().contains("\0watch\0"), "{}", words());
    eventually("its shim has shed its memory", || words().contains("\0watch\0"));
    assert!(!words().contains("who?"), "what a container says is for nobody else: {}", words());
    host.run(["exec", "asks", "touch", "/end"]);
    assert_eq!(host.ok(["wait", "asks"]), "0");
    assert_eq!(host.ok(["logs", "asks"]), "who? me");
}
