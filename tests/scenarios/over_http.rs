//! What a user of the command line notices, once more with a daemon between: `over_http::exec::…` is `exec::…`, and its
//! host starts a daemon and has its commands ask that (see `fixture`).

#[path = "build_cache.rs"]
mod build_cache;
#[path = "build_contexts.rs"]
mod build_contexts;
#[path = "build_copies.rs"]
mod build_copies;
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
#[path = "life.rs"]
mod life;
#[path = "listings.rs"]
mod listings;
#[path = "logs.rs"]
mod logs;
#[path = "names.rs"]
mod names;
#[path = "networks_of_users.rs"]
mod networks_of_users;
#[path = "ports.rs"]
mod ports;
#[path = "push_origins.rs"]
mod push_origins;
#[path = "pushes.rs"]
mod pushes;
#[path = "run.rs"]
mod run;
#[path = "secrets.rs"]
mod secrets;
#[path = "stats.rs"]
mod stats;
#[path = "streams.rs"]
mod streams;
#[path = "usage.rs"]
mod usage;
#[path = "volumes.rs"]
mod volumes;
