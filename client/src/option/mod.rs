//! The options of sbatch, salloc and srun: words, script lines and environment → a request.
//!
//! A function of its arguments: what it depends on comes in through [`World`]. Nothing is sent or printed
//! here; a text that ends the command is returned as a [`Stop`] with its stream and exit status. Weakest
//! first, an option is taken from `#SBATCH` lines, the environment, the command line.

mod container;
mod directive;
mod draft;
mod export;
mod finish;
mod gpus;
mod help;
mod pbs;
mod read;
mod script;
mod table;
#[cfg(test)]
mod tests;
mod world;

use std::ffi::OsString;

use model::refusal::Refusal;
use model::request::JobRequest;

pub(crate) use draft::{Manner, Source};
pub(crate) use export::{Variables, block};
pub(crate) use gpus::tres_per_task;
pub(crate) use script::Script;
pub(crate) use world::{World, real, umask};

use crate::getopt::{self, Given, Spec, Takes};
use draft::Draft;
use read::Bad;
use table::{Effect, Row};

/// Which program is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Submits a script.
    Sbatch,
    /// Waits for an allocation and runs a command in it.
    Salloc,
    /// Runs a step, in an allocation of its own where there is none.
    Srun,
}

impl Program {
    /// Its name, as it stands before its messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Sbatch => "sbatch",
            Program::Salloc => "salloc",
            Program::Srun => "srun",
        }
    }

    fn mask(self) -> u8 {
        match self {
            Program::Sbatch => table::SBATCH,
            Program::Salloc => table::SALLOC,
            Program::Srun => table::SRUN,
        }
    }

    /// What its variables begin with.
    fn prefix(self) -> &'static str {
        match self {
            Program::Sbatch => "SBATCH_",
            Program::Salloc => "SALLOC_",
            Program::Srun => "SLURM_",
        }
    }

    /// What stands before the scheduler's refusals.
    pub(crate) fn refusal_words(self) -> &'static str {
        match self {
            Program::Sbatch => "Batch job submission failed",
            Program::Salloc => "Job submit/allocate failed",
            Program::Srun => "Unable to allocate resources",
        }
    }
}

/// Why the command ends before it asks the scheduler anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stop {
    /// For standard output, with its newlines.
    pub out: String,
    /// Lines for standard error.
    pub err: Vec<String>,
    /// Exit status.
    pub code: u8,
}

impl Stop {
    /// Lines behind `program: error: `.
    fn errors(program: Program, texts: Vec<String>, code: u8) -> Stop {
        let err = texts.iter().map(|text| format!("{}: error: {text}", program.name())).collect();
        Stop { out: String::new(), err, code }
    }

    /// A line behind `program: fatal: `.
    fn fatal(program: Program, text: &str) -> Stop {
        Stop { out: String::new(), err: vec![format!("{}: fatal: {text}", program.name())], code: 1 }
    }

    /// What the scheduler would have said.
    fn refused(program: Program, refusal: Refusal) -> Stop {
        Stop::errors(program, vec![format!("{}: {refusal}", program.refusal_words())], 1)
    }
}

/// One component of a heterogeneous job, or the whole of an ordinary one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Component {
    /// What is asked for.
    pub request: JobRequest,
    /// How the command and its step are to behave.
    pub manner: Manner,
    /// Command and arguments (salloc, srun).
    pub command: Vec<OsString>,
    /// Where each given option came from, by long name.
    pub given: std::collections::BTreeMap<&'static str, Source>,
    /// And its value, as given; empty without one.
    pub values: std::collections::BTreeMap<&'static str, String>,
}

impl Component {
    /// True if the option was given anywhere.
    pub(crate) fn has(&self, long: &str) -> bool {
        self.given.contains_key(long)
    }
}

/// All that the words say.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    /// At least one.
    pub components: Vec<Component>,
    /// The script (sbatch).
    pub script: Option<Script>,
    /// What the job or step gets of the environment.
    pub environment: Variables,
    /// Lines for standard error that do not stop the command.
    pub warnings: Vec<String>,
}

impl Parsed {
    /// The first component, which speaks for the command.
    pub(crate) fn first(&self) -> &Component {
        self.components.first().expect("there is at least one component")
    }
}

