//! `sluice completion SHELL` prints what a shell needs to complete our commands; `sluice complete` gives the words.
//!
//! The scripts hold no knowledge: each time they pass the typed line to `sluice complete`, which knows the options
//! from the tables that the commands read them with, and asks the scheduler for names. Where nobody answers within
//! a moment, names are not offered. Nothing offered means the shell's own completion of file names.

use std::time::Duration;

use model::job::JobState;
use proto::v1::{JobFilter, ListAccountsRequest};

use super::{Call, block_on, job};
use crate::api::Client;
use crate::getopt::{Shape, Takes};
use crate::option::{self, Program};
use crate::say;

/// The longest that a shell is kept waiting for names.
const PATIENCE: Duration = Duration::from_millis(800);

const HELP: &str = "\
Usage: sluice completion bash|zsh|fish

Prints a script that completes our commands in that shell. To have it in every shell:
  bash   sluice completion bash > ~/.local/share/bash-completion/completions/sluice,
         and links to it there by the names sbatch, squeue, …; or: eval \"$(sluice completion bash)\"
  zsh    source <(sluice completion zsh)
  fish   sluice completion fish | source
";

/// The commands that are completed, by their own names.
pub(super) const COMMANDS: [&str; 13] = [
    "sbatch", "srun", "salloc", "squeue", "scancel", "sinfo", "scontrol", "sacct", "sacctmgr", "sdiag",
    "sprio", "sstat", "seff",
];
const VERBS: [&str; 12] = [
    "completion",
    "gpus",
    "help",
    "man",
    "node",
    "simulate",
    "top",
    "up",
    "validate",
    "version",
    "whatif",
    "why",
];

/// Prints a shell's script: 0, 2 for a shell that is not known.
pub(crate) fn run(call: &Call) -> u8 {
    let [shell] = &call.argv[..] else {
        say::err(HELP.trim_end());
        return 2;
    };
    let text = match &*shell.to_string_lossy() {
        "bash" => bash(),
        "zsh" => zsh(),
        "fish" => fish(),
        "-h" | "--help" => HELP.to_owned(),
        other => {
            say::error(&call.program, format!("no completion is known for the shell \"{other}\""));
            say::err(HELP.trim_end());
            return 2;
        }
    };
    say::out(text);
    0
}

/// `sluice complete WORD…`: candidates for the last word, one a line.
pub(crate) fn complete(call: &Call) -> u8 {
    let words: Vec<String> = call.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut out = String::new();
    for candidate in candidates(&words, &mut ask) {
        out.push_str(&candidate);
        out.push('\n');
    }
    say::out(out);
    0
}

/// What a word stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noun {
    Account,
    /// One that waits, runs, or has ended.
    AnyJob,
    /// One that waits or runs.
    Job,
    Node,
    Partition,
    Qos,
    State,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// The words that may stand where the last of `words` is being typed; `names` gives those of the cluster.
fn candidates(words: &[String], names: &mut dyn FnMut(Noun) -> Vec<String>) -> Vec<String> {
    let [command, before @ .., last] = words else { return Vec::new() };
    let command = command.rsplit('/').next().unwrap_or_default();
    if command == "sluice" {
        return match before {
            [] => chosen(last, VERBS.into_iter().chain(COMMANDS).map(str::to_owned)),
            [verb, ..] if COMMANDS.contains(&verb.as_str()) => candidates(&words[1..], names),
            [verb, ..] => verb_words(verb, last, names),
        };
    }
    let shapes = shapes(command);
    if let Some((name, value)) = last.strip_prefix("--").and_then(|rest| rest.split_once('=')) {
        let Some(noun) = noun_of(command, name) else { return Vec::new() };
        return listed(value, noun, names).into_iter().map(|text| format!("--{name}={text}")).collect();
    }
    if last.starts_with('-') {
        return chosen(last, shapes.iter().flat_map(spellings));
    }
    if let Some(shape) = before.last().and_then(|word| awaiting(&shapes, word)) {
        return noun_of(command, shape.long).map_or_else(Vec::new, |noun| listed(last, noun, names));
    }
    let operands: Vec<&str> =
        before.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    operand(command, &operands).map_or_else(Vec::new, |noun| listed(last, noun, names))
}

