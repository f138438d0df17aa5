//! `scontrol`: looking at the cluster's objects and changing them.
//!
//! Owns its command words, one by one from the command line or line by line from standard input. Whether a
//! change is allowed is the scheduler's to say; values are read here only as far as Slurm's own client does.

mod act;
mod hosts;
mod process;
mod reservation;
mod show;
mod show_job;
mod show_node;
mod topology;
mod update;

pub(super) use self::act::wire;
pub(super) use self::reservation::{duration as reservation_duration, state as reservation_state};
use self::show_job::Style;
use super::{Call, block_on, prompt};
use crate::api::{Client, Error};
use crate::getopt::Takes::{Maybe, Nothing, Value};
use crate::getopt::{self, Spec};
use crate::say;

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    All,
    Clusters,
    Details,
    DryRun,
    Help,
    Hide,
    Ignored,
    Json,
    OneLine,
    Quiet,
    Uid,
    Verbose,
    Version,
    Yaml,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::All, b'a', "all", Nothing),
    Spec::new(O::Details, b'd', "details", Nothing),
    Spec::long(O::DryRun, "dry-run", Nothing),
    Spec::long(O::Ignored, "federation", Nothing),
    Spec::new(O::Ignored, b'F', "future", Nothing),
    Spec::new(O::Help, b'h', "help", Nothing),
    Spec::long(O::Hide, "hide", Nothing),
    Spec::long(O::Json, "json", Maybe),
    Spec::long(O::Ignored, "local", Nothing),
    Spec::long(O::Clusters, "cluster", Value),
    Spec::new(O::Clusters, b'M', "clusters", Value),
    Spec::new(O::OneLine, b'o', "oneliner", Nothing),
    Spec::new(O::Quiet, b'Q', "quiet", Nothing),
    Spec::long(O::Ignored, "sibling", Nothing),
    Spec::new(O::Uid, b'u', "uid", Value),
    Spec::long(O::Help, "usage", Nothing),
    Spec::new(O::Verbose, b'v', "verbose", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
    Spec::long(O::Yaml, "yaml", Maybe),
];

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

/// What holds for all commands of one run.
struct Session {
    program: String,
    style: Style,
    all: bool,
    quiet: bool,
    /// `-v`: when what is shown was true, and how many records there are.
    verbose: bool,
    json: bool,
    /// Made with the first command that asks the scheduler.
    client: Option<Client>,
    status: u8,
    done: bool,
    /// `--dry-run`: of `reconfigure`, which only says what would change.
    dry_run: bool,
}

impl Session {
    async fn client(&mut self) -> Result<Client, Error> {
        if self.client.is_none() {
            self.client = Some(super::connect().await?);
        }
        Ok(self.client.clone().expect("it was just made"))
    }

    /// Notes that a command failed, with a line unless `-Q` forbids it.
    fn fail(&mut self, line: impl AsRef<str>) {
        self.status = 1;
        if !self.quiet {
            say::err(line);
        }
    }

    /// The same with `scontrol: error: ` before it.
    fn fail_with_name(&mut self, line: impl AsRef<str>) {
        let line = format!("{}: error: {}", self.program, line.as_ref());
        self.fail(line);
    }

    /// A failed call in Slurm's words: `slurm_update error: …`, and who was asked where nobody answered.
    fn fail_call(&mut self, function: &str, error: &Error) {
        self.fail(format!("{function} error: {}", say::reason(error)));
        if !self.quiet {
            say::explain(&self.program, error);
        }
    }
}

/// Runs the command.
pub(crate) fn run(call: &Call) -> u8 {
    let mut session = Session {
        program: call.program.clone(),
        style: Style::default(),
        all: std::env::var_os("SCONTROL_ALL").is_some(),
        quiet: false,
        verbose: false,
        json: false,
        client: None,
        status: 0,
        done: false,
        dry_run: false,
    };
    // Words like "TimeLimit=-1" are no options: as in Slurm, the first word that is none ends them.
    let words = match crate::getopt::split(&call.program, OPTIONS, true, &call.argv) {
        Ok(words) => words,
        Err(line) => {
            say::err(line);
            say::err(format!("Try \"{} --help\" for more information", call.program));
            return 1;
        }
    };
    for given in &words.options {
        match given.id {
            O::All => session.all = true,
            O::Clusters => {
                if let Err(status) =
                    super::clusters::check_query(call, Some(&super::clusters::names(&given.text())))
                {
                    return status;
                }
            }
            O::Details => session.style.details = true,
            O::DryRun => session.dry_run = true,
            O::Help => {
                say::out(HELP);
                return 0;
            }
            O::Hide => session.all = false,
            O::Ignored => {}
            O::Json => session.json = true,
            O::OneLine => session.style.one_line = true,
            O::Quiet => session.quiet = true,
            O::Verbose => session.verbose = true,
            O::Version => {
                say::out(super::version() + "\n");
                return 0;
            }
            O::Uid | O::Yaml => {
                let name = if given.id == O::Uid { "--uid" } else { "--yaml" };
                say::error(&call.program, format!("{name} is not supported by sluice yet"));
                return 1;
            }
        }
    }
    let words: Vec<String> = words.operands.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.is_empty() {
        block_on(interactive(&mut session));
    } else {
        block_on(command(&mut session, &words));
    }
    session.status
}

