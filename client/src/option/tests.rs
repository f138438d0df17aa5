//! Command lines as users type them, against what Slurm was recorded to do (the conformance goldens).

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use model::gres;
use model::quantity::MemoryMib;
use model::request::{MemoryRequest, Sharing};
use model::time::{Span, moment};

use super::world::Files;
use super::*;

/// Files by path below `/w`, and standard input.
#[derive(Default)]
struct Fake {
    files: Vec<(&'static str, &'static str)>,
    unreadable: Vec<&'static str>,
    stdin: &'static str,
}

impl Files for Fake {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let name = path.to_string_lossy();
        if self.unreadable.contains(&&*name) {
            return Err(io::Error::from_raw_os_error(13));
        }
        let found = self.files.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| io::Error::from_raw_os_error(2))
    }

    fn stdin(&self) -> io::Result<Vec<u8>> {
        Ok(self.stdin.as_bytes().to_vec())
    }

    fn exists(&self, path: &Path) -> bool {
        let name = path.to_string_lossy();
        self.unreadable.contains(&&*name) || self.files.iter().any(|(known, _)| *known == name)
    }
}

/// Words as a shell would cut them: single quotes only.
fn cut(line: &str) -> Vec<OsString> {
    let mut words = vec![];
    let mut quoted = false;
    let mut word: Option<String> = None;
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words.into_iter().map(OsString::from).collect()
}

fn run_with(line: &str, env: &[(&str, &str)], files: &Fake) -> Result<Parsed, Stop> {
    let words = cut(line);
    let program = match words[0].to_str() {
        Some("sbatch") => Program::Sbatch,
        Some("salloc") => Program::Salloc,
        _ => Program::Srun,
    };
    let world = World {
        env: env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect(),
        cwd: PathBuf::from("/w"),
        now: moment::parse("2026-11-25T22:00", Default::default(), &moment::utc, moment::Sense::Past)
            .unwrap(),
        zone: &moment::utc,
        uid: 2001,
        user: "alice".to_owned(),
        host: "ctl".to_owned(),
        umask: 0o027,
        rlimits: vec![("CORE".into(), 0), ("NOFILE".into(), 1024)],
        spec_usage: false,
        files,
    };
    parse(program, &words[1..], &world)
}

fn run(line: &str) -> Result<Parsed, Stop> {
    run_with(line, &[], &Fake::default())
}

#[track_caller]
fn request(line: &str) -> JobRequest {
    run(line).unwrap().components.remove(0).request
}

fn script(text: &'static str) -> Fake {
    Fake { files: vec![("/w/_j.sh", text)], ..Fake::default() }
}

/// The error lines and the exit status.
#[track_caller]
fn check_stop(line: &str, expected: &str, code: u8) {
    let stop = run(line).expect_err(line);
    assert_eq!((stop.err.join("\n").as_str(), stop.code), (expected, code), "{line}");
}

#[test]
fn the_table_is_in_order() {
    for pair in table::ROWS.windows(2) {
        assert!(pair[0].long <= pair[1].long, "{} before {}", pair[0].long, pair[1].long);
        assert!(pair[0].long != pair[1].long || pair[0].on & pair[1].on == 0, "{} twice", pair[0].long);
    }
    for program in [Program::Sbatch, Program::Salloc, Program::Srun] {
        let mut letters: Vec<u8> = table::ROWS
            .iter()
            .filter(|row| row.on & program.mask() != 0 && row.short != 0)
            .map(|row| row.short)
            .collect();
        let all = letters.len();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), all, "{program:?}");
    }
    for (programs, name, long) in table::OTHER_VARIABLES {
        assert!(table::find(*programs, long).is_some(), "{name}");
    }
}

#[test]
fn getopt_complaints() {
    let hint = "\nTry \"sbatch --help\" for more information";
    check_stop(
        "sbatch --hold=1 --wrap true",
        &format!("sbatch: option '--hold' doesn't allow an argument{hint}"),
        255,
    );
    check_stop("sbatch --time", &format!("sbatch: option '--time' requires an argument{hint}"), 255);
    check_stop(
        "sbatch -H --no=c1 --wrap true",
        &format!(
            "sbatch: option '--no=c1' is ambiguous; possibilities: '--no-kill' '--no-requeue' '--nodefile' '--nodelist' '--nodes'{hint}"
        ),
        255,
    );
    check_stop(
        "sbatch -H --admin-comment=x --wrap true",
        &format!("sbatch: unrecognized option '--admin-comment=x'{hint}"),
        255,
    );
}

