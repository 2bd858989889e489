//! What a user would notice, one module a subject. Each scenario has a store, a run directory and cgroups of its own,
//! and fails when it leaves anything behind. Those that start containers need root; `CI=true` lets none be skipped.

mod command_line;
mod fixture;
mod harness;