/// Words behind a verb of our own.
fn verb_words(verb: &str, last: &str, names: &mut dyn FnMut(Noun) -> Vec<String>) -> Vec<String> {
    match verb {
        "completion" => chosen(last, ["bash", "fish", "zsh"].map(str::to_owned)),
        "why" if last.starts_with('-') => chosen(last, super::why::shapes().iter().flat_map(spellings)),
        "top" if last.starts_with('-') => chosen(last, super::top::shapes().iter().flat_map(spellings)),
        "up" if last.starts_with('-') => chosen(last, super::up::shapes().iter().flat_map(spellings)),
        "why" => listed(last, Noun::AnyJob, names),
        "node" => listed(last, Noun::Node, names),
        _ => Vec::new(),
    }
}

/// The options that a command offers.
fn shapes(command: &str) -> Vec<Shape> {
    match command {
        "sbatch" => option::shapes(Program::Sbatch),
        "salloc" => option::shapes(Program::Salloc),
        "srun" => option::shapes(Program::Srun),
        "sacct" => super::sacct::shapes(),
        "sacctmgr" => super::sacctmgr::shapes(),
        "scancel" => super::scancel::shapes(),
        "scontrol" => super::scontrol::shapes(),
        "sdiag" => super::sdiag::shapes(),
        "seff" => super::seff::shapes(),
        "sinfo" => super::sinfo::shapes(),
        "sprio" => super::sprio::shapes(),
        "squeue" => super::squeue::shapes(),
        "sstat" => super::sstat::shapes(),
        _ => Vec::new(),
    }
}

/// `-p`, and `--partition=` where a value has to follow.
fn spellings(shape: &Shape) -> Vec<String> {
    let short = shape.short.map(|letter| format!("-{}", char::from(letter)));
    let long = (!shape.long.is_empty()).then(|| match shape.takes {
        Takes::Value => format!("--{}=", shape.long),
        Takes::Nothing | Takes::Maybe => format!("--{}", shape.long),
    });
    long.into_iter().chain(short).collect()
}

/// The option that the word before is, if its value comes next.
fn awaiting(shapes: &[Shape], word: &str) -> Option<Shape> {
    let fits = |shape: &&Shape| match word.strip_prefix("--") {
        Some(long) => shape.long == long,
        None => {
            word.strip_prefix('-').and_then(|rest| rest.chars().last()).map(u32::from)
                == shape.short.map(u32::from)
        }
    };
    let shape = shapes.iter().find(|shape| fits(shape)).filter(|_| word.starts_with('-'))?;
    (shape.takes == Takes::Value || (shape.long == "jobs" && word == "-j")).then_some(*shape)
}

/// What the value of an option names.
fn noun_of(command: &str, long: &str) -> Option<Noun> {
    Some(match long {
        "account" | "accounts" => Noun::Account,
        "job" | "jobid" | "jobs" if command == "sacct" => Noun::AnyJob,
        "job" | "jobid" | "jobs" => Noun::Job,
        "nodelist" | "exclude" | "nodes"
            if !(long == "nodes" && matches!(command, "sbatch" | "srun" | "salloc")) =>
        {
            Noun::Node
        }
        "partition" => Noun::Partition,
        "qos" => Noun::Qos,
        "state" | "states" if command != "sinfo" => Noun::State,
        "open-mode" => Noun::Word(&["append", "truncate"]),
        "mail-type" => Noun::Word(&["ALL", "BEGIN", "END", "FAIL", "NONE", "REQUEUE", "TIME_LIMIT"]),
        "export" => Noun::Word(&["ALL", "NIL", "NONE"]),
        "distribution" => Noun::Word(&["arbitrary", "block", "cyclic", "plane="]),
        "hint" => Noun::Word(&["compute_bound", "memory_bound", "multithread", "nomultithread"]),
        _ => return None,
    })
}

