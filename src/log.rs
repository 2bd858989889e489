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

/// Tells something of the module `of`: for the macros below, which look first whether it is to be told.
pub fn tell(of: &str, what: fmt::Arguments) {
    if let Some(sink) = SINK.get() {
        sink(&format!("{of}: {what}"));
    }
}

macro_rules! tells {
    ($($name:ident $level:ident)*) => { $( tells!(($) $name $level); )* };
    (($d:tt) $name:ident $level:ident) => {
        macro_rules! $name {
            ($d($d what:tt)*) => {
                if $crate::log::is_told($crate::log::Level::$level) {
                    $crate::log::tell(module_path!(), format_args!($d($d what)*))
                }
            };
        }
        pub(crate) use $name;
    };
}

tells! { debug Debug error Error info Info warning Warn }

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[test]
    fn what_is_not_told_is_not_made() {
        to(|text| TOLD.lock().unwrap().push(text.to_owned()), Level::Warn);
        let mut made = 0;
        crate::log::debug!("{}", {
            made += 1;
            "a line"
        });
        crate::log::warning!("{} {}", "a warning", {
            made += 10;
            made
        });
        assert_eq!(made, 10);
        let told = TOLD.lock().unwrap().clone();
        let ours: Vec<&String> = told.iter().filter(|text| text.starts_with(module_path!())).collect();
        assert_eq!(ours, [&format!("{}: a warning 10", module_path!())]);
    }
}
