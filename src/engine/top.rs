//! What `top` shows: the columns of `ps -ef`, read from /proc, because no ps may be on the host.

use crate::api::Refusal;
use crate::api::types::Top;
use anyhow::{Result, bail};
use std::collections::HashMap;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// One process of a listing.
struct Process {
    pid: i32,
    ppid: i32,
    uid: u32,
    tty: String,
    /// Seconds of processor time.
    time: u64,
    /// Seconds since 1970.
    started: u64,
    /// Kilobytes, pages resident.
    rss: u64,
    vsz: u64,
    nice: i64,
    state: char,
    command: String,
    name: String,
}

/// The columns that we know, by ps's names for them.
const COLUMNS: [(&str, &str); 14] = [
    ("uid", "UID"),
    ("user", "USER"),
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("c", "C"),
    ("stime", "STIME"),
    ("tty", "TTY"),
    ("time", "TIME"),
    ("cmd", "CMD"),
    ("args", "COMMAND"),
    ("comm", "COMMAND"),
    ("rss", "RSS"),
    ("vsz", "VSZ"),
    ("stat", "STAT"),
];

/// Lists processes. `args` are ps's: nothing, `-ef`, `aux`, or `-o` and columns.
pub fn list(pids: &[i32], args: &[String]) -> Result<Top> {
    let columns = columns(args)?;
    let host = Host::read();
    let titles = columns.iter().map(|(_, title)| (*title).to_owned()).collect();
    let mut processes = Vec::new();
    for pid in pids {
        // One that ends meanwhile is not listed.
        if let Some(process) = host.process(*pid) {
            processes.push(columns.iter().map(|(name, _)| host.cell(&process, name)).collect());
        }
    }
    Ok(Top { processes, titles })
}

fn columns(args: &[String]) -> Result<Vec<(&'static str, &'static str)>> {
    let named = |name: &str| {
        let found = COLUMNS.iter().find(|(column, _)| *column == name.trim());
        found.copied().ok_or_else(|| Refusal::BadParameter(format!("top: unknown column {name:?}")))
    };
    let list = |names: &[&str]| names.iter().map(|name| named(name)).collect::<Result<Vec<_>, _>>();
    let words: Vec<&str> = args.iter().flat_map(|arg| arg.split_whitespace()).collect();
    Ok(match words.as_slice() {
        [] | ["-ef"] | ["-e", "-f"] | ["-f"] | ["ef"] => {
            list(&["uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd"])?
        }
        ["aux"] | ["-aux"] | ["u"] => list(&["user", "pid", "vsz", "rss", "tty", "stat", "stime", "time", "args"])?,
        ["-o" | "-eo" | "o" | "axo", rest @ ..] if !rest.is_empty() => {
            let names: Vec<&str> =
                rest.iter().flat_map(|word| word.split(',')).filter(|name| !name.is_empty()).collect();
            list(&names)?
        }
        _ => bail!(Refusal::BadParameter(format!("top: ps arguments {:?} are not supported", words.join(" ")))),
    })
}

/// What the listing needs to know of the host.
struct Host {
    users: HashMap<u32, String>,
    boot: u64,
    ticks: u64,
}

impl Host {
    fn read() -> Host {
        let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.parse().ok()?, name))
        };
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0);
        Host { users: text.lines().filter_map(user).collect(), boot, ticks: 100 }
    }

    fn process(&self, pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let (front, rest) = stat.rsplit_once(") ")?;
        let name = front.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<i64>().ok();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse().ok())?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
        let tty = number(4).unwrap_or(0);
        Some(Process {
            pid,
            ppid: number(1)? as i32,
            uid,
            tty: match ((tty >> 8) & 0xfff, (tty & 0xff) | ((tty >> 12) & 0xfff00)) {
                (136..=143, minor) => format!("pts/{minor}"),
                (4, minor) => format!("tty{minor}"),
                _ => "?".to_owned(),
            },
            time: (number(11)? + number(12)?) as u64 / self.ticks,
            started: self.boot + number(19)? as u64 / self.ticks,
            rss: number(21)? as u64 * 4,
            vsz: number(20)? as u64 / 1024,
            nice: number(16)?,
            state: fields.first()?.chars().next()?,
            command: if command.is_empty() { format!("[{name}]") } else { command },
            name,
        })
    }

    fn cell(&self, process: &Process, column: &str) -> String {
        let clock = |seconds: u64| format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        match column {
            "uid" | "user" => self.users.get(&process.uid).cloned().unwrap_or_else(|| process.uid.to_string()),
            "pid" => process.pid.to_string(),
            "ppid" => process.ppid.to_string(),
            "c" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                (process.time * 100 / now.saturating_sub(process.started).max(1)).min(99).to_string()
            }
            "stime" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let day = process.started / 86400;
                if now / 86400 == day {
                    clock(process.started % 86400)[..5].to_owned()
                } else {
                    // Month and day, as ps says of what is older than a day.
                    let date = crate::api::time::Time { seconds: process.started as i64, nanos: 0 }.to_string();
                    const MONTHS: [&str; 12] =
                        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
                    let month: usize = date.get(5..7).and_then(|text| text.parse().ok()).unwrap_or(1);
                    format!("{}{}", MONTHS[(month - 1) % 12], date.get(8..10).unwrap_or("01"))
                }
            }
            "tty" => process.tty.clone(),
            "time" => clock(process.time),
            "rss" => process.rss.to_string(),
            "vsz" => process.vsz.to_string(),
            "stat" => {
                let priority = if process.nice < 0 {
                    "<"
                } else if process.nice > 0 {
                    "N"
                } else {
                    ""
                };
                format!("{}{priority}", process.state)
            }
            "comm" => process.name.clone(),
            _ => process.command.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_listed() {
        let top = list(&[std::process::id() as i32, i32::MAX], &[]).unwrap();
        assert_eq!(top.titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(top.processes.len(), 1);
        assert_eq!(top.processes[0][1], std::process::id().to_string());
        let some = list(&[1], &["-o".to_owned(), "pid,comm".to_owned()]).unwrap();
        assert_eq!(some.titles, ["PID", "COMMAND"]);
        assert!(list(&[1], &["-o".to_owned(), "nope".to_owned()]).is_err());
    }
}