/// Reads the words behind the program's name.
///
/// Cost: O(words + script + environment); reads the script, `--nodefile`, `--export-file`.
pub(crate) fn parse(program: Program, argv: &[OsString], world: &World<'_>) -> Result<Parsed, Stop> {
    let specs = specs(program);
    let lines = command_lines(program, &specs, argv)?;
    stop_early(program, &lines, world)?;
    let script = match program {
        Program::Sbatch => Some(find_script(&lines, world)?),
        Program::Salloc | Program::Srun => None,
    };
    let directives = match &script {
        Some(script) => read_directives(&specs, script, &lines, world)?,
        None => Vec::new(),
    };
    let count = lines.len().max(directives.len());
    let mut drafts = Vec::with_capacity(count);
    for at in 0..count {
        let mut draft = Draft::new(program, world);
        draft.source = Source::Directive;
        apply(&mut draft, directives.get(at).map_or(&[][..], |options| options))?;
        draft.source = Source::Environment;
        apply_environment(&mut draft, world)?;
        draft.source = Source::CommandLine;
        apply(&mut draft, lines.get(at).map_or(&[][..], |line| &line.options))?;
        drafts.push(draft);
    }
    finish::finish(program, argv, drafts, lines, script, world)
}

/// The words of one component of the command line.
struct CommandLine {
    options: Vec<Given<usize>>,
    operands: Vec<OsString>,
}

/// What getopt is told: an option is its row's number.
fn specs(program: Program) -> Vec<Spec<usize>> {
    let rows = table::ROWS.iter().enumerate().filter(|(_, row)| row.on & program.mask() != 0);
    let spec = |(id, row): (usize, &Row)| Spec {
        id,
        short: (row.short != 0).then_some(row.short),
        long: row.long,
        takes: row.takes,
        // A plugin's with Slurm: what Slurm says of abbreviations stays as it is without them.
        whole: container::is_pyxis(row.long),
    };
    rows.map(spec).collect()
}

/// How the options that a program offers are written, in the order of the table.
pub(crate) fn shapes(program: Program) -> Vec<getopt::Shape> {
    let offered = |row: &&Row| row.on & program.mask() != 0 && !matches!(row.effect, Effect::Refuse);
    let rows = table::ROWS.iter().filter(offered);
    rows.map(|row| getopt::Shape {
        short: Some(row.short).filter(|&short| short != 0),
        long: row.long,
        takes: row.takes,
    })
    .collect()
}

fn complaint(program: Program, line: String) -> Stop {
    let hint = format!("Try \"{} --help\" for more information", program.name());
    Stop { out: String::new(), err: vec![line, hint], code: 255 }
}

/// Cuts the words at ` : ` into components.
fn command_lines(
    program: Program,
    specs: &[Spec<usize>],
    argv: &[OsString],
) -> Result<Vec<CommandLine>, Stop> {
    let mut lines = Vec::new();
    let mut rest = argv.to_vec();
    loop {
        let words =
            getopt::split(program.name(), specs, false, &rest).map_err(|line| complaint(program, line))?;
        // A colon ends a component; inside a script's arguments it is an ordinary word.
        let colon = words.operands.iter().position(|word| word == ":");
        match colon {
            Some(at) if at == 0 || program != Program::Sbatch => {
                let operands = words.operands[..at].to_vec();
                lines.push(CommandLine { options: words.options, operands });
                rest = words.operands[at + 1..].to_vec();
            }
            _ => {
                lines.push(CommandLine { options: words.options, operands: words.operands });
                return Ok(lines);
            }
        }
    }
}

/// `--help` and its kin (`--gres=help`) end the command before anything else is looked at.
fn stop_early(program: Program, lines: &[CommandLine], world: &World<'_>) -> Result<(), Stop> {
    for given in lines.iter().flat_map(|line| &line.options) {
        if let Effect::Stop(printed) = table::ROWS[given.id].effect {
            return Err(Stop { out: help::text(program, printed), ..Stop::default() });
        }
        match apply(&mut Draft::new(program, world), std::slice::from_ref(given)) {
            Err(stop) if stop.code == 0 => return Err(stop),
            _ => {}
        }
    }
    Ok(())
}

fn option_text(lines: &[CommandLine], long: &str) -> Option<String> {
    let mut all = lines.iter().flat_map(|line| &line.options);
    all.rfind(|given| table::ROWS[given.id].long == long).map(Given::text)
}

fn find_script(lines: &[CommandLine], world: &World<'_>) -> Result<Script, Stop> {
    let operands = &lines.last().expect("there is at least one component").operands;
    match option_text(lines, "wrap") {
        Some(_) if !operands.is_empty() => {
            let text = "Script arguments not permitted with --wrap option".to_owned();
            Err(Stop::errors(Program::Sbatch, vec![text], 1))
        }
        Some(text) => Ok(script::wrapped(&text)),
        None => {
            let name = operands.first().map(|word| word.to_string_lossy());
            script::load(name.as_deref(), world)
        }
    }
}

