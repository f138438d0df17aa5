//! `--mail-type`: MailProg is run beside the job; without one the job runs and the log says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tests::{Cluster, Conf, wait_for};

use crate::SOON;

#[test]
fn mailprog_is_called_for_what_was_asked() {
    let cluster =
        Cluster::prepare(&Conf::declared(1, 8, "MailProg=@FOLDER@/mail\nMailDomain=example.org")).unwrap();
    let conf = cluster.folder().join("slurm.conf");
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, text.replace("@FOLDER@", cluster.folder().to_str().unwrap())).unwrap();
    let program = cluster.folder().join("mail");
    let sent = cluster.jobs().join("sent");
    fs::write(&program, format!("#!/bin/sh\necho \"$SLURM_JOB_ID $3: $2\" >> {}\n", sent.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut cluster = cluster;
    cluster.start_all(&["n1"]).unwrap();
    let mails = ["--mail-type=BEGIN,END,FAIL", "--mail-user=me", "-J", "x", "-o", "/dev/null"];
    let good = cluster.submit("#!/bin/sh\n", &mails).unwrap();
    let bad = cluster.submit("#!/bin/sh\nexit 3\n", &[&mails[..], &["--mail-user=a@b"]].concat()).unwrap();
    let quiet = cluster.submit("#!/bin/sh\n", &["-o", "/dev/null"]).unwrap();
    let array = cluster
        .submit(
            "#!/bin/sh\n",
            &["--mail-type=END", "--mail-user=me", "-a", "1-3", "-J", "y", "-o", "/dev/null"],
        )
        .unwrap();
    cluster.wait_ended(&array, "State", SOON).unwrap();
    let read = || fs::read_to_string(&sent).unwrap_or_default();
    let wanted = [
        format!("{good} me@example.org: Slurm Job_id={good} Name=x Began, Queued time"),
        format!("{good} me@example.org: Slurm Job_id={good} Name=x Ended, Run time"),
        format!("{bad} a@b: Slurm Job_id={bad} Name=x Failed, Run time"),
        format!("{bad} a@b: Slurm Job_id={bad} Name=x Ended, Run time"),
        format!("me@example.org: Slurm Array Summary Job_id={array}_* ({array}) Name=y Ended, Run time"),
    ];
    let all_there = || wanted.iter().all(|line| read().contains(line.as_str()));
    wait_for("all letters", SOON, all_there).unwrap_or_else(|error| panic!("{error:#}: {}", read()));
    let text = read();
    assert!(text.contains("FAILED, ExitCode 3") && text.contains("COMPLETED, ExitCode 0"), "{text}");
    assert_eq!(text.matches("Array Summary").count(), 1, "one for the whole array: {text}");
    assert!(!text.lines().any(|line| line.starts_with(&format!("{quiet} "))), "{text}");
}

#[test]
fn without_a_mail_program_the_job_runs_and_the_log_says_so() {
    let cluster = Cluster::start(&Conf::declared(1, 8, "MailProg=/nowhere/mail"), &["n1"]).unwrap();
    let id = cluster.submit("#!/bin/sh\n", &["--mail-type=ALL", "-o", "/dev/null"]).unwrap();
    assert_eq!(cluster.wait_ended(&id, "State", SOON).unwrap(), "COMPLETED");
    let log = cluster.folder().join("scheduler.log");
    let said = || fs::read_to_string(&log).unwrap_or_default().contains("no mail is sent");
    wait_for("the log to say that there is no mail program", SOON, said).unwrap();
}
