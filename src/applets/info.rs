//! `dhow info`.

use super::format::{template::Template, units};
use super::plugin::{self, Plugin};
use super::{Command, Context, coded, face, host, output};
use crate::api::types;
use crate::log;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};
use std::fmt::{Display, Write};

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
        let name = host::context_name(&context.wish)?;
        let plugins = if face::is_docker() { plugin::all()? } else { vec![] };
        let ours = client(&name, &plugins);
        if let Some(template) = &template
            && let Some(text) = of_client_alone(template, &format, &ours)
        {
            output::say(&text)?;
            return Ok(0);
        }
        // Of a daemon that does not answer the client's part is told all the same.
        let (info, error) = match context.client()?.info() {
            Ok(info) => (Some(info), None),
            Err(error) => (None, Some(error)),
        };
        let text = match template {
            Some(template) => {
                let mut all = serde_json::to_value(info.clone().unwrap_or_default())?;
                all["ClientInfo"] = ours;
                template.execute(&all)? + "\n"
            }
            None => plain(&name, &plugins, info.as_ref()),
        };
        output::say(&text)?;
        for plugin in &plugins {
            if let (Some(error), true) = (&plugin.error, format.is_empty()) {
                output::complain(&format!("WARNING: Plugin {:?} is not valid: {error}", plugin.path));
            }
        }
        for warning in info.iter().filter(|_| format.is_empty()).filter_map(|info| info.warnings.as_ref()).flatten() {
            output::complain(warning);
        }
        error.map_or(Ok(0), Err)
    }
}

/// What the template makes of the client's part, where it asks for nothing else.
fn of_client_alone(template: &Template, format: &str, client: &Value) -> Option<String> {
    let asks = format.as_bytes().windows(2).any(|pair| pair[0] == b'.' && pair[1].is_ascii_alphabetic());
    if !asks {
        return None;
    }
    let text = template.execute(&json!({"ClientInfo": client})).ok()?;
    // These are empty to a template where they are not there.
    let again = template.execute(&json!({"ClientInfo": client, "Name": "-", "Driver": "-"})).ok()?;
    (text == again).then(|| text + "\n")
}

fn is_verbose() -> bool {
    log::is_told(log::Level::Debug)
}

/// What the command says of itself.
fn client(context: &str, plugins: &[Plugin]) -> Value {
    json!({
        "Debug": is_verbose(),
        "Version": env!("CARGO_PKG_VERSION"),
        "Context": context,
        "Plugins": plugins,
        "Warnings": null,
    })
}

/// Lines of a title and a value, as deep as they belong to one above.
struct Lines(String);

impl Lines {
    fn title(&mut self, depth: usize, title: &str) {
        let _ = writeln!(self.0, "{}{title}:", " ".repeat(depth));
    }

    fn row(&mut self, depth: usize, title: &str, value: impl Display) {
        let _ = writeln!(self.0, "{}{title}: {value}", " ".repeat(depth));
    }

    /// Not where there is nothing to say.
    fn some(&mut self, depth: usize, title: &str, value: &str) {
        if !value.is_empty() {
            self.row(depth, title, value);
        }
    }

    fn list(&mut self, depth: usize, title: &str, values: &[String]) {
        if !values.is_empty() {
            self.title(depth, title);
            for value in values {
                let _ = writeln!(self.0, "{}{value}", " ".repeat(depth + 1));
            }
        }
    }
}

