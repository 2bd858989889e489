//! `dhow search`: what Docker Hub has, as a daemon finds it that asks there. Our own does not, and says so.

use super::format::table::{List, ellipsis};
use super::{Command, Context, filter, output};
use crate::api::types::SearchResult;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

/// Search Docker Hub for images (by a daemon that does; dhow does not)
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Search {
    /// only those that meet a condition: is-official=true, stars=3
    #[argh(option, short = 'f', from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// print by a Go template, or "json"
    #[argh(option)]
    format: Option<String>,
    /// at most so many
    #[argh(option, arg_name = "INT")]
    limit: Option<u32>,
    /// do not cut anything short
    #[argh(switch)]
    no_trunc: bool,
    #[argh(positional, arg_name = "TERM")]
    term: String,
}

const LIST: List = List {
    go_type: "*registry.searchContext",
    headers: &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")],
    table: "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    quiet: "",
    raw: None,
};

impl Command for Search {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = filter::gather(self.filter);
        let found = context.client()?.search(&self.term, self.limit.unwrap_or(0), &filters)?;
        let format = self.format.unwrap_or_default();
        let rows: Vec<Value> = found.iter().map(|result| row(result, !self.no_trunc, format == "json")).collect();
        output::say(&LIST.print(&format, false, &rows)?)?;
        Ok(0)
    }
}

fn row(found: &SearchResult, short: bool, json: bool) -> Value {
    let description = found.description.replace(['\n', '\r'], " ");
    let official = match (found.is_official, json) {
        (is, true) => is.to_string(),
        (true, false) => "[OK]".to_owned(),
        (false, false) => String::new(),
    };
    json!({
        "Name": found.name,
        "Description": if short { ellipsis(&description, 45) } else { description },
        "StarCount": found.star_count.to_string(),
        "IsOfficial": official,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_in_dockers_columns() {
        let description = format!("a\n{}", "b".repeat(60));
        // As Docker Hub spells it.
        let text = json!([{"name": "sea", "description": description, "star_count": 12, "is_official": true}]);
        let found: Vec<SearchResult> = serde_json::from_value(text).unwrap();
        let print =
            |format: &str, short| LIST.print(format, false, &[row(&found[0], short, format == "json")]).unwrap();
        assert_eq!(
            print("", true),
            format!(
                "NAME      DESCRIPTION                                     STARS     OFFICIAL\nsea       a {}…   12        [OK]\n",
                "b".repeat(42)
            )
        );
        assert_eq!(print("{{.Description}}", false), format!("a {}\n", "b".repeat(60)));
        assert!(
            print("json", true).contains(r#""IsOfficial":"true","Name":"sea","StarCount":"12""#),
            "{}",
            print("json", true)
        );
    }
}