/// Reads commands from standard input until its end or `quit`, each shown behind the prompt.
async fn interactive(session: &mut Session) {
    let mut last = Vec::new();
    while !session.done
        && let Some(words) = prompt::ask("scontrol")
    {
        // "!!" is the command before it once more; before the first there is nothing to do.
        if words != ["!!"] {
            last = words;
        }
        if !last.is_empty() {
            command(session, &last).await;
        }
    }
}

/// Whether `tag` is `word` or an abbreviation of at least `least` letters, in any case.
fn is(tag: &str, word: &str, least: usize) -> bool {
    tag.len() >= least.min(word.len())
        && tag.len() <= word.len()
        && word[..tag.len()].eq_ignore_ascii_case(tag)
}

async fn command(session: &mut Session, words: &[String]) {
    let (tag, rest) = (words[0].as_str(), &words[1..]);
    let too_few = |session: &mut Session| session.fail(format!("too few arguments for keyword:{tag}"));
    let too_many = |session: &mut Session| session.fail(format!("too many arguments for keyword:{tag}"));
    if is(tag, "show", 3) {
        match rest.len() {
            0 => too_few(session),
            1 | 2 => show::run(session, rest).await,
            _ if is(&rest[0], "assoc_mgr", 2) || is(&rest[0], "step", 3) => show::run(session, rest).await,
            _ => too_many(session),
        }
    } else if is(tag, "update", 2) {
        if rest.is_empty() {
            session.fail("too few arguments for update keyword");
        } else {
            update::run(session, rest).await;
        }
    } else if is(tag, "hold", 4) || is(tag, "holdu", 5) || is(tag, "uhold", 5) {
        if rest.is_empty() { too_few(session) } else { act::hold(session, !is(tag, "hold", 4), rest).await }
    } else if is(tag, "release", 3) {
        if rest.is_empty() { too_few(session) } else { act::release(session, rest).await }
    } else if is(tag, "requeue", 3) {
        if rest.is_empty() { too_few(session) } else { act::requeue(session, false, rest).await }
    } else if is(tag, "requeuehold", 8) {
        if rest.is_empty() { too_few(session) } else { act::requeue(session, true, rest).await }
    } else if is(tag, "suspend", 2) || is(tag, "resume", 3) {
        if rest.is_empty() {
            too_few(session)
        } else {
            act::suspend(session, is(tag, "suspend", 2), rest).await
        }
    } else if is(tag, "create", 1) {
        match rest.is_empty() {
            true => session.fail("too few arguments for create keyword"),
            false => update::create(session, rest).await,
        }
    } else if is(tag, "delete", 2) {
        match rest.is_empty() {
            true => session.fail("too few arguments for delete keyword"),
            false => update::delete(session, rest).await,
        }
    } else if is(tag, "ping", 4) {
        if rest.is_empty() { act::ping(session).await } else { too_many(session) }
    } else if is(tag, "reconfigure", 3) {
        act::reconfigure(session, rest).await;
    } else if is(tag, "shutdown", 8) {
        act::shutdown(session).await;
    } else if is(tag, "notify", 3) {
        if rest.len() < 2 { too_few(session) } else { act::notify(session, rest).await }
    } else if is(tag, "wait_job", 6) {
        if rest.is_empty() { too_few(session) } else { act::wait_job(session, &rest[0]).await }
    } else if is(tag, "write", 5) {
        act::write(session, rest).await;
    } else if is(tag, "top", 3) {
        if rest.is_empty() { too_few(session) } else { act::top(session, rest).await }
    } else if is(tag, "pidinfo", 3) {
        match rest {
            [] => session.fail("missing argument for keyword:pidinfo"),
            [pid] => process::info(session, pid).await,
            _ => too_many(session),
        }
    } else if is(tag, "listpids", 5) {
        if rest.len() > 2 { too_many(session) } else { process::list_pids(session, rest) }
    } else if is(tag, "listjobs", 5) || is(tag, "liststeps", 5) {
        match rest {
            [] | [_] => {
                process::list_jobs(session, is(tag, "liststeps", 5), rest.first().map(String::as_str));
            }
            _ => too_many(session),
        }
    } else if is(tag, "errnumstr", 2) {
        act::error_text(session, rest);
    } else if is(tag, "completing", 2) {
        if rest.is_empty() { show::completing(session).await } else { too_many(session) }
    } else if is(tag, "setdebug", 8) {
        act::set_debug(session, rest).await;
    } else {
        setting(session, tag, !rest.is_empty());
    }
}

