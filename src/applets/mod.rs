//! One file is one command that a user can type. THE TABLE is here; help, links and completions are printed from it.

pub mod format;

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