fn read_directives(
    specs: &[Spec<usize>],
    script: &Script,
    lines: &[CommandLine],
    world: &World<'_>,
) -> Result<Vec<Vec<Given<usize>>>, Stop> {
    let program = Program::Sbatch;
    let with_pbs = option_text(lines, "ignore-pbs").is_none() && world.var("SBATCH_IGNORE_PBS").is_none();
    let components = directive::words(&script.body, with_pbs).map_err(|error| {
        let directive::Error::Unmatched { line, quote, text } = error;
        let name = script.path.as_deref().unwrap_or(&script.name);
        Stop::fatal(program, &format!("{name}: line {line}: Unmatched `{quote}` in [{text}]"))
    })?;
    let mut read = Vec::with_capacity(components.len());
    for words in components {
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        let words =
            getopt::split(program.name(), specs, false, &words).map_err(|line| complaint(program, line))?;
        if let Some(stray) = words.operands.first() {
            let text = format!("Invalid directive found in batch script: {}", stray.to_string_lossy());
            return Err(Stop::errors(program, vec![text], 255));
        }
        read.push(words.options);
    }
    Ok(read)
}

fn apply(draft: &mut Draft<'_>, options: &[Given<usize>]) -> Result<(), Stop> {
    for given in options {
        let row = &table::ROWS[given.id];
        let text = given.value.as_ref().map(|value| value.to_string_lossy().into_owned());
        set(draft, row, text.as_deref(), &format!("--{}", row.long))?;
    }
    Ok(())
}

/// Variables of the program, in the order of the table, then those with names of their own.
fn apply_environment(draft: &mut Draft<'_>, world: &World<'_>) -> Result<(), Stop> {
    let program = draft.program;
    let rows = table::ROWS.iter().filter(|row| row.on & program.mask() != 0 && !row.env.is_empty());
    let mut found: Vec<(&Row, String)> = Vec::new();
    for row in rows {
        let suffix = match row.env.strip_prefix('=') {
            Some(_) if program != Program::Srun => continue,
            Some(suffix) => suffix,
            None => row.env,
        };
        let name = format!("{}{suffix}", program.prefix());
        if program != Program::Srun || !table::NOT_READ_BY_SRUN.contains(&name.as_str()) {
            found.push((row, name));
        }
    }
    for (programs, name, long) in table::OTHER_VARIABLES {
        if programs & program.mask() != 0 {
            found.extend(table::find(program.mask(), long).map(|row| (row, (*name).to_owned())));
        }
    }
    for (row, name) in found {
        let Some(value) = world.var(&name) else { continue };
        let off = matches!(value.to_ascii_lowercase().as_str(), "0" | "no" | "n" | "false");
        if row.takes == Takes::Nothing && off {
            continue;
        }
        // Jobs are told a plane's size by a variable of its own.
        let value = match world.var("SLURM_DIST_PLANESIZE") {
            Some(size) if row.long == "distribution" && value == "plane" => format!("plane={size}"),
            _ => value,
        };
        let text = if row.takes == Takes::Maybe && value.is_empty() { None } else { Some(value.as_str()) };
        set(draft, row, text, &name)?;
    }
    Ok(())
}

/// Sets one option; `spelling` is how it was given.
fn set(draft: &mut Draft<'_>, row: &'static Row, text: Option<&str>, spelling: &str) -> Result<(), Stop> {
    let program = draft.program;
    let outcome = match row.effect {
        Effect::Set(set) => set(draft, text.unwrap_or_default()),
        Effect::SetMaybe(set) => set(draft, text),
        Effect::Stop(_) => Ok(()),
        Effect::Refuse => Err(Bad::Unsupported(spelling.to_owned())),
    };
    draft.given.insert(row.long, draft.source);
    draft.values.insert(row.long, text.unwrap_or_default().to_owned());
    let invalid = || format!("Invalid --{} specification", row.long);
    outcome.map_err(|bad| match bad {
        Bad::Invalid => Stop::errors(program, vec![invalid()], 255),
        Bad::Numeric(value) => {
            Stop::errors(program, vec![format!("Invalid numeric value \"{value}\" for --{}.", row.long)], 1)
        }
        Bad::Said(text) => Stop::errors(program, vec![text], 255),
        Bad::Line(line) => {
            let mut stop = Stop::errors(program, vec![invalid()], 255);
            stop.err.insert(0, line);
            stop
        }
        Bad::Lines(texts) => Stop::errors(program, texts, 1),
        Bad::Refused(refusal) => draft.refused(refusal),
        Bad::Unsupported(what) => {
            Stop::errors(program, vec![format!("{what} is not supported by sluice")], 255)
        }
        Bad::Print(out) => Stop { out, ..Stop::default() },
    })
}
