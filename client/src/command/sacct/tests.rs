//! Lines of hand-made history, as the goldens have them.

use proto::v1::{ExitStatus, JobRequest};

use super::asked::DEFAULT;
use super::*;

fn job(state: &str, exit: (u32, u32)) -> Job {
    let exit = Some(ExitStatus { code: exit.0, signal: exit.1 });
    let batch = Step {
        step_id: "batch".into(),
        name: "batch".into(),
        state: if state == "TIMEOUT" { "CANCELLED" } else { state }.into(),
        exit,
        start_ms: 1_000,
        end_ms: Some(5_000),
        num_cpus: 3,
        num_tasks: 1,
        ..Step::default()
    };
    Job {
        job_id: 7,
        state: state.into(),
        request: Some(JobRequest { name: "abcdefghijklmnop".into(), ..JobRequest::default() }),
        account: "physics".into(),
        partition: "debug".into(),
        exit,
        start_ms: Some(1_000),
        end_ms: Some(5_000),
        num_cpus: 3,
        alloc_tres: "cpu=3,mem=1500M,node=2,billing=3".into(),
        time_limit_ms: Some(5_400_000),
        steps: vec![batch],
        ended_by_uid: Some(2001).filter(|_| state == "CANCELLED"),
        ..Job::default()
    }
}

fn check(asked: &Asked, jobs: Vec<Job>, expected: &str) {
    let call = Call { program: "sacct".into(), argv: Vec::new() };
    let format = if asked.format.is_empty() { DEFAULT } else { &asked.format };
    let (fields, columns): (Vec<&Field>, Vec<Column>) = columns(&call, format).unwrap().into_iter().unzip();
    let form = match asked.parsable {
        None => Form::Columns,
        Some(ends) => Form::Parsable { delimiter: "|".into(), ends },
    };
    let mut out = if asked.header { form.header(&columns) } else { String::new() };
    let jobs = select(asked, jobs, 10_000);
    for row in rows(asked, &jobs, 10_000) {
        let values: Vec<String> = fields.iter().map(|field| (field.value)(&row)).collect();
        out.push_str(&form.line(&columns, &values));
    }
    let trimmed: Vec<&str> = out.lines().map(str::trim_end).collect();
    assert_eq!(trimmed.join("\n"), expected);
}

#[test]
fn default_columns() {
    check(
        &Asked { header: true, ..Asked::default() },
        vec![job("FAILED", (2, 0))],
        "JobID           JobName  Partition    Account  AllocCPUS      State ExitCode\n\
         ------------ ---------- ---------- ---------- ---------- ---------- --------\n\
         7            abcdefghi+      debug    physics          3     FAILED      2:0\n\
         7.batch           batch               physics          3     FAILED      2:0",
    );
}

#[test]
fn stopped_jobs_show_the_signal_with_the_step() {
    let asked = |format: &str| Asked { parsable: Some(false), format: format.into(), ..Asked::default() };
    check(
        &asked("JobID,State,ExitCode"),
        vec![job("TIMEOUT", (0, 15))],
        "7|TIMEOUT|0:0\n7.batch|CANCELLED|0:15",
    );
    check(
        &asked("JobID,State,ExitCode"),
        vec![job("CANCELLED", (0, 15))],
        "7|CANCELLED by 2001|0:0\n7.batch|CANCELLED|0:15",
    );
    check(&asked("State,ExitCode"), vec![job("FAILED", (0, 9))], "FAILED|0:9\nFAILED|0:9");
    check(
        &Asked { allocations: true, ..asked("alloctres,timelimit,timelimitraw,cputimeraw,nodelist") },
        vec![job("COMPLETED", (0, 0))],
        "billing=3,cpu=3,mem=1500M,node=2|01:30:00|90|12|None assigned",
    );
}

#[test]
fn a_job_that_is_ending_has_ended_for_accounting() {
    let ending =
        |exit| Job { state: "COMPLETING".into(), final_state: "FAILED".into(), ..job("FAILED", exit) };
    let format = "State,ExitCode,End,Elapsed";
    let asked = Asked { parsable: Some(false), allocations: true, format: format.into(), ..Asked::default() };
    check(&asked, vec![ending((2, 0))], &format!("FAILED|2:0|{}|00:00:04", local::date(5_000)));
    let failed = Asked { states: vec![JobState::Failed], ..asked };
    check(&failed, vec![ending((2, 0))], &format!("FAILED|2:0|{}|00:00:04", local::date(5_000)));
}

