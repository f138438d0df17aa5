//! Lines of hand-made queues, as the goldens have them.

use proto::v1::{JobRequest, NodeAllocation, RareRequest, Step};

use super::*;

fn call(words: &[&str]) -> Call {
    Call { program: "squeue".into(), argv: words.iter().map(Into::into).collect() }
}

fn job(job_id: u32, name: &str, state: &str) -> Job {
    let request = JobRequest { name: name.into(), work_dir: "/w".into(), ..JobRequest::default() };
    Job {
        job_id,
        request: Some(request),
        state: state.into(),
        reason: if state == "PENDING" { "JobHeldUser" } else { "None" }.into(),
        user: "alice".into(),
        uid: 2001,
        partition: "debug".into(),
        account: "physics".into(),
        qos: "normal".into(),
        num_nodes: 1,
        num_cpus: 1,
        time_limit_ms: Some(300_000),
        min_memory_mib_per_node: Some(2048),
        start_ms: (state != "PENDING").then_some(1_000_000),
        node_list: if state == "PENDING" { "" } else { "c1" }.into(),
        ..Job::default()
    }
}

/// What is printed for these words and jobs, seven seconds after the running ones began.
fn printed(words: &[&str], jobs: Vec<Job>) -> String {
    let Ok(asked) = read(&call(words)) else { panic!("{words:?}") };
    let jobs = select_ids(&asked, jobs).into_iter().filter(|job| matches(&asked, None, job)).collect();
    let (text, _) = jobs_text(&asked, jobs, 1_007_000);
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn default_and_long_lines() {
    let jobs = || vec![job(100_001, "nm", "PENDING"), job(100_002, "r1", "RUNNING")];
    assert_eq!(
        printed(&[], jobs()),
        "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)\n\
         \x20           100001     debug       nm    alice PD       0:00      1 (JobHeldUser)\n\
         \x20           100002     debug       r1    alice  R       0:07      1 c1"
    );
    assert_eq!(
        printed(&["-h", "-l"], jobs()),
        "            100001     debug       nm    alice  PENDING       0:00      5:00      1 (JobHeldUser)\n\
         \x20           100002     debug       r1    alice  RUNNING       0:07      5:00      1 c1"
    );
}

#[test]
fn letters_and_their_words_for_nothing() {
    let rare = RareRequest { licenses: Some("matlab:1".into()), ..RareRequest::default() };
    let mut pending = job(7, "nm", "PENDING");
    pending.request.as_mut().unwrap().rare = Some(rare);
    let cells = |format: &str| printed(&["-h", "-o", format], vec![pending.clone()]);
    assert_eq!(cells("%a|%A|%b|%E|%f|%h|%H|%k|%K"), "physics|7|N/A|(null)|(null)|NO|*|(null)|N/A");
    assert_eq!(cells("%l|%L|%m|%M|%n|%N|%o|%O"), "5:00|5:00|2G|0:00|||(null)|0");
    assert_eq!(
        cells("%r|%R|%S|%v|%w|%W|%x|%X|%z"),
        "JobHeldUser|(JobHeldUser)|N/A|(null)|(null)|matlab:1||N/A|*:*:*"
    );
    assert_eq!(printed(&["-h", "--noconvert", "-o", "%m"], vec![pending.clone()]), "2048M");
    assert_eq!(
        printed(&["-h", "-O", "priority,prioritylong:5,nice:|"], vec![pending]),
        "0.00000000000000    0    0|"
    );
}

#[test]
fn arrays_as_one_line_or_many() {
    let array = Job {
        array_job_id: Some(7),
        array_tasks: Some("1-5".into()),
        array_throttle: Some(2),
        ..job(7, "arr", "PENDING")
    };
    let ids = |words: &[&str]| printed(&[&["-h", "-o", "%i"], words].concat(), vec![array.clone()]);
    assert_eq!(ids(&[]), "7_[1-5%2]");
    assert_eq!(ids(&["-r"]), "7_1\n7_2\n7_3\n7_4\n7_5");
    assert_eq!(ids(&["-j7_3"]), "7_3");
    assert_eq!(ids(&["-j", "7_3,7_5"]), "7_[3,5]");
    assert_eq!(ids(&["-j", "7_9"]), "");
}

#[test]
fn filters_and_order() {
    let jobs = || {
        vec![job(1, "a", "PENDING"), job(2, "b", "PENDING"), job(3, "c", "RUNNING"), job(4, "d", "COMPLETED")]
    };
    let names = |words: &[&str]| printed(&[&["-h", "-o", "%j"], words].concat(), jobs()).replace('\n', " ");
    assert_eq!(names(&[]), "b a c");
    assert_eq!(names(&["-S", "i"]), "a b c");
    assert_eq!(names(&["-t", "all", "-S", "-i"]), "d c b a");
    assert_eq!(names(&["-t", "CD"]), "d");
    assert_eq!(names(&["-n", "a,c", "-S", "i"]), "a c");
    assert_eq!(names(&["-p", "batch"]), "");
    assert_eq!(names(&["-A", "chem"]), "");
    assert_eq!(names(&["-u", "2002"]), "");
}

#[test]
fn partitions_one_by_one() {
    let both = Job { partition: "batch,debug".into(), ..job(1, "a", "PENDING") };
    assert_eq!(printed(&["-h", "-o", "%P"], vec![both.clone()]), "batch,debug");
    assert_eq!(printed(&["-h", "-P", "-o", "%P"], vec![both]), "batch\ndebug");
}

#[test]
fn reasons_say_more_where_there_is_more() {
    let ended =
        Job { reason: "RaisedSignal".into(), reason_detail: "9(Killed)".into(), ..job(1, "a", "FAILED") };
    assert_eq!(
        printed(&["-h", "-t", "all", "-o", "%r|%R"], vec![ended]),
        "RaisedSignal:9(Killed)|(RaisedSignal:9(Killed))"
    );
}

#[test]
fn bad_fields_are_named_and_leave_a_blank() {
    let Ok(asked) = read(&call(&["-h", "-O", "nodes"])) else { panic!("the words are good") };
    let (text, invalid) = jobs_text(&asked, vec![job(1, "a", "PENDING")], 0);
    assert_eq!((text.as_str(), invalid), ("\n", vec!["nodes".to_owned()]));
}

#[test]
fn steps_in_the_order_of_their_ids() {
    let step = |id: &str, name: &str| Step {
        step_id: id.into(),
        name: name.into(),
        state: "RUNNING".into(),
        start_ms: 1_000_000,
        node_list: "c1".into(),
        num_tasks: 1,
        allocation: vec![NodeAllocation::default()],
        ..Step::default()
    };
    let running =
        Job { steps: vec![step("batch", "batch"), step("0", "st")], ..job(100_001, "nm", "RUNNING") };
    let rows = steps::rows(vec![running], 1_007_000, &[]);
    let format = table::parse_letters(steps::DEFAULT, &steps::FIELDS);
    let text = steps::print(&rows, &format, true);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "         STEPID     NAME PARTITION     USER      TIME NODELIST",
            &format!("       100001.0       st     debug {:>8}      0:07 c1", local::user_name(2001)),
            &format!("   100001.batch    batch     debug {:>8}      0:07 c1", local::user_name(2001)),
        ]
    );
}
