//! What a user of the command line notices, once more with a daemon between: `over_http::exec::…` is `exec::…`, and its
//! host starts a daemon and has its commands ask that (see `fixture`).

#[path = "archives.rs"]
mod archives;
#[path = "attach.rs"]
mod attach;
#[path = "build_cache.rs"]
mod build_cache;
#[path = "build_checks.rs"]
mod build_checks;
#[path = "build_contexts.rs"]
mod build_contexts;
#[path = "build_copies.rs"]
mod build_copies;
#[path = "build_mounts.rs"]
mod build_mounts;
#[path = "build_outputs.rs"]
mod build_outputs;
#[path = "build_sources.rs"]
mod build_sources;
#[path = "builds.rs"]
mod builds;
#[path = "cdi.rs"]
mod cdi;
#[path = "changes.rs"]
mod changes;
#[path = "copy.rs"]
mod copy;
#[path = "events.rs"]
mod events;
#[path = "exec.rs"]
mod exec;
#[path = "gpus.rs"]
mod gpus;
#[path = "health.rs"]
mod health;
#[path = "images.rs"]
mod images;
#[path = "life.rs"]
mod life;
#[path = "listings.rs"]
mod listings;
#[path = "logins.rs"]
mod logins;
#[path = "logs.rs"]
mod logs;
#[path = "names.rs"]
mod names;
#[path = "network_modes.rs"]
mod network_modes;
#[path = "network_moves.rs"]
mod network_moves;
#[path = "networks_of_users.rs"]
mod networks_of_users;
#[path = "ports.rs"]
mod ports;
#[path = "pull.rs"]
mod pull;
#[path = "push_origins.rs"]
mod push_origins;
#[path = "pushes.rs"]
mod pushes;
#[path = "restarts.rs"]
mod restarts;
#[path = "run.rs"]
mod run;
#[path = "secrets.rs"]
mod secrets;
#[path = "security_options.rs"]
mod security_options;
#[path = "silent.rs"]
mod silent;
#[path = "stats.rs"]
mod stats;
#[path = "streams.rs"]
mod streams;
#[path = "terminal.rs"]
mod terminal;
#[path = "usage.rs"]
mod usage;
#[path = "volumes.rs"]
mod volumes;
