//! Isolation: a runtime spec becomes a plan (pure), a loop in the child walks it.
//!
//! ```text
//! Spec ─plan()→ Plan ─prepare()→ Prepared ─launch()→ Child ─walk()→ exec
//!      pure           opens what the      clone3        one or a few system calls a step,
//!                     steps name          two pipes     nothing allocated
//! ```
//!
//! Two pipes, one message each way: `go` to the child; then end-of-file on exec, or `(step, errno)`, from it. Where hooks
//! are run before the root is the container's, one more each way: that the child has come there, and that it may go on.

pub mod caps;
pub mod hooks;
pub mod init;
mod launch;
mod plan;
pub mod profile;
pub mod seccomp;
mod step;
pub mod user;
mod walk;

pub use launch::{Child, Failed, Plan, Prepared, launch, prepare};
pub use plan::{Given, plan, plan_exec};
pub use step::Step;