/// The lines of Docker's own command, with those left out of which there is nothing here.
fn plain(context: &str, plugins: &[Plugin], info: Option<&types::Info>) -> String {
    let mut lines = Lines(String::new());
    lines.title(0, "Client");
    // As docker aligns these, and these alone.
    lines.row(1, "Version", format_args!("   {}", env!("CARGO_PKG_VERSION")));
    lines.row(1, "Context", format_args!("   {context}"));
    lines.row(1, "Debug Mode", is_verbose());
    let valid: Vec<&Plugin> = plugins.iter().filter(|plugin| plugin.error.is_none()).collect();
    if !plugins.is_empty() {
        lines.title(1, "Plugins");
    }
    for Plugin { metadata, name, path, .. } in valid {
        lines.row(2, name, format_args!("{} ({})", metadata.short_description, metadata.vendor));
        if !metadata.version.is_empty() {
            lines.row(4, "Version", format_args!(" {}", metadata.version));
        }
        lines.row(4, "Path", format_args!("    {}", path.display()));
    }
    lines.0.push('\n');
    lines.title(0, "Server");
    let Some(info) = info else { return lines.0 };
    lines.row(1, "Containers", info.containers);
    lines.row(2, "Running", info.containers_running);
    lines.row(2, "Paused", info.containers_paused);
    lines.row(2, "Stopped", info.containers_stopped);
    lines.row(1, "Images", info.images);
    lines.some(1, "Server Version", &info.server_version);
    lines.row(1, "Storage Driver", &info.driver);
    for [title, value] in &info.driver_status {
        lines.row(2, title, value);
    }
    lines.some(1, "Logging Driver", &info.logging_driver);
    lines.some(1, "Cgroup Driver", &info.cgroup_driver);
    lines.some(1, "Cgroup Version", &info.cgroup_version);
    lines.title(1, "Plugins");
    lines.row(2, "Volume", info.plugins.volume.join(" "));
    lines.row(2, "Network", info.plugins.network.join(" "));
    lines.some(2, "Authorization", &info.plugins.authorization.clone().unwrap_or_default().join(" "));
    lines.row(2, "Log", info.plugins.log.join(" "));
    lines.list(1, "CDI spec directories", &info.cdi_spec_dirs);
    let devices: Vec<String> = info.discovered_devices.iter().map(|it| format!("{}: {}", it.source, it.id)).collect();
    lines.list(1, "Discovered Devices", &devices);
    lines.row(1, "Swarm", &info.swarm.local_node_state);
    lines.row(1, "Runtimes", info.runtimes.keys().map(String::as_str).collect::<Vec<_>>().join(" "));
    lines.row(1, "Default Runtime", &info.default_runtime);
    lines.row(1, "Init Binary", &info.init_binary);
    lines.title(1, "Security Options");
    for option in &info.security_options {
        security(&mut lines, option);
    }
    lines.some(1, "Kernel Version", &info.kernel_version);
    lines.some(1, "Operating System", &info.operating_system);
    lines.some(1, "OSType", &info.os_type);
    lines.some(1, "Architecture", &info.architecture);
    lines.row(1, "CPUs", info.n_cpu);
    lines.row(1, "Total Memory", units::binary(info.mem_total));
    lines.some(1, "Name", &info.name);
    lines.some(1, "ID", &info.id);
    lines.row(1, "Docker Root Dir", &info.docker_root_dir);
    lines.row(1, "Debug Mode", info.debug);
    if info.debug {
        lines.row(2, "File Descriptors", info.n_fd);
        lines.row(2, "Goroutines", info.n_goroutines);
        lines.row(2, "System Time", &info.system_time);
        lines.row(2, "EventsListeners", info.n_events_listener);
    }
    lines.some(1, "HTTP Proxy", &info.http_proxy);
    lines.some(1, "HTTPS Proxy", &info.https_proxy);
    lines.some(1, "No Proxy", &info.no_proxy);
    lines.list(1, "Labels", &info.labels);
    lines.row(1, "Experimental", info.experimental_build);
    let registries = &info.registry_config;
    let insecure = registries.index_configs.values().filter(|index| !index.secure).map(|index| index.name.clone());
    let insecure: Vec<String> = insecure.chain(registries.insecure_registry_cidrs.iter().cloned()).collect();
    lines.list(1, "Insecure Registries", &insecure);
    lines.list(1, "Registry Mirrors", &registries.mirrors.clone().unwrap_or_default());
    lines.row(1, "Live Restore Enabled", info.live_restore_enabled);
    lines.0
}

/// `name=seccomp,profile=builtin`, as a name with what belongs to it below.
fn security(lines: &mut Lines, option: &str) {
    let mut name = option;
    let mut rest = Vec::new();
    for pair in option.split(',') {
        match pair.split_once('=') {
            Some(("name", value)) => name = value,
            Some((key, value)) => rest.push((key, value)),
            None => {}
        }
    }
    let _ = writeln!(lines.0, "  {name}");
    for (key, value) in rest {
        let mut letters = key.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        let title = first + letters.as_str();
        lines.row(3, &title, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_options_in_lines() {
        for (option, expected) in [
            ("name=seccomp,profile=builtin", "  seccomp\n   Profile: builtin\n"),
            ("name=cgroupns", "  cgroupns\n"),
            ("apparmor", "  apparmor\n"),
        ] {
            let mut lines = Lines(String::new());
            security(&mut lines, option);
            assert_eq!(lines.0, expected);
        }
    }
}
