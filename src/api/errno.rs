//! How errors of the operating system are spelt: as Go's programs do, whatever library they come of. Clients look for
//! these words, and people search for them.

use nix::errno::Errno;
use std::borrow::Cow;
use std::io;

/// The last number that Linux has.
const LAST: i32 = libc::EHWPOISON;

/// A text about an error, with Go's words for what the operating system said in it.
pub fn spelt(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for number in 1..=LAST {
        // As the standard library shows it, and as nix does.
        for shown in [io::Error::from_raw_os_error(number).to_string(), Errno::from_raw(number).to_string()] {
            if text.contains(&shown) {
                text = Cow::Owned(text.replace(&shown, &words(number)));
            }
        }
    }
    text
}

/// Go's words for an error.
pub fn words(number: i32) -> String {
    let words = match number {
        libc::EIO => "input/output error",
        libc::E2BIG => "argument list too long",
        libc::ECHILD => "no child processes",
        libc::ENOMEM => "cannot allocate memory",
        libc::EBUSY => "device or resource busy",
        libc::EXDEV => "invalid cross-device link",
        libc::EMFILE => "too many open files",
        libc::ENOTTY => "inappropriate ioctl for device",
        libc::EDOM => "numerical argument out of domain",
        libc::ERANGE => "numerical result out of range",
        libc::EDEADLK => "resource deadlock avoided",
        libc::ENAMETOOLONG => "file name too long",
        libc::ENOLCK => "no locks available",
        libc::ELOOP => "too many levels of symbolic links",
        libc::EBADMSG => "bad message",
        libc::EOVERFLOW => "value too large for defined data type",
        libc::EILSEQ => "invalid or incomplete multibyte or wide character",
        libc::ENOTSOCK => "socket operation on non-socket",
        libc::EPROTOTYPE => "protocol wrong type for socket",
        libc::EOPNOTSUPP => "operation not supported",
        libc::EAFNOSUPPORT => "address family not supported by protocol",
        libc::EADDRINUSE => "address already in use",
        libc::EADDRNOTAVAIL => "cannot assign requested address",
        libc::ENETUNREACH => "network is unreachable",
        libc::ECONNABORTED => "software caused connection abort",
        libc::EISCONN => "transport endpoint is already connected",
        libc::ENOTCONN => "transport endpoint is not connected",
        libc::ETIMEDOUT => "connection timed out",
        libc::EHOSTUNREACH => "no route to host",
        libc::EALREADY => "operation already in progress",
        libc::EINPROGRESS => "operation now in progress",
        libc::ESTALE => "stale file handle",
        libc::EDQUOT => "disk quota exceeded",
        // The same words but for the first letter.
        _ => {
            let shown = Errno::from_raw(number).desc();
            let mut chars = shown.chars();
            let first = chars.next().map(|first| first.to_ascii_lowercase());
            return first.into_iter().chain(chars).collect();
        }
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn go_has_words_for_errors() {
        for (number, words) in [
            (libc::EPERM, "operation not permitted"),
            (libc::ENOENT, "no such file or directory"),
            (libc::EEXIST, "file exists"),
            (libc::ENOTDIR, "not a directory"),
            (libc::EISDIR, "is a directory"),
            (libc::EINVAL, "invalid argument"),
            (libc::ENOSPC, "no space left on device"),
            (libc::EROFS, "read-only file system"),
            (libc::EBUSY, "device or resource busy"),
            (libc::ENOTEMPTY, "directory not empty"),
            (libc::ECONNREFUSED, "connection refused"),
            (libc::ECONNRESET, "connection reset by peer"),
            (libc::EADDRINUSE, "address already in use"),
            (libc::EPIPE, "broken pipe"),
            (libc::ENODEV, "no such device"),
            (libc::EACCES, "permission denied"),
        ] {
            let of_std = Err::<(), _>(io::Error::from_raw_os_error(number)).context("open /x");
            let of_nix = Err::<(), _>(Errno::from_raw(number)).context("open /x");
            for error in [of_std.unwrap_err(), of_nix.unwrap_err()] {
                assert_eq!(spelt(&format!("{error:#}: again")), format!("open /x: {words}: again"));
            }
        }
        let known = |number: &i32| Errno::from_raw(*number) != Errno::UnknownErrno;
        assert!((1..=LAST).filter(known).all(|number| words(number).starts_with(|first: char| !first.is_uppercase())));
        assert!(matches!(spelt("No such container: x"), Cow::Borrowed(_)));
    }
}
