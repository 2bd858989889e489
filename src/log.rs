//! What the program tells of its work, up to a level (`--debug`, `--log-level`).
//!
//! Not by the crate of that name: what others log by it nobody is shown, and a hundred messages of TLS and HTTP, with
//! all that they can show of themselves, were thirty kilobytes of the executable. So there its levels are all off.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Error = 1,
    Warn,
    Info,
    Debug,
}

/// Up to which level is told; 0 for nothing.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// Who is told.
static SINK: OnceLock<fn(&str)> = OnceLock::new();

/// Tells what is up to this level from now on.
pub fn set(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Where it is told, at this level at least. The first sink stays.
pub fn to(sink: fn(&str), level: Level) {
    let _ = SINK.set(sink);
    LEVEL.fetch_max(level as u8, Ordering::Relaxed);
}

pub fn is_told(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Tells something of the module `of`: what the macros below call.
pub fn tell(level: Level, of: &str, what: fmt::Arguments) {
    if is_told(level)
        && let Some(sink) = SINK.get()
    {
        sink(&format!("{of}: {what}"));
    }
}

macro_rules! tells {
    ($($name:ident $level:ident)*) => { $( tells!(($) $name $level); )* };
    (($d:tt) $name:ident $level:ident) => {
        macro_rules! $name {
            ($d($d what:tt)*) => {
                $crate::log::tell($crate::log::Level::$level, module_path!(), format_args!($d($d what)*))
            };
        }
        pub(crate) use $name;
    };
}

tells! { debug Debug error Error info Info warning Warn }
