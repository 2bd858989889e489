//! Following what happens, over the rotation of its log.

use super::{Store, current, filter, previous};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::Event;
use crate::engine::filters::Filters;
use crate::engine::query;
use crate::json;
use crate::log;
use crate::sys::inotify;
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

/// How many events of the past are told at most.
const REPLAY: usize = 256;

/// How often the log is looked at, and the client, where nothing happens.
const GLANCE: i128 = 1_000_000_000;

/// How often the log is looked at where the kernel does not tell of changes. A user has 128 watchers by default
/// (fs.inotify.max_user_instances, inotify(7)), and a daemon may have more clients than that.
const LOOK: i128 = 100_000_000;

/// How many follow in this process.
static FOLLOWERS: AtomicI64 = AtomicI64::new(0);

pub fn followers() -> i64 {
    FOLLOWERS.load(Ordering::Relaxed)
}

/// What `GET /events` asks.
pub struct Query {
    since: Option<Time>,
    until: Option<Time>,
    filters: Filters,
    /// Whether the client's version of the API has such events.
    known: fn(&Event) -> bool,
}

impl Query {
    /// `since` and `until` are points in time, or empty.
    pub fn new(since: &str, until: &str, filters: Filters, known: fn(&Event) -> bool) -> Result<Query> {
        filter::accept(&filters)?;
        let point = |text: &str| if text.is_empty() { Ok(None) } else { query::point(text).map(Some) };
        let (from, to) = (point(since)?, point(until)?);
        if let (Some(from), Some(to)) = (from, to)
            && to < from
        {
            bail!(Refusal::BadParameter(format!("`since` time ({since}) cannot be after `until` time ({until})")));
        }
        Ok(Query { since: from, until: to, filters, known })
    }

    fn is_past(&self) -> bool {
        self.until.is_some_and(|until| until < Time::now())
    }

    fn has(&self, event: &Event, past: bool) -> bool {
        let at = i128::from(event.time_nano);
        (!past || self.since.is_none_or(|since| at >= since.unix_nanos()))
            && self.until.is_none_or(|until| at <= until.unix_nanos())
            && (self.known)(event)
            && filter::takes(&self.filters, event)
    }
}

/// A place in the log: whatever happens after it was opened is told.
pub struct Follower {
    store: Store,
    query: Query,
    /// `None` where the kernel gives no more of them: then the log is looked at again and again.
    inotify: Option<OwnedFd>,
    /// The segment that is written, and before it the one before, in which a line may yet appear: a writer may have
    /// opened it before the rotation.
    segments: Vec<Segment>,
    /// What had happened before.
    past: Vec<Event>,
}

struct Segment {
    file: File,
    inode: u64,
    /// A line of which the end is not there yet.
    rest: Vec<u8>,
}

