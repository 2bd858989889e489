//! JSON set in lines, four blanks a level, in the order in which it came.

/// An array of texts of JSON. They are indented as they are, so that no field changes its place.
pub fn array(elements: &[String]) -> String {
    let mut out = Indented { text: String::new(), level: 0 };
    if elements.is_empty() {
        return "[]\n".to_owned();
    }
    out.text.push('[');
    out.level = 1;
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.text.push(',');
        }
        out.line();
        out.value(element.trim());
    }
    out.level = 0;
    out.line();
    out.text.push_str("]\n");
    out.text
}

/// One text of JSON.
pub fn one(json: &str) -> String {
    let mut out = Indented { text: String::new(), level: 0 };
    out.value(json.trim());
    out.line();
    out.text
}

struct Indented {
    text: String,
    level: usize,
}

impl Indented {
    fn line(&mut self) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n("    ", self.level));
    }

    /// Sets one text of JSON; what is inside strings is left alone.
    fn value(&mut self, json: &str) {
        let mut chars = json.chars().peekable();
        let (mut string, mut escaped) = (false, false);
        while let Some(c) = chars.next() {
            if string {
                self.text.push(c);
                string = escaped || c != '"';
                escaped = !escaped && c == '\\';
                continue;
            }
            match c {
                '"' => {
                    string = true;
                    self.text.push(c);
                }
                '{' | '[' => {
                    self.text.push(c);
                    while chars.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                    if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                        self.text.push(close);
                    } else {
                        self.level += 1;
                        self.line();
                    }
                }
                '}' | ']' => {
                    self.level = self.level.saturating_sub(1);
                    self.line();
                    self.text.push(c);
                }
                ',' => {
                    self.text.push(c);
                    self.line();
                }
                ':' => self.text.push_str(": "),
                c if c.is_ascii_whitespace() => {}
                c => self.text.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_in_lines() {
        assert_eq!(array(&[]), "[]\n");
        let one = r#"{"b":[1,2],"a":{},"c":[ ],"s":"x\"{,:","n":null}"#.to_owned();
        let expected = r#"[
    {
        "b": [
            1,
            2
        ],
        "a": {},
        "c": [],
        "s": "x\"{,:",
        "n": null
    },
    {}
]
"#;
        assert_eq!(array(&[one, "{}\n".to_owned()]), expected);
    }
}
