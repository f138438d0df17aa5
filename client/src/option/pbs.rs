//! `#PBS` lines in sbatch's own options.
//!
//! Every letter of qsub is known; what has no counterpart in Slurm is dropped, as Slurm drops it.

/// The words of one line in sbatch's options.
pub(crate) fn translate(words: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let Some(letter) = word.strip_prefix('-').and_then(|word| word.chars().next()) else {
            // Words that are no options stay, to be refused as stray ones.
            out.push(word.clone());
            continue;
        };
        let joined = &word[1 + letter.len_utf8()..];
        if matches!(letter, 'h' | 'I' | 'V' | 'z' | 'X' | 'f') {
            if letter == 'h' {
                out.push("--hold".to_owned());
            }
            continue;
        }
        let value =
            if joined.is_empty() { rest.next().cloned().unwrap_or_default() } else { joined.to_owned() };
        option(letter, &value, &mut out);
    }
    out
}

fn option(letter: char, value: &str, out: &mut Vec<String>) {
    let long = match letter {
        'a' => "begin",
        'A' => "account",
        'e' => "error",
        'J' | 't' => "array",
        'M' => "mail-user",
        'N' => "job-name",
        'o' => "output",
        'p' => return out.extend(nice(value)),
        'q' => "partition",
        'v' => return out.push(format!("--export=ALL,{value}")),
        'l' => return value.split(',').for_each(|resource| one_resource(resource, out)),
        'm' => return out.extend(mail(value)),
        'r' => return out.push(if value.starts_with('n') { "--no-requeue" } else { "--requeue" }.to_owned()),
        'W' => return value.split(',').for_each(|attribute| one_attribute(attribute, out)),
        // c, C, j, k, S, u: checkpoints, prefixes, joins, keeps, shells and users have no counterpart.
        _ => return,
    };
    out.push(format!("--{long}={}", path(long, value)));
}

/// A path may carry the host that it is on.
fn path<'a>(long: &str, value: &'a str) -> &'a str {
    match value.split_once(':') {
        Some((_, path)) if matches!(long, "output" | "error") => path,
        _ => value,
    }
}

/// PBS counts priority upwards, nice counts downwards.
fn nice(value: &str) -> Option<String> {
    value.parse::<i32>().ok().map(|priority| format!("--nice={}", priority.saturating_neg()))
}

fn mail(value: &str) -> Option<String> {
    let words: Vec<&str> = value
        .chars()
        .filter_map(|letter| match letter {
            'a' => Some("FAIL"),
            'b' => Some("BEGIN"),
            'e' => Some("END"),
            'n' => Some("NONE"),
            _ => None,
        })
        .collect();
    (!words.is_empty()).then(|| format!("--mail-type={}", words.join(",")))
}

fn one_resource(resource: &str, out: &mut Vec<String>) {
    let (name, value) = resource.split_once('=').unwrap_or((resource, ""));
    match name {
        "walltime" | "cput" | "pcput" => out.push(format!("--time={value}")),
        "mem" | "vmem" => out.push(format!("--mem={value}")),
        "pmem" | "pvmem" => out.push(format!("--mem-per-cpu={value}")),
        "ncpus" => out.push(format!("--mincpus={value}")),
        "nice" => out.push(format!("--nice={value}")),
        "procs" | "mppwidth" => out.push(format!("--ntasks={value}")),
        "mppnppn" | "mpiprocs" => out.push(format!("--ntasks-per-node={value}")),
        "mppdepth" => out.push(format!("--cpus-per-task={value}")),
        "file" => out.push(format!("--tmp={value}")),
        "host" => out.push(format!("--nodelist={value}")),
        "naccelerators" => out.push(format!("--gres=gpu:{value}")),
        "proc" => out.push(format!("--constraint={value}")),
        "nodes" => nodes(value, out),
        "select" => nodes(value, out),
        _ => {}
    }
}

/// `2:ppn=4:feature+host`.
fn nodes(value: &str, out: &mut Vec<String>) {
    let mut hosts = Vec::new();
    let mut count = 0_u32;
    for piece in value.split('+') {
        for (at, word) in piece.split(':').enumerate() {
            match word.split_once('=') {
                Some(("ppn" | "mpiprocs", tasks)) => out.push(format!("--ntasks-per-node={tasks}")),
                Some(("ncpus", cpus)) => out.push(format!("--mincpus={cpus}")),
                Some(("gpus" | "ngpus", gpus)) => out.push(format!("--gres=gpu:{gpus}")),
                Some(("mem", size)) => out.push(format!("--mem={size}")),
                Some(_) => {}
                None => match word.parse::<u32>() {
                    Ok(number) => count += number,
                    Err(_) if at == 0 => hosts.push(word),
                    Err(_) => out.push(format!("--constraint={word}")),
                },
            }
        }
    }
    if !hosts.is_empty() {
        count += u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        out.push(format!("--nodelist={}", hosts.join(",")));
    }
    if count > 0 {
        let at = out.iter().position(|word| word.starts_with("--ntasks-per-node")).unwrap_or(out.len());
        out.insert(at, format!("--nodes={count}"));
    }
}

/// `depend=afterok:1`, `umask=022`.
fn one_attribute(attribute: &str, out: &mut Vec<String>) {
    if let Some(("depend", value)) = attribute.split_once('=') {
        out.push(format!("--dependency={value}"));
    }
}
