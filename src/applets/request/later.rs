//! Flags that a later release honours: each is refused by name, unless its value asks for what there is anyway.

use crate::applets::pull;
use crate::applets::run::Run;
use anyhow::{Result, bail};

/// Refuses what this release cannot do.
pub fn refuse(flags: &Run) -> Result<()> {
    pull::no_content_trust(flags.disable_content_trust)?;
    for (flag, given, what) in given(flags) {
        if given && what == WINDOWS {
            bail!("{flag}: {WINDOWS}");
        } else if given {
            bail!("{flag}: {what} {LATER}");
        }
    }
    Ok(())
}

const LATER: &str = "come with a later release of dhow";
const WINDOWS: &str = "only for containers of Windows";

/// Each flag, whether it asks for something, and what that is.
fn given(flags: &Run) -> [(&'static str, bool, &'static str); 5] {
    let number = |value: Option<i64>| value.is_some_and(|value| value != 0);
    let some = |value: &Option<String>| value.as_deref().is_some_and(|value| !value.is_empty());
    [
        ("--use-api-socket", flags.use_api_socket, "its credentials for a container"),
        ("--cpu-count", number(flags.cpu_count), WINDOWS),
        ("--cpu-percent", number(flags.cpu_percent), WINDOWS),
        ("--io-maxbandwidth", some(&flags.io_maxbandwidth), WINDOWS),
        ("--io-maxiops", flags.io_maxiops.is_some_and(|value| value != 0), WINDOWS),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_later_is_named_and_what_asks_for_nothing_passes() {
        let refused = [
            (
                Run { use_api_socket: true, ..Run::default() },
                "--use-api-socket: its credentials for a container come with a later release of dhow",
            ),
            (Run { cpu_count: Some(1), ..Run::default() }, "--cpu-count: only for containers of Windows"),
        ];
        for (flags, message) in refused {
            assert_eq!(refuse(&flags).unwrap_err().to_string(), message);
        }
        let passed = Run { network: vec!["container:web".into()], disable_content_trust: Some(true), ..Run::default() };
        assert!(refuse(&passed).is_ok());
    }
}
