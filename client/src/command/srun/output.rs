//! Where srun puts what tasks write: the terminal or a file of its own, with labels where they are wanted.
//!
//! Files whose names differ by task or node (`%t`, `%n`, `%N`) are the supervisors'; all others are opened
//! here, once for all tasks.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use executor_supervisor::frame::Stream;

/// Where one of the two streams goes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::command) enum Place {
    /// srun's own stream; only this rank's where one is named.
    Terminal(Option<u32>),
    Nothing,
    /// A file of srun's.
    File(PathBuf),
    /// A pattern that each supervisor expands.
    Supervisor(String),
}

/// Reads `--output` or `--error`; `expand` gives a pattern its job, step and names.
pub(in crate::command) fn place(
    pattern: Option<&str>,
    work_dir: &Path,
    expand: impl Fn(&str) -> String,
) -> Place {
    match pattern {
        None | Some("all") => Place::Terminal(None),
        Some("none" | "/dev/null") => Place::Nothing,
        Some(number) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            number.parse().map_or(Place::Nothing, |rank| Place::Terminal(Some(rank)))
        }
        Some(pattern) if differs_by_task(pattern) => Place::Supervisor(pattern.to_owned()),
        Some(pattern) => Place::File(work_dir.join(expand(pattern))),
    }
}

/// Whether a pattern names a file for each task or node.
pub(in crate::command) fn differs_by_task(pattern: &str) -> bool {
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        let letters = rest[at + 1..].trim_start_matches(|c: char| c.is_ascii_digit());
        match letters.chars().next() {
            Some('t' | 'n' | 'N') => return true,
            Some(letter) => rest = &letters[letter.len_utf8()..],
            None => return false,
        }
    }
    false
}

enum Sink {
    Output(io::Stdout),
    Error(io::Stderr),
    File(File),
    Nothing,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Output(out) => out.write_all(bytes).and_then(|()| out.flush()),
            Self::Error(err) => err.write_all(bytes),
            Self::File(file) => file.write_all(bytes),
            Self::Nothing => Ok(()),
        }
    }
}

/// Writes what arrives.
pub(in crate::command) struct Output {
    output: Sink,
    /// `None`: errors go where output goes.
    error: Option<Sink>,
    /// Only these ranks are shown, where one is named.
    only: [Option<u32>; 2],
    /// Digits of the largest rank, where lines are labelled.
    label: Option<usize>,
    /// Lines that have no end yet.
    partial: BTreeMap<(u32, Stream), Vec<u8>>,
}

impl Output {
    /// Opens the places. Errors follow output where they have no place of their own and output is a file.
    pub(in crate::command) fn open(
        output: Place,
        error: Option<Place>,
        append: bool,
        label: bool,
        tasks: u32,
    ) -> io::Result<Self> {
        let mut only = [None, None];
        let mut sink = |place: Place, stream: usize| -> io::Result<Sink> {
            Ok(match place {
                Place::Terminal(rank) => {
                    only[stream] = rank;
                    if stream == 0 { Sink::Output(io::stdout()) } else { Sink::Error(io::stderr()) }
                }
                Place::Nothing | Place::Supervisor(_) => Sink::Nothing,
                Place::File(path) => {
                    let mut options = OpenOptions::new();
                    options.create(true).write(true).append(append).truncate(!append);
                    Sink::File(options.open(path)?)
                }
            })
        };
        let error = match (error, &output) {
            (None, Place::Terminal(rank)) => Some(sink(Place::Terminal(*rank), 1)?),
            (None, _) => None,
            (Some(place), _) => Some(sink(place, 1)?),
        };
        let output = sink(output, 0)?;
        let width = tasks.saturating_sub(1).to_string().len();
        Ok(Self { output, error, only, label: label.then_some(width), partial: BTreeMap::new() })
    }

    /// Writes bytes of a task's stream; labelled ones line by line.
    pub(in crate::command) fn write(&mut self, rank: u32, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let side = usize::from(stream == Stream::Error);
        if self.only[side].is_some_and(|only| only != rank) {
            return Ok(());
        }
        let Some(width) = self.label else { return self.sink(stream).write(bytes) };
        let line = self.partial.entry((rank, stream)).or_default();
        let mut text = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                text.extend_from_slice(format!("{rank:>width$}: ").as_bytes());
                text.append(line);
            }
        }
        self.sink(stream).write(&text)
    }

    /// A stream has ended: a last line without its end is written too.
    pub(in crate::command) fn close(&mut self, rank: u32, stream: Stream) -> io::Result<()> {
        match (self.label, self.partial.remove(&(rank, stream))) {
            (Some(width), Some(line)) if !line.is_empty() => {
                let mut text = format!("{rank:>width$}: ").into_bytes();
                text.extend_from_slice(&line);
                text.push(b'\n');
                self.sink(stream).write(&text)
            }
            _ => Ok(()),
        }
    }

    fn sink(&mut self, stream: Stream) -> &mut Sink {
        match (&mut self.error, stream) {
            (Some(error), Stream::Error) => error,
            _ => &mut self.output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let of = |pattern| place(pattern, Path::new("/w"), |pattern| pattern.replace("%j", "7"));
        assert_eq!(of(None), Place::Terminal(None));
        assert_eq!(of(Some("1")), Place::Terminal(Some(1)));
        assert_eq!(of(Some("none")), Place::Nothing);
        assert_eq!(of(Some("o-%j.txt")), Place::File("/w/o-7.txt".into()));
        assert_eq!(of(Some("o-%3t")), Place::Supervisor("o-%3t".into()));
    }

    #[test]
    fn labels_stand_before_whole_lines() {
        let folder = std::env::temp_dir().join(format!("sluice-output-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("o");
        let mut output = Output::open(Place::File(file.clone()), None, false, true, 12).unwrap();
        output.write(3, Stream::Output, b"one\ntw").unwrap();
        output.write(11, Stream::Error, b"e\n").unwrap();
        output.write(3, Stream::Output, b"o\nthree").unwrap();
        output.close(3, Stream::Output).unwrap();
        drop(output);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), " 3: one\n11: e\n 3: two\n 3: three\n");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
