//! Processes that share this one's memory: for work that needs what a thread cannot have, a pid namespace of its own, and
//! on the way to another program, where a copy of this one's memory would be for nothing.

use super::process::{self, pidfd_open, prctl};
use super::signals::{self, Signals};
use crate::log;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// Bytes of stack for work: what a thread of Rust's has.
const WORK: usize = 2 << 20;
/// Bytes of stack on the way to another program: more than system calls need in a build without optimization.
const WAY: usize = 64 << 10;
/// Nothing is mapped below a stack for as many bytes.
const GUARD: usize = 64 << 10;

/// Its lowest address, below which the guard is, and its length.
struct Stack(*mut c_void, usize);

// SAFETY: memory that whoever has it uses alone.
unsafe impl Send for Stack {}

impl Stack {
    fn new(length: usize) -> io::Result<Stack> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: new memory, at a place that the kernel chooses.
        let start = unsafe { libc::mmap(ptr::null_mut(), GUARD + length, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack(start.wrapping_byte_add(GUARD), length);
        // SAFETY: the lower end of what was mapped, which nobody uses yet.
        super::check(unsafe { libc::mprotect(start, GUARD, libc::PROT_NONE) }.into())?;
        Ok(stack)
    }

    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(self.1)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: as it was mapped, and nobody runs on it any more.
        unsafe { libc::munmap(self.0.wrapping_byte_sub(GUARD), GUARD + self.1) };
    }
}

/// Blocks all signals in this thread, and in what it clones; what was blocked before.
fn deaf() -> Signals {
    // But three that are the C library's own. Not by its call, which does not tell whether these were blocked before.
    let all = Signals::of((1..=64).filter(|number| !(32..=34).contains(number)));
    signals::block(all).unwrap_or_default()
}

/// `clone3(2)` as vfork: a child that does `way`, with this memory and open files of its own, until it executes another
/// program; this thread stands still for as long. What `way` returns is the exit code of one that came to no other. Its
/// pid, and a pidfd. With `cgroup`, the child is born in that v2 cgroup (5.7). It begins with all signals blocked.
///
/// The way may only make system calls, and not unwind: other threads of this process may hold what it would wait for.
pub fn start<W: Fn() -> c_int>(cgroup: Option<BorrowedFd>, way: W) -> io::Result<(i32, OwnedFd)> {
    extern "C" fn child<W: Fn() -> c_int>(way: *const c_void) -> ! {
        // SAFETY: what `start` gave; it lasts, because its thread goes on only once this process has left its memory.
        let way = unsafe { &*way.cast::<W>() };
        process::exit_now(way())
    }
    // To unmap one interrupts every processor that runs a thread of ours, so one is kept.
    static SPARE: Mutex<Option<Stack>> = Mutex::new(None);
    let spare = || SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = spare().take();
    let stack = kept.map_or_else(|| Stack::new(WAY), Ok)?;
    let before = deaf();
    // SAFETY: the stack is used by nobody else and outlives the child's use of it, as what `child` is given does.
    // Thread-local values are used by one of the two at a time, because this thread stands still.
    let cloned = unsafe { process::clone3_onto(stack.0, stack.1, cgroup, child::<W>, (&raw const way).cast()) };
    let _ = signals::set_blocked(before);
    *spare() = Some(stack);
    cloned
}

struct Errand<W> {
    work: Option<W>,
    done: bool,
    parent: OwnedFd,
}

