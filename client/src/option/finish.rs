//! The last step: what several options say together, names, paths, node files, and the environment.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use model::hostlist;
use model::refusal::Refusal;

use super::draft::{Draft, Source};
use super::{CommandLine, Component, Parsed, Program, Script, Stop, Variables, World, export};

/// Checks the drafts and fills in what does not stand in options.
pub(super) fn finish(
    program: Program,
    argv: &[OsString],
    drafts: Vec<Draft<'_>>,
    lines: Vec<CommandLine>,
    script: Option<Script>,
    world: &World<'_>,
) -> Result<Parsed, Stop> {
    let mut warnings = Vec::new();
    let mut components: Vec<Component> = Vec::with_capacity(drafts.len());
    let mut operands = lines.into_iter().map(|line| line.operands);
    let several = drafts.len() > 1;
    for mut draft in drafts {
        let words = operands.next().unwrap_or_default();
        if program == Program::Srun && words.is_empty() {
            return Err(Stop::fatal(program, "No command given to execute."));
        }
        let inside_job = world.var("SLURM_JOB_ID").is_some() || draft.manner.jobid.is_some();
        super::gpus::settle(&mut draft, inside_job)?;
        warnings.extend(settle_specialized(&mut draft, world)?);
        warnings.extend(draft.settle()?);
        super::gpus::needs(&draft, inside_job)?;
        read_node_files(&mut draft, world)?;
        if several && draft.request.array.is_some() {
            return Err(draft.refused(Refusal::InvalidArray));
        }
        describe(&mut draft, &words, argv, script.as_ref(), world);
        super::container::settle(&mut draft).map_err(|line| Stop::errors(program, vec![line], 1))?;
        let command = if program == Program::Sbatch { Vec::new() } else { words.clone() };
        if program == Program::Sbatch {
            let arguments = words.iter().skip(1).map(|word| word.to_string_lossy().into());
            draft.request.arguments = arguments.collect();
        }
        components.push(Component {
            request: draft.request,
            manner: draft.manner,
            command,
            given: draft.given,
            values: draft.values,
        });
    }
    share_with_others(&mut components, script.as_ref());
    let environment = environment(program, &mut components, world)?;
    Ok(Parsed { components, script, environment, warnings })
}

/// Names, paths and what is known of the submitter.
/// `--core-spec` and `--thread-spec` are left out, which is said, where the configuration does not let jobs say it.
fn settle_specialized(draft: &mut Draft<'_>, world: &World<'_>) -> Result<Vec<String>, Stop> {
    let (cores, threads) = (draft.request.rare().core_spec, draft.request.rare().thread_spec);
    if cores.is_some() && threads.is_some() {
        return Err(Stop::fatal(
            draft.program,
            "-S/--core-spec and --thred-spec options are mutually exclusive",
        ));
    }
    if world.spec_usage || cores.or(threads).is_none() {
        return Ok(Vec::new());
    }
    (draft.request.rare_mut().core_spec, draft.request.rare_mut().thread_spec) = (None, None);
    let name = if cores.is_some() { "-S" } else { "--thread-spec" };
    let program = draft.program.name();
    let why = "since it's not allowed by configuration (AllowSpecResourcesUsage = No)";
    Ok(vec![format!("{program}: error: Ignoring {name} {why}")])
}

fn describe(
    draft: &mut Draft<'_>,
    words: &[OsString],
    argv: &[OsString],
    script: Option<&Script>,
    world: &World<'_>,
) {
    let program = draft.program;
    let folder = match &draft.manner.chdir {
        Some(folder) => world.cwd.join(folder),
        None => world.cwd.clone(),
    };
    // Inside an allocation SLURM_JOB_NAME is the job's: a step has a name of its own.
    let inherited = program == Program::Srun
        && world.var("SLURM_JOB_ID").is_some()
        && draft.given.get("job-name") == Some(&Source::Environment);
    let request = &mut draft.request;
    if request.name.is_empty() || inherited {
        request.name = match (program, script) {
            (Program::Sbatch, Some(script)) => script.name.as_str().into(),
            (Program::Salloc, _) => "interactive".into(),
            _ => {
                let command =
                    words.first().map(|word| Path::new(word).file_name().unwrap_or(word).to_string_lossy());
                command.unwrap_or_default().into()
            }
        };
    }
    request.work_dir = folder.to_string_lossy().into();
    request.submit_host = world.host.as_str().into();
    request.umask = world.umask;
    request.command = script.and_then(|script| script.path.as_deref()).map(Box::from);
    let typed: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    request.submit_line = [&[program.name().into()], &typed[..]].concat().join(" ").into();
    if request.rare().mail_type.is_some() && request.rare().mail_user.is_none() {
        request.rare_mut().mail_user = Some(world.user.as_str().into());
    }
}