/// What a command's next operand names.
fn operand(command: &str, before: &[&str]) -> Option<Noun> {
    const ENTITIES: &[&str] = &[
        "config",
        "daemons",
        "hostlist",
        "hostnames",
        "job",
        "licenses",
        "node",
        "partition",
        "step",
        "topology",
    ];
    const ACTIONS: &[&str] = &[
        "hold",
        "listpids",
        "ping",
        "reconfigure",
        "release",
        "requeue",
        "requeuehold",
        "resume",
        "show",
        "suspend",
        "update",
        "wait_job",
    ];
    match (command, before) {
        ("scancel", _) => Some(Noun::Job),
        ("seff", _) => Some(Noun::AnyJob),
        ("scontrol", []) => Some(Noun::Word(ACTIONS)),
        ("scontrol", ["show"]) => Some(Noun::Word(ENTITIES)),
        ("scontrol", ["show", "job"]) => Some(Noun::Job),
        ("scontrol", ["show", "node"]) => Some(Noun::Node),
        ("scontrol", ["show", "partition"]) => Some(Noun::Partition),
        ("scontrol", ["update", ..]) => Some(Noun::Word(&[
            "JobId=",
            "NodeName=",
            "PartitionName=",
            "Priority=",
            "Reason=",
            "State=",
            "TimeLimit=",
            "TimeMin=",
        ])),
        ("scontrol", [action, ..]) if ACTIONS.contains(action) && *action != "show" => Some(Noun::Job),
        ("sacctmgr", []) => Some(Noun::Word(&["add", "delete", "dump", "list", "modify", "show"])),
        ("sacctmgr", ["show" | "list" | "add" | "delete" | "modify"]) => {
            Some(Noun::Word(&["account", "association", "cluster", "qos", "tres", "user"]))
        }
        _ => None,
    }
}

/// Names that complete the last item of a comma list.
fn listed(typed: &str, noun: Noun, names: &mut dyn FnMut(Noun) -> Vec<String>) -> Vec<String> {
    let (done, item) =
        typed.rsplit_once(',').map_or(("", typed), |(_, item)| (&typed[..typed.len() - item.len()], item));
    let all = match noun {
        Noun::Word(words) => words.iter().map(|&word| word.to_owned()).collect(),
        Noun::State => JobState::ALL.iter().map(|state| state.long().to_owned()).collect(),
        asked => names(asked),
    };
    chosen(item, all).into_iter().map(|name| format!("{done}{name}")).collect()
}

/// Those that begin with what is typed, each once, in order.
fn chosen(typed: &str, all: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = all.into_iter().filter(|word| word.starts_with(typed)).collect();
    found.sort();
    found.dedup();
    found
}

/// Asks the scheduler; nothing where it does not answer soon.
fn ask(noun: Noun) -> Vec<String> {
    let question = async {
        let client = Client::connect().await.ok()?.with_patience(PATIENCE);
        Some(match noun {
            Noun::AnyJob | Noun::Job => {
                let uid = nix::unistd::getuid().as_raw();
                let uids = if uid == 0 { Vec::new() } else { vec![uid] };
                let jobs = client
                    .jobs(JobFilter { uids, ..JobFilter::default() }, noun == Noun::AnyJob)
                    .await
                    .ok()?;
                jobs.iter()
                    .map(|job| {
                        job::id(job).split('[').next().unwrap_or_default().trim_end_matches('_').to_owned()
                    })
                    .collect()
            }
            Noun::Node => {
                client.list_nodes(Vec::new()).await.ok()?.into_iter().map(|node| node.name).collect()
            }
            Noun::Partition => client.list_partitions().await.ok()?.into_iter().map(|one| one.name).collect(),
            Noun::Account | Noun::Qos => {
                let reply =
                    client.raw().list_accounts(ListAccountsRequest::default()).await.ok()?.into_inner();
                match noun {
                    Noun::Account => reply.accounts.into_iter().map(|one| one.name).collect(),
                    _ => reply.qos.into_iter().map(|one| one.name).collect(),
                }
            }
            Noun::State | Noun::Word(_) => Vec::new(),
        })
    };
    let answer = block_on(async { tokio::time::timeout(PATIENCE, question).await });
    answer.ok().flatten().unwrap_or_default()
}

