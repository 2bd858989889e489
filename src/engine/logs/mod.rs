//! A container's log: one JSON object a line, `{"log":"line\n","stream":"stdout","time":"…Z"}`, in `<path>`, and what
//! was rotated away in `<path>.1` (the newest) and on, or compressed in `<path>.1.gz`.

mod driver;
pub mod encode;
mod entry;
mod files;
pub mod packed;
mod print;
pub mod scan;

pub use driver::{LogOptions, check, options};
pub use entry::decode;

use crate::api::Refusal;
use crate::api::time::Time;
use crate::sys::inotify;
use anyhow::{Context, Result, bail};
use files::{Reader, Segment};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use print::Printer;
use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What of a log is asked for, and how it is to be printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Go on until the container has ended.
    pub follow: bool,
    /// Only that many of the last entries; all where there is none.
    pub tail: Option<u64>,
    /// Entries of this time and later.
    pub since: Option<Time>,
    /// Entries of this time and earlier.
    pub until: Option<Time>,
    /// The time before each line.
    pub timestamps: bool,
    /// The attributes before each line.
    pub details: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// The container has a terminal: the text is printed as it is, without frames.
    pub tty: bool,
}

/// What has become of the life of a container whose log is followed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Life {
    GoesOn,
    Ended,
    /// Another one began then.
    Another(Time),
}

/// How long a follower waits at most before it looks again whether the container runs, in milliseconds; and how long
/// once the log was closed, because the container's end is then near.
const LOOK: u16 = 250;
const LOOK_SOON: u16 = 5;

/// Refuses a log driver whose logs cannot be read, with Docker's words.
pub fn check_driver(driver: &str) -> Result<()> {
    match driver {
        "" | "json-file" | "local" => Ok(()),
        _ => bail!(Refusal::NotImplemented("configured logging driver does not support reading".into())),
    }
}

/// Prints the log at `path` into `sink`, in Docker's frames `[1|2 0 0 0][length, 4 bytes big endian]` unless the
/// container has a terminal. A log that is not there is empty.
///
/// With `follow` it goes on until the container's `life` is over and all of it is read, and no further, as with Docker: who
/// follows the next life asks anew. Over rotations nothing is lost and nothing comes twice, as long as the entries are not
/// rotated out of existence faster than they are read.
pub fn stream(path: &Path, options: &Options, sink: &mut dyn Write, life: &dyn Fn() -> Life) -> Result<()> {
    // The watch stands before the first look, so that nothing is written unseen between a look and a wait.
    let mut watch = if options.follow { Watch::on(path) } else { Watch::None };
    let mut segments = files::open(path)?;
    let newest = segments.len().wrapping_sub(1);
    let starts = files::starts(&mut segments, options).with_context(|| format!("read {}", path.display()))?;
    let mut printer = Printer::new(options, sink, Some(life).filter(|_| options.follow));
    let mut last = None;
    for (index, (segment, start)) in segments.into_iter().zip(starts).enumerate() {
        let Some(start) = start else { continue };
        let size = segment.size;
        let mut reader = Reader::new(segment, start);
        let go_on = reader.print(size, &mut printer)?;
        if !go_on {
            return printer.flush();
        }
        if index == newest {
            last = Some(reader);
        }
    }
    printer.flush()?;
    if options.follow { follow(path, options, last, &mut printer, &mut watch, life) } else { Ok(()) }
}

/// Goes on behind what [`stream`] has printed.
fn follow(
    path: &Path,
    options: &Options,
    mut current: Option<Reader>,
    printer: &mut Printer,
    watch: &mut Watch,
    life: &dyn Fn() -> Life,
) -> Result<()> {
    let mut ended = false;
    loop {
        loop {
            if let Some(reader) = &mut current
                && !reader.print(u64::MAX, printer)?
            {
                return printer.flush();
            }
            let Some(next) = successor(path, current.as_ref())? else { break };
            // It was written to until it was renamed, which may have been after it was read above.
            if let Some(reader) = &mut current
                && !reader.print(u64::MAX, printer)?
            {
                return printer.flush();
            }
            current = Some(Reader::new(next, 0));
        }
        printer.flush()?;
        if ended || options.until.is_some_and(|until| Time::now() > until) {
            return Ok(());
        }
        // What was written before its end was written before this look, so one more reading gets it all.
        ended = life() != Life::GoesOn;
        if !ended {
            watch.wait();
        }
    }
}

