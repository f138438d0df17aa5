//! `sacctmgr`: accounts, users, associations and QOS.
//!
//! The scheduler keeps the rows; this command reads all of them, filters, formats, and sends changed rows
//! back. Whether the asker may change them is the scheduler's to say.

mod change;
mod show;
pub(super) mod tree;
mod words;

use model::refusal::Refusal;
use proto::v1::{AssociationRow, ChangeAccountsRequest, JobFilter, ListAccountsReply, ListAccountsRequest};

use self::change::{Plan, Stop};
use self::show::Style;
use self::words::{Words, is};
use super::{Call, block_on, prompt};
use crate::api::{Client, Error};
use crate::getopt::Takes::{Maybe, Nothing};
use crate::getopt::{self, Spec};
use crate::table::print::Form;
use crate::{local, say};

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    Associations,
    Help,
    Ignored,
    Immediate,
    NoHeader,
    Parsable,
    Parsable2,
    Quiet,
    ReadOnly,
    Unsupported,
    Version,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::Help, b'h', "help", Nothing),
    Spec::long(O::Help, "usage", Nothing),
    Spec::new(O::Immediate, b'i', "immediate", Nothing),
    Spec::long(O::Unsupported, "json", Maybe),
    Spec::new(O::NoHeader, b'n', "noheader", Nothing),
    Spec::new(O::Ignored, b'o', "oneliner", Nothing),
    Spec::new(O::Parsable, b'p', "parsable", Nothing),
    Spec::new(O::Parsable2, b'P', "parsable2", Nothing),
    Spec::new(O::Quiet, b'Q', "quiet", Nothing),
    Spec::new(O::ReadOnly, b'r', "readonly", Nothing),
    Spec::new(O::Associations, b's', "associations", Nothing),
    Spec::new(O::Ignored, b'v', "verbose", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
    Spec::long(O::Unsupported, "yaml", Maybe),
];

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |id| id != O::Unsupported)
}

struct Session {
    program: String,
    style: Style,
    immediate: bool,
    read_only: bool,
    with_associations: bool,
    status: u8,
    done: bool,
}

