//! `--link`.

use crate::api::Refusal;
use anyhow::{Result, bail};

/// Target and alias of a link: `web:alias`, or `web` alone.
pub fn split(text: &str) -> Result<(&str, &str)> {
    let (target, alias) = text.split_once(':').unwrap_or((text, text));
    if target.is_empty() || alias.is_empty() || alias.contains(':') {
        bail!(Refusal::BadParameter(format!("bad format for links: {text}")));
    }
    // As inspect shows them: /web:/me/alias.
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    Ok((target.trim_start_matches('/'), alias))
}
