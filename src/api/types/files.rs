//! What the API says of a container's files.

use super::wire;
use crate::json::fields::fields;

fields! {
    /// What lies at a path of a container: the header `X-Docker-Container-Path-Stat`, as JSON in base64.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct PathStat {
        /// The last component of the path that was asked for.
        pub name: String,
        pub size: i64,
        /// The bits of Go's FileMode: see [`PathStat::go_mode`].
        pub mode: u32,
        /// RFC 3339.
        pub mtime: String,
        /// Where a symbolic link leads in the end; empty for anything else.
        pub link_target: String,
    }
}

const GO_DIR: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;

impl PathStat {
    /// A mode of stat(2) as Go has it.
    pub fn go_mode(mode: u32) -> u32 {
        const S_IFMT: u32 = 0o170000;
        let kind = match mode & S_IFMT {
            0o040000 => GO_DIR,
            0o120000 => GO_SYMLINK,
            0o060000 => 1 << 26,
            0o020000 => 1 << 26 | 1 << 21,
            0o010000 => 1 << 25,
            0o140000 => 1 << 24,
            _ => 0,
        };
        let bit = |here: u32, there: u32| if mode & here != 0 { there } else { 0 };
        kind | bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20) | mode & 0o777
    }

    pub fn is_dir(&self) -> bool {
        self.mode & GO_DIR != 0
    }

    pub fn is_symlink(&self) -> bool {
        self.mode & GO_SYMLINK != 0
    }

    /// Neither a device, nor a FIFO, nor a socket.
    pub fn is_plain(&self) -> bool {
        self.mode & (1 << 26 | 1 << 25 | 1 << 24) == 0
    }
}

wire! {
    /// The answer of `POST /containers/{id}/update`.
    pub struct Updated {
        pub warnings: Option<Vec<String>>,
    }

    /// The answer of `POST /commit`.
    pub struct Committed {
        pub id: String,
    }

    /// A path that a container changed.
    pub struct Change {
        pub path: String,
        /// [`Change::MODIFIED`], [`Change::ADDED`] or [`Change::DELETED`].
        pub kind: u8,
    }
}

impl Change {
    pub const MODIFIED: u8 = 0;
    pub const ADDED: u8 = 1;
    pub const DELETED: u8 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        for (mode, go) in [
            (0o100644, 420),
            (0o040755, 2147484141),
            (0o041777, 2148532735),
            (0o120777, 134218239),
            (0o104711, 8389065),
            (0o020666, 69206454),
            (0o010600, 33554816),
        ] {
            assert_eq!(PathStat::go_mode(mode), go, "{mode:o}");
        }
    }

    /// A header that Docker sent.
    #[test]
    fn a_stat_is_dockers() {
        let text = r#"{"name":"passwd","size":340,"mode":420,"mtime":"2023-11-14T22:13:20Z","linkTarget":""}"#;
        let stat: PathStat = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&stat).unwrap(), text);
        assert!(stat.is_plain() && !stat.is_dir() && !stat.is_symlink());
    }
}
