//! Channels between threads: the standard library's, in one kind instead of three, which are thirty kilobytes of the
//! executable for our dozen types. What goes through here are pieces of layers and lines for people, not millions.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

struct Shared<T> {
    state: Mutex<State<T>>,
    /// How many may wait to be received.
    most: usize,
    filled: Condvar,
    emptied: Condvar,
}

struct State<T> {
    queue: VecDeque<T>,
    senders: usize,
    receives: bool,
}

/// There is no receiver any more: what was to be sent.
#[derive(Debug)]
pub struct SendError<T>(pub T);

/// There is no sender any more, and all is received.
#[derive(Debug, PartialEq, Eq)]
pub struct RecvError;

#[derive(Debug, PartialEq, Eq)]
pub enum RecvTimeoutError {
    Timeout,
    Disconnected,
}

pub struct Sender<T>(Arc<Shared<T>>);

pub struct Receiver<T>(Arc<Shared<T>>);

/// Sending never waits.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

/// Sending waits while so many, at least one, wait to be received.
pub fn bounded<T>(most: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { queue: VecDeque::new(), senders: 1, receives: true };
    let (filled, emptied) = (Condvar::new(), Condvar::new());
    let shared = Arc::new(Shared { state: Mutex::new(state), most: most.max(1), filled, emptied });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Sender<T> {
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        let mut state = self.0.lock();
        while state.receives && state.queue.len() >= self.0.most {
            state = self.0.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.receives {
            return Err(SendError(item));
        }
        state.queue.push_back(item);
        drop(state);
        self.0.filled.notify_one();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
        self.0.filled.notify_one();
    }
}

impl<T> Receiver<T> {
    pub fn recv(&self) -> Result<T, RecvError> {
        self.by(None).map_err(|_| RecvError)
    }

    pub fn recv_timeout(&self, most: Duration) -> Result<T, RecvTimeoutError> {
        self.by(Some(Instant::now() + most))
    }

    /// What has come, if anything has.
    pub fn try_recv(&self) -> Option<T> {
        let item = self.0.lock().queue.pop_front();
        self.0.emptied.notify_one();
        item
    }

    fn by(&self, end: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let mut state = self.0.lock();
        loop {
            if let Some(item) = state.queue.pop_front() {
                drop(state);
                self.0.emptied.notify_one();
                return Ok(item);
            }
            if state.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            state = match end.map(|end| end.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Err(RecvTimeoutError::Timeout),
                Some(left) => self.0.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.0.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.receives = false;
        // Nobody comes for what is left; what it does when it is dropped is not for behind the lock.
        let left = std::mem::take(&mut state.queue);
        drop(state);
        self.0.emptied.notify_all();
        drop(left);
    }
}

/// Until there is no sender any more.
impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = Items<T>;

    fn into_iter(self) -> Items<T> {
        Items(self)
    }
}

pub struct Items<T>(Receiver<T>);

impl<T> Iterator for Items<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn all_comes_in_order_and_ends() {
        for most in [1, 2, usize::MAX] {
            let (sender, receiver) = bounded(most);
            let received = thread::scope(|scope| {
                for of in 0..3 {
                    let sender = sender.clone();
                    scope.spawn(move || (0..1000).for_each(|number| sender.send((of, number)).unwrap()));
                }
                drop(sender);
                receiver.into_iter().collect::<Vec<_>>()
            });
            for of in 0..3 {
                let numbers = received.iter().filter(|(from, _)| *from == of).map(|(_, number)| *number);
                assert!(numbers.eq(0..1000), "{most} {of}");
            }
        }
    }

    #[test]
    fn whoever_waits_is_told_of_the_end() {
        let (sender, receiver) = bounded::<u8>(1);
        thread::scope(|scope| {
            let waits = scope.spawn(|| receiver.recv());
            drop(sender);
            assert_eq!(waits.join().unwrap(), Err(RecvError));
        });
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Disconnected));

        let (sender, receiver) = bounded(1);
        sender.send(1).unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| sender.send(2));
            drop(receiver);
            assert_eq!(waits.join().unwrap().unwrap_err().0, 2);
        });
        assert_eq!(sender.send(3).unwrap_err().0, 3);
    }

    #[test]
    fn one_does_not_wait_for_ever() {
        let (sender, receiver) = channel();
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
        sender.send('a').unwrap();
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok('a'));
        assert_eq!(receiver.try_recv(), None);
    }
}
