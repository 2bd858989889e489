//! What `--format` prints: Go templates, tables, JSON, and sizes and times for people.

mod functions;
mod lex;
mod parse;
pub mod table;
pub mod template;
pub mod units;
pub mod value;