#[test]
fn bad_values() {
    let table = "
        -n abc | Invalid numeric value \"abc\" for --ntasks. | 1
        -n 0   | Invalid numeric value \"0\" for --ntasks. | 1
        -n -1  | Invalid numeric value \"-1\" for --ntasks. | 1
        -n 1.5 | Invalid numeric value \"1.5\" for --ntasks. | 1
        -n ''  | Invalid numeric value \"\" for --ntasks. | 1
        -c abc | Invalid numeric value \"abc\" for --cpus-per-task. | 1
        -N abc | \"abc\" is not a valid node count | 255
        -N 1-  | Maximum node count -1 is less than minimum node count 1 | 255
        -N 3-2 | Maximum node count 2 is less than minimum node count 3 | 255
        -N 1.5 | \"1.5\" is not a valid node count | 255
        --mem=lots       | Invalid --mem specification | 255
        --mem-per-cpu=-5 | Invalid --mem-per-cpu specification | 255
        --mem=10X        | Invalid --mem specification | 255
        --time=abc       | Invalid --time specification | 255
        --time=1:2:3:4   | Invalid --time specification | 255
        --time=          | Invalid --time specification | 255
        --time=5x        | Invalid --time specification | 255
        --mail-type=foo  | Invalid --mail-type specification | 255
        --exclusive=foo  | Invalid --exclusive specification | 255
        --open-mode=x    | Invalid --open-mode specification | 255
        --signal=nope    | Invalid --signal specification | 255
        --uid=bob        | --uid only permitted by root user | 255
        -a x             | Batch job submission failed: Invalid job array specification | 1
        -a -1            | Batch job submission failed: Invalid job array specification | 1
        -d afterok:1?afterany:2,singleton | Batch job submission failed: Job dependency problem | 1
        --x11            | --x11 is not supported by sluice | 255
        --batch=x        | --batch is not supported by sluice | 255
        --gres=gpu:x:y:z | Invalid Trackable RESource (TRES) specification | 1
        --gpus=a:        | Invalid Trackable RESource (TRES) specification | 1
        --gpus=2 --gpus-per-node=3 | Failed to ensure --gpus >= --gres=gpu/--gpus-per-node >= --gpus-per-socket\\nsbatch: error: Invalid generic resource (gres) specification | 1
    ";
    for line in table.lines().filter(|line| line.contains('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let line = format!("sbatch -H {} --wrap true", cells[0]);
        let said = cells[1].replace("\\n", "\n");
        check_stop(&line, &format!("sbatch: error: {said}"), cells[2].parse().unwrap());
    }
}

#[test]
fn bad_moments() {
    for (text, position) in [("yesterday", 0), ("25:00", 0), ("2020-13-01", 5), ("now+x", 3), ("foo", 0)] {
        check_stop(
            &format!("sbatch -H --begin={text} --wrap true"),
            &format!(
                "Invalid time specification (pos={position}): {text}\nsbatch: error: Invalid --begin specification"
            ),
            255,
        );
    }
}

#[test]
fn what_several_options_say() {
    check_stop(
        "sbatch --mem=10 --mem-per-cpu=10 --wrap true",
        "sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.",
        1,
    );
    check_stop(
        "sbatch --wrap true _j.sh",
        "sbatch: error: Script arguments not permitted with --wrap option",
        1,
    );
    check_stop(
        "sbatch -H --nodefile=nope --wrap true",
        "sbatch: error: slurm_allocate_resources error opening file nope, No such file or directory\n\
         sbatch: error: Invalid --nodefile node file",
        255,
    );
    check_stop(
        "srun -p debug -d nonsense true",
        "srun: error: Unable to allocate resources: Job dependency problem",
        1,
    );
    check_stop("srun -n2", "srun: fatal: No command given to execute.", 1);
    check_stop("salloc -d nonsense", "salloc: error: Job submit/allocate failed: Job dependency problem", 1);
    let parsed = run("sbatch -n 2 -N 4 --wrap true").unwrap();
    assert_eq!(parsed.warnings, ["sbatch: warning: can't run 2 processes on 4 nodes, setting nnodes to 2"]);
    assert_eq!(parsed.first().request.nodes, Some((2, Some(2))));
    check_stop(
        "srun --mpi=nosuch true",
        "srun: error: MPI: Cannot create context for mpi/nosuch\nsrun: error: MPI: Unable to load any plugin\n\
         srun: error: Invalid MPI type 'nosuch', --mpi=list for acceptable types",
        1,
    );
}

#[test]
fn good_values() {
    let one = request("sbatch -H --ntasks 3 --time=5 -p batch --job-name x1 --wrap true");
    let two = request("sbatch -H -n3 -t5 -pbatch -Jx1 --wrap=true");
    assert_eq!((one.ntasks, one.time_limit), (Some(3), Some(Some(Span::from_mins(5)))));
    assert_eq!(JobRequest { submit_line: two.submit_line.clone(), ..one }, two);
    assert_eq!(&*request("sbatch -H --part=batch --job-n=abbr --wrap true").name, "abbr");
    assert_eq!(request("sbatch -N 0 --wrap true").nodes, None);
    assert_eq!(request("sbatch -N 1,2 --wrap true").nodes, Some((1, Some(2))));
    assert_eq!(request("sbatch -t 0 --wrap true").time_limit, Some(None));
    assert_eq!(request("sbatch -t 5:30 --wrap true").time_limit, Some(Some(Span::from_mins(6))));
    assert_eq!(request("sbatch -t 1- --wrap true").time_limit, Some(Some(Span::from_mins(1440))));
    assert_eq!(request("sbatch --mem=1G --wrap true").memory, Some(MemoryRequest::PerNode(MemoryMib(1024))));
    assert_eq!(request("sbatch --mem=0 --wrap true").memory, Some(MemoryRequest::PerNode(MemoryMib(0))));
    assert_eq!(
        gres::tres_text(&request("sbatch --gres=gpu:a100:2 --wrap true").gres_per_node),
        "gres/gpu:a100:2"
    );
    assert_eq!(gres::tres_text(&request("sbatch --gpus=a100:3 --wrap true").gpus_per_job), "gres/gpu:a100:3");
    for accepted in ["gpu:x", "gpu:-1", "gpu:v100:1", "gpu:a100:1:2", "gpu:9"] {
        assert_eq!(request(&format!("sbatch --gres={accepted} --wrap true")).gres_per_node.len(), 1);
    }
    let each = request("sbatch -n1 --tres-per-task=cpu=2,gres/gpu:a100:1 --wrap true");
    assert_eq!(
        (each.cpus_per_task, gres::tres_text(&each.gpus_per_task)),
        (Some(2), "gres/gpu:a100:1".into())
    );
    assert_eq!(request("sbatch --nice --wrap true").nice, 100);
    assert_eq!(request("sbatch --nice=-5 --wrap true").nice, -5);
    assert_eq!(request("sbatch --priority=0 --wrap true").rare().priority, Some(0));
    assert_eq!(request("sbatch --exclusive --wrap true").sharing, Sharing::Exclusive);
    assert_eq!(request("sbatch --exclusive=user --wrap true").sharing, Sharing::User);
    assert_eq!(request("sbatch -a '' --wrap true").array, None);
    assert_eq!(request("sbatch -a [1-2] --wrap true").array.unwrap().tasks.len(), 2);
    assert_eq!(request("sbatch --delay-boot=5 --wrap true").rare().delay_boot, Some(Span::from_mins(5)));
    let mail = request("sbatch --mail-type=ALL --wrap true");
    assert_eq!(mail.rare().mail_type.as_deref(), Some("INVALID_DEPEND,BEGIN,END,FAIL,REQUEUE,STAGE_OUT"));
    assert_eq!(mail.rare().mail_user.as_deref(), Some("alice"));
    let shape = request("sbatch -n4 -B 2:2:1 --wrap true");
    assert_eq!((shape.rare().sockets_per_node, shape.rare().cores_per_socket), (Some(2), Some(2)));
    assert_eq!(request("sbatch -D sub --wrap true").work_dir, "/w/sub".into());
    assert_eq!(request("sbatch -H --wrap true").submit_line, "sbatch -H --wrap true".into());
}

#[test]
fn scripts() {
    let cases: [(&'static str, &str); 5] = [
        ("", "sbatch: error: Batch script is empty!"),
        (" \n", "sbatch: error: Batch script contains only whitespace!"),
        (
            "echo\n",
            "sbatch: error: This does not look like a batch script.  The first\n\
             sbatch: error: line must start with #! followed by the path to an interpreter.\n\
             sbatch: error: For instance: #!/bin/sh",
        ),
        (
            "#!/bin/sh\necho\r\n",
            "sbatch: error: Batch script contains DOS line breaks (\\r\\n)\n\
             sbatch: error: instead of expected UNIX line breaks (\\n).",
        ),
        (
            "#!/bin/sh\n\0",
            "sbatch: error: The SLURM controller does not allow scripts that\n\
             sbatch: error: contain a NULL character '\\0'.",
        ),
    ];
    for (text, expected) in cases {
        let stop = run_with("sbatch _j.sh", &[], &script(text)).unwrap_err();
        assert_eq!((stop.err.join("\n").as_str(), stop.code), (expected, 1), "{text:?}");
    }
    let files = Fake { unreadable: vec!["/w/_j.sh"], ..Fake::default() };
    let stop = run_with("sbatch _j.sh", &[], &files).unwrap_err();
    assert_eq!((stop.err, stop.code), (vec!["sbatch: error: Unable to open file /w/_j.sh".to_owned()], 1));

    let parsed = run("sbatch --wrap 'echo hi'").unwrap();
    let wrapped = parsed.script.clone().unwrap();
    assert_eq!(wrapped.body, b"#!/bin/sh\n# This script was created by sbatch --wrap.\n\necho hi\n");
    assert_eq!((&*parsed.first().request.name, &parsed.first().request.command), ("wrap", &None));
    assert!(run("sbatch -H --wrap ''").is_ok());

    let files = Fake { stdin: "#!/bin/bash\n#SBATCH -J frompipe\n", ..Fake::default() };
    let parsed = run_with("sbatch --parsable", &[], &files).unwrap();
    assert_eq!(&*parsed.first().request.name, "frompipe");
    assert!(parsed.first().manner.parsable);
    let files = Fake { stdin: "#!/bin/bash\ntrue\n", ..Fake::default() };
    assert_eq!(&*run_with("sbatch", &[], &files).unwrap().first().request.name, "sbatch");

    let parsed = run_with("sbatch -n2 _j.sh -n 5 arg", &[], &script("#!/bin/sh\ntrue\n")).unwrap();
    let request = &parsed.first().request;
    assert_eq!((request.ntasks, request.arguments.len()), (Some(2), 3));
    assert_eq!((request.command.as_deref(), &*request.name), (Some("/w/_j.sh"), "_j.sh"));
}

#[test]
fn directives_environment_and_command_line() {
    let files = script("#!/bin/bash\n#SBATCH -t 7\n#SBATCH -p batch\ntrue\n");
    let get = |line: &str, env: &[(&str, &str)]| {
        let request = run_with(line, env, &files).unwrap().components.remove(0).request;
        (request.time_limit.flatten().unwrap().as_mins(), request.partition.unwrap().to_string())
    };
    let env = [("SBATCH_TIMELIMIT", "9"), ("SBATCH_PARTITION", "small")];
    assert_eq!(get("sbatch _j.sh", &[]), (7, "batch".to_owned()));
    assert_eq!(get("sbatch _j.sh", &env), (9, "small".to_owned()));
    assert_eq!(get("sbatch -t 3 _j.sh", &env), (3, "small".to_owned()));

    let stop = run_with("sbatch _j.sh", &[], &script("#!/bin/sh\n#SBATCH --time=abc\n")).unwrap_err();
    assert_eq!((stop.err, stop.code), (vec!["sbatch: error: Invalid --time specification".to_owned()], 255));
    let stop =
        run_with("sbatch _j.sh", &[], &script("#!/bin/sh\n#SBATCH -n 2 stray words -t 3\n")).unwrap_err();
    let expected = "sbatch: error: Invalid directive found in batch script: stray";
    assert_eq!((stop.err, stop.code), (vec![expected.to_owned()], 255));

    // Memory of a stronger source takes the place of another kind.
    let files = script("#!/bin/sh\n#SBATCH --mem-per-cpu=5\n");
    let parsed = run_with("sbatch --mem=7 _j.sh", &[], &files).unwrap();
    assert_eq!(parsed.first().request.memory, Some(MemoryRequest::PerNode(MemoryMib(7))));
}

#[test]
fn which_variables_are_read() {
    let get = |line: &str, name: &str, value: &str| {
        run_with(line, &[(name, value)], &Fake::default()).unwrap().components.remove(0)
    };
    assert_eq!(get("sbatch --wrap true", "SBATCH_NTASKS", "9").request.ntasks, None);
    assert_eq!(get("sbatch --wrap true", "SLURM_NTASKS", "9").request.ntasks, None);
    assert_eq!(&*get("sbatch --wrap true", "SLURM_JOB_NAME", "e").request.name, "wrap");
    assert_eq!(&*get("sbatch --wrap true", "SBATCH_JOB_NAME", "e").request.name, "e");
    assert!(!get("sbatch --wrap true", "SBATCH_PARSABLE", "1").manner.parsable);
    assert_eq!(
        get("sbatch --wrap true", "SBATCH_MEM_PER_CPU", "77").request.memory,
        Some(MemoryRequest::PerCpu(MemoryMib(77)))
    );
    assert_eq!(get("sbatch --wrap true", "SBATCH_ARRAY_INX", "1-3").request.array.unwrap().tasks.len(), 3);
    assert_eq!(get("srun true", "SLURM_NTASKS", "3").request.ntasks, Some(3));
    assert!(get("srun true", "SLURM_LABELIO", "1").manner.label);
    assert!(!get("srun true", "SLURM_LABELIO", "0").manner.label);
    let plane = [("SLURM_DISTRIBUTION", "plane"), ("SLURM_DIST_PLANESIZE", "3")];
    let parsed = run_with("srun true", &plane, &Fake::default()).unwrap();
    assert_eq!(parsed.first().request.rare().distribution.as_deref(), Some("plane=3"));
    assert_eq!(get("srun true", "SLURM_PARTITION", "batch").request.partition.as_deref(), Some("batch"));
    assert_eq!(get("srun true", "SLURM_JOB_ID", "99").manner.jobid, Some(99));
    assert_eq!(
        get("salloc true", "SALLOC_TIMELIMIT", "7").request.time_limit,
        Some(Some(Span::from_mins(7)))
    );
    let inside = [("SLURM_JOB_ID", "7"), ("SLURM_JOB_NAME", "wrap")];
    let parsed = run_with("srun /bin/true", &inside, &Fake::default()).unwrap();
    assert_eq!(&*parsed.first().request.name, "true");
}

#[test]
fn several_components() {
    let files = script("#!/bin/bash\n#SBATCH -n 1 -J het\n#SBATCH hetjob\n#SBATCH -n 2 -p batch\ntrue\n");
    let parsed = run_with("sbatch -H _j.sh", &[], &files).unwrap();
    let seen: Vec<_> = parsed
        .components
        .iter()
        .map(|one| (one.request.ntasks, &*one.request.name, one.request.hold))
        .collect();
    assert_eq!(seen, [(Some(1), "het", true), (Some(2), "het", true)]);
    let parsed = run_with("sbatch -H -n1 -J h : -n2 -p batch _j.sh", &[], &script("#!/bin/sh\n")).unwrap();
    assert_eq!(parsed.components.len(), 2);
    assert_eq!(&*parsed.components[1].request.name, "h");
    check_stop(
        "sbatch -H -a 1-2 -n1 : -n1 --wrap true",
        "sbatch: error: Batch job submission failed: Invalid job array specification",
        1,
    );
    let parsed = run("srun -n1 echo a : -n2 echo b").unwrap();
    assert_eq!(parsed.components[1].command, ["echo", "b"]);
    assert_eq!(parsed.components[0].command, ["echo", "a"]);
}

#[test]
fn exported_variables() {
    let env = [("A1", "x"), ("B1", "y"), ("SLURM_FOO", "bar"), ("PATH", "/bin")];
    let get = |line: &str| {
        let parsed = run_with(line, &env, &Fake::default()).unwrap();
        let login = parsed.first().request.rare().get_user_env;
        let own = |name: &OsString| {
            let name = name.to_str().unwrap();
            let added = ["SLURM_SUBMIT_DIR", "SLURM_SUBMIT_HOST", "SLURM_PRIO_PROCESS"];
            !added.contains(&name) && !name.starts_with("SLURM_RLIMIT_")
        };
        let shown: Vec<String> = parsed
            .environment
            .iter()
            .filter(|(name, _)| own(name))
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        format!("{} {login}", shown.join(" "))
    };
    assert_eq!(get("sbatch --wrap true"), "A1=x B1=y SLURM_FOO=bar PATH=/bin false");
    assert_eq!(get("sbatch --export=NONE --wrap true"), "SLURM_FOO=bar SLURM_EXPORT_ENV=NONE true");
    assert_eq!(get("sbatch --export=NIL --wrap true"), "SLURM_FOO=bar SLURM_EXPORT_ENV=NIL false");
    assert_eq!(
        get("sbatch --export=A1,C1=new,GONE --wrap true"),
        "SLURM_FOO=bar A1=x C1=new SLURM_EXPORT_ENV=A1,C1=new,GONE true"
    );
    assert_eq!(
        get("sbatch --export=A1=\"p,q\",B1=z --wrap true"),
        "SLURM_FOO=bar A1=\"p,q\" B1=z SLURM_EXPORT_ENV=A1=\"p,q\",B1=z true"
    );
    assert_eq!(
        get("sbatch --export=ALL,B1=new --wrap true"),
        "SLURM_FOO=bar A1=x B1=new PATH=/bin SLURM_EXPORT_ENV=ALL,B1=new false"
    );
    let files = Fake { files: vec![("/w/_env", "A1=one\0B1=two words\0")], ..Fake::default() };
    let parsed = run_with("sbatch --export-file=_env --wrap true", &[], &files).unwrap();
    assert!(parsed.environment.contains(&("B1".into(), "two words".into())));
    assert!(block(&parsed.environment).starts_with(b"A1=one\0"));
}

#[test]
fn hosts_from_files() {
    const HOSTS: &str = "c2\nc1\nc2\n";
    let files = Fake { files: vec![("/w/_hf", HOSTS), ("/w/d/_hf", HOSTS)], ..Fake::default() };
    let parsed = run_with("srun -m arbitrary -l true", &[("SLURM_HOSTFILE", "_hf")], &files).unwrap();
    let first = parsed.first();
    assert_eq!((first.request.ntasks, first.request.nodes), (Some(3), Some((2, Some(2)))));
    assert_eq!(first.manner.hostfile, ["c2", "c1", "c2"]);
    // A list with a slash is a file.
    let listed = |line: &str| run_with(line, &[], &files).unwrap().components.remove(0);
    for line in ["sbatch -w d/_hf --wrap true", "salloc -w /w/_hf true", "srun --nodelist=d/_hf true"] {
        assert_eq!(listed(line).request.rare().nodelist.as_deref(), Some("c[1-2]"), "{line}");
    }
    assert_eq!(listed("srun -m arbitrary -w d/_hf true").manner.hostfile, ["c2", "c1", "c2"]);
    let missing = "slurm_allocate_resources error opening file ./nope, No such file or directory";
    check_stop("sbatch -w ./nope --wrap true", &format!("sbatch: error: {missing}"), 1);
}

#[test]
fn printed_and_done() {
    let first_line = |line: &str| {
        let stop = run(line).unwrap_err();
        assert_eq!((stop.err.len(), stop.code), (0, 0));
        stop.out.lines().next().unwrap().to_owned()
    };
    assert_eq!(
        first_line("sbatch --help"),
        "Usage: sbatch [OPTIONS(0)...] [ : [OPTIONS(N)...]] script(0) [args(0)...]"
    );
    assert_eq!(first_line("sbatch --usage"), "Usage: sbatch [-N nnodes] [-n ntasks]");
    assert!(first_line("sbatch -V").starts_with("slurm "));
    assert_eq!(
        run("sbatch --gres=help norm").unwrap_err().out,
        "Valid gres options are:\ngpu[[:type]:count]\n"
    );
}

/// The table against the manual pages: an option that is described there is done, stored or refused by name.
#[test]
fn every_option_of_the_manual_pages_is_known() {
    // Slurm's own programs of today do not know these, whatever a manual page says: getopt refuses them by name.
    const NOT_TAKEN: [(&str, &str); 5] =
        [("sbatch", "power"), ("salloc", "power"), ("srun", "power"), ("srun", "gid"), ("srun", "uid")];
    let mut seen = 0;
    for line in include_str!("manual-options.txt").lines().filter(|line| !line.starts_with('#')) {
        let (program, names) = line.split_once(' ').unwrap();
        let on = match program {
            "sbatch" => table::SBATCH,
            "salloc" => table::SALLOC,
            _ => table::SRUN,
        };
        for name in names.split(' ') {
            let known = table::ROWS.iter().any(|row| row.long == name && row.on & on != 0);
            assert_eq!(known, !NOT_TAKEN.contains(&(program, name)), "{program} --{name}");
            seen += 1;
        }
    }
    assert!(seen > 300, "only {seen} options were read");
    for name in table::STORED {
        assert!(table::ROWS.iter().any(|row| row.long == *name), "--{name} is no option");
    }
}

#[test]
fn specialized_cores_are_left_out_where_nobody_may_ask_for_them() {
    let ignored = "-S since it's not allowed by configuration (AllowSpecResourcesUsage = No)";
    for line in ["srun -S 1 true", "srun --core-spec=1 true", "srun -S 0 true"] {
        let parsed = run(line).unwrap();
        assert_eq!(parsed.warnings, [format!("srun: error: Ignoring {ignored}")], "{line}");
        assert_eq!(parsed.first().request.rare().core_spec, None, "{line}");
    }
    let both = run("srun -S 1 --thread-spec=1 true").unwrap_err();
    assert_eq!(both.code, 1);
    assert_eq!(run("srun --ignore-signals=USR1,12 true").unwrap().first().manner.ignored_signals, [10, 12]);
}

#[test]
fn limits_go_with_the_environment() {
    #[track_caller]
    fn check(line: &str, expected: &[(&str, &str)]) {
        let variables = run_with(line, &[("SLURM_RLIMIT_AS", "3")], &Fake::default()).unwrap().environment;
        let found = variables.iter().filter(|(name, _)| name.to_string_lossy().starts_with("SLURM_RLIMIT_"));
        let found: Vec<(&str, &str)> =
            found.map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap())).collect();
        assert_eq!(found, expected, "{line}");
    }
    let all = [("SLURM_RLIMIT_CORE", "0"), ("SLURM_RLIMIT_NOFILE", "1024")];
    check("sbatch --wrap true", &all);
    check("sbatch --export=NONE --wrap true", &all);
    check("sbatch --propagate=CORE --wrap true", &[("SLURM_RLIMIT_CORE", "U0")]);
    check("sbatch --propagate=RLIMIT_NOFILE,AS --wrap true", &[("SLURM_RLIMIT_NOFILE", "U1024")]);
    check("sbatch --propagate=NONE --wrap true", &[]);
    check("srun --propagate true", &[("SLURM_RLIMIT_CORE", "U0"), ("SLURM_RLIMIT_NOFILE", "U1024")]);
    check("srun true", &all);
    check("salloc true", &[("SLURM_RLIMIT_AS", "3")]);
}
