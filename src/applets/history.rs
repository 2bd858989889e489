//! `dhow history`.

use super::format::table::{self, List};
use super::format::units;
use super::ps::short_id;
use super::{Command, Context, output};
use crate::api::time::Time;
use crate::api::types::HistoryItem;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

/// Show the history of an image
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct History {
    /// print by a Go template, "table" and one, or "json"
    #[argh(option)]
    format: Option<String>,
    /// print sizes and times for people (default true)
    #[argh(option, short = 'H', arg_name = "bool")]
    human: Option<bool>,
    /// print all of every column
    #[argh(switch)]
    no_trunc: bool,
    /// the platform of the image: os/arch[/variant]
    #[argh(option)]
    platform: Option<String>,
    /// print the ids only
    #[argh(switch, short = 'q')]
    quiet: bool,
    #[argh(positional, arg_name = "IMAGE")]
    image: String,
}

const FOR_PEOPLE: List = List {
    go_type: "*image.historyContext",
    headers: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    table: "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
    raw: None,
};

const EXACT: List =
    List { table: "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}", ..FOR_PEOPLE };

/// Before this, 2000, a time says nothing: reproducible builds set one.
const EPOCH: i64 = 946_684_800;

impl Command for History {
    fn run(self, context: &Context) -> Result<u8> {
        let human = self.human.unwrap_or(true);
        let items = context.client()?.history(&self.image, &self.platform.unwrap_or_default())?;
        let rows: Vec<Value> = items.iter().map(|item| row(item, human, !self.no_trunc)).collect();
        let list = if human { FOR_PEOPLE } else { EXACT };
        output::say(&list.print(&self.format.unwrap_or_default(), self.quiet, &rows)?)?;
        Ok(0)
    }
}

fn row(item: &HistoryItem, human: bool, short: bool) -> Value {
    let created = Time { seconds: item.created, nanos: 0 };
    let at = units::zoned(created);
    let since = match (human, item.created > EPOCH) {
        (false, _) => at.clone(),
        (true, true) => units::ago(created),
        (true, false) => "N/A".to_owned(),
    };
    let by = item.created_by.replace('\t', " ");
    json!({
        "ID": if short { short_id(&item.id) } else { &item.id },
        "CreatedSince": since,
        "CreatedAt": at,
        "CreatedBy": if short { table::ellipsis(&by, 45) } else { by },
        "Size": if human { units::decimal(item.size, 3) } else { item.size.to_string() },
        "Comment": item.comment,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step() {
        let item = HistoryItem {
            id: "<missing>".into(),
            created: 0,
            created_by: format!("RUN\t{}", "x".repeat(60)),
            size: 1_988_785,
            comment: "c".into(),
            ..Default::default()
        };
        let short = row(&item, true, true);
        assert_eq!((short["ID"].as_str(), short["CreatedSince"].as_str()), (Some("<missing>"), Some("N/A")));
        assert_eq!(short["CreatedBy"], format!("RUN {}…", "x".repeat(40)));
        assert_eq!(short["Size"], "1.99MB");
        assert_eq!(row(&item, false, false)["Size"], "1988785");
    }
}
