//! A container's place on its networks.

use super::{Endpoints, PortMap, is_zero, wire};
use crate::order::Map;

wire! {
    /// The networks a new container shall be on.
    pub struct NetworkingConfig {
        pub endpoints_config: Option<Endpoints>,
    }

    /// One network of a container.
    pub struct EndpointSettings {
        #[serde(rename = "IPAMConfig")]
        pub ipam_config: Option<EndpointAddresses>,
        pub links: Option<Vec<String>>,
        pub aliases: Option<Vec<String>>,
        pub mac_address: String,
        pub driver_opts: Option<Map<String, String>>,
        pub gw_priority: i64,
        #[serde(rename = "NetworkID")]
        pub network_id: String,
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        pub gateway: String,
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: u32,
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: u32,
        #[serde(rename = "DNSNames")]
        pub dns_names: Option<Vec<String>>,
    }

    /// Addresses that were asked for.
    pub struct EndpointAddresses {
        #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
        pub ipv4_address: String,
        #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
        pub ipv6_address: String,
        #[serde(rename = "LinkLocalIPs", skip_serializing_if = "is_zero")]
        pub link_local_ips: Option<Vec<String>>,
    }

    /// The network part of inspect. All but `Ports` and `Networks` speak of the default bridge, as they always did.
    pub struct NetworkSettings {
        pub bridge: String,
        #[serde(rename = "SandboxID")]
        pub sandbox_id: String,
        pub sandbox_key: String,
        pub ports: PortMap,
        pub hairpin_mode: bool,
        #[serde(rename = "LinkLocalIPv6Address")]
        pub link_local_ipv6_address: String,
        #[serde(rename = "LinkLocalIPv6PrefixLen")]
        pub link_local_ipv6_prefix_len: u32,
        #[serde(rename = "SecondaryIPAddresses")]
        pub secondary_ip_addresses: Option<Vec<String>>,
        #[serde(rename = "SecondaryIPv6Addresses")]
        pub secondary_ipv6_addresses: Option<Vec<String>>,
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        pub gateway: String,
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: u32,
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: u32,
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        pub mac_address: String,
        pub networks: Endpoints,
    }

    /// What list tells of the networks.
    pub struct SummaryNetworks {
        pub networks: Endpoints,
    }

    /// One port as list tells it.
    pub struct PortSummary {
        #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
        pub ip: String,
        pub private_port: u16,
        #[serde(skip_serializing_if = "is_zero")]
        pub public_port: u16,
        pub r#type: String,
    }

    /// A published port, and who reaches it by the rules that are loaded. Not Docker's.
    pub struct PublishedPort {
        pub container: String,
        pub name: String,
        pub protocol: String,
        pub host_ip: String,
        pub host_port: u16,
        pub container_ip: String,
        pub container_port: u16,
        /// nobody, host, lan or everyone.
        pub reach: String,
        /// From elsewhere by these alone; by whoever reaches the address where it is null.
        pub from: Option<Vec<String>>,
        /// What keeps others from it, in sentences.
        pub notes: Vec<String>,
    }

    /// One network.
    pub struct Network {
        pub name: String,
        pub id: String,
        /// RFC 3339.
        pub created: String,
        pub scope: String,
        pub driver: String,
        #[serde(rename = "EnableIPv4")]
        pub enable_ipv4: bool,
        #[serde(rename = "EnableIPv6")]
        pub enable_ipv6: bool,
        #[serde(rename = "IPAM")]
        pub ipam: Ipam,
        pub internal: bool,
        pub attachable: bool,
        pub ingress: bool,
        pub config_from: ConfigReference,
        pub config_only: bool,
        /// By id; only inspect names them.
        pub containers: Map<String, NetworkContainer>,
        pub options: Map<String, String>,
        pub labels: Map<String, String>,
    }

    /// A body of `POST /networks/create`.
    pub struct NetworkCreate {
        pub name: String,
        pub driver: String,
        pub scope: String,
        /// Yes where nothing is said.
        #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
        pub enable_ipv4: Option<bool>,
        #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
        pub enable_ipv6: Option<bool>,
        #[serde(rename = "IPAM")]
        pub ipam: Option<Ipam>,
        pub internal: bool,
        pub attachable: bool,
        pub ingress: bool,
        pub config_only: bool,
        pub config_from: Option<ConfigReference>,
        pub options: Option<Map<String, String>>,
        pub labels: Option<Map<String, String>>,
    }

    /// The answer of `POST /networks/create`.
    pub struct NetworkCreated {
        pub id: String,
        pub warning: String,
    }

    /// A body of `POST /networks/{id}/connect`.
    pub struct NetworkConnect {
        pub container: String,
        pub endpoint_config: Option<EndpointSettings>,
    }

    /// A body of `POST /networks/{id}/disconnect`.
    pub struct NetworkDisconnect {
        pub container: String,
        pub force: bool,
    }

    /// How a network gives addresses.
    pub struct Ipam {
        pub driver: String,
        pub options: Option<Map<String, String>>,
        pub config: Option<Vec<IpamConfig>>,
    }

    /// A subnet of a network: CIDRs and addresses as they were asked for.
    pub struct IpamConfig {
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subnet: String,
        #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
        pub ip_range: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub gateway: String,
        #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "Map::is_empty")]
        pub aux_address: Map<String, String>,
    }

    pub struct ConfigReference {
        pub network: String,
    }

    /// A container that runs on a network.
    pub struct NetworkContainer {
        pub name: String,
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        pub mac_address: String,
        #[serde(rename = "IPv4Address")]
        pub ipv4_address: String,
        #[serde(rename = "IPv6Address")]
        pub ipv6_address: String,
    }

    /// The answer of `POST /networks/prune`.
    pub struct NetworksPruned {
        pub networks_deleted: Option<Vec<String>>,
    }
}