/// What names a file of nodes.
#[derive(Clone, Copy)]
enum NodeFile {
    /// `--nodefile`.
    Option,
    /// SLURM_HOSTFILE.
    Variable,
    /// `--nodelist`: a list with a slash is a file. Source: `man sbatch`.
    List,
}

impl NodeFile {
    /// It cannot be read: the words and the exit status.
    fn unreadable(self, program: Program, file: &str, cause: &str) -> Stop {
        // What the environment names is looked for in this folder.
        let here = if matches!(self, Self::Variable) && !file.contains('/') { "./" } else { "" };
        let (second, code) = match self {
            Self::Option => (Some("Invalid --nodefile node file"), 255),
            Self::Variable => (Some("Failure getting NodeNames from hostfile"), 1),
            Self::List => (None, 1),
        };
        let first = format!("slurm_allocate_resources error opening file {here}{file}, {cause}");
        let lines = [Some(first), second.map(str::to_owned)];
        Stop::errors(program, lines.into_iter().flatten().collect(), code)
    }
}

/// `--nodefile`, a file that `--nodelist` names, and SLURM_HOSTFILE where tasks are laid out by it.
fn read_node_files(draft: &mut Draft<'_>, world: &World<'_>) -> Result<(), Stop> {
    let arbitrary = draft
        .request
        .rare()
        .distribution
        .as_deref()
        .is_some_and(|text| text.to_ascii_lowercase().starts_with("arbitrary"));
    let program = draft.program;
    // For srun a file of hosts alone says where each task goes.
    let hostfile = (arbitrary || program == Program::Srun)
        .then(|| world.var("SLURM_HOSTFILE"))
        .flatten()
        .filter(|_| !draft.has("nodelist") && draft.manner.nodefile.is_none());
    let by_hosts = arbitrary || hostfile.is_some();
    let explicit = draft.given.get("nodes").is_some_and(|source| *source != Source::Environment);
    if by_hosts && explicit {
        let line = "--nodes is incompatible with --distribution=arbitrary".to_owned();
        return Err(Stop::errors(program, vec![line], if program == Program::Sbatch { 255 } else { 1 }));
    }
    let listed =
        || draft.request.rare().nodelist.as_deref().filter(|list| list.contains('/')).map(str::to_owned);
    let file = draft.manner.nodefile.clone().map(|file| (file, NodeFile::Option));
    let file = file.or_else(|| hostfile.clone().map(|file| (file, NodeFile::Variable)));
    let Some((file, origin)) = file.or_else(|| listed().map(|file| (file, NodeFile::List))) else {
        if arbitrary && !draft.has("nodelist") && program == Program::Srun {
            let line =
                "With Arbitrary distribution you need to specify a nodelist or hostfile with the -w option";
            return Err(Stop::errors(program, vec![line.to_owned()], 1));
        }
        return arbitrary_nodes(draft);
    };
    if hostfile.is_some() && !arbitrary {
        draft.request.rare_mut().distribution = Some("arbitrary".into());
    }
    let fail = |cause: &str| origin.unreadable(program, &file, cause);
    let bytes = world.files.read(&world.cwd.join(&file)).map_err(|error| fail(&os_text(&error)))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let joined = lines.collect::<Vec<_>>().join(",");
    let names = hostlist::expand(&joined).map_err(|error| fail(&error.to_string()))?;
    if names.is_empty() {
        return Err(fail("no node is named in it"));
    }
    let once: Vec<String> = names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    draft.request.rare_mut().nodelist = Some(hostlist::compress(&once).into());
    if by_hosts {
        lay_out(draft, names);
    }
    Ok(())
}

/// `-m arbitrary -w c1,c1,c2`: the list of nodes says where each task goes.
fn arbitrary_nodes(draft: &mut Draft<'_>) -> Result<(), Stop> {
    let rare = draft.request.rare();
    let arbitrary =
        rare.distribution.as_deref().is_some_and(|text| text.to_ascii_lowercase().starts_with("arbitrary"));
    let names = rare.nodelist.as_deref().map(hostlist::expand).and_then(Result::ok);
    if let Some(names) =
        names.filter(|names| arbitrary && !names.is_empty() && draft.program == Program::Srun)
    {
        lay_out(draft, names);
    }
    Ok(())
}

