//! What a user of the command line notices, once more with a daemon between: `over_http::exec::…` is `exec::…`, and its
//! host starts a daemon and has its commands ask that (see `fixture`).

#[path = "exec.rs"]
mod exec;
#[path = "life.rs"]
mod life;
#[path = "logs.rs"]
mod logs;
#[path = "run.rs"]
mod run;
#[path = "streams.rs"]
mod streams;
#[path = "volumes.rs"]
mod volumes;
