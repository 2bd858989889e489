//! `dhow events`.

use super::format::template::Template;
use super::format::units;
use super::{Command, Context, coded, filter, output};
use crate::api::time::Time;
use crate::api::types::Event;
use crate::json;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::{self, Write};

/// Show what happens, as it happens
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Events {
    /// only those that fit: type=container, event=start, container=x, image=x, label=a=b, …
    #[argh(option, short = 'f', from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// print by a Go template, or "json"
    #[argh(option)]
    format: Option<String>,
    /// also what has happened since a time (2026-01-02T13:23:37Z) or for a while (42m)
    #[argh(option)]
    since: Option<String>,
    /// until a time (2026-01-02T13:23:37Z) or a while ago (42m)
    #[argh(option)]
    until: Option<String>,
}

impl Command for Events {
    fn run(self, context: &Context) -> Result<u8> {
        const JSON: &str = "{{json .}}";
        let template = match self.format.as_deref().unwrap_or_default() {
            "" => None,
            "json" => Some(JSON),
            format => Some(format),
        };
        let whole = template == Some(JSON);
        let template = template.map(Template::parse).transpose().map_err(|error| coded(64, error))?;
        let time =
            |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(units::timestamp).transpose();
        let (since, until) = (time(&self.since)?.unwrap_or_default(), time(&self.until)?.unwrap_or_default());
        let filters = filter::gather(self.filter);
        let mut lines = Lines { template, whole, rest: Vec::new() };
        context.client()?.events(&since, &until, &filters, &mut lines)?;
        Ok(0)
    }
}

/// Takes JSON lines, in whatever pieces they come, and prints each event as it is whole.
struct Lines {
    template: Option<Template>,
    /// The template is the event's JSON.
    whole: bool,
    rest: Vec<u8>,
}

impl Lines {
    /// Fields that an event leaves out are empty to a template, and left out of its JSON.
    fn by(&self, template: &Template, event: &Event) -> Result<String> {
        if self.whole {
            return template.execute(event);
        }
        let mut event = serde_json::to_value(event)?;
        for key in ["status", "id", "from"] {
            event.as_object_mut().map(|event| event.entry(key).or_insert_with(|| "".into()));
        }
        template.execute(&event)
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let event: Event = json::from_slice(&line)?;
            let text = match &self.template {
                Some(template) => self.by(template, &event).map_err(io::Error::other)? + "\n",
                None => plain(&event),
            };
            output::say(&text).map_err(io::Error::other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `2026-11-23T21:38:13.774245013Z container create b501… (image=nginx, name=gold)`.
fn plain(event: &Event) -> String {
    let at = units::zoned_exact(Time::from_unix_nanos(event.time_nano.into()));
    let mut text = format!("{at} {} {} {}", event.r#type, event.action, event.actor.id);
    let attributes: Vec<_> = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !attributes.is_empty() {
        text += &format!(" ({})", attributes.join(", "));
    }
    text + "\n"
}
