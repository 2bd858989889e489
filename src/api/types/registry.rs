//! Registries.

use super::wire;
use crate::json::fields::fields;

fields! {
    /// Who somebody is to a registry: the body of `POST /auth`.
    #[derive(Clone, Default, PartialEq)]
    pub struct AuthConfig {
        #[serde(skip_serializing_if = "String::is_empty")]
        pub username: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub password: String,
        /// A host, or the URL of one.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub serveraddress: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub identitytoken: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub registrytoken: String,
    }
}

wire! {
    /// The answer of `POST /auth`.
    pub struct AuthAnswer {
        pub status: String,
        /// To be kept in place of the password; empty where there is none.
        pub identity_token: String,
    }

    /// The answer of `GET /distribution/{name}/json`.
    pub struct DistributionInspect {
        /// As in the image specification.
        pub descriptor: serde_json::Value,
        pub platforms: Option<Vec<serde_json::Value>>,
    }
}
