//! What `--help`, `--usage` and `--version` print.

use super::Program;
use super::table::{self, Printed};
use crate::getopt::Takes;

/// The whole text for standard output.
pub(crate) fn text(program: Program, printed: Printed) -> String {
    match printed {
        Printed::Version => format!("{}\n", crate::command::version()),
        Printed::Usage => usage(program),
        Printed::Help => help(program),
    }
}

fn help(program: Program) -> String {
    let operands = match program {
        Program::Sbatch => "script(0) [args(0)...]",
        Program::Salloc => "[command(0) [args(0)...]]",
        Program::Srun => "executable(0) [args(0)...]",
    };
    let mut text = format!("Usage: {} [OPTIONS(0)...] [ : [OPTIONS(N)...]] {operands}\n\n", program.name());
    for row in table::ROWS.iter().filter(|row| row.on & program.mask() != 0) {
        let letter = if row.short == 0 { "    ".to_owned() } else { format!("-{}, ", char::from(row.short)) };
        let value = match row.takes {
            Takes::Nothing => "",
            Takes::Value => "=value",
            Takes::Maybe => "[=value]",
        };
        let name = format!("  {letter}--{}{value}", row.long);
        let note = match row.effect {
            table::Effect::Refuse => "(not supported by sluice)",
            _ => "",
        };
        text.push_str(format!("{name:<36}{note}").trim_end());
        text.push('\n');
    }
    text
}

fn usage(program: Program) -> String {
    let rest = match program {
        Program::Sbatch => "              [options] script [args...]\n",
        Program::Salloc => "              [options] [command [args...]]\n",
        Program::Srun => "            [options] executable [args...]\n",
    };
    format!("Usage: {} [-N nnodes] [-n ntasks]\n{rest}", program.name())
}
