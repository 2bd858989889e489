//! Shell patterns as Go's `path.Match` reads them, for the `reference` filter: `*` and `?` do not cross a slash.

/// Whether the whole text matches; `None` where the pattern is malformed.
pub fn matches(pattern: &str, text: &str) -> Option<bool> {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    check(&pattern)?;
    // The place after the last star, and how much text that star has taken: what does not fit goes back there.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return Some(true);
        }
        match text.get(t).and_then(|&c| one(&pattern[p..], c)) {
            Some(length) => (p, t) = (p + length, t + 1),
            None => match star {
                Some((after, taken)) if taken < text.len() && text[taken] != '/' => {
                    star = Some((after, taken + 1));
                    (p, t) = (after, taken + 1);
                }
                _ => return Some(false),
            },
        }
    }
}

/// The length of the pattern's first piece, if it matches the character.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => (c != '/').then_some(1),
        ['[', ..] => {
            let (length, matched) = class(pattern, c)?;
            matched.then_some(length)
        }
        ['\\', escaped, ..] => (*escaped == c).then_some(2),
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

/// The length of a class `[^a-z\]]`, and whether it has the character; `None` where it is malformed.
fn class(pattern: &[char], c: char) -> Option<(usize, bool)> {
    let negated = pattern.get(1) == Some(&'^');
    let start = if negated { 2 } else { 1 };
    let (mut at, mut found) = (start, false);
    while at == start || *pattern.get(at)? != ']' {
        let (low, next) = member(pattern, at)?;
        let (high, next) = if pattern.get(next) == Some(&'-') { member(pattern, next + 1)? } else { (low, next) };
        found |= (low..=high).contains(&c);
        at = next;
    }
    Some((at + 1, found != negated))
}

fn member(pattern: &[char], at: usize) -> Option<(char, usize)> {
    match pattern.get(at)? {
        '-' | ']' => None,
        '\\' => Some((*pattern.get(at + 1)?, at + 2)),
        c => Some((*c, at + 1)),
    }
}

fn check(pattern: &[char]) -> Option<()> {
    let mut at = 0;
    while let Some(c) = pattern.get(at) {
        at += match c {
            '[' => class(&pattern[at..], 'x')?.0,
            '\\' => pattern.get(at + 1).map(|_| 2)?,
            _ => 1,
        };
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn as_go_matches_paths() {
        for (pattern, text, expected) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*", "a/c", Some(false)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*/b", "abc/b", Some(true)),
            ("a*/b", "a/c/b", Some(false)),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Some(true)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("a???b", "aééé b", Some(false)),
            ("a[^a]b", "a☺b", Some(true)),
            ("*x", "xxx", Some(true)),
            ("busybox:*", "busybox:1.36", Some(true)),
            ("*/busybox", "quay.io/busybox", Some(true)),
            ("[", "a", None),
            ("[^", "a", None),
            ("[a-", "a", None),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("a[", "ab", None),
            ("\\", "a", None),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }
}
