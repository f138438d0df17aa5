//! The command itself: what it prints, refuses and writes.

use std::path::PathBuf;
use std::process::{Command, Output};

fn simulate(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice-simulate")).args(words).output().expect("the simulator starts")
}

/// Standard output of a run that must succeed.
fn said(words: &[&str]) -> String {
    let out = simulate(words);
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Standard error of a run that must fail.
fn refused(words: &[&str]) -> String {
    let out = simulate(words);
    assert!(!out.status.success(), "{words:?} succeeded");
    String::from_utf8(out.stderr).unwrap()
}

/// A folder that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-simulate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const MODEL: &str = "lublin:jobs=400,procs=64,seed=3";

fn hash(text: &str) -> String {
    let object: serde_json::Value = serde_json::from_str(text).expect("one JSON object");
    object["waits_sha256"].as_str().expect("a hash").to_owned()
}

#[test]
fn json_has_the_keys_of_the_reference_alone() {
    let object: serde_json::Value = serde_json::from_str(&said(&["--generate", MODEL, "--json"])).unwrap();
    let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
    let reference = [
        "trace",
        "procs",
        "policy",
        "estimates",
        "jobs",
        "makespan_s",
        "utilization",
        "mean_wait_s",
        "median_wait_s",
        "p95_wait_s",
        "p99_wait_s",
        "max_wait_s",
        "mean_bsld",
        "p95_bsld",
        "max_bsld",
        "waited_frac",
        "sum_wait_s",
        "waits_sha256",
    ];
    assert_eq!(keys, reference);
    let full: serde_json::Value =
        serde_json::from_str(&said(&["--generate", MODEL, "--json", "--full"])).unwrap();
    for key in ["classes", "weeks", "weekly", "lost_capacity", "backfilled", "promises"] {
        assert!(!full[key].is_null(), "{key}");
    }
    assert_eq!(full["waits_sha256"], object["waits_sha256"]);
}

#[test]
fn a_generated_trace_is_the_same_when_written_and_read() {
    let folder = Folder::new("write");
    let file = folder.path("made.swf");
    said(&["--generate", MODEL, "--write", &file]);
    assert_eq!(hash(&said(&[&file, "--json"])), hash(&said(&["--generate", MODEL, "--json"])));
    assert_ne!(
        hash(&said(&[&file, "--json"])),
        hash(&said(&["--generate", "lublin:jobs=400,procs=64,seed=4", "--json"]))
    );
    // Looking on changes nothing.
    for policy in ["easy", "easy-sjbf", "cons", "cons-hold", "sjf-easy", "easy-avg2"] {
        let plain = hash(&said(&[&file, "--policy", policy, "--json", "--scale-load", "3"]));
        let decisions = folder.path(policy);
        let words =
            [&file, "--policy", policy, "--json", "--full", "--scale-load", "3", "--decisions", &decisions];
        assert_eq!(hash(&said(&words)), plain, "{policy}");
        // The plan follows from the state alone.
        let cold = [&file, "--policy", policy, "--json", "--scale-load", "3", "--cold"];
        assert_eq!(hash(&said(&cold)), plain, "{policy}, made anew");
    }
}

#[test]
fn decisions_have_causes_and_the_first_difference_is_shown() {
    let folder = Folder::new("decisions");
    // Four processors: 2 waits for 1, 3 ends before 2 can start, 4 runs on what 2 leaves over.
    let trace = folder.file(
        "t.swf",
        "; MaxProcs: 4\n\
         1 0 -1 100 2 -1 -1 2 100 -1 1 1 -1 -1 -1 -1 -1 -1\n\
         2 1 -1 50 3 -1 -1 3 50 -1 1 1 -1 -1 -1 -1 -1 -1\n\
         3 2 -1 20 1 -1 -1 1 20 -1 1 1 -1 -1 -1 -1 -1 -1\n\
         4 3 -1 500 1 -1 -1 1 500 -1 1 1 -1 -1 -1 -1 -1 -1\n",
    );
    let (easy, fcfs) = (folder.path("easy"), folder.path("fcfs"));
    let table = said(&[&trace, "--decisions", &easy]);
    assert!(table.contains("backfilled") && table.contains("promised starts"), "{table}");
    said(&[&trace, "--decisions", &fcfs, "--policy", "fcfs"]);
    let text = std::fs::read_to_string(&easy).unwrap();
    let causes: Vec<(i64, String)> = text
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .flat_map(|pass| pass["starts"].as_array().unwrap().clone())
        .map(|start| (start["job"].as_i64().unwrap(), start["cause"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [(1, "head"), (3, "before-shadow"), (4, "within-extra"), (2, "head")];
    assert_eq!(causes, expected.map(|(job, cause)| (job, cause.to_owned())));
    let same = simulate(&["--diff", &easy, &easy]);
    assert!(same.status.success() && same.stdout == b"all 4 decisions are the same\n");
    let differs = simulate(&["--diff", &easy, &fcfs]);
    let report = String::from_utf8(differs.stdout).unwrap();
    assert_eq!(differs.status.code(), Some(1));
    for part in
        ["decision 2 is the first", "job 3 (1 processors", "queue before the pass", "2 processors free"]
    {
        assert!(report.contains(part), "{part}: {report}");
    }
}

#[test]
fn runs_are_compared_in_pairs() {
    let folder = Folder::new("compare");
    let words = ["--generate", "lublin:jobs=3000,procs=64,seed=1", "--scale-load", "3"];
    let files = ["fcfs", "easy"].map(|policy| {
        let file = folder.path(policy);
        said(&[&words[..], &["--policy", policy, "--csv", &file]].concat());
        file
    });
    let by_file: serde_json::Value =
        serde_json::from_str(&said(&["--compare", &files[0], &files[1], "--json"])).unwrap();
    let by_policy: serde_json::Value =
        serde_json::from_str(&said(&[&words[..], &["--compare", "fcfs", "easy", "--json"]].concat()))
            .unwrap();
    assert_eq!(by_file["wait_more_s"], by_policy["wait_more_s"]);
    assert_eq!(by_file["jobs"], 3000);
    assert!(by_file["wait_more_s"]["mean"].as_f64().unwrap() < 0.0, "backfill helps: {by_file}");
}

#[test]
fn what_is_no_trace_is_refused_with_a_sentence() {
    let folder = Folder::new("refuse");
    let text = folder.file("text", "hello\nworld\n");
    assert!(refused(&[&text, "--procs", "4"]).contains("not a trace"), "text");
    let bare = folder.file("bare.swf", "1 0 -1 5 2 -1 -1 2 9 -1 1 7 1 1 1 1 -1 -1\n");
    assert!(refused(&[&bare]).contains("--procs"), "no processors");
    assert!(refused(&[&bare, "--procs", "1"]).contains("no job is left"), "too large");
    assert!(refused(&[&bare, "--procs", "2", "--policy", "best"]).contains("there are: fcfs"), "policy");
    assert!(refused(&[&bare, "--procs", "2", "--estimates", "factor:0"]).contains("factor:F"), "factor");
    assert!(refused(&[&bare, "--procs", "2", "--from", "2020-01-01"]).contains("does not say"), "date");
    assert!(refused(&["--inputs", &text]).contains("no recording"), "inputs");
    assert!(refused(&["--diff", &text, &text]).contains("text:1:"), "decisions");
    let out = simulate(&[
        &folder.file("gaps.swf", "; MaxProcs: 4\n1 0 -1 5\n2 9 -1 5 1 -1 -1 1 9 -1 1 7 1 1 1 1 -1 -1\n")
    ]);
    let warning = String::from_utf8(out.stderr).unwrap();
    assert!(warning.contains("1 line left out: not the fields of a job (line 2)"), "{warning}");
}

#[test]
fn a_site_runs_what_sacct_dumped() {
    let folder = Folder::new("site");
    let conf = folder.file(
        "slurm.conf",
        "ClusterName=c\nSlurmctldHost=h\nSlurmUser=root\nSelectType=select/cons_tres\n\
         SelectTypeParameters=CR_Core_Memory\nGresTypes=gpu\n\
         NodeName=n[1-2] CPUs=4 CoresPerSocket=4 RealMemory=1000 Gres=gpu:2\n\
         PartitionName=p Nodes=ALL Default=YES MaxTime=UNLIMITED\n",
    );
    // Two nodes: 1 takes all memory of one, 2 all GPUs of the other; 3 fits by memory once 1 is gone, 4
    // needs a GPU beside it and has too little memory there until 3 is gone; 5 fits nowhere.
    let dump = folder.file(
        "jobs.txt",
        "JobID|Submit|Start|End|Timelimit|NCPUS|NNodes|ReqMem|AllocTRES|User|Partition|State\n\
         1|100|100|200|00:02:00|1|1|1000M|cpu=1|a|p|COMPLETED\n\
         2|101|101|301|00:05:00|1|1|10M|cpu=1,gres/gpu=2|a|p|COMPLETED\n\
         3|102|102|112|00:01:00|1|1|995M|cpu=1|b|p|COMPLETED\n\
         4|103|103|113|00:01:00|1|1|10M|cpu=1,gres/gpu=1|b|elsewhere|COMPLETED\n\
         5|104|104|114|00:01:00|1|1|5000M|cpu=1|b|p|COMPLETED\n\
         5.batch|104|104|114||1|1|5000M|cpu=1|b|p|COMPLETED\n",
    );
    let waits = folder.path("waits");
    let out = simulate(&[&dump, "--conf", &conf, "--waits", &waits, "--json"]);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{stderr}");
    let why = "1 job left out: the cluster does not take it: refused: Requested node configuration is not available (job 5)";
    assert!(stderr.contains(why), "{stderr}");
    assert_eq!(std::fs::read_to_string(&waits).unwrap(), "1 0\n2 0\n3 98\n4 107\n");
    let object: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((object["procs"].as_u64(), object["policy"].as_str()), (Some(8), Some("site")));
}

/// A run whose standard output is a file.
fn said_into(words: &[&str], to: &str) -> Output {
    let out = std::fs::OpenOptions::new().write(true).open(to).unwrap();
    Command::new(env!("CARGO_BIN_EXE_sluice-simulate")).args(words).stdout(out).output().unwrap()
}

#[test]
fn a_full_disk_is_an_error_and_a_reader_that_left_is_none() {
    let mig = ["--mig", "exact", "--gpus", "1", "--mix", "uniform", "--policy", "capacity"];
    for words in [&["--generate", MODEL, "--json"][..], &["--generate", MODEL], &mig] {
        let out = said_into(words, "/dev/full");
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{words:?}: {stderr}");
        assert!(stderr.contains("error: standard output: No space left"), "{words:?}: {stderr}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-simulate"));
        let out = command.args(words).stdout(writer).output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{words:?}: {out:?}");
    }
}

#[test]
fn what_would_change_nothing_is_refused() {
    let folder = Folder::new("nothing");
    let (a, b) = (folder.path("a"), folder.path("b"));
    for name in [&a, &b] {
        said(&["--generate", MODEL, "--csv", name]);
    }
    for words in [
        &["--generate", MODEL, "--compare", "easy", "cons", "--csv", &a][..],
        &["--generate", MODEL, "--compare", "easy", "cons", "--policy", "cons"],
        &["--generate", MODEL, "--procs", "5"],
        &["--generate", MODEL, "--write", &a, "--policy", "cons"],
        &["--generate", MODEL, "--write", &a, "--warmup", "1d"],
        &["--compare", &a, &b, "--estimates", "perfect"],
        &["--compare", &a, &b, "--plot", &a],
        &["--diff", &a, &b, "--json"],
        &["--inputs", &a, "--policy", "easy"],
    ] {
        let out = simulate(words);
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{words:?}: {stderr}");
    }
}

#[test]
fn times_beyond_what_can_be_counted_are_refused() {
    let folder = Folder::new("times");
    let job = |number: u32| format!("{number} 0 -1 900000000000000 2 -1 -1 2 -1 -1 1 7 1 1 1 1 -1 -1\n");
    let text: String = (1..=20).map(job).collect();
    let long = folder.file("long.swf", &format!("; MaxProcs: 2\n{text}"));
    assert!(refused(&[&long]).contains("one after the other"), "runs");
    let late =
        "1 0 -1 9 2 -1 -1 2 9 -1 1 7 1 1 1 1 -1 -1\n2 99999999999999 -1 9 2 -1 -1 2 9 -1 1 7 1 1 1 1 -1 -1\n";
    let late = folder.file("late.swf", &format!("; MaxProcs: 2\n{late}"));
    assert!(refused(&[&late, "--scale-load", "0.00001"]).contains("one after the other"), "submissions");
}

#[test]
fn a_site_may_predict_run_times() {
    let folder = Folder::new("predicts");
    let conf = folder.file(
        "slurm.conf",
        "ClusterName=c\nSlurmctldHost=h\nSlurmUser=root\nSelectType=select/cons_tres\n\
         SelectTypeParameters=CR_Core\nNodeName=n1 CPUs=2 CoresPerSocket=2\n\
         PartitionName=p Nodes=ALL Default=YES MaxTime=UNLIMITED\n",
    );
    // Two short runs of a; then 3 runs to its limit, 4 waits for both CPUs, and 5 of a would be over by then if it ran as
    // long as those before.
    let dump = folder.file(
        "jobs.txt",
        "JobID|Submit|Start|End|Timelimit|NCPUS|User|Partition|State\n\
         1|100|100|110|01:00:00|1|a|p|COMPLETED\n\
         2|120|120|130|01:00:00|1|a|p|COMPLETED\n\
         3|200|200|1160|00:16:00|1|b|p|COMPLETED\n\
         4|201|201|251|00:02:00|2|b|p|COMPLETED\n\
         5|202|202|212|01:00:00|1|a|p|COMPLETED\n",
    );
    let waits = folder.path("waits");
    let words = [&dump, "--conf", &conf, "--waits", &waits, "--json"];
    let run = || {
        said(&words);
        std::fs::read_to_string(&waits).unwrap()
    };
    assert_eq!(run(), "1 0\n2 0\n3 0\n4 959\n5 1008\n");
    let own = folder.file("sluice.conf", "PredictRunTimes=avg2\n");
    assert_eq!(run(), "1 0\n2 0\n3 0\n4 959\n5 0\n");
    std::fs::write(own, "PredictRunTimes=best\n").unwrap();
    assert!(refused(&words).contains("sluice.conf:1: PredictRunTimes"), "another value");
}
