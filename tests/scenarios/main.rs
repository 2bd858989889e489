//! What a user would notice, one module a subject. Each scenario has a store, a run directory and cgroups of its own,
//! and fails when it leaves anything behind. Those that start containers need root; `CI=true` lets none be skipped.

// The scenarios of clients are modules of `over_http` too.
#![allow(clippy::duplicate_mod)]

mod archives;
mod attach;
mod bad_input;
mod build_cache;
mod build_outputs;
mod build_sources;
mod builds;
mod changes;
mod clients_compose;
mod clients_consoles;
mod clients_node;
mod clients_python;
mod command_line;
mod contexts;
mod copy;
mod crash;
mod cves;
mod daemon;
mod daemon_builds;
mod daemon_docker;
mod daemon_wire;
mod escapes;
mod events;
mod exec;
mod fixture;
mod formats;
mod guest;
mod harness;
mod health;
mod hogs;
mod images;
mod independence;
mod isolation;
mod life;
mod limits;
mod listings;
mod logins;
mod logs;
mod mounts;
mod names;
mod network_links;
mod network_settings;
mod networks;
mod over_http;
mod ports;
mod privileges;
mod pull;
mod pushes;
mod registries;
mod restarts;
mod rootless;
mod rootless_network;
mod run;
mod service;
mod slow;
mod stats;
mod streams;
mod terminal;
mod together;
mod usage;
mod userns;
mod volumes;
