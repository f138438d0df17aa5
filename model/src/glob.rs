//! Path patterns as a shell reads them, for settings that may name several programs (`Prolog=/etc/site/prolog.d/*`).
//!
//! Pure: folders are read by the caller. `*`, `?` and `[a-z]` (`[!…]`) within a component; a leading dot is met only by
//! a dot. Source: glob(7).

/// Whether a text has anything to expand.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether one component meets one component of a pattern. Cost: O(pattern × name).
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    if name.first() == Some(&'.') && pattern.first() != Some(&'.') {
        return false;
    }
    meets(&pattern, &name)
}

fn meets(pattern: &[char], name: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return name.is_empty() };
    match first {
        '*' => (0..=name.len()).any(|taken| meets(rest, &name[taken..])),
        '?' => name.split_first().is_some_and(|(_, name)| meets(rest, name)),
        '[' => match set(rest) {
            Some((wanted, behind)) => {
                name.split_first().is_some_and(|(letter, name)| wanted(*letter) && meets(behind, name))
            }
            None => name.split_first().is_some_and(|(letter, name)| *letter == '[' && meets(rest, name)),
        },
        other => name.split_first().is_some_and(|(letter, name)| letter == other && meets(rest, name)),
    }
}

/// A set behind its bracket, and what stands behind it; `None`: it has no end.
fn set(text: &[char]) -> Option<(impl Fn(char) -> bool + use<'_>, &[char])> {
    let (negated, text) = match text.first() {
        Some('!' | '^') => (true, &text[1..]),
        _ => (false, text),
    };
    // A bracket that comes first is meant itself.
    let end = 1 + text.get(1..)?.iter().position(|letter| *letter == ']')?;
    let (inside, behind) = (&text[..end], &text[end + 1..]);
    let has = move |letter: char| {
        let mut at = 0;
        while at < inside.len() {
            if let (Some('-'), Some(last)) = (inside.get(at + 1), inside.get(at + 2)) {
                if (inside[at]..=*last).contains(&letter) {
                    return true;
                }
                at += 3;
            } else {
                if inside[at] == letter {
                    return true;
                }
                at += 1;
            }
        }
        false
    };
    Some((move |letter| has(letter) != negated, behind))
}

/// The paths that an absolute pattern names, in order; a path without a pattern is itself, there or not. `list` gives
/// the names in a folder, none where it cannot be read.
pub fn expand(pattern: &str, list: &mut dyn FnMut(&str) -> Vec<String>) -> Vec<String> {
    let mut found = vec![String::new()];
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        let mut next = Vec::new();
        for folder in found {
            if !is_pattern(component) {
                next.push(format!("{folder}/{component}"));
                continue;
            }
            let inside = list(if folder.is_empty() { "/" } else { &folder });
            let met = inside.into_iter().filter(|name| matches(component, name));
            next.extend(met.map(|name| format!("{folder}/{name}")));
        }
        found = next;
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::{expand, matches};

    #[test]
    fn components_are_met_as_a_shell_does() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("*.sh", "10-x.sh", true),
            ("*.sh", "x.sh~", false),
            ("[0-9][0-9]-*", "10-x", true),
            ("[!0-9]*", "1", false),
            ("[]a]", "]", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a", "[a", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_become_sorted_paths() {
        let mut list = |folder: &str| match folder {
            "/etc" => vec!["b.d".to_owned(), "a.d".to_owned(), "c".to_owned()],
            "/etc/a.d" => vec!["2".to_owned(), "1".to_owned()],
            _ => Vec::new(),
        };
        assert_eq!(expand("/etc/*.d/*", &mut list), ["/etc/a.d/1", "/etc/a.d/2"]);
        assert_eq!(expand("/etc/none/x", &mut list), ["/etc/none/x"]);
        assert!(expand("/var/*", &mut list).is_empty());
    }
}