impl Follower {
    pub fn open(store: &Store, query: Query) -> Result<Follower> {
        let inotify = match watch(store) {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                log::debug!("events are looked for, not waited for: {error:#}");
                None
            }
        };
        FOLLOWERS.fetch_add(1, Ordering::Relaxed);
        let mut follower = Follower { store: store.clone(), query, inotify, segments: Vec::new(), past: Vec::new() };
        follower.segments = both(store).context("open the log of events")?;
        let replay = follower.query.since.is_some() || follower.query.until.is_some();
        let mut past = Vec::new();
        for segment in &mut follower.segments {
            let lines = segment.read().context("read the log of events")?;
            if replay {
                past.extend(events(&lines));
            }
        }
        let from = past.len().saturating_sub(REPLAY);
        follower.past = past.split_off(from);
        Ok(follower)
    }

    /// Writes events, a JSON line each by one write, until the time that was asked for, or for as long as the sink
    /// takes them. It is flushed every second, so that it can say that its reader has gone.
    pub fn run(mut self, sink: &mut dyn Write) -> io::Result<()> {
        for event in std::mem::take(&mut self.past) {
            if self.query.has(&event, true) {
                tell(event, sink)?;
            }
        }
        loop {
            let over = self.query.is_past();
            for event in self.news()? {
                if self.query.has(&event, false) {
                    tell(event, sink)?;
                }
            }
            if over {
                return Ok(());
            }
            sink.flush()?;
            self.wait();
        }
    }

    /// Waits until something is written, for a second at most.
    fn wait(&self) {
        let most = if self.inotify.is_some() { GLANCE } else { LOOK };
        let left = self.query.until.map_or(most, |until| until.unix_nanos() - Time::now().unix_nanos());
        let milliseconds = left.clamp(0, most) / 1_000_000 + 1;
        let timeout = PollTimeout::try_from(milliseconds as i32).unwrap_or(PollTimeout::ZERO);
        let watched = self.inotify.iter().map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN));
        let _ = nix::poll::poll(&mut watched.collect::<Vec<_>>(), timeout);
        // What it says does not matter: all that is there is read.
        if let Some(inotify) = &self.inotify {
            while nix::unistd::read(inotify, &mut [0; 4096]).is_ok_and(|length| length > 0) {}
        }
    }

    /// What has been written since the last time.
    fn news(&mut self) -> io::Result<Vec<Event>> {
        let mut news = Vec::new();
        loop {
            for segment in &mut self.segments {
                news.extend(events(&segment.read()?));
            }
            let ours = |inode| self.segments.iter().any(|segment| segment.inode == inode);
            let known = self.segments.len();
            let fresh: Vec<Segment> = both(&self.store)?.into_iter().filter(|new| !ours(new.inode)).collect();
            self.segments.extend(fresh);
            if self.segments.len() == known {
                return Ok(news);
            }
            // Before the one before the last nobody writes any more; it was read to its end after that became so.
            let gone = self.segments.len().saturating_sub(2).min(known);
            for segment in &mut self.segments[..gone] {
                news.extend(events(&segment.read()?));
            }
            self.segments.drain(..gone);
        }
    }
}

/// Asks the kernel to tell of changes to the log.
fn watch(store: &Store) -> Result<OwnedFd> {
    let inotify = inotify::init().context("watch for events")?;
    let dir = CString::new(store.run.as_os_str().as_bytes()).context("a NUL in a path")?;
    let mask = libc::IN_MODIFY | libc::IN_CREATE | libc::IN_MOVED_TO;
    inotify::watch(inotify.as_fd(), &dir, mask).with_context(|| format!("watch {}", store.run.display()))?;
    Ok(inotify)
}

impl Drop for Follower {
    fn drop(&mut self) {
        FOLLOWERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Both segments, the older one first, as far as they exist.
fn both(store: &Store) -> io::Result<Vec<Segment>> {
    loop {
        let older = Segment::open(&previous(store))?;
        let newer = Segment::open(&current(store))?;
        // A rotation in between would have hidden a segment.
        let inode = |segment: &Option<Segment>| segment.as_ref().map(|segment| segment.inode);
        if inode(&Segment::open(&previous(store))?) == inode(&older) {
            return Ok(older.into_iter().chain(newer).collect());
        }
    }
}

impl Segment {
    fn open(path: &Path) -> io::Result<Option<Segment>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Segment { inode: file.metadata()?.ino(), file, rest: Vec::new() })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The whole lines that have come since the last time.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        self.file.read_to_end(&mut self.rest)?;
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        Ok(self.rest.drain(..end).collect())
    }
}

