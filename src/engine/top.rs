//! What `top` shows: the columns of ps, read from /proc, because no ps may be on the host.

use crate::api::time::Time;
use crate::api::types::Top;
use anyhow::{Result, bail};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// One process of a listing.
struct Process {
    pid: i32,
    ppid: i32,
    pgid: i64,
    sid: i64,
    uid: u32,
    gid: u32,
    tty: String,
    /// Processor time, in ticks.
    time: u64,
    /// Seconds since 1970.
    started: u64,
    /// Kilobytes; so are those of all that it has mapped.
    rss: u64,
    vsz: u64,
    nice: i64,
    priority: i64,
    processor: i64,
    flags: i64,
    threads: i64,
    locked: bool,
    /// Its terminal listens to it.
    foreground: bool,
    state: char,
    command: String,
    name: String,
}

/// A column: what is in it, and its title.
type Column = (&'static str, Cow<'static, str>);

/// The columns that can be asked for, by ps's names for them.
const COLUMNS: [(&[&str], &str); 36] = [
    (&["uid", "euid"], "UID"),
    (&["user", "uname", "euser"], "USER"),
    (&["gid", "egid"], "GID"),
    (&["pid", "tgid"], "PID"),
    (&["ppid"], "PPID"),
    (&["pgid", "pgrp"], "PGID"),
    (&["sid", "sess", "session"], "SID"),
    (&["c"], "C"),
    (&["pcpu", "%cpu"], "%CPU"),
    (&["pmem", "%mem"], "%MEM"),
    (&["stime"], "STIME"),
    (&["start_time", "bsdstart"], "START"),
    (&["etime"], "ELAPSED"),
    (&["etimes"], "ELAPSED"),
    (&["tty", "tt", "tname"], "TT"),
    (&["time", "cputime"], "TIME"),
    (&["bsdtime"], "TIME"),
    (&["cputimes", "times"], "TIME"),
    (&["args", "command"], "COMMAND"),
    (&["cmd"], "CMD"),
    (&["comm", "ucmd"], "COMMAND"),
    (&["ucomm"], "COMMAND"),
    (&["rss", "rssize", "rsz"], "RSS"),
    (&["sz"], "SZ"),
    (&["size"], "SIZE"),
    (&["vsz", "vsize"], "VSZ"),
    (&["stat"], "STAT"),
    (&["s", "state"], "S"),
    (&["ni", "nice"], "NI"),
    (&["pri"], "PRI"),
    (&["opri", "intpri"], "PRI"),
    (&["nlwp", "thcount"], "NLWP"),
    (&["psr"], "PSR"),
    (&["f", "flags"], "F"),
    (&["addr"], "ADDR"),
    (&["wchan"], "WCHAN"),
];

/// Lists processes. `args` are ps's: which columns are wanted, by name (`-o`) or by format (`-ef`, `aux`).
pub fn list(pids: &[i32], args: &[String]) -> Result<Top> {
    let columns = columns(args)?;
    let host = Host::read();
    let titles = columns.iter().map(|(_, title)| title.clone().into_owned()).collect();
    let mut processes = Vec::new();
    for pid in pids {
        // One that ends meanwhile is not listed.
        if let Some(process) = host.process(*pid) {
            processes.push(columns.iter().map(|(name, _)| host.cell(&process, name)).collect());
        }
    }
    Ok(Top { processes, titles })
}

/// Columns as they follow `-o`: separated by commas or spaces, the last of them with a title of its own (`pid=P`).
fn named(list: &str) -> Result<Vec<Column>> {
    let (names, title) = match list.split_once('=') {
        Some((names, title)) => (names, Some(title.trim().to_owned())),
        None => (list, None),
    };
    let mut columns = Vec::new();
    for name in names.split([',', ' ']).filter(|name| !name.is_empty()) {
        let found = COLUMNS.iter().find(|(names, _)| names.contains(&name));
        let Some((names, title)) = found else { bail!("ps: error: unknown user-defined format specifier {name:?}") };
        columns.push((names[0], Cow::Borrowed(*title)));
    }
    if let (Some(title), Some(last)) = (title, columns.last_mut()) {
        last.1 = Cow::Owned(title);
    }
    Ok(columns)
}