/// The segment that follows the one which is being read.
fn successor(path: &Path, current: Option<&Reader>) -> Result<Option<Segment>> {
    match current {
        Some(reader) => files::after(path, &reader.segment),
        None => Ok(files::open(path)?.into_iter().next()),
    }
}

/// What wakes a follower.
enum Watch {
    Changes {
        inotify: OwnedFd,
        soon: bool,
    },
    /// No inotify to be had: the limits of instances and watches are small on some hosts.
    None,
}

impl Watch {
    /// On the log's directory, which sees writes to the log and its rotation.
    fn on(path: &Path) -> Watch {
        let mask = libc::IN_MODIFY | libc::IN_CLOSE_WRITE | libc::IN_CREATE | libc::IN_MOVED_TO;
        let watch = || -> Option<OwnedFd> {
            let dir = CString::new(path.parent()?.as_os_str().as_bytes()).ok()?;
            let inotify = inotify::init().ok()?;
            inotify::watch(inotify.as_fd(), &dir, mask).ok()?;
            Some(inotify)
        };
        watch().map_or(Watch::None, |inotify| Watch::Changes { inotify, soon: false })
    }

    /// Waits for a change, or until it is time to look whether the container runs.
    fn wait(&mut self) {
        let Watch::Changes { inotify, soon } = self else {
            std::thread::sleep(std::time::Duration::from_millis(100));
            return;
        };
        let timeout = if *soon { LOOK_SOON } else { LOOK };
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        *soon = false;
        if !matches!(poll(&mut fds, PollTimeout::from(timeout)), Ok(1..)) {
            return;
        }
        let mut events = [0; 4096];
        if let Ok(inotify) = inotify.try_clone()
            && let Ok(length) = std::fs::File::from(inotify).read(&mut events)
        {
            // An event is: watch, mask, cookie, length of the name; 32 bits each; and the name.
            let mut rest = &events[..length];
            while let Some((head, name)) = rest.split_first_chunk::<16>() {
                let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
                *soon |= word(4) & libc::IN_CLOSE_WRITE != 0;
                rest = name.get(word(12) as usize..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::encode::{Stream, whole_entry};
    use super::*;
    use std::fs::{self, File};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    /// A directory that goes with its test.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("dhow-logs-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Dir(path)
        }

        fn log(&self) -> PathBuf {
            self.0.join("x-json.log")
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// An entry of that many seconds since 1970.
    fn entry(second: i64, stream: Stream, text: &str) -> Vec<u8> {
        let time = Time { seconds: second, nanos: 500_000_000 }.to_string();
        whole_entry(text.as_bytes(), stream, &time, br#"{"k y":"v,"}"#)
    }

    fn write(path: &Path, seconds: std::ops::Range<i64>) {
        let bytes: Vec<u8> = seconds
            .flat_map(|n| entry(n, if n % 2 == 0 { Stream::Stdout } else { Stream::Stderr }, &format!("{n}\n")))
            .collect();
        fs::write(path, bytes).unwrap();
    }

    fn both() -> Options {
        Options { stdout: true, stderr: true, tty: true, ..Options::default() }
    }

    fn read(path: &Path, options: &Options) -> String {
        let mut out = Vec::new();
        stream(path, options, &mut out, &|| Life::Ended).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn goes_on(does: bool) -> Life {
        if does { Life::GoesOn } else { Life::Ended }
    }

    fn numbers(range: std::ops::Range<i64>) -> String {
        range.map(|n| format!("{n}\n")).collect()
    }

    #[test]
    fn rotated_files_are_one_log() {
        let dir = Dir::new("rotated");
        let log = dir.log();
        assert_eq!(read(&log, &both()), "");
        write(&dir.0.join("x-json.log.10"), 0..5);
        write(&dir.0.join("x-json.log.2"), 5..10);
        write(&dir.0.join("x-json.log.1"), 10..20_000);
        write(&dir.0.join("x-json.log.tmp"), 90..99);
        write(&log, 20_000..20_003);
        for packed in [&[][..], &[2], &[1, 10]] {
            // The last one was killed before it removed what it has compressed.
            for number in packed {
                pack(&log, *number);
                if *number < 10 {
                    fs::remove_file(numbered(&log, *number)).unwrap();
                }
            }
            read_in_parts(&log);
        }
    }

    /// Compresses a file, and leaves it.
    fn pack(log: &Path, number: u32) {
        let (plain, path) = (File::open(numbered(log, number)).unwrap(), numbered(log, number).with_extension("tmp"));
        let packed = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        packed::pack(&plain, packed::identity(&plain.metadata().unwrap()), &packed).unwrap();
        fs::rename(path, compressed(log, number)).unwrap();
    }

    fn compressed(log: &Path, number: u32) -> PathBuf {
        log.with_file_name(format!("x-json.log.{number}.gz"))
    }

    fn read_in_parts(log: &Path) {
        assert_eq!(read(log, &both()), numbers(0..20_003));
        for tail in [0, 1, 2, 3, 4, 5, 1000, 19_993, 19_994, 19_998, 20_002, 20_003, 20_004, u64::MAX] {
            let options = Options { tail: Some(tail), ..both() };
            assert_eq!(read(log, &options), numbers(20_003_i64.saturating_sub_unsigned(tail).max(0)..20_003), "{tail}");
        }
        let options = Options { stderr: false, tail: Some(4), ..both() };
        assert_eq!(read(log, &options), "20000\n20002\n");
    }

    #[test]
    fn times_and_details_and_frames() {
        let dir = Dir::new("times");
        let log = dir.log();
        write(&log, 0..10);
        let at = |seconds, nanos| Some(Time { seconds, nanos });
        for (since, until, expected) in [
            (at(3, 0), None, 3..10),
            (at(3, 500_000_000), None, 3..10),
            (at(3, 500_000_001), None, 4..10),
            (None, at(3, 500_000_000), 0..4),
            (None, at(3, 499_999_999), 0..3),
            (at(2, 0), at(5, 0), 2..5),
            (at(99, 0), None, 0..0),
        ] {
            assert_eq!(read(&log, &Options { since, until, ..both() }), numbers(expected), "{since:?} {until:?}");
        }
        let options = Options { timestamps: true, details: true, tail: Some(1), ..both() };
        assert_eq!(read(&log, &options), "1970-01-01T00:00:09.500000000Z k+y=v%2C 9\n");
        let options = Options { tty: false, tail: Some(2), ..both() };
        assert_eq!(read(&log, &options), "\u{1}\0\0\0\0\0\0\u{2}8\n\u{2}\0\0\0\0\0\0\u{2}9\n");
    }

    #[test]
    fn torn_and_partial_lines() {
        let dir = Dir::new("torn");
        let log = dir.log();
        let mut bytes = entry(1, Stream::Stdout, "first half, ");
        bytes.extend(entry(2, Stream::Stderr, "other\n"));
        bytes.extend(entry(3, Stream::Stdout, "second half\n"));
        bytes.extend_from_slice(b"not an entry\n\n");
        bytes.extend(entry(4, Stream::Stdout, "last\n"));
        let whole = bytes.len();
        bytes.extend_from_slice(&entry(5, Stream::Stdout, "torn\n")[..20]);
        fs::write(&log, &bytes).unwrap();
        assert_eq!(read(&log, &both()), "first half, other\nsecond half\nlast\n");
        assert_eq!(read(&log, &Options { tail: Some(1), ..both() }), "last\n");
        let options = Options { timestamps: true, ..both() };
        let expected = "1970-01-01T00:00:01.500000000Z first half, 1970-01-01T00:00:02.500000000Z other\nsecond half\n\
                        1970-01-01T00:00:04.500000000Z last\n";
        assert_eq!(read(&log, &options), expected);
        // A line that never ends is given up, and memory stays bounded.
        bytes.truncate(whole);
        bytes.extend(std::iter::repeat_n(b'x', 3 << 20));
        bytes.push(b'\n');
        bytes.extend(entry(6, Stream::Stdout, "after\n"));
        fs::write(&log, &bytes).unwrap();
        assert_eq!(read(&log, &Options { since: Some(Time { seconds: 4, nanos: 0 }), ..both() }), "last\nafter\n");
    }

    #[test]
    fn following_over_rotations_loses_and_repeats_nothing() {
        for (keep, packs) in [(2, 0), (5, 0), (2, 1), (5, 1), (5, 3)] {
            let dir = Dir::new(&format!("follow{keep}-{packs}"));
            let log = dir.log();
            let running = Arc::new(AtomicBool::new(true));
            // How many lines the follower has printed: the writer stays within what is kept.
            let printed = Arc::new(Mutex::new((String::new(), 0)));
            let writer = {
                let (log, running, printed) = (log.clone(), running.clone(), printed.clone());
                std::thread::spawn(move || {
                    let mut file = File::create(&log).unwrap();
                    for n in 0..4000 {
                        if n % 40 == 39 {
                            while n - 30 > printed.lock().unwrap().1 {
                                std::thread::sleep(std::time::Duration::from_micros(100));
                            }
                            for form in [numbered, compressed] {
                                let _ = fs::remove_file(form(&log, keep));
                                for number in (1..keep).rev() {
                                    let _ = fs::rename(form(&log, number), form(&log, number + 1));
                                }
                            }
                            fs::rename(&log, numbered(&log, 1)).unwrap();
                            file = File::create(&log).unwrap();
                        }
                        // Some time after the rotation, and sometimes later than the next one.
                        if packs > 0 && n % (40 * packs) == 40 {
                            for number in (1..=keep).filter(|number| numbered(&log, *number).exists()) {
                                pack(&log, number);
                                std::thread::yield_now();
                                fs::remove_file(numbered(&log, number)).unwrap();
                            }
                        }
                        let bytes = entry(n, Stream::Stdout, &format!("{n}\n"));
                        // Half an entry is not printed.
                        file.write_all(&bytes[..10]).unwrap();
                        file.write_all(&bytes[10..]).unwrap();
                    }
                    running.store(false, Ordering::SeqCst);
                })
            };
            struct Shared(Arc<Mutex<(String, i64)>>);
            impl Write for Shared {
                fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                    let (text, lines) = &mut *self.0.lock().unwrap();
                    text.push_str(str::from_utf8(bytes).unwrap());
                    *lines += bytes.iter().filter(|byte| **byte == b'\n').count() as i64;
                    Ok(bytes.len())
                }
                fn flush(&mut self) -> std::io::Result<()> {
                    Ok(())
                }
            }
            let options = Options { follow: true, ..both() };
            stream(&log, &options, &mut Shared(printed.clone()), &|| goes_on(running.load(Ordering::SeqCst))).unwrap();
            writer.join().unwrap();
            assert_eq!(printed.lock().unwrap().0, numbers(0..4000), "keep {keep}, compress {packs}");
        }
    }

    fn numbered(log: &Path, number: u32) -> PathBuf {
        log.with_file_name(format!("x-json.log.{number}"))
    }

    #[test]
    fn a_follower_sees_a_log_that_is_begun_anew_in_place() {
        let dir = Dir::new("truncate");
        let log = dir.log();
        write(&log, 0..100);
        let looks = std::cell::Cell::new(0);
        let running = || {
            looks.set(looks.get() + 1);
            if looks.get() == 1 {
                write(&log, 100..103);
            }
            goes_on(looks.get() < 2)
        };
        let mut out = Vec::new();
        let options = Options { follow: true, tail: Some(2), ..both() };
        stream(&log, &options, &mut out, &running).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "98\n99\n100\n101\n102\n");
    }

    #[test]
    fn a_follower_ends_where_another_life_begins() {
        let dir = Dir::new("lives");
        let log = dir.log();
        let now = Time::now().seconds;
        let begun = Time { seconds: now + 20, nanos: 0 };
        // Entries of times to come are looked at one by one.
        let table: [(&[Life], i64); 4] = [
            (&[Life::Ended], 40),
            (&[Life::Another(begun)], 20),
            (&[Life::GoesOn, Life::GoesOn, Life::Another(begun)], 20),
            (&[Life::GoesOn, Life::Ended, Life::Another(begun)], 20),
        ];
        for (lives, end) in table {
            write(&log, now..now + 40);
            let looks = std::cell::Cell::new(0);
            let life = || {
                let look = looks.replace(looks.get() + 1);
                *lives.get(look).or(lives.last()).unwrap()
            };
            let mut out = Vec::new();
            stream(&log, &Options { follow: true, ..both() }, &mut out, &life).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), numbers(now..now + end), "{lives:?}");
        }
    }

    #[test]
    fn what_is_not_written_cannot_be_read() {
        assert!(check_driver("json-file").is_ok() && check_driver("local").is_ok());
        let refusal = check_driver("none").unwrap_err();
        assert_eq!(refusal.to_string(), "configured logging driver does not support reading");
        assert_eq!(refusal.downcast_ref::<Refusal>().map(Refusal::status), Some(501));
    }
}
