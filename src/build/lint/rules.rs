//! The rules, under BuildKit's names.

/// Only where it is asked for.
pub const EXPERIMENTAL: [&str; 2] = ["CopyIgnoredFile", "InvalidDefinitionDescription"];

/// Each with what it is about.
pub const RULES: [(&str, &str); 21] = [
    ("ConsistentInstructionCasing", "Instructions are written in one case, upper or lower"),
    ("CopyIgnoredFile", "What .dockerignore leaves out cannot be copied"),
    ("DuplicateStageName", "Each stage has a name of its own"),
    ("ExposeInvalidFormat", "EXPOSE takes ports, not addresses nor ports of the host"),
    ("ExposeProtoCasing", "Protocols of EXPOSE are written in lower case"),
    ("FromAsCasing", "FROM and AS are written in the same case"),
    ("FromPlatformFlagConstDisallowed", "The platform of FROM comes from an argument"),
    ("InvalidDefaultArgInFrom", "The defaults of arguments make a valid name of a base image"),
    ("InvalidDefinitionDescription", "A comment above a stage or an argument begins with its name"),
    ("JSONArgsRecommended", "Commands in JSON form get signals, which a shell keeps to itself"),
    ("LegacyKeyValueFormat", "Names and values are joined by ="),
    ("MaintainerDeprecated", "A label says who maintains an image"),
    ("MultipleInstructionsDisallowed", "Of several instructions of this kind in a stage only the last one counts"),
    ("NoEmptyContinuation", "No empty line stands in a continued instruction"),
    ("RedundantTargetPlatform", "The target's platform is the one that FROM takes anyway"),
    ("ReservedStageName", "No stage is called scratch or context"),
    ("SecretsUsedInArgOrEnv", "No secret is given by ARG or ENV, which the image tells of"),
    ("StageNameCasing", "Names of stages are written in lower case"),
    ("UndefinedArgInFrom", "FROM uses arguments that are declared before it"),
    ("UndefinedVar", "Variables are set before they are used"),
    ("WorkdirRelativePath", "The first WORKDIR of a stage is an absolute path"),
];

pub fn description(rule: &str) -> &'static str {
    RULES.iter().find(|(name, _)| *name == rule).map_or("", |(_, about)| about)
}

/// Where Docker's documentation explains the rule.
pub fn url(rule: &str) -> String {
    let chars: Vec<char> = rule.chars().collect();
    let mut name = String::new();
    for (at, c) in chars.iter().enumerate() {
        let after_lower = at > 0 && chars[at - 1].is_lowercase();
        let before_lower = at > 0 && chars.get(at + 1).is_some_and(|next| next.is_lowercase());
        if c.is_uppercase() && (after_lower || before_lower) {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    format!("https://docs.docker.com/go/dockerfile/rule/{name}/")
}
