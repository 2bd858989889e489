//! `dhow update`.

use super::request::{nano_cpus, values};
use super::{Command, Context, each, face, output};
use crate::api::types::{HostConfig, RestartPolicy};
use anyhow::{Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};

/// Change what containers were given when they were made
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Update {
    /// block IO weight, 10 to 1000
    #[argh(option, arg_name = "UINT16")]
    blkio_weight: Option<u16>,
    /// the CFS period in microseconds
    #[argh(option, arg_name = "INT")]
    cpu_period: Option<i64>,
    /// the CFS quota in microseconds
    #[argh(option, arg_name = "INT")]
    cpu_quota: Option<i64>,
    /// the real-time period in microseconds
    #[argh(option, arg_name = "INT")]
    cpu_rt_period: Option<i64>,
    /// the real-time runtime in microseconds
    #[argh(option, arg_name = "INT")]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[argh(option, short = 'c', arg_name = "INT")]
    cpu_shares: Option<i64>,
    /// number of CPUs, with a fraction
    #[argh(option, arg_name = "DECIMAL")]
    cpus: Option<String>,
    /// CPUs to run on: 0-3, 0,1
    #[argh(option)]
    cpuset_cpus: Option<String>,
    /// memory nodes to use: 0-3, 0,1
    #[argh(option)]
    cpuset_mems: Option<String>,
    /// memory limit
    #[argh(option, short = 'm', arg_name = "BYTES", from_str_fn(values::bytes))]
    memory: Option<i64>,
    /// memory soft limit
    #[argh(option, arg_name = "BYTES", from_str_fn(values::bytes))]
    memory_reservation: Option<i64>,
    /// memory and swap together, -1 for no limit
    #[argh(option, arg_name = "BYTES", from_str_fn(values::bytes_or_unlimited))]
    memory_swap: Option<i64>,
    /// limit of processes, -1 for no limit
    #[argh(option, arg_name = "INT")]
    pids_limit: Option<i64>,
    /// restart policy
    #[argh(option)]
    restart: Option<String>,
    #[argh(positional, arg_name = "CONTAINER [CONTAINER...]")]
    containers: Vec<String>,
}

impl Command for Update {
    fn run(self, context: &Context) -> Result<u8> {
        let cpus = self.cpus.as_deref().filter(|cpus| !cpus.is_empty());
        let text = |value: Option<String>| value.unwrap_or_default();
        let restart = match self.restart.as_deref().filter(|policy| !policy.is_empty()) {
            Some(policy) => values::restart_policy(policy).map_err(|why| anyhow!(why))?,
            None => RestartPolicy::default(),
        };
        let asked = HostConfig {
            blkio_weight: self.blkio_weight.unwrap_or(0),
            cpu_period: self.cpu_period.unwrap_or(0),
            cpu_quota: self.cpu_quota.unwrap_or(0),
            cpu_realtime_period: self.cpu_rt_period.unwrap_or(0),
            cpu_realtime_runtime: self.cpu_rt_runtime.unwrap_or(0),
            cpu_shares: self.cpu_shares.unwrap_or(0),
            nano_cpus: cpus.map(nano_cpus).transpose()?.unwrap_or(0),
            cpuset_cpus: text(self.cpuset_cpus),
            cpuset_mems: text(self.cpuset_mems),
            memory: self.memory.unwrap_or(0),
            memory_reservation: self.memory_reservation.unwrap_or(0),
            memory_swap: self.memory_swap.unwrap_or(0),
            pids_limit: self.pids_limit.filter(|limit| *limit != 0),
            restart_policy: restart,
            ..HostConfig::default()
        };
        if asked == HostConfig::default() {
            bail!("you must provide one or more flags when using this command");
        }
        let client = context.client()?;
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        for container in self.containers {
            match client.update(&container, &asked) {
                Ok(updated) => {
                    warnings.extend(updated.warnings.unwrap_or_default());
                    output::say(&format!("{container}\n"))?;
                }
                Err(error) => errors.push(error),
            }
        }
        for warning in warnings {
            // docker says them on stdout.
            match face::is_docker() {
                true => output::say(&format!("{warning}\n"))?,
                false => output::complain(&warning),
            }
        }
        each::together(errors)
    }
}