/// One task on each host in turn; of fewer tasks, those on the first hosts.
fn lay_out(draft: &mut Draft<'_>, mut names: Vec<String>) {
    match draft.request.ntasks {
        Some(tasks) => names.truncate(tasks as usize),
        None => draft.request.ntasks = u32::try_from(names.len()).ok(),
    }
    let distinct: BTreeSet<&String> = names.iter().collect();
    let count = u32::try_from(distinct.len()).unwrap_or(u32::MAX);
    let list: Vec<&String> = distinct.into_iter().collect();
    draft.request.rare_mut().nodelist = Some(hostlist::compress(&list).into());
    draft.request.nodes = Some((count, Some(count)));
    draft.manner.hostfile = names;
}

/// The system's words for an error, without its number.
fn os_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// What the first component says of a job as a whole holds for the others, where they say nothing.
fn share_with_others(components: &mut [Component], script: Option<&Script>) {
    let Some((first, others)) = components.split_first_mut() else { return };
    for other in others {
        if !other.has("job-name") && (first.has("job-name") || script.is_some()) {
            other.request.name = first.request.name.clone();
        }
        other.request.hold |= first.request.hold;
        if other.request.begin.is_none() {
            other.request.begin = first.request.begin;
        }
        if other.request.dependency.is_empty() {
            other.request.dependency = first.request.dependency.clone();
        }
        if other.request.requeue.is_none() {
            other.request.requeue = first.request.requeue;
        }
        if other.request.account.is_none() {
            other.request.account = first.request.account.clone();
        }
    }
}

/// What the job gets of the environment, and what sbatch adds to it.
fn environment(program: Program, components: &mut [Component], world: &World<'_>) -> Result<Variables, Stop> {
    let first = components.first().expect("there is at least one component");
    let exported = export::choose(first.manner.export.as_deref(), world);
    let mut variables = exported.variables;
    if let Some(file) = &first.manner.export_file {
        let bytes = world.files.read(&world.cwd.join(file)).map_err(|_| {
            Stop::errors(program, vec![format!("Could not open user environment file {file}")], 1)
        })?;
        export::from_file(&bytes).iter().for_each(|(name, value)| {
            export::set(&mut variables, &name.to_string_lossy(), value);
        });
    }
    if program != Program::Salloc {
        limits(&mut variables, first.manner.propagate.as_deref(), world);
    }
    if program == Program::Srun {
        // A step that says what its tasks get says it to them too.
        if let Some(cpus) = first.request.cpus_per_task {
            export::set(&mut variables, "SLURM_CPUS_PER_TASK", cpus.to_string());
        }
        if let Some(tres) = super::gpus::tres_per_task(&first.request) {
            export::set(&mut variables, "SLURM_TRES_PER_TASK", &tres);
        }
    }
    if program != Program::Srun {
        export::set(&mut variables, "SLURM_SUBMIT_DIR", &world.cwd);
        export::set(&mut variables, "SLURM_SUBMIT_HOST", &world.host);
        // Steps of the allocation share its processors too.
        if first.request.rare().overcommit {
            export::set(&mut variables, "SLURM_OVERCOMMIT", "1");
        }
    }
    if program == Program::Sbatch {
        export::set(&mut variables, "SLURM_PRIO_PROCESS", "0");
        if let Some(distribution) = &first.request.rare().distribution {
            match distribution.split_once('=') {
                Some((plane, size)) => {
                    export::set(&mut variables, "SLURM_DISTRIBUTION", plane);
                    export::set(&mut variables, "SLURM_DIST_PLANESIZE", size);
                }
                None => export::set(&mut variables, "SLURM_DISTRIBUTION", &**distribution),
            }
        }
        if exported.login {
            components.iter_mut().for_each(|component| component.request.rare_mut().get_user_env = true);
        }
    }
    Ok(variables)
}

/// The soft limits of this process, as Slurm passes them on: those that `--propagate` names with a `U`, or all of them
/// for the node's configuration to choose from.
fn limits(variables: &mut Variables, chosen: Option<&str>, world: &World<'_>) {
    variables.retain(|(name, _)| !name.as_encoded_bytes().starts_with(b"SLURM_RLIMIT_"));
    for (name, soft) in &world.rlimits {
        let value = match chosen {
            None => soft.to_string(),
            Some(names) if names.split(',').any(|word| word == "ALL" || word == &**name) => {
                format!("U{soft}")
            }
            Some(_) => continue,
        };
        variables.push((format!("SLURM_RLIMIT_{name}").into(), value.into()));
    }
}