/// Words that only set how the session prints, and those that are not built.
fn setting(session: &mut Session, tag: &str, more: bool) {
    const BARE: [&str; 8] = ["all", "hide", "details", "oneliner", "quiet", "verbose", "quit", "exit"];
    if more && BARE.iter().any(|word| tag.eq_ignore_ascii_case(word)) {
        return session.fail(format!("too many arguments for keyword:{tag}"));
    }
    if more && tag.eq_ignore_ascii_case("version") {
        session.fail("too many arguments for version keyword");
    }
    match tag.to_ascii_lowercase().as_str() {
        "all" => session.all = true,
        "hide" => session.all = false,
        "details" => session.style.details = true,
        "oneliner" => session.style.one_line = true,
        "quiet" => (session.quiet, session.verbose) = (true, false),
        "verbose" => (session.quiet, session.verbose) = (false, true),
        "quit" | "exit" => session.done = true,
        "help" | "?" => say::out(HELP),
        "version" => say::out(super::version() + "\n"),
        "setdebugflags" if !nix::unistd::geteuid().is_root() => {
            session.fail("slurm_set_debug_level error:Permission denied");
        }
        "abort" | "cancel_reboot" | "checkpoint" | "cluster" | "fsdampeningfactor" | "getaddrs" | "power"
        | "reboot" | "reboot_nodes" | "schedloglevel" | "setdebugflags" | "takeover" | "token" => {
            session.fail_with_name(format!("{tag} is not supported by sluice yet"));
        }
        _ => session.fail(format!("invalid keyword: {tag}")),
    }
}

const HELP: &str = "\
scontrol [<OPTION>] [<COMMAND>]
    Valid <OPTION> values are:
     -a or --all: also show hidden partitions
     -d or --details: show more of jobs
     -h or --help: this text
     -M or --cluster: cluster to ask
     -o or --oneliner: one line for each object
     -Q or --quiet: no messages of failures
     -v or --verbose: when what is shown was true
     -V or --version: version
     --json: show as JSON

    Valid <COMMAND> values are:
     completing                         jobs that are ending
     create <SPECIFICATIONS>            make a partition
     delete <SPECIFICATIONS>            remove a partition
     errnumstr <ERROR>                  text of an error's number
     hold <job_list>                    keep waiting jobs from starting
     uhold <job_list>                   the same, to be released by the user
     listjobs [node]                    jobs with processes on this machine
     listpids [job_id[.step] [node]]    processes of jobs on this machine
     liststeps [node]                   steps with processes on this machine
     notify <job_id> message            a line into the job's output
     pidinfo <pid>                      the job of a process of this node
     ping                               whether the scheduler answers
     reconfigure                        read the configuration again; with --dry-run, say what that
                                        would change
     release <job_list>                 let held jobs start
     requeue <job_list>                 put jobs back into the queue
     requeuehold <job_list>             the same, and hold them
     resume <job_list>                  go on with suspended jobs
     show <ENTITY> [<ID>]               config, hostlist, hostlistsorted, hostnames, job, licenses,
                                        node, partition, reservation, step, topology
     shutdown                           end the daemons, not the jobs
     suspend <job_list>                 stop jobs where they are
     top <job_list>                     put jobs before the user's others
     update <SPECIFICATIONS>            change a job, node or partition
     wait_job <job_id>                  wait until a job's nodes are ready
     version                            version
     write batch_script <job_id> [file] the script of a job
     write config [file]                the configuration, into a file with the time in its name
     quit                               end
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_shortened() {
        assert!(is("sho", "show", 3) && is("SHOW", "show", 3) && is("part", "partition", 1));
        assert!(!is("sh", "show", 3) && !is("shows", "show", 3));
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(
            prompt::split_line("update NodeName=c4 Reason=\"disk broke\" "),
            ["update", "NodeName=c4", "Reason=disk broke"]
        );
    }
}
