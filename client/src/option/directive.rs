//! `#SBATCH` and `#PBS` lines of a batch script: which lines count, and their words.
//!
//! Reading stops at the first line that is neither blank nor a comment. Quotes and backslashes are
//! honoured, nothing is expanded. Source: goldens `directives/*`.

use super::pbs;

/// A word that a script's line cannot be read at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// A quote is never closed: line, quote, and the rest of the line.
    Unmatched {
        /// From 1.
        line: usize,
        /// The quote.
        quote: char,
        /// What stands behind the magic word.
        text: String,
    },
}

/// The words of all components: components are divided by `#SBATCH hetjob`.
pub(crate) fn words(script: &[u8], with_pbs: bool) -> Result<Vec<Vec<String>>, Error> {
    let mut components = vec![Vec::new()];
    for (at, line) in script.split(|&byte| byte == b'\n').enumerate() {
        let text = String::from_utf8_lossy(line);
        let current = components.last_mut().expect("there is always a component");
        if let Some(rest) = text.strip_prefix("#SBATCH") {
            let found = split(rest, at + 1)?;
            if found.first().is_some_and(|word| word == "hetjob" || word == "packjob") {
                components.push(Vec::new());
            } else {
                current.extend(found);
            }
        } else if let Some(rest) = text.strip_prefix("#PBS").filter(|_| with_pbs) {
            current.extend(pbs::translate(&split(rest, at + 1)?));
        } else if !text.trim_start().starts_with('#') && !text.trim().is_empty() {
            break;
        }
    }
    Ok(components)
}

/// Words between blanks; a `#` ends the line wherever it stands outside quotes.
fn split(text: &str, line: usize) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    let mut letters = text.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if letters.peek().is_none_or(|&letter| letter == '#') {
            return Ok(words);
        }
        let (mut word, mut quote, mut written) = (String::new(), None, false);
        let ended = loop {
            let Some(letter) = letters.next() else {
                if let Some(quote) = quote {
                    return Err(Error::Unmatched { line, quote, text: text.trim().to_owned() });
                }
                break true;
            };
            match letter {
                // A backslash at the end of the line is no continuation and no word.
                '\\' => match letters.next() {
                    Some(escaped) => {
                        word.push(escaped);
                        written = true;
                    }
                    None => break true,
                },
                '\'' | '"' if quote.is_none() => (quote, written) = (Some(letter), true),
                _ if quote == Some(letter) => quote = None,
                '#' if quote.is_none() => break true,
                _ if letter.is_whitespace() && quote.is_none() => break false,
                _ => {
                    word.push(letter);
                    written = true;
                }
            }
        };
        if written {
            words.push(word);
        }
        if ended {
            return Ok(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(script: &str, expected: &str) {
        let got = match words(script.as_bytes(), true) {
            Ok(components) => components.iter().map(|words| words.join("|")).collect::<Vec<_>>().join(" : "),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(got, expected, "{script}");
    }

    #[test]
    fn which_lines_count() {
        check(
            "#!/bin/sh\n#SBATCH -n 2\n\n# a comment\n#SBATCH -J found\necho\n#SBATCH -n 5\n",
            "-n|2|-J|found",
        );
        check("#!/bin/sh\n #SBATCH -n 2\n\t#SBATCH -J tab\n##SBATCH -x y\n# SBATCH -z\ntrue\n", "");
        check("#SBATCH-n 4\n#SBATCH\n", "-n|4");
        check("#!/bin/sh\n#SBATCH -n 1\n#SBATCH hetjob\n#SBATCH -n 2 -p batch\n", "-n|1 : -n|2|-p|batch");
    }

    #[test]
    fn how_words_are_cut() {
        check("#SBATCH -n 2 # two of them -n 5", "-n|2");
        check("#SBATCH -J nm#notcomment", "-J|nm");
        check("#SBATCH --output=my\\ file.txt", "--output=my file.txt");
        check("#SBATCH --comment=\"quoted comment\" -J 'a # b'", "--comment=quoted comment|-J|a # b");
        check("#SBATCH -n 2 \\\n#SBATCH -J cont\n", "-n|2|-J|cont");
        check("#SBATCH --job-name=$FOO --output=$HOME/%j.out", "--job-name=$FOO|--output=$HOME/%j.out");
        check("#SBATCH --wrap=''", "--wrap=");
        check("#SBATCH -J \"x", "Unmatched { line: 1, quote: '\"', text: \"-J \\\"x\" }");
    }

    #[test]
    fn pbs_lines() {
        check(
            "#PBS -N name -q batch\n#PBS -l walltime=1:00:00,nodes=2:ppn=4\n",
            "--job-name=name|--partition=batch|--time=1:00:00|--nodes=2|--ntasks-per-node=4",
        );
        assert_eq!(words(b"#PBS -N name\n#SBATCH -n 2\n", false).unwrap(), [["-n", "2"]]);
    }
}
