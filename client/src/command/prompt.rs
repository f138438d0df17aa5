//! Commands from standard input, as `scontrol` and `sacctmgr` take them when they are called without words.

use crate::say;

/// The words of the next line that has any, each line shown behind the prompt; `None` at the end of standard input.
pub(super) fn ask(program: &str) -> Option<Vec<String>> {
    loop {
        say::out(format!("{program}: "));
        let mut line = String::new();
        if !matches!(std::io::stdin().read_line(&mut line), Ok(1..)) {
            say::out("\n");
            return None;
        }
        let line = line.trim_end_matches(['\n', '\r']);
        say::out(format!("{line}\n"));
        let words = split_line(line);
        if !words.is_empty() {
            return Some(words);
        }
    }
}

/// Words of a line; quotes keep blanks together.
pub(super) fn split_line(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => (quote, begun) = (Some(c), true),
            (c, None) if c.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (c, _) => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}