/// The formats that options stand for.
fn format(text: &'static str) -> Vec<Column> {
    let column =
        |word: &'static str| word.split_once(':').map_or((word, word.into()), |(name, title)| (name, title.into()));
    text.split(' ').map(column).collect()
}

fn columns(args: &[String]) -> Result<Vec<Column>> {
    let words: Vec<&str> = args.iter().flat_map(|arg| arg.split_whitespace()).collect();
    if words.is_empty() {
        return columns(&["-ef".to_owned()]);
    }
    let mut asked = Vec::new();
    let (mut full, mut long, mut extra, mut of_bsd, mut of_users) = (false, false, false, false, false);
    let mut rest = words.into_iter().peekable();
    while let Some(word) = rest.next() {
        if let Some(list) = word.strip_prefix("--format=") {
            asked.extend(named(list)?);
            continue;
        }
        // As ps has it, `-aux` is what people write who mean `aux`.
        let is_unix = word.starts_with('-') && word != "-aux";
        let letters = word.trim_start_matches('-');
        for (at, letter) in letters.char_indices() {
            match (is_unix, letter) {
                (_, 'o') => {
                    let mut list = letters[at + 1..].to_owned();
                    while rest
                        .peek()
                        .is_some_and(|word| list.is_empty() || list.ends_with(',') || !word.starts_with('-'))
                    {
                        list.push(' ');
                        list.push_str(rest.next().unwrap_or_default());
                    }
                    if list.trim().is_empty() {
                        bail!("ps: error: format specification must follow {}o", if is_unix { "-" } else { "" });
                    }
                    asked.extend(named(&list)?);
                    break;
                }
                // Which processes are meant is known, and there is no terminal that would be too narrow.
                (true, 'e' | 'A' | 'a' | 'd' | 'w') | (false, 'w') => {}
                (true, 'f') => full = true,
                (true, 'F') => extra = true,
                (true, 'l') => long = true,
                // Nor is a tree drawn or an environment shown.
                (false, 'a' | 'x' | 'e' | 'f' | 'g') | (true, 'x') => of_bsd = true,
                (false, 'u') => of_users = true,
                (true, _) => bail!("ps: error: unsupported SysV option"),
                (false, _) => bail!("ps: error: unsupported option (BSD syntax)"),
            }
        }
    }
    Ok(match (asked.is_empty(), of_users) {
        (false, _) => asked,
        (_, true) => format(
            "user:USER pid:PID pcpu:%CPU pmem:%MEM vsz:VSZ rss:RSS tty:TTY stat:STAT start_time:START bsdtime:TIME \
             args:COMMAND",
        ),
        _ if extra => {
            format("user:UID pid:PID ppid:PPID c:C sz:SZ rss:RSS psr:PSR stime:STIME tty:TTY time:TIME cmd:CMD")
        }
        _ if long && full => format(
            "f:F s:S user:UID pid:PID ppid:PPID c:C opri:PRI ni:NI addr:ADDR sz:SZ wchan:WCHAN stime:STIME tty:TTY time:TIME \
             cmd:CMD",
        ),
        _ if long => format(
            "f:F s:S uid:UID pid:PID ppid:PPID c:C opri:PRI ni:NI addr:ADDR sz:SZ wchan:WCHAN tty:TTY time:TIME comm:CMD",
        ),
        _ if full => format("user:UID pid:PID ppid:PPID c:C stime:STIME tty:TTY time:TIME cmd:CMD"),
        _ if of_bsd => format("pid:PID tty:TTY stat:STAT bsdtime:TIME args:COMMAND"),
        _ => format("pid:PID tty:TTY time:TIME comm:CMD"),
    })
}

