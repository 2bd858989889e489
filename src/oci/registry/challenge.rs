//! What a registry's 401 asks for: the `WWW-Authenticate` header.

/// One challenge: the scheme in lower case, and its parameters with names in lower case.
#[derive(Debug, PartialEq, Eq)]
pub struct Challenge {
    pub scheme: String,
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads one header, which may hold several challenges parted by the same commas as their parameters
/// (RFC 9110, 11.6.1). What cannot be read ends the list; what stands before it counts.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut list: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return list;
        }
        let spaced = after.trim_start_matches([' ', '\t']);
        // `name=` is a parameter of the challenge before; a word that stands alone begins a new one.
        match spaced.strip_prefix('=') {
            Some(value) if !list.is_empty() => {
                let Some((value, after)) = parameter(value.trim_start_matches([' ', '\t'])) else { return list };
                if let Some(challenge) = list.last_mut() {
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            Some(_) => return list,
            None => {
                list.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = spaced;
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string, unescaped, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some registries leave URLs unquoted.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            _ => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let show = |header: &str| {
            let one = |c: &Challenge| {
                let parameters: Vec<String> = c.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("{}({})", c.scheme, parameters.join(";"))
            };
            parse(header).iter().map(one).collect::<Vec<_>>().join(" ")
        };
        for (header, shown) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                "bearer(realm=https://auth.docker.io/token;service=registry.docker.io;scope=repository:a/b:pull,push)",
            ),
            (r#"Basic realm="x y, z""#, "basic(realm=x y, z)"),
            (r#"Basic realm="a", Bearer realm="b" , service=c"#, "basic(realm=a) bearer(realm=b;service=c)"),
            (r#"Negotiate, BASIC Realm = "q\"uo\\te""#, r#"negotiate() basic(realm=q"uo\te)"#),
            (r#"Bearer realm=https://x/token,service=s"#, "bearer(realm=https://x/token;service=s)"),
            (r#"Bearer realm="never closed"#, "bearer()"),
            (r#"Bearer realm="x\"#, "bearer()"),
            ("realm=x", ""),
            ("", ""),
            ("é", ""),
        ] {
            assert_eq!(show(header), shown, "{header}");
        }
        assert_eq!(parse("Basic realm=x")[0].get("realm"), Some("x"));
    }
}
