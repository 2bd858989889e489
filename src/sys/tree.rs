//! Processes and their parents, as /proc has them (proc_pid_stat(5)).

use std::fs;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
}

/// All that live at this moment. One that has ended and is yet to be buried is none of them.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

fn parse(pid: i32, stat: &str) -> Option<Process> {
    // The name stands in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    Some(Process { pid, parent: fields.next()?.parse().ok()? })
}

/// Some of them, and all that descend from these.
pub fn with_descendants(mut some: Vec<i32>, all: &[Process]) -> Vec<i32> {
    let mut at = 0;
    while let Some(parent) = some.get(at).copied() {
        for child in all.iter().filter(|process| process.parent == parent) {
            if !some.contains(&child.pid) {
                some.push(child.pid);
            }
        }
        at += 1;
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_and_those_below_them() {
        let process = |pid, parent| Process { pid, parent };
        assert_eq!(parse(7, "7 (a ) S 1 2) b) S 3 7 1 0 -1"), Some(process(7, 3)));
        assert_eq!(parse(7, "7 (sh) Z 3 7 1 0 -1"), None);
        let all = [process(9, 8), process(8, 7), process(7, 1), process(6, 1), process(5, 6)];
        assert_eq!(with_descendants(vec![7], &all), [7, 8, 9]);
        assert_eq!(with_descendants(vec![8, 6, 5], &all), [8, 6, 5, 9]);
        let ours = std::process::id() as i32;
        assert!(super::all().iter().any(|process| process.pid == ours && process.parent > 0));
    }
}
