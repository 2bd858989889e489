//! A daemon behind ssh: `docker system dial-stdio` there carries one connection.

use super::address::Ssh;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A connection by the user's ssh, with the keys and the configuration that it has.
pub fn dial(to: &Ssh) -> io::Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    let mut ssh = Command::new("ssh");
    ssh.args(words(to)).stdin(Stdio::from(theirs.try_clone()?)).stdout(Stdio::from(theirs));
    // Keys that are meant for the container do not end the way to it.
    ssh.process_group(0);
    let mut child = ssh.spawn().map_err(|error| io::Error::new(error.kind(), format!("run ssh: {error}")))?;
    // Reaped when it ends, which it does with its connection.
    std::thread::Builder::new().name("ssh".to_owned()).stack_size(64 << 10).spawn(move || child.wait())?;
    Ok(ours)
}

fn words(to: &Ssh) -> Vec<String> {
    let mut words: Vec<String> = ["-o", "ConnectTimeout=30", "-T"].map(str::to_owned).into();
    if let Some(user) = &to.user {
        words.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(port) = to.port {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    words.extend(["--", to.host.as_str(), "docker"].map(str::to_owned));
    if let Some(path) = &to.path {
        // The shell there reads it.
        words.push(format!("--host='unix://{}'", path.replace('\'', "'\\''")));
    }
    words.extend(["system", "dial-stdio"].map(str::to_owned));
    words
}

#[cfg(test)]
mod tests {
    use super::super::address::Address;
    use super::*;

    #[test]
    fn the_line_that_ssh_gets() {
        let table = [
            ("ssh://host", "-o ConnectTimeout=30 -T -- host docker system dial-stdio"),
            (
                "ssh://me@host:22/run/it's.sock",
                "-o ConnectTimeout=30 -T -l me -p 22 -- host docker --host='unix:///run/it'\\''s.sock' system dial-stdio",
            ),
        ];
        for (text, expected) in table {
            let Address::Ssh(to) = Address::parse(text, false).unwrap() else { panic!("{text}") };
            assert_eq!(words(&to).join(" "), expected);
        }
    }
}
