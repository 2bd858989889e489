//! `--change`: Dockerfile instructions that alter an image's config, as import and commit take them.

use crate::api::Refusal;
use crate::build::dockerfile::{self, Fault};
use crate::build::metadata;
use crate::oci::image::RunConfig;
use anyhow::Result;

/// What may be changed by them.
const KNOWN: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Applies instructions in order. Errors are 400 and in Docker's words.
pub fn apply(config: &mut RunConfig, changes: &[String]) -> Result<()> {
    let refused = |fault: Fault| Refusal::BadParameter(fault.message);
    let mut cmd = false;
    for instruction in dockerfile::changes(&changes.join("\n"), &KNOWN).map_err(refused)? {
        let env = config.env.clone();
        let lookup = |name: &str| {
            let mut pairs = env.iter().filter_map(|entry| entry.split_once('='));
            pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        let words = metadata::Words { lex: dockerfile::words::Lex::new('\\'), lookup: &lookup };
        metadata::apply(config, &mut cmd, &instruction.kind, &words).map_err(refused)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn config(changes: &[&str]) -> Value {
        let mut config = RunConfig::default();
        apply(&mut config, &changes.iter().map(|change| change.to_string()).collect::<Vec<_>>()).unwrap();
        serde_json::to_value(config).unwrap()
    }

    #[test]
    fn each_instruction() {
        for (changes, expected) in [
            (vec![r#"CMD ["a", "b c"]"#], json!({"Cmd": ["a", "b c"]})),
            (vec!["cmd a b"], json!({"Cmd": ["/bin/sh", "-c", "a b"]})),
            (vec!["CMD [a"], json!({"Cmd": ["/bin/sh", "-c", "[a"]})),
            // The config of an image has no list that is empty.
            (vec!["ENTRYPOINT []"], json!({})),
            (vec!["ENV a=b c=\"d e\" f='$a' g=h\\ i"], json!({"Env": ["a=b", "c=d e", "f=$a", "g=h i"]})),
            (vec!["ENV a b c"], json!({"Env": ["a=b c"]})),
            (vec!["ENV a=1", "ENV a=2 b=$a", "ENV c=${a}x"], json!({"Env": ["a=2", "b=1", "c=2x"]})),
            (vec!["ENV a=${x:-y} b=${x:+y} c=$x. d=$"], json!({"Env": ["a=y", "b=", "c=.", "d=$"]})),
            (vec!["LABEL a=b \"c d\"=\"e f\""], json!({"Labels": {"a": "b", "c d": "e f"}})),
            (
                vec!["EXPOSE 80 53/udp 90-91"],
                json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}}}),
            ),
            (vec!["VOLUME /a /b", r#"VOLUME ["/c d"]"#], json!({"Volumes": {"/a": {}, "/b": {}, "/c d": {}}})),
            (vec!["WORKDIR /a/b", "WORKDIR ../c"], json!({"WorkingDir": "/a/c"})),
            (vec!["WORKDIR x"], json!({"WorkingDir": "/x"})),
            (vec!["USER me:us", "STOPSIGNAL SIGQUIT"], json!({"User": "me:us", "StopSignal": "SIGQUIT"})),
            (vec!["ONBUILD RUN a", "ONBUILD /bin/x --y"], json!({"OnBuild": ["RUN a", "/bin/x --y"]})),
            (vec!["HEALTHCHECK NONE"], json!({"Healthcheck": {"Test": ["NONE"]}})),
            (
                vec!["HEALTHCHECK --interval=5s --retries=3 CMD a || b"],
                json!({"Healthcheck": {"Test": ["CMD-SHELL", "a || b"], "Interval": 5_000_000_000i64, "Retries": 3}}),
            ),
            (vec![r#"HEALTHCHECK CMD ["a"]"#], json!({"Healthcheck": {"Test": ["CMD", "a"]}})),
            (vec!["ENV a=1\n# no\nUSER \\\n x"], json!({"Env": ["a=1"], "User": "x"})),
            (vec![""], json!({})),
        ] {
            assert_eq!(config(&changes), expected, "{changes:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (change, words) in [
            ("RUN true", "RUN is not a valid change command"),
            ("FOO", "FOO is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV a", "ENV must have two arguments"),
            ("ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
            ("ENV =b", "ENV names can not be blank"),
            ("ENV a=\"b", "process \"\\\"b\": unexpected end of statement while looking for matching double-quote"),
            ("ENV a=${b", "process \"${b\": syntax error: missing '}'"),
            ("EXPOSE x", "invalid containerPort: x"),
            ("EXPOSE 80/icmp", "invalid port: \"80/icmp\": invalid proto: icmp"),
            ("EXPOSE 90-80", "invalid containerPort: 90-80"),
            ("USER", "USER requires exactly one argument"),
            ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
            ("HEALTHCHECK --interval=1ns CMD x", "Interval \"interval\" cannot be less than 1ms"),
            ("HEALTHCHECK --what=1 CMD x", "unknown flag: --what"),
        ] {
            let error = apply(&mut RunConfig::default(), &[change.to_owned()]).unwrap_err();
            assert_eq!(error.to_string(), words, "{change}");
            assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(400));
        }
    }
}
