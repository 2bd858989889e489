//! The terminal that we were started on: its size, raw mode and the way back, and the signals that reach us there.

use crate::sys;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Stdin};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, Once};

/// Rows and columns, if it is a terminal that knows them.
pub fn size(fd: &(impl AsFd + IsTerminal)) -> Option<(u16, u16)> {
    if !fd.is_terminal() {
        return None;
    }
    sys::tty::window_size(fd.as_fd()).ok().filter(|size| *size != (0, 0))
}

/// Refuses to give a container's terminal an input that is none: its echo and its keys would not work.
pub fn check(stdin: bool, tty: bool) -> Result<()> {
    if stdin && tty && !std::io::stdin().is_terminal() {
        bail!("the input device is not a TTY");
    }
    Ok(())
}

/// Stdin in raw mode, for as long as this lives.
pub struct Raw(());

/// What the terminal was before raw mode; here, so that a panic finds it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

impl Raw {
    pub fn enter(stdin: &Stdin) -> Result<Raw> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                next(panic);
            }));
        });
        let before = tcgetattr(stdin).context("reading the terminal's mode")?;
        let raw = Raw(());
        *BEFORE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(before);
        raw.apply()?;
        Ok(raw)
    }

    /// The terminal as it is, but it does not show what is typed.
    fn hide(stdin: &Stdin) -> Result<Raw> {
        let before = tcgetattr(stdin).context("reading the terminal's mode")?;
        let mut mode = before.clone();
        mode.local_flags.remove(LocalFlags::ECHO);
        mode.local_flags.insert(LocalFlags::ICANON | LocalFlags::ISIG);
        *BEFORE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(before);
        let hidden = Raw(());
        tcsetattr(stdin, SetArg::TCSAFLUSH, &mode).context("hiding what is typed")?;
        Ok(hidden)
    }

    /// Sets raw mode, again after the shell had the terminal meanwhile.
    pub fn apply(&self) -> Result<()> {
        let before = BEFORE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let Some(mut mode) = before else { return Ok(()) };
        cfmakeraw(&mut mode);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &mode).context("setting the terminal's raw mode")
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Asks for a line on the terminal, which shows what is typed or does not. The end of the input is an empty line.
pub fn ask(question: &str, echo: bool) -> Result<String> {
    let stdin = std::io::stdin();
    let mut signals = signals(false)?;
    let _hidden = if echo { None } else { Some(Raw::hide(&stdin)?) };
    super::output::say(question)?;
    let mut line = Vec::new();
    loop {
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the terminal"),
        }
        let typed = fds[0].any().unwrap_or_default();
        if let Some(signal) = signals.next().filter(|signal| !matches!(*signal, libc::SIGWINCH | libc::SIGCONT)) {
            die(signal);
        }
        if !typed {
            continue;
        }
        // One by one: what is typed ahead is for the next question.
        let mut byte = [0];
        match nix::unistd::read(&stdin, &mut byte) {
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.push(byte[0]),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("reading from the terminal"),
        }
    }
    if !echo {
        super::output::say("\n")?;
    }
    String::from_utf8(line).context("what was typed is not UTF-8")
}

/// Puts the terminal back as it was, once. What was written is printed first.
fn restore() {
    // A panic of the holder itself must not block here.
    let before = match BEFORE.try_lock() {
        Ok(mut before) => before.take(),
        Err(_) => None,
    };
    if let Some(before) = before {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &before);
    }
}

/// Ends the process by a signal, as if we had not been watching for it.
pub fn die(signal: i32) -> ! {
    restore();
    let _ = sys::process::default_signal(signal);
    let _ = sys::signals::set_blocked(sys::signals::Signals::default());
    let _ = sys::signals::send(std::process::id() as i32, signal);
    // One whose default is not to end the process.
    std::process::exit(128 + signal)
}

/// The signals that reach us, as a descriptor to poll; they are blocked for as long as this lives.
pub struct Signals {
    fd: OwnedFd,
    before: sys::signals::Signals,
    /// Whether they are for the container.
    pub forward: bool,
}

/// What Docker does not pass on: WINCH becomes a resize, CONT a return to raw mode.
const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
/// The others that end a process, unless its own mistake raises them, and SIGPIPE, which nobody sends.
const RARE: [i32; 13] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGPROF,
    libc::SIGVTALRM,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
];
/// The real-time signals that a program may use, as Docker and the other C library number them.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Watches from now on for every signal that reaches a terminal's container, or would end us and leave the terminal as
/// it is.
pub fn signals(forward: bool) -> Result<Signals> {
    let stop = forward.then_some(libc::SIGTSTP);
    watch(RARE.into_iter().chain(REAL_TIME).chain(stop), forward)
}

/// Watches from now on for those by which people end a program.
pub fn endings() -> Result<Signals> {
    watch([], false)
}

fn watch(more: impl IntoIterator<Item = i32>, forward: bool) -> Result<Signals> {
    let ours = ENDING.into_iter().chain([libc::SIGWINCH, libc::SIGCONT]);
    let set = sys::signals::Signals::of(ours.chain(more));
    let before = sys::signals::block(set).context("blocking signals")?;
    let fd = sys::signals::descriptor(set).context("watching signals")?;
    Ok(Signals { fd, before, forward })
}

/// A signal as Docker's client names it.
pub fn signal_name(signal: i32) -> String {
    let (first, last) = (*REAL_TIME.start(), *REAL_TIME.end());
    match signal {
        first_one if first_one == first => "SIGRTMIN".to_owned(),
        last_one if last_one == last => "SIGRTMAX".to_owned(),
        // Halfway the names begin to count down.
        low if (first..=first + 15).contains(&low) => format!("SIGRTMIN+{}", low - first),
        high if REAL_TIME.contains(&high) => format!("SIGRTMAX-{}", last - high),
        other => Signal::try_from(other).map_or_else(|_| other.to_string(), |signal| signal.as_str().to_owned()),
    }
}

impl Signals {
    /// The next one that came, if any.
    pub fn next(&mut self) -> Option<i32> {
        sys::signals::read(self.fd.as_fd()).ok()?
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = sys::signals::set_blocked(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_signals() {
        for (signal, name) in [
            (libc::SIGUSR1, "SIGUSR1"),
            (libc::SIGIO, "SIGIO"),
            (34, "SIGRTMIN"),
            (37, "SIGRTMIN+3"),
            (49, "SIGRTMIN+15"),
            (50, "SIGRTMAX-14"),
            (63, "SIGRTMAX-1"),
            (64, "SIGRTMAX"),
        ] {
            assert_eq!(signal_name(signal), name, "{signal}");
        }
    }
}
