//! What happened, as `GET /events` tells it.

use crate::json::fields::fields;
use crate::order::Map;

fields! {
    /// One event. The first three fields say again what the others do, for clients of API versions before 1.52.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Event {
        #[serde(skip_serializing_if = "String::is_empty")]
        pub status: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub id: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub from: String,
        /// container, image, volume, network, daemon, …
        #[serde(rename = "Type")]
        pub r#type: String,
        #[serde(rename = "Action")]
        pub action: String,
        #[serde(rename = "Actor")]
        pub actor: Actor,
        pub scope: String,
        /// Seconds since 1970.
        pub time: i64,
        /// Nanoseconds since 1970.
        #[serde(rename = "timeNano")]
        pub time_nano: i64,
    }

    /// What an event happened to.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    pub struct Actor {
        #[serde(rename = "ID")]
        pub id: String,
        pub attributes: Map<String, String>,
    }
}

impl Event {
    /// Fills the fields that old clients read, which containers and images have.
    pub fn with_legacy(mut self) -> Event {
        if matches!(self.r#type.as_str(), "container" | "image") {
            self.status.clone_from(&self.action);
            self.id.clone_from(&self.actor.id);
        }
        if self.r#type == "container" {
            self.from = self.actor.attributes.get("image").cloned().unwrap_or_default();
        }
        self
    }
}
