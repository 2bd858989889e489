//! `dhow info`.

use super::format::{template::Template, units};
use super::{Command, Context, coded, output};
use crate::api::types;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use std::fmt::Write;

/// Display what the engine and this host are
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Info {
    /// print by a Go template, or "json"
    #[argh(option, short = 'f')]
    format: Option<String>,
}

impl Command for Info {
    fn run(self, context: &Context) -> Result<u8> {
        let format = self.format.unwrap_or_default();
        let template = match format.as_str() {
            "" => None,
            "json" => Some("{{json .}}"),
            format => Some(format),
        };
        let template = template.map(Template::parse).transpose().map_err(|error| coded(64, error))?;
        let info = context.client()?.info()?;
        let text = match template {
            Some(template) => template.execute(&info)? + "\n",
            None => plain(&info),
        };
        output::say(&text)?;
        for warning in info.warnings.iter().flatten() {
            output::complain(warning);
        }
        Ok(0)
    }
}

fn plain(info: &types::Info) -> String {
    let mut text = String::new();
    let mut row = |depth: usize, title: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{}{title}: {value}", " ".repeat(depth));
        }
    };
    row(0, "Containers", &info.containers.to_string());
    row(1, "Running", &info.containers_running.to_string());
    row(1, "Paused", &info.containers_paused.to_string());
    row(1, "Stopped", &info.containers_stopped.to_string());
    row(0, "Images", &info.images.to_string());
    row(0, "Server Version", &info.server_version);
    row(0, "Storage Driver", &info.driver);
    for [title, value] in &info.driver_status {
        row(1, title, value);
    }
    row(0, "Logging Driver", &info.logging_driver);
    row(0, "Cgroup Driver", &info.cgroup_driver);
    row(0, "Cgroup Version", &info.cgroup_version);
    row(0, "Security Options", &info.security_options.join(" "));
    row(0, "Kernel Version", &info.kernel_version);
    row(0, "Operating System", &info.operating_system);
    row(0, "OSType", &info.os_type);
    row(0, "Architecture", &info.architecture);
    row(0, "CPUs", &info.n_cpu.to_string());
    row(0, "Total Memory", &units::binary(info.mem_total));
    row(0, "Name", &info.name);
    row(0, "ID", &info.id);
    row(0, "Root Dir", &info.docker_root_dir);
    row(0, "Debug Mode", &info.debug.to_string());
    row(0, "HTTP Proxy", &info.http_proxy);
    row(0, "HTTPS Proxy", &info.https_proxy);
    row(0, "No Proxy", &info.no_proxy);
    row(0, "Insecure Registries", &info.registry_config.insecure_registry_cidrs.join(" "));
    row(0, "Registry Mirrors", &info.registry_config.mirrors.clone().unwrap_or_default().join(" "));
    text
}
