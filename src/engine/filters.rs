//! The `filters` of lists and prunes: `{"label":{"a=b":true}}` from Go clients, `{"label":["a=b"]}` from others.

use super::pattern::Pattern;
use crate::api::Refusal;
use crate::json::{self, by_serde};
use crate::order::Map;
use anyhow::{Result, bail};
use serde::Deserialize;

/// A key and the values of which one must hold; where keys differ, all must.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters(Map<String, Vec<String>>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a set or a list of values")]
enum Values {
    Set(Map<String, bool>),
    List(Vec<String>),
    /// Go writes an empty set so.
    Null,
}

by_serde! { Values }

impl Filters {
    /// Reads the value of the query key `filters`; absent and empty are no filters. 400 for what is no such JSON.
    pub fn parse(query: Option<&str>) -> Result<Filters> {
        let text = query.unwrap_or_default();
        if text.is_empty() {
            return Ok(Filters::default());
        }
        let sets: Map<String, Values> = json::from_slice::<Option<_>>(text.as_bytes())
            .map_err(|error| Refusal::BadParameter(format!("invalid filter: {error}")))?
            .unwrap_or_default();
        let values = |values| match values {
            Values::Set(set) => set.into_iter().filter(|(_, on)| *on).map(|(value, _)| value).collect(),
            Values::List(list) => list,
            Values::Null => Vec::new(),
        };
        Ok(Filters(Map::from_iter(sets.into_iter().map(|(key, set)| (key, values(set))))))
    }

    pub fn add(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_default().push(value.to_owned());
    }

    /// Refuses a key that is not among `known` with 400.
    pub fn accept(&self, known: &[&str]) -> Result<()> {
        if let Some(key) = self.0.keys().find(|key| !known.contains(&key.as_str())) {
            bail!(Refusal::BadParameter(format!("invalid filter '{key}'")));
        }
        Ok(())
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The values of a key; none where it is not given.
    pub fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// The value of a key that is true or false; 400 for anything else or both. None but these words are either.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let values = self.get(key);
        let any = |words: [&str; 2]| values.iter().any(|value| words.contains(&value.as_str()));
        match (any(["1", "true"]), any(["0", "false"])) {
            _ if !self.has(key) => Ok(None),
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ if values.is_empty() => bail!(Refusal::BadParameter(format!("invalid filter '{key}'"))),
            _ => bail!(Refusal::BadParameter(format!("invalid filter '{key}=[{}]'", values.join(" ")))),
        }
    }

    /// Whether one of the key's values is the text or, read as a regular expression, is found in it; true where the
    /// key is not given. A value that is no expression is only compared.
    pub fn matches(&self, key: &str, text: &str) -> bool {
        !self.has(key) || self.get(key).iter().any(|value| value == text || Pattern::finds(value, text))
    }

    /// Whether one of the key's values is the text; true where the key is not given.
    pub fn is(&self, key: &str, text: &str) -> bool {
        !self.has(key) || self.get(key).iter().any(|value| value == text)
    }

    /// Whether the labels have every `label` (`key` or `key=value`) and none of `label!`.
    pub fn labels(&self, labels: &Map<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.get("label").iter().all(has) && !self.get("label!").iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        Filters::parse(Some(text)).unwrap()
    }

    #[test]
    fn both_forms_and_rubbish() {
        assert_eq!(filters(r#"{"label":{"a=b":true,"c":false}}"#), filters(r#"{"label":["a=b"]}"#));
        assert_eq!(Filters::parse(None).unwrap(), filters(""));
        assert_eq!(filters("null"), filters("{}"));
        assert!(filters(r#"{"name":null}"#).get("name").is_empty());
        for bad in ["x", "[]", r#"{"a":1}"#, r#"{"a":{"b":"c"}}"#, "{"] {
            let refusal = Filters::parse(Some(bad)).unwrap_err();
            assert_eq!(refusal.downcast_ref::<Refusal>().map(Refusal::status), Some(400), "{bad}");
        }
        assert!(filters(r#"{"name":["a"]}"#).accept(&["label", "name"]).is_ok());
        assert_eq!(filters(r#"{"nope":["a"]}"#).accept(&["name"]).unwrap_err().to_string(), "invalid filter 'nope'");
    }

    #[test]
    fn what_matches() {
        let labels = Map::from([("a".to_string(), "b".to_string()), ("e".to_string(), String::new())]);
        for (text, expected) in [
            ("{}", true),
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a=b","e="]}"#, true),
            (r#"{"label":["a=c"]}"#, false),
            (r#"{"label":["a","x"]}"#, false),
            (r#"{"label!":["a"]}"#, false),
            (r#"{"label!":["a=c"]}"#, true),
        ] {
            assert_eq!(filters(text).labels(&labels), expected, "{text}");
        }
        for (text, expected) in [
            ("{}", true),
            (r#"{"name":["eb"]}"#, true),
            (r#"{"name":["^/web$"]}"#, true),
            (r#"{"name":["x","/w"]}"#, true),
            (r#"{"name":["[ab"]}"#, false),
            (r#"{"name":[]}"#, false),
        ] {
            assert_eq!(filters(text).matches("name", "/web"), expected, "{text}");
        }
        assert_eq!(filters(r#"{"dangling":["1"]}"#).flag("dangling").unwrap(), Some(true));
        assert_eq!(filters("{}").flag("dangling").unwrap(), None);
        for (text, words) in [
            (r#"{"dangling":["x"]}"#, "invalid filter 'dangling=[x]'"),
            (r#"{"dangling":["t"]}"#, "invalid filter 'dangling=[t]'"),
            (r#"{"dangling":["0","true"]}"#, "invalid filter 'dangling=[0 true]'"),
            (r#"{"dangling":[]}"#, "invalid filter 'dangling'"),
        ] {
            assert_eq!(filters(text).flag("dangling").unwrap_err().to_string(), words);
        }
    }
}
