//! What is asked about networks.

use super::{Client, Filters, bytes, filtered, json, named, request};
use crate::api::types::*;
use crate::api::wire::Body;
use anyhow::{Context, Result};
use serde::Serialize;

impl Client {
    pub fn prune_networks(&self, filters: &Filters) -> Result<NetworksPruned> {
        json(self.post("/networks/prune".into(), filtered(filters))?)
    }

    pub fn create_network(&self, create: &NetworkCreate) -> Result<NetworkCreated> {
        self.send("/networks/create", vec![], create)
    }

    pub fn remove_network(&self, name: &str) -> Result<()> {
        self.call(request("DELETE", named("network", name, "/networks/", "")?, vec![], Body::Empty)).map(drop)
    }

    pub fn connect_network(&self, name: &str, asked: &NetworkConnect) -> Result<()> {
        self.change_network(name, "/connect", asked)
    }

    pub fn disconnect_network(&self, name: &str, asked: &NetworkDisconnect) -> Result<()> {
        self.change_network(name, "/disconnect", asked)
    }

    fn change_network(&self, name: &str, verb: &str, asked: &impl Serialize) -> Result<()> {
        let body = Body::Bytes(serde_json::to_vec(asked).context("writing a request")?);
        self.call(request("POST", named("network", name, "/networks/", verb)?, vec![], body)).map(drop)
    }

    /// Not Docker's: other engines say that there is no such page.
    pub fn published_ports(&self) -> Result<Vec<PublishedPort>> {
        self.get("/ports".into(), vec![])
    }

    pub fn networks(&self, filters: &Filters) -> Result<Vec<Network>> {
        self.get("/networks".into(), filtered(filters))
    }

    pub fn inspect_network(&self, name: &str, verbose: bool) -> Result<Vec<u8>> {
        let query = if verbose { vec![("verbose".to_owned(), "true".to_owned())] } else { vec![] };
        bytes(self.call(request("GET", named("network", name, "/networks/", "")?, query, Body::Empty))?)
    }
}