/// Does the work in a process that has this one's memory and open files, but its own working directory; `flags` is a set
/// of `CLONE_NEW*`, namespaces of its own. It ends with the work, hears no signal but SIGKILL, and is killed when this
/// thread ends. Returns when the work is done; until then this thread stands still and the work uses what is the thread's,
/// as its thread-local values.
///
/// The work must not unwind. Where there can be no such process, it is handed back with the reason.
pub fn run<W: FnOnce() + Send>(flags: c_int, work: W) -> Result<(), (W, io::Error)> {
    let ours = pidfd_open(std::process::id() as i32);
    let (parent, stack) = match ours.and_then(|parent| Ok((parent, Stack::new(WORK)?))) {
        Ok(both) => both,
        Err(error) => return Err((work, error)),
    };
    let mut errand = Errand { work: Some(work), done: false, parent };
    // Else handlers of ours would run twice for each Ctrl-C.
    let before = deaf();
    // SAFETY: the stack is used by nobody else, and what `child` is given lasts: with CLONE_VFORK this thread goes on only
    // once the process has let go of this memory. Thread-local values are used by one of the two at a time for the same
    // reason. `child` never returns.
    let pid = unsafe {
        let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES;
        libc::clone(child::<W>, stack.top(), flags, (&raw mut errand).cast())
    };
    let failed = io::Error::last_os_error();
    let _ = signals::set_blocked(before);
    match (pid, errand.done, errand.work.take()) {
        (-1, _, Some(work)) => return Err((work, failed)),
        (_, true, _) => {}
        // As after a panic of a thread: what it held is held, and who waits for it waits for ever.
        _ => {
            let _ = nix::unistd::write(io::stderr(), b"dhow: a process that shares this one's memory was killed\n");
            std::process::abort()
        }
    }
    // It is not gone before its namespaces are, for which nobody waits.
    let reap = move || {
        let ended = || waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL));
        while ended() == Err(nix::errno::Errno::EINTR) {}
    };
    if let Err(error) = std::thread::Builder::new().stack_size(64 << 10).spawn(reap) {
        log::debug!("start a thread that waits for a process: {error}");
    }
    Ok(())
}

extern "C" fn child<W: FnOnce()>(errand: *mut c_void) -> c_int {
    // SAFETY: what `run` gave, which nobody else touches meanwhile.
    let errand = unsafe { &mut *errand.cast::<Errand<W>>() };
    let bound = prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).is_ok();
    // It may have ended just before; in a pid namespace of its own a process does not see its parent's number.
    let mut parent = [PollFd::new(errand.parent.as_fd(), PollFlags::POLLIN)];
    if bound && poll(&mut parent, PollTimeout::ZERO) == Ok(0) {
        if let Some(work) = errand.work.take() {
            work();
        }
        errand.done = true;
    }
    // SAFETY: ends the process; what is in memory is the other's too.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_by_another_process_in_this_memory() {
        let mut seen = Vec::new();
        let ours = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let done = run(libc::CLONE_NEWPID, || {
            seen.push(std::process::id());
            // Threads are threads of that process.
            let others = std::thread::scope(|scope| scope.spawn(std::process::id).join().unwrap());
            seen.push(others);
            assert_ne!(std::fs::read_link("/proc/self/ns/pid").unwrap(), ours);
        });
        match done {
            Ok(()) => assert_eq!(seen, [1, 1]),
            // Not root.
            Err((_, error)) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        assert_eq!(std::fs::read_link("/proc/self/ns/pid").unwrap(), ours);
    }

    #[test]
    fn the_way_to_another_program_is_in_this_memory() {
        let seen = std::cell::Cell::new(0);
        let (pid, _pidfd) = start(None, || {
            seen.set(std::process::id() as i32);
            // A signal that came meanwhile is the new program's to hear.
            nix::sys::signal::kill(Pid::this(), nix::sys::signal::SIGUSR1).unwrap();
            42
        })
        .unwrap();
        assert_eq!(seen.get(), pid);
        let ended = waitpid(Pid::from_raw(pid), None).unwrap();
        assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(Pid::from_raw(pid), 42));
        assert_ne!(pid, std::process::id() as i32);

        let words = |words: &[&str]| process::Strings::new(words.iter().map(|w| c_string(w)).collect());
        let (args, env) = (words(&["sh", "-c", "exit 7"]), words(&[]));
        let (pid, _pidfd) = start(None, || {
            process::execve(c"/bin/sh", &args, &env);
            1
        })
        .unwrap();
        let ended = waitpid(Pid::from_raw(pid), None).unwrap();
        assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(Pid::from_raw(pid), 7));
    }

    fn c_string(word: &str) -> std::ffi::CString {
        std::ffi::CString::new(word).unwrap()
    }

    #[test]
    fn many_at_once_leave_nothing() {
        let sum = std::sync::Mutex::new(0);
        std::thread::scope(|scope| {
            for n in 1..=20 {
                let sum = &sum;
                scope.spawn(move || run(0, || *sum.lock().unwrap() += n).map_err(|(_, error)| error).unwrap());
            }
        });
        assert_eq!(sum.into_inner().unwrap(), 210);
    }

    #[test]
    fn work_that_cannot_be_given_away_comes_back() {
        // The kernel knows no thread in a pid namespace of its own.
        let mut done = false;
        let Err((work, error)) = run(libc::CLONE_THREAD | libc::CLONE_NEWPID, || done = true) else { panic!("done") };
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        work();
        assert!(done);
    }
}
