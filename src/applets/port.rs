//! `dhow port`.

use super::{Command, Context, face, output};
use crate::api::types::PortMap;
use crate::order;
use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

/// List a container's published ports, or where one of them leads from
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Port {
    #[argh(positional, arg_name = "CONTAINER")]
    container: String,
    #[argh(positional, arg_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

impl Command for Port {
    fn run(self, context: &Context) -> Result<u8> {
        let ports = context.client()?.container(&self.container)?.network_settings.ports;
        output::say(&lines(&self.container, &ports, self.port.as_deref())?)?;
        Ok(0)
    }
}

fn lines(container: &str, ports: &PortMap, wanted: Option<&str>) -> Result<String> {
    let address =
        |ip: &str, port: &str| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
    if let Some(wanted) = wanted {
        let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        if number.parse::<u16>().is_err() {
            bail!("invalid port '{wanted}'");
        }
        let key = format!("{number}/{protocol}");
        let Some(Some(bindings)) = ports.get(&key).filter(|bindings| bindings.is_some()) else {
            match face::is_docker() {
                true => bail!("Error: No public port '{wanted}' published for {container}"),
                false => bail!("no public port '{key}' published for {container}"),
            }
        };
        return Ok(bindings.iter().map(|it| address(&it.host_ip, &it.host_port) + "\n").collect());
    }
    let mut sorted: Vec<_> = ports.iter().collect();
    order::by_key(&mut sorted, |(key, _)| {
        (key.split('/').next().and_then(|number| number.parse::<u16>().ok()), (*key).clone())
    });
    let rows = sorted.into_iter().flat_map(|(key, bindings)| {
        bindings.iter().flatten().map(move |it| format!("{key} -> {}\n", address(&it.host_ip, &it.host_port)))
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_lists_them() {
        let text = r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}],
            "9/udp":[{"HostIp":"127.0.0.1","HostPort":"99"}],"443/tcp":null}"#;
        let ports: PortMap = serde_json::from_str(text).unwrap();
        let all = "9/udp -> 127.0.0.1:99\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n";
        assert_eq!(lines("web", &ports, None).unwrap(), all);
        assert_eq!(lines("web", &ports, Some("80")).unwrap(), "0.0.0.0:8080\n[::]:8080\n");
        assert_eq!(lines("web", &ports, Some("9/udp")).unwrap(), "127.0.0.1:99\n");
        for (port, said) in [
            ("443", "no public port '443/tcp' published for web"),
            ("81", "no public port '81/tcp' published for web"),
            ("x", "invalid port 'x'"),
        ] {
            assert_eq!(lines("web", &ports, Some(port)).unwrap_err().to_string(), said);
        }
    }
}
