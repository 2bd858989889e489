//! A container's log: one JSON object a line, `{"log":"line\n","stream":"stdout","time":"…Z"}`, in `<path>`, and what
//! was rotated away in `<path>.1` (the newest) and on.

pub mod encode;
