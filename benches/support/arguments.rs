//! The few options that every bench has.

use anyhow::{Context, Result, bail, ensure};

/// As typed after `--`.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Do the same in about a second.
    pub tiny: bool,
    /// Write a result file.
    pub save: bool,
    /// Of everything that is random.
    pub seed: u64,
    /// Only parts whose name contains this.
    pub only: Option<String>,
    /// One instance in place of all: `NODES/MIX`, or `NODES/MIX/FILL` (the grid alone).
    pub cell: Option<String>,
}

impl Arguments {
    /// Reads the process's arguments; `--bench`, which cargo adds, is ignored.
    ///
    /// # Errors
    /// An unknown option, a missing or wrong value.
    pub fn parse() -> Result<Self> {
        let arguments = Self::parse_with_cell()?;
        ensure!(arguments.cell.is_none(), "--cell is for the grid");
        Ok(arguments)
    }

    /// The same where one instance can be chosen.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_with_cell() -> Result<Self> {
        let mut arguments = Self { tiny: false, save: false, seed: 1, only: None, cell: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--bench" => {}
                "--tiny" => arguments.tiny = true,
                "--save" => arguments.save = true,
                "--seed" => {
                    let value = words.next().context("--seed needs a number")?;
                    arguments.seed =
                        value.parse().with_context(|| format!("--seed {value}: not a number"))?;
                }
                "--only" => arguments.only = Some(words.next().context("--only needs a part's name")?),
                "--cell" => arguments.cell = Some(words.next().context("--cell needs NODES/MIX[/FILL]")?),
                other => bail!("unknown argument {other:?} (--tiny --save --seed N --only PART --cell CELL)"),
            }
        }
        Ok(arguments)
    }

    /// Whether a part is wanted.
    #[must_use]
    pub fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| part.contains(only.as_str()))
    }
}