fn bash() -> String {
    let names = COMMANDS.join(" ");
    format!(
        r#"# Completion of sluice for bash: the words come from "sluice complete".
_sluice() {{
    local line=${{COMP_LINE:0:COMP_POINT}} word cut=""
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${{words[-1]}}
    # bash cuts words at "=": what stands before it is not to be repeated.
    [[ $word == *=* && $COMP_WORDBREAKS == *=* ]] && cut=${{word%"${{word##*=}}"}}
    mapfile -t COMPREPLY < <(sluice complete -- "${{words[@]}}" 2>/dev/null)
    COMPREPLY=("${{COMPREPLY[@]#"$cut"}}")
    [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *[=,] ]] && compopt -o nospace
}}
complete -o default -F _sluice sluice {names}
"#
    )
}

fn zsh() -> String {
    let names = COMMANDS.join(" ");
    format!(
        r#"#compdef sluice {names}
# Completion of sluice for zsh: the words come from "sluice complete".
_sluice() {{
    local -a found
    found=("${{(@f)$(sluice complete -- "${{(@)words[1,CURRENT]}}" 2>/dev/null)}}")
    if [[ -n $found[1] ]]; then
        compadd -S '' -- $found
    else
        _files
    fi
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}
compdef _sluice sluice {names}
"#
    )
}

fn fish() -> String {
    let mut text = String::from(
        "# Completion of sluice for fish: the words come from \"sluice complete\".\n\
         function __sluice_complete\n    \
             sluice complete -- (commandline -opc) (commandline -ct) 2>/dev/null\nend\n",
    );
    for name in ["sluice"].iter().chain(&COMMANDS) {
        text.push_str(&format!("complete -c {name} -a '(__sluice_complete)'\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        candidates(&words, &mut |noun| match noun {
            Noun::Partition => vec!["debug".to_owned(), "long".to_owned()],
            Noun::AnyJob | Noun::Job => vec!["7".to_owned(), "71".to_owned(), "8".to_owned()],
            Noun::Node => vec!["n1".to_owned()],
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn options_come_from_the_tables() {
        assert_eq!(completed("sbatch --parti"), ["--partition="]);
        assert_eq!(completed("sbatch --hol"), ["--hold"]);
        assert_eq!(completed("sluice squeue --m"), ["--me"]);
        assert!(completed("sacct --file").is_empty(), "an option that is refused is not offered");
    }

    #[test]
    fn values_are_names_of_the_cluster() {
        assert_eq!(completed("sbatch -p d"), ["debug"]);
        assert_eq!(completed("sbatch --partition=debug,l"), ["--partition=debug,long"]);
        assert_eq!(completed("scancel 7"), ["7", "71"]);
        assert_eq!(completed("sinfo -n "), ["n1"]);
        assert_eq!(completed("scontrol show job 8"), ["8"]);
        assert_eq!(completed("squeue -t RUN"), ["RUNNING"]);
        assert_eq!(completed("sluice why 7"), ["7", "71"]);
    }

    #[test]
    fn words_of_commands() {
        assert_eq!(completed("scontrol sh"), ["show"]);
        assert_eq!(completed("scontrol show p"), ["partition"]);
        assert_eq!(completed("sluice wh"), ["whatif", "why"]);
        assert!(completed("sbatch job.s").is_empty(), "file names are the shell's");
    }
}