#[test]
fn one_width_holds_for_a_field() {
    check(
        &Asked {
            header: true,
            allocations: true,
            format: "jobname%5,jobname%-20,state%12".into(),
            ..Asked::default()
        },
        vec![job("COMPLETED", (0, 0))],
        "JobName              JobName                     State\n\
         -------------------- -------------------- ------------\n\
         abcdefghijklmnop     abcdefghijklmnop        COMPLETED",
    );
}

#[test]
fn named_steps_and_runs() {
    let requeued = Job { run: 1, state: "REQUEUED".into(), ..job("COMPLETED", (0, 0)) };
    let last = Job { run: 2, ..job("COMPLETED", (0, 0)) };
    let jobs = vec![requeued, last];
    let asked =
        Asked { parsable: Some(false), allocations: true, format: "JobID,State".into(), ..Asked::default() };
    check(&asked, jobs.clone(), "7|COMPLETED");
    check(&Asked { duplicates: true, ..asked }, jobs, "7|REQUEUED\n7|COMPLETED");
    let step = Asked {
        jobs: vec![Selector::parse("7.batch").unwrap()],
        parsable: Some(false),
        format: "JobID".into(),
        ..Asked::default()
    };
    check(&step, vec![job("COMPLETED", (0, 0))], "7.batch");
}

/// What the scheduler leaves out of a job makes no difference to what is shown.
#[test]
fn fields_that_are_not_asked_for_are_not_needed() {
    use prost::Message;
    let call = Call { program: "sacct".into(), argv: Vec::new() };
    let mut full = job("CANCELLED", (2, 9));
    full.array_job_id = Some(5);
    full.array_task_id = Some(2);
    full.eligible_ms = Some(500);
    full.submit_ms = 400;
    full.suspended_total_ms = 1000;
    full.derived_exit = Some(ExitStatus { code: 3, signal: 0 });
    full.memory_mib = 77;
    (full.num_nodes, full.num_tasks, full.priority, full.restarts, full.association_id) = (2, 3, 4, 5, 6);
    (full.uid, full.gid) = (41, 42);
    for (text, value) in [
        (&mut full.user, "u"),
        (&mut full.group, "g"),
        (&mut full.qos, "q"),
        (&mut full.cluster, "c"),
        (&mut full.reason, "r"),
        (&mut full.node_list, "n[1-2]"),
        (&mut full.req_tres, "cpu=2,mem=5M"),
    ] {
        value.clone_into(text);
    }
    let encoded = full.encode_to_vec();
    let mut waits = Job { state: "PENDING".into(), start_ms: None, end_ms: None, ..full.clone() };
    waits.steps.clear();
    for (name, _) in parts::NEEDS {
        let columns = columns(&call, name).unwrap();
        assert_eq!(columns[0].0.name, *name);
        for (asked, job) in [(false, &full), (true, &full), (true, &waits)]
            .map(|(allocations, job)| (Asked { allocations, ..Asked::default() }, job))
        {
            let numbers = parts(&asked, &columns);
            assert!(numbers.len() > 10, "{name}");
            let mut some = Vec::new();
            let fields = proto::wire::Fields::new(&numbers);
            proto::wire::pick(&job.encode_to_vec(), fields, &mut some).unwrap();
            assert!(some.len() < encoded.len(), "{name} takes everything");
            let shown = |job: Job| -> Vec<String> {
                let jobs = select(&asked, vec![job], 10_000);
                rows(&asked, &jobs, 10_000).iter().map(|row| (columns[0].0.value)(row)).collect()
            };
            let (all, picked) = (shown(job.clone()), shown(Job::decode(some.as_slice()).unwrap()));
            assert_eq!(all, picked, "{name}");
            assert_eq!(all.len(), 1 + usize::from(!asked.allocations), "{name}");
        }
    }
    // What is not listed needs everything, and so do arrays that are named.
    let columns = columns(&call, "JobID,WorkDir").unwrap();
    assert!(parts(&Asked::default(), &columns).is_empty());
}