/// Runs the command.
pub(crate) fn run(call: &Call) -> u8 {
    let mut session = Session {
        program: call.program.clone(),
        style: Style { form: Form::Columns, header: true },
        immediate: false,
        read_only: false,
        with_associations: false,
        status: 0,
        done: false,
    };
    let parsable = |ends| Form::Parsable { delimiter: "|".to_owned(), ends };
    let words = match call.split(OPTIONS) {
        Ok(words) => words,
        Err(status) => return status,
    };
    for given in &words.options {
        match given.id {
            O::Help => {
                say::out(HELP);
                return 0;
            }
            O::Associations => session.with_associations = true,
            O::Ignored | O::Quiet => {}
            O::Immediate => session.immediate = true,
            O::NoHeader => session.style.header = false,
            O::Parsable => session.style.form = parsable(true),
            O::Parsable2 => session.style.form = parsable(false),
            O::ReadOnly => session.read_only = true,
            O::Unsupported => {
                say::error(&call.program, "--json and --yaml are not supported by sluice yet");
                return 1;
            }
            O::Version => {
                say::out(super::version() + "\n");
                return 0;
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

async fn interactive(session: &mut Session) {
    while !session.done
        && let Some(words) = prompt::ask("sacctmgr")
    {
        command(session, &words).await;
    }
}

async fn command(session: &mut Session, words: &[String]) {
    let (tag, rest) = (words[0].as_str(), &words[1..]);
    if is(tag, "show", 3) || is(tag, "list", 1) {
        show_rows(session, rest).await;
    } else if is(tag, "add", 3) || is(tag, "create", 1) {
        if writable(session) {
            change(session, Verb::Add, rest).await;
        }
    } else if is(tag, "modify", 1) {
        if writable(session) {
            change(session, Verb::Modify, rest).await;
        }
    } else if is(tag, "delete", 1) || is(tag, "remove", 3) {
        if writable(session) {
            change(session, Verb::Delete, rest).await;
        }
    } else {
        match tag.to_ascii_lowercase().as_str() {
            "quit" | "exit" | "\\q" => session.done = true,
            "help" | "?" => say::out(HELP),
            "version" => say::out(super::version() + "\n"),
            "readonly" => session.read_only = true,
            "archive" | "clear" | "dump" | "load" | "ping" | "reconfigure" | "shutdown" => {
                session.status = 1;
                say::error(&session.program, format!("{tag} is not supported by sluice yet"));
            }
            _ => fail(session, &format!("invalid keyword: {tag}")),
        }
    }
}

fn fail(session: &mut Session, text: &str) {
    session.status = 1;
    say::err(text);
}

fn writable(session: &mut Session) -> bool {
    if session.read_only {
        fail(session, "Can't run this command in readonly mode.");
    }
    !session.read_only
}

/// All rows. They live as long as the process, which ends with its command.
async fn load(session: &mut Session) -> Option<(Client, &'static ListAccountsReply)> {
    let answer = match super::connect().await {
        Ok(client) => match client.raw().list_accounts(ListAccountsRequest {}).await {
            Ok(reply) => Ok((client, reply.into_inner())),
            Err(status) => Err(Error::Failed(status)),
        },
        Err(error) => Err(error),
    };
    match answer {
        Ok((client, reply)) => Some((client, Box::leak(Box::new(reply)))),
        Err(error) => {
            session.status = 1;
            say::error(&session.program, format!("Problem talking to the database: {}", say::reason(&error)));
            say::explain(&session.program, &error);
            None
        }
    }
}

const LIST_ENTITIES: &str = "No valid entity in list command
Input line must include \"Account\", \"Association\", \"Cluster\", \"Configuration\",
\"Event\", \"Federation\", \"Problem\", \"QOS\", \"Resource\", \"Reservation\",
\"RunAwayJobs\", \"Stats\", \"Transaction\", \"TRES\", \"User\", or \"WCKey\"";

async fn show_rows(session: &mut Session, words: &[String]) {
    let Some((entity, rest)) = words.split_first() else { return fail(session, LIST_ENTITIES) };
    let known = |word: &str, least: usize| {
        is(entity, word, least) || entity.eq_ignore_ascii_case(&format!("{word}s"))
    };
    type Show = fn(&'static ListAccountsReply, &Words, &Style) -> Result<String, show::Error>;
    let show: Show = if known("Account", 2) || entity.eq_ignore_ascii_case("acct") {
        show::accounts
    } else if known("Association", 2) {
        show::associations
    } else if known("Cluster", 2) {
        show::clusters
    } else if known("QOS", 1) {
        show::qos
    } else if known("TRES", 2) {
        show::tres
    } else if known("User", 1) {
        show::users
    } else if known("Transaction", 1) {
        // Changes are kept in the journal and not listed, so there is nothing to show.
        return;
    } else if known("RunAwayJobs", 1) {
        // The scheduler's own state is the accounting: no job can be in one and not in the other.
        return say::out(format!(
            "Runaway Jobs: No runaway jobs found on cluster {}\n",
            super::clusters::name()
        ));
    } else if ["Configuration", "Event", "Federation", "Problem", "Resource", "Reservation", "Stats", "WCKey"]
        .iter()
        .any(|word| known(word, 2))
    {
        session.status = 1;
        return say::error(&session.program, format!("show {entity} is not supported by sluice yet"));
    } else {
        return fail(session, LIST_ENTITIES);
    };
    let Some((_, rows)) = load(session).await else { return };
    let mut read = words::read(rest);
    if session.with_associations {
        read.names.push("withassoc".to_owned());
    }
    match show(rows, &read, &session.style) {
        Ok(text) => say::out(text),
        Err(show::Error::Field(name)) => {
            session.status = 1;
            say::err(format!("Unknown field '{name}'"));
        }
        Err(show::Error::Condition(typed)) => fail(session, &format!(" Unknown condition: {typed}")),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    Modify,
    Delete,
}

async fn change(session: &mut Session, verb: Verb, words: &[String]) {
    let no_entity = match verb {
        Verb::Add => {
            "No valid entity in add command\nInput line must include \"Account\", \"Cluster\", \"Coordinator\", \"Federation\", \"QOS\", \"Resource\", or \"User\""
        }
        Verb::Modify => {
            "No valid entity in modify command\nInput line must include \"Account\", \"Cluster\", \"Federation\", \"Job\", \"QOS\", \"Resource\" or \"User\""
        }
        Verb::Delete => {
            "No valid entity in delete command\nInput line must include \"Account\", \"Cluster\", \"Coordinator\", \"Federation\", \"QOS\", \"Resource\", or \"User\""
        }
    };
    let Some((entity, rest)) = words.split_first() else { return fail(session, no_entity) };
    let known = |word: &str, least: usize| {
        is(entity, word, least) || entity.eq_ignore_ascii_case(&format!("{word}s"))
    };
    let read = words::read(rest);
    type Work = fn(&ListAccountsReply, &Words) -> Result<Plan, Stop>;
    let work: Work = match verb {
        _ if known("Account", 2) => {
            [change::add_account, change::modify_account, change::delete_account][verb as usize]
        }
        _ if known("Cluster", 2) => {
            [change::add_cluster, change::modify_cluster, change::delete_cluster][verb as usize]
        }
        _ if known("QOS", 1) => [change::add_qos, change::modify_qos, change::delete_qos][verb as usize],
        _ if known("User", 1) => [change::add_user, change::modify_user, change::delete_user][verb as usize],
        Verb::Add if known("Coordinator", 2) => |rows, words| change::coordinator(rows, words, true),
        Verb::Delete if known("Coordinator", 2) => |rows, words| change::coordinator(rows, words, false),
        _ if ["Federation", "Job", "Resource", "WCKey"].iter().any(|word| known(word, 1)) => {
            session.status = 1;
            return say::error(&session.program, format!("{entity} is not supported by sluice yet"));
        }
        _ => return fail(session, no_entity),
    };
    let Some((client, rows)) = load(session).await else { return };
    let own = verb == Verb::Modify && known("User", 1) && (names_itself(rest) || sets_own_default(rest));
    if !may_change(rows) && !own {
        let kind =
            ["User", "Account", "QOS", "Cluster", "Coordinator"].into_iter().find(|kind| known(kind, 2));
        return deny(session, verb, kind.unwrap_or("QOS"), work(rows, &read).ok());
    }
    let plan = match work(rows, &read) {
        Ok(plan) => plan,
        Err(Stop::Out(text)) => {
            session.status = 1;
            return say::out(text);
        }
        Err(Stop::Err(text)) => return fail(session, &text),
    };
    if verb == Verb::Delete {
        let busy = busy(&client, &plan).await;
        if !busy.is_empty() {
            fail(session, " Error with request: Job(s) active, cancel job(s) before remove");
            return busy.iter().for_each(say::err);
        }
    }
    // What a user may not do is refused before it is told as done.
    let ask_first = !session.immediate;
    if ask_first {
        say::out(&plan.said);
        if !confirmed() {
            return say::out("\n Changes Discarded\n");
        }
    }
    commit(session, &client, plan, !ask_first).await;
}

/// Whether the asker changes accounting data at all: root, who has an admin level, and who coordinates an account.
fn may_change(rows: &ListAccountsReply) -> bool {
    let uid = nix::unistd::getuid();
    let name = local::user_name(uid.as_raw());
    let may = |user: &proto::v1::UserRow| {
        user.name == name
            && (!matches!(user.admin_level.as_str(), "" | "None") || !user.coordinates.is_empty())
    };
    uid.is_root() || rows.users.iter().any(may)
}

/// Users choose their own default account.
fn sets_own_default(words: &[String]) -> bool {
    let mut set = words.iter().skip_while(|word| !word.eq_ignore_ascii_case("set")).skip(1).peekable();
    set.peek().is_some() && set.all(|word| word.to_ascii_lowercase().starts_with("defaulta"))
}

/// Of the asker's own row nothing is refused; what may not be changed is not.
fn names_itself(words: &[String]) -> bool {
    let name = local::user_name(nix::unistd::getuid().as_raw());
    let mut conditions = words.iter().take_while(|word| !word.eq_ignore_ascii_case("set"));
    conditions.any(|word| word.split_once('=').map_or(word.as_str(), |(_, value)| value) == name)
}

/// What a user who may not is told.
fn deny(session: &mut Session, verb: Verb, kind: &str, plan: Option<Plan>) {
    session.status = 1;
    match (verb, kind) {
        (Verb::Add, "User") => say::err(
            " error: Problem adding user associations: Access/permission denied (Only admins/operators/coordinators \
             can add accounts)",
        ),
        (Verb::Add, "Account") => say::err(" error: Only admins/operators/coordinators can add accounts"),
        (Verb::Add, kind) => {
            let what = match kind {
                "Cluster" => "clusters",
                "Coordinator" => "coordinator",
                _ => "QOS",
            };
            say::err(format!(" Problem adding {what}: Access/permission denied"));
            say::out(plan.map(|plan| plan.said).unwrap_or_default());
        }
        (Verb::Modify | Verb::Delete, kind) => {
            say::error(&session.program, "Your user doesn't have privilege to perform this action");
            say::err(" Error with request: Access/permission denied");
            match (verb, kind) {
                (Verb::Modify, "User") => say::out(" Modified user associations...\n"),
                (Verb::Modify, "Account") => say::out(" Modified account associations...\n"),
                _ => {}
            }
        }
    }
}

async fn commit(session: &mut Session, client: &Client, plan: Plan, tell: bool) {
    let Plan { said, changes } = plan;
    let answer = client.raw().change_accounts(ChangeAccountsRequest { changes }).await;
    match answer.map(tonic::Response::into_inner) {
        Ok(reply) => match reply.refused {
            None if tell => say::out(said),
            None => {}
            Some(refused) => {
                session.status = 1;
                let denied = change::denied(&said);
                let not_allowed = [Refusal::AccessDenied.number(), Refusal::UserIdMissing.number()];
                if not_allowed.contains(&refused.number) && !denied.is_empty() {
                    say::out(denied);
                } else {
                    if tell {
                        say::out(said);
                    }
                    say::err(format!(" Problem with the request: {}", Error::from(refused)));
                }
            }
        },
        Err(status) => {
            session.status = 1;
            let error = Error::Failed(status);
            say::error(&session.program, format!("Problem talking to the database: {}", say::reason(&error)));
            say::explain(&session.program, &error);
        }
    }
}

fn confirmed() -> bool {
    say::out("Would you like to commit changes? (You have 30 seconds to decide)\n(N/y): ");
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(_) => line.starts_with(['y', 'Y']),
        Err(_) => false,
    }
}

/// Lines of live jobs that run under associations that are to go.
async fn busy(client: &Client, plan: &Plan) -> Vec<String> {
    use proto::v1::account_change::Change;
    let gone: Vec<&AssociationRow> = plan
        .changes
        .iter()
        .filter_map(|change| match &change.change {
            Some(Change::DeleteAssociation(row)) if !row.user.is_empty() => Some(row),
            _ => None,
        })
        .collect();
    let uids: Vec<u32> = gone.iter().filter_map(|row| local::user_id(&row.user)).collect();
    if uids.is_empty() {
        return Vec::new();
    }
    let filter = JobFilter { uids: uids.clone(), ..JobFilter::default() };
    let jobs = client.jobs(filter, false).await.unwrap_or_default();
    let under = |job: &&proto::v1::Job| {
        !super::job::state(job).is_terminal()
            && gone.iter().any(|row| row.account == job.account && local::user_id(&row.user) == Some(job.uid))
    };
    let line = |job: &proto::v1::Job| {
        let cluster = if job.cluster.is_empty() { super::clusters::name() } else { job.cluster.clone() };
        let user = local::user_name(job.uid);
        format!(
            "  JobID = {:<10} C = {cluster:<10} A = {:<10} U = {user:<9} Q = {}",
            job.job_id, job.account, job.qos
        )
    };
    jobs.iter().filter(under).map(line).collect()
}

const HELP: &str = "\
sacctmgr [<OPTION>] [<COMMAND>]
    Valid <OPTION> values are:
     -h or --help: this text
     -i or --immediate: do not ask before changes
     -n or --noheader: no header lines
     -p or --parsable: values between bars, one behind the last too
     -P or --parsable2: values between bars
     -r or --readonly: no changes
     -V or --version: version

  <COMMAND> is one of
     add <ENTITY> <SPECS>                 account, cluster, coordinator, qos, user
     delete <ENTITY> where <SPECS>
     modify <ENTITY> where <SPECS> set <SPECS>
     show <ENTITY> [<SPECS>]              account, associations, cluster, qos, tres, user
     quit                                 end
";