/// Whether something that happened to a container was told, then or later.
pub fn was_told(store: &Store, id: &str, action: &str, since: Time) -> Result<bool> {
    for mut segment in both(store).context("open the log of events")? {
        let lines = segment.read().context("read the log of events")?;
        let is_it = |event: &Event| event.actor.id == id && event.action == action;
        if events(&lines).any(|event| is_it(&event) && i128::from(event.time_nano) >= since.unix_nanos()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The events in some lines. What is none (a full disk cut it off) is passed over.
fn events(lines: &[u8]) -> impl Iterator<Item = Event> {
    lines.split(|byte| *byte == b'\n').filter_map(|line| json::from_slice(line).ok())
}

fn tell(event: Event, sink: &mut dyn Write) -> io::Result<()> {
    let mut line = serde_json::to_vec(&event.with_legacy())?;
    line.push(b'\n');
    sink.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::events::{self, SEGMENT};
    use crate::order::Map;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    struct Home(std::path::PathBuf, Store);

    impl Home {
        fn new(name: &str) -> Home {
            let path = std::env::temp_dir().join(format!("dhow-events-{name}-{}", std::process::id()));
            let store = Store::open(&path.join("root"), &path.join("run")).unwrap();
            Home(path, store)
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn query(since: &str, until: &str) -> Query {
        Query::new(since, until, Filters::default(), |_| true).unwrap()
    }

    /// Counts whole lines, and ends after so many.
    struct Sink {
        lines: Vec<u8>,
        seen: Arc<AtomicUsize>,
        wanted: usize,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.lines.extend(bytes);
            if self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.wanted {
                return Err(ErrorKind::BrokenPipe.into());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Ten writers and a follower, over several rotations: every line arrives once, whole, in each writer's order.
    #[test]
    fn no_line_is_torn_lost_or_doubled() {
        const WRITERS: usize = 10;
        const EACH: usize = 400;
        let home = Home::new("writers");
        let follower = Follower::open(&home.1, query("", "")).unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let told = Arc::new(AtomicUsize::new(0));
        let mut sink = Sink { lines: Vec::new(), seen: Arc::clone(&seen), wanted: WRITERS * EACH };
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (store, seen, told) = (&home.1, &seen, &told);
                scope.spawn(move || {
                    let filler = "x".repeat(900);
                    for number in 0..EACH {
                        // A reader that is a whole segment behind may lose what is in it: here it never is.
                        while told.load(Ordering::SeqCst).saturating_sub(seen.load(Ordering::SeqCst)) > 500 {
                            std::thread::sleep(std::time::Duration::from_millis(1));
                        }
                        told.fetch_add(1, Ordering::SeqCst);
                        let id = format!("{writer}-{number}");
                        events::other(store, "volume", "create", &id, &[("filler", &filler)]);
                    }
                });
            }
            assert_eq!(follower.run(&mut sink).unwrap_err().kind(), ErrorKind::BrokenPipe);
        });
        let mut next: Map<String, usize> = Map::new();
        for line in sink.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let event: Event = serde_json::from_slice(line).unwrap();
            let (writer, number) = event.actor.id.split_once('-').unwrap();
            let expected = next.entry(writer.to_owned()).or_default();
            assert_eq!(number.parse(), Ok(*expected), "of writer {writer}");
            *expected += 1;
        }
        assert!(next.len() == WRITERS && next.values().all(|count| *count == EACH), "{next:?}");
        for segment in [current(&home.1), previous(&home.1)] {
            assert!(std::fs::metadata(&segment).unwrap().len() < SEGMENT + 64 * 1024, "{}", segment.display());
        }
    }

    #[test]
    fn the_past_is_the_last_256_within_its_bounds() {
        let home = Home::new("past");
        let told = |query: Query| {
            let mut lines = Vec::new();
            Follower::open(&home.1, query).unwrap().run(&mut lines).unwrap();
            let ids = events(&lines).map(|event| event.actor.id);
            ids.collect::<Vec<_>>()
        };
        let now = || Time::now().unix_nanos();
        let text = |nanos: i128| format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
        for number in 0..300 {
            events::other(&home.1, "volume", "create", &number.to_string(), &[]);
        }
        let middle = now();
        events::other(&home.1, "volume", "create", "after", &[]);
        let end = text(now());
        let ids = told(query("0", &end));
        assert_eq!((ids.len(), ids[0].as_str(), ids[255].as_str()), (256, "45", "after"));
        assert_eq!(told(query(&text(middle), &end)), ["after"]);
        assert_eq!(told(query("", &text(middle))).last().unwrap(), "299");
        assert_eq!(told(query(&end, &end)), Vec::<String>::new());
        let error = Query::new(&end, "1", Filters::default(), |_| true).err().unwrap();
        assert_eq!(error.to_string(), format!("`since` time ({end}) cannot be after `until` time (1)"));
        assert!(Query::new("yesterday", "", Filters::default(), |_| true).is_err());
    }
}