/// What the listing needs to know of the host.
struct Host {
    users: HashMap<u32, String>,
    boot: u64,
    now: u64,
    /// Kilobytes.
    memory: u64,
}

/// Of a second, in what the kernel tells.
const TICKS: u64 = 100;

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
        let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = |line: &str| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Host {
            users: text.lines().filter_map(user).collect(),
            boot,
            now,
            memory: info.lines().find_map(total).unwrap_or(0).max(1),
        }
    }

    fn process(&self, pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let (front, rest) = stat.rsplit_once(") ")?;
        let name = front.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<i64>().ok();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let told = |key: &str, at: usize| -> Option<u32> {
            status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().nth(at)?.parse().ok())
        };
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
        let tty = number(4).unwrap_or(0);
        Some(Process {
            pid,
            ppid: number(1)? as i32,
            pgid: number(2)?,
            sid: number(3)?,
            uid: told("Uid:", 1)?,
            gid: told("Gid:", 1)?,
            tty: match ((tty >> 8) & 0xfff, (tty & 0xff) | ((tty >> 12) & 0xfff00)) {
                (136..=143, minor) => format!("pts/{minor}"),
                (4, minor) => format!("tty{minor}"),
                _ => "?".to_owned(),
            },
            time: (number(11)? + number(12)?) as u64,
            started: self.boot + number(19)? as u64 / TICKS,
            // A process of the kernel's own has none.
            rss: told("VmRSS:", 0).unwrap_or(0).into(),
            vsz: number(20)? as u64 / 1024,
            nice: number(16)?,
            priority: number(15)?,
            processor: number(36)?,
            flags: number(6)?,
            threads: number(17)?,
            locked: told("VmLck:", 0).is_some_and(|locked| locked > 0),
            foreground: number(2) == number(5),
            state: fields.first()?.chars().next()?,
            command: if command.is_empty() { format!("[{name}]") } else { command },
            name,
        })
    }

    fn cell(&self, process: &Process, column: &str) -> String {
        let age = self.now.saturating_sub(process.started);
        let days = |seconds: u64| match seconds / 86400 {
            0 => String::new(),
            days => format!("{days}-"),
        };
        let clock = |seconds: u64| format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let share = |tenths: u64| format!("{}.{}", tenths / 10, tenths % 10);
        let seconds = process.time / TICKS;
        match column {
            "uid" => process.uid.to_string(),
            "user" => self.users.get(&process.uid).cloned().unwrap_or_else(|| process.uid.to_string()),
            "gid" => process.gid.to_string(),
            "pid" => process.pid.to_string(),
            "ppid" => process.ppid.to_string(),
            "pgid" => process.pgid.to_string(),
            "sid" => process.sid.to_string(),
            "c" => (seconds * 100 / age.max(1)).min(99).to_string(),
            "pcpu" => share(process.time * 1000 / TICKS / age.max(1)),
            "pmem" => share((process.rss * 1000 / self.memory).min(999)),
            "stime" | "start_time" => self.begin(process.started),
            "etime" if age < 3600 => format!("{:02}:{:02}", age / 60, age % 60),
            "etime" => days(age) + &clock(age),
            "etimes" => age.to_string(),
            "tty" => process.tty.clone(),
            "time" => days(seconds) + &clock(seconds),
            "bsdtime" => format!("{}:{:02}", seconds / 60, seconds % 60),
            "cputimes" => seconds.to_string(),
            "rss" => process.rss.to_string(),
            "vsz" | "size" => process.vsz.to_string(),
            // In pages, whose size is not the same everywhere: the kernel counts them.
            "sz" => {
                let counted = fs::read_to_string(format!("/proc/{}/statm", process.pid)).unwrap_or_default();
                counted.split(' ').next().unwrap_or_default().to_owned()
            }
            "stat" => {
                let marks = [
                    ('<', process.nice < 0),
                    ('N', process.nice > 0),
                    ('L', process.locked),
                    ('s', process.sid == i64::from(process.pid)),
                    ('l', process.threads > 1),
                    ('+', process.foreground),
                ];
                let marks = marks.iter().filter(|(_, is)| *is).map(|(mark, _)| *mark);
                std::iter::once(process.state).chain(marks).collect()
            }
            "s" => process.state.to_string(),
            "ni" => process.nice.to_string(),
            "pri" => (39 - process.priority).to_string(),
            "opri" => (60 + process.priority).to_string(),
            "nlwp" => process.threads.to_string(),
            "psr" => process.processor.to_string(),
            // Those of the kernel's that say whether it has forked and not executed, and has used privileges.
            "f" => ((process.flags >> 6) & 7).to_string(),
            "addr" => "-".to_owned(),
            "wchan" => {
                let place = fs::read_to_string(format!("/proc/{}/wchan", process.pid)).unwrap_or_default();
                if matches!(place.as_str(), "" | "0") { "-".to_owned() } else { place }
            }
            "comm" | "ucomm" => process.name.clone(),
            _ => process.command.clone(),
        }
    }

    /// The time of a day, or month and day of what is older than that.
    fn begin(&self, started: u64) -> String {
        let date = Time { seconds: started as i64, nanos: 0 }.to_string();
        if self.now / 86400 == started / 86400 {
            return date.get(11..16).unwrap_or_default().to_owned();
        }
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month: usize = date.get(5..7).and_then(|text| text.parse().ok()).unwrap_or(1);
        format!("{}{}", MONTHS[(month - 1) % 12], date.get(8..10).unwrap_or("01"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_listed() {
        let me = std::process::id() as i32;
        let top = list(&[me, i32::MAX], &[]).unwrap();
        assert_eq!(top.titles.join(" "), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(top.processes.len(), 1);
        assert_eq!(top.processes[0][1], me.to_string());
        // Each column that can be asked for has something in it.
        let all = COLUMNS.map(|(names, _)| names[0]).join(",");
        let top = list(&[me], &["-o".to_owned(), all]).unwrap();
        for (cell, (names, _)) in top.processes[0].iter().zip(COLUMNS) {
            assert!(!cell.is_empty(), "{names:?}");
        }
        let of = |name: &str| &top.processes[0][COLUMNS.iter().position(|(names, _)| names.contains(&name)).unwrap()];
        assert_eq!((of("pid"), of("cmd").is_empty()), (&me.to_string(), false));
        let share: f64 = of("pmem").parse().unwrap();
        assert!((0.0..100.0).contains(&share), "{share}");
    }

    /// As procps 4 prints them.
    #[test]
    fn columns_are_those_of_ps() {
        for (args, expected) in [
            ("", "UID PID PPID C STIME TTY TIME CMD"),
            ("-e -f", "UID PID PPID C STIME TTY TIME CMD"),
            ("aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("faux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("ax", "PID TTY STAT TIME COMMAND"),
            ("-e", "PID TTY TIME CMD"),
            ("-l", "F S UID PID PPID C PRI NI ADDR SZ WCHAN TTY TIME CMD"),
            ("-eF", "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD"),
            ("-o pid,comm", "PID COMMAND"),
            ("-opid,pcpu", "PID %CPU"),
            ("-eo pid,user -o args", "PID USER COMMAND"),
            ("axo pid, %mem etime", "PID %MEM ELAPSED"),
            ("-o pid,cmd=WHAT", "PID WHAT"),
            ("-o", "ps: error: format specification must follow -o"),
            ("-o pid,nope", "ps: error: unknown user-defined format specifier \"nope\""),
            ("foo", "ps: error: unknown user-defined format specifier \"o\""),
            ("-Q", "ps: error: unsupported SysV option"),
            ("b", "ps: error: unsupported option (BSD syntax)"),
        ] {
            let found = match columns(&[args.to_owned()]) {
                Ok(columns) => columns.iter().map(|(_, title)| title.as_ref()).collect::<Vec<_>>().join(" "),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{args}");
        }
    }
}
