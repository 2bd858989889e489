//! dhow: a Docker-compatible container engine in one static executable.

#![deny(unsafe_code)]

mod api;
mod applets;
mod cgroup;
mod engine;
mod failpoint;
mod fs;
mod ns;
mod oci;
mod sys;

fn main() -> std::process::ExitCode {
    applets::main()
}
