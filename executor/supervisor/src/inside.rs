//! How a task's process gets into its container: the checks that need the submitter's rights, and the command.
//!
//! Runs between fork and exec, as the submitter, in the task's working directory. What is missing or closed is
//! named here, because Apptainer's own exit status (255) cannot be told from a program's. Apptainer is run
//! without a process namespace of its own: the supervisor finds and ends every process already, and a
//! container's first process keeps its exit code, its signals and its place in the step's cgroup.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use executor_supervisor::spec::container::{Bind, Container};

use crate::child::{set, value_of, words};

/// What Apptainer sets inside and reads as its own options outside: a step started from within a container
/// brings them along.
const OF_THE_INSIDE: [&[u8]; 11] = [
    b"APPTAINER_BIND",
    b"APPTAINER_CONTAINER",
    b"APPTAINER_NAME",
    b"APPTAINER_COMMAND",
    b"APPTAINER_ENVIRONMENT",
    b"APPTAINER_APPNAME",
    b"SINGULARITY_BIND",
    b"SINGULARITY_CONTAINER",
    b"SINGULARITY_NAME",
    b"SINGULARITY_ENVIRONMENT",
    b"PROMPT_COMMAND",
];
/// Set inside, so that the above is recognised.
const MARK: &[u8] = b"SLUICE_CONTAINER";
/// Folders that every image has its own of: never covered by the working directory.
const OWN_FOLDERS: [&[u8]; 15] = [
    b"/", b"/bin", b"/boot", b"/dev", b"/etc", b"/lib", b"/lib64", b"/opt", b"/proc", b"/root", b"/run",
    b"/sbin", b"/sys", b"/usr", b"/var",
];

/// The arguments of Apptainer around those of the task; changes its environment to what must differ.
///
/// # Errors
/// A sentence for the submitter.
pub(crate) fn enter(
    container: &Container,
    arguments: &[Vec<u8>],
    environment: &mut Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, String> {
    if !container.refusal.is_empty() {
        return Err(shown(&container.refusal).into_owned());
    }
    check_image(container)?;
    for bind in container.binds.iter().filter(|bind| bind.asked) {
        check_mount(bind)?;
    }
    let folder = std::env::current_dir().map(|dir| dir.as_os_str().as_bytes().to_vec()).unwrap_or_default();
    let home = is_folder(&container.home).then_some(&container.home);
    let mut binds: Vec<Bind> = Vec::new();
    if wants_own_bind(&folder, container, home) {
        binds.push(Bind { source: folder.clone(), target: folder.clone(), read_only: false, asked: false });
    }
    binds.extend(container.binds.iter().cloned());
    let mut command = container.command.clone();
    match home {
        Some(home) => command.extend([b"--home".to_vec(), home.clone()]),
        None => command.push(b"--no-home".to_vec()),
    }
    if !container.scratch.is_empty() {
        make_mount_points(&container.scratch, &binds);
        command.extend([b"--workdir".to_vec(), container.scratch.clone()]);
    }
    for bind in &binds {
        command.extend([b"--mount".to_vec(), mount_text(bind)]);
    }
    let start = if container.work_dir.is_empty() { &folder } else { &container.work_dir };
    command.extend([b"--pwd".to_vec(), start.clone(), container.image.clone()]);
    command.extend(arguments.iter().cloned());
    change_environment(container, environment);
    Ok(command)
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn is_folder(bytes: &[u8]) -> bool {
    !bytes.is_empty() && fs::metadata(path(bytes)).is_ok_and(|facts| facts.is_dir())
}

fn is_below(inner: &[u8], outer: &[u8]) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || outer == b"/")
}

/// The working directory is seen inside unless something that is mounted holds it, or the image has its own.
fn wants_own_bind(folder: &[u8], container: &Container, home: Option<&Vec<u8>>) -> bool {
    let own = OWN_FOLDERS.contains(&folder)
        || [&b"/proc"[..], b"/sys", b"/dev"].iter().any(|kernel| is_below(folder, kernel));
    let scratch = !container.scratch.is_empty() && (folder == b"/tmp" || folder == b"/var/tmp");
    let in_home = home.is_some_and(|home| is_below(folder, home));
    let mounted =
        container.binds.iter().any(|bind| bind.source == bind.target && is_below(folder, &bind.target));
    // Where the container starts elsewhere, the folder is of no use unless it is asked for.
    !(own || scratch || in_home || mounted || folder.is_empty())
}

/// The image is there, may be read, and is one.
fn check_image(container: &Container) -> Result<(), String> {
    if !container.source.is_empty() {
        readable(&container.source).map_err(|error| failed("image", &container.source, &error))?;
    }
    let image = &container.image;
    let folder = readable(image).map_err(|error| failed("image", image, &error))?;
    let what = if folder { check_folder(image) } else { check_file(image) };
    what.map_err(|sentence| format!("container image {}: {sentence}", shown(image)))
}

fn failed(what: &str, name: &[u8], error: &io::Error) -> String {
    format!("container {what} {}: {}", shown(name), words(error))
}

/// Whether it is a folder; an error where it may not be read.
fn readable(name: &[u8]) -> io::Result<bool> {
    let facts = fs::metadata(path(name))?;
    if facts.is_dir() {
        fs::read_dir(path(name))?;
    } else if facts.is_file() {
        File::open(path(name))?;
    }
    Ok(facts.is_dir())
}

/// A folder with what Apptainer mounts over.
fn check_folder(image: &[u8]) -> Result<(), String> {
    for name in ["dev", "proc"] {
        if !is_folder(&[image, b"/", name.as_bytes()].concat()) {
            return Err(format!("the folder is no container's root: it has no folder {name}"));
        }
    }
    Ok(())
}

/// A SIF or squashfs file, by its first bytes.
fn check_file(image: &[u8]) -> Result<(), String> {
    let mut head = [0_u8; 64];
    let file = File::open(path(image)).map_err(|error| words(&error))?;
    if !file.metadata().is_ok_and(|facts| facts.is_file()) {
        return Err("neither a file nor a folder".to_owned());
    }
    let count = (&file).take(64).read(&mut head).map_err(|error| words(&error))?;
    let head = &head[..count];
    if head.starts_with(b"hsqs") {
        return Ok(());
    }
    if head.get(32..41) != Some(b"SIF_MAGIC") {
        return Err("not a container image (neither SIF nor squashfs)".to_owned());
    }
    // A file that was cut short keeps its head: the last byte of the table of contents' objects must be there.
    let mut length = [0_u8; 8];
    let size = file.metadata().map_or(0, |facts| facts.len());
    // Global header: data offset at 104, data size at 112 (sylabs/sif, siftool's "header").
    let number = |bytes: [u8; 8]| u64::from_le_bytes(bytes);
    let mut field = |at: u64| file.read_exact_at(&mut length, at).map(|()| number(length));
    let whole = field(112).and_then(|offset| Ok(offset.saturating_add(field(120)?)));
    match whole {
        Ok(end) if end <= size => Ok(()),
        Ok(end) => Err(format!("the SIF file is cut short: {size} of {end} bytes")),
        Err(error) => Err(format!("the SIF file is cut short: {}", words(&error))),
    }
}

fn check_mount(bind: &Bind) -> Result<(), String> {
    let complain = |error: io::Error| {
        format!("container mount {}:{}: {}", shown(&bind.source), shown(&bind.target), words(&error))
    };
    readable(&bind.source).map(drop).map_err(complain)
}

/// One field of comma-separated values is quoted where it must be.
fn mount_text(bind: &Bind) -> Vec<u8> {
    let field = |name: &str, value: &[u8]| {
        let text = [name.as_bytes(), b"=", value].concat();
        if !text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n')) {
            return text;
        }
        let mut quoted = vec![b'"'];
        for byte in text {
            if byte == b'"' {
                quoted.push(b'"');
            }
            quoted.push(byte);
        }
        quoted.push(b'"');
        quoted
    };
    let mut text = [
        b"type=bind,".to_vec(),
        field("source", &bind.source),
        b",".to_vec(),
        field("destination", &bind.target),
    ]
    .concat();
    if bind.read_only {
        text.extend_from_slice(b",ro");
    }
    text
}

/// What is mounted below the job's own /tmp needs a place there, made with the submitter's rights. What cannot
/// be made shows when Apptainer mounts it.
fn make_mount_points(scratch: &[u8], binds: &[Bind]) {
    for (inside, outside) in [(&b"/tmp"[..], &b"/tmp"[..]), (b"/var/tmp", b"/var_tmp")] {
        let root = [scratch, outside].concat();
        let _ = fs::create_dir(path(&root));
        for bind in binds.iter().filter(|bind| bind.target != inside && is_below(&bind.target, inside)) {
            let place = [&root, &bind.target[inside.len()..]].concat();
            if is_folder(&bind.source) {
                let _ = fs::create_dir_all(path(&place));
            } else if let Some(above) = path(&place).parent() {
                let _ = fs::create_dir_all(above);
                let _ = fs::OpenOptions::new().create(true).append(true).open(path(&place));
            }
        }
    }
}

fn change_environment(container: &Container, environment: &mut Vec<Vec<u8>>) {
    let name = |entry: &[u8]| entry.split(|byte| *byte == b'=').next().unwrap_or_default().to_vec();
    if value_of(environment, MARK).is_some() {
        environment.retain(|entry| !OF_THE_INSIDE.contains(&name(entry).as_slice()));
    }
    for kept in &container.kept {
        if let Some(value) = value_of(environment, kept) {
            let entry = [b"APPTAINERENV_", &kept[..], b"=", value].concat();
            set(environment, entry);
        }
    }
    for entry in &container.environment {
        set(environment, entry.clone());
    }
    // Outside it is Apptainer that looks for its helpers; inside the image's own PATH counts.
    if value_of(environment, b"PATH").is_none() {
        set(environment, b"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &str, target: &str) -> Bind {
        Bind { source: source.into(), target: target.into(), read_only: true, asked: true }
    }

    #[test]
    fn mounts_are_quoted() {
        assert_eq!(mount_text(&bind("/a", "/b")), b"type=bind,source=/a,destination=/b,ro");
        assert_eq!(mount_text(&bind("/a,\"", "/b")), b"type=bind,\"source=/a,\"\"\",destination=/b,ro");
    }

    #[test]
    fn what_is_no_image_is_named() {
        let place = std::env::temp_dir().join(format!("sluice-inside-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let file = place.join("x.sif");
        let says = |image: &Path| {
            let image = image.as_os_str().as_bytes().to_vec();
            check_image(&Container { image, ..Container::default() })
        };
        assert!(says(&file).unwrap_err().ends_with("x.sif: No such file or directory"));
        fs::write(&file, "no image").unwrap();
        assert!(says(&file).unwrap_err().ends_with("(neither SIF nor squashfs)"));
        let mut sif = vec![0_u8; 128];
        sif[32..41].copy_from_slice(b"SIF_MAGIC");
        sif[112..120].copy_from_slice(&100_u64.to_le_bytes());
        sif[120..128].copy_from_slice(&1000_u64.to_le_bytes());
        fs::write(&file, &sif).unwrap();
        assert!(says(&file).unwrap_err().ends_with("cut short: 128 of 1100 bytes"));
        assert!(says(&place).unwrap_err().ends_with("it has no folder dev"));
        let missing = bind("/no/such/place", "/x");
        let sentence = "container mount /no/such/place:/x: No such file or directory";
        assert_eq!(check_mount(&missing), Err(sentence.to_owned()));
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn the_working_directory_is_mounted_where_nothing_holds_it() {
        let home = b"/home/a".to_vec();
        let container = Container {
            scratch: b"/scratch/7".to_vec(),
            binds: vec![bind("/data", "/data")],
            ..Container::default()
        };
        for (folder, wanted) in [
            ("/home/a/x", false),
            ("/home/ab", true),
            ("/data/x", false),
            ("/tmp", false),
            ("/tmp/x", true),
            ("/etc", false),
            ("/opt/app", true),
            ("/sys/fs", false),
        ] {
            assert_eq!(wants_own_bind(folder.as_bytes(), &container, Some(&home)), wanted, "{folder}");
        }
    }

    #[test]
    fn what_a_container_brings_along_is_left_out() {
        let container = Container { kept: vec![b"PATH".to_vec()], ..Container::default() };
        let mut environment: Vec<Vec<u8>> =
            [&b"SLUICE_CONTAINER=1"[..], b"APPTAINER_BIND=/x", b"PATH=/p", b"A=1"].map(<[u8]>::to_vec).into();
        change_environment(&container, &mut environment);
        let expected = [&b"SLUICE_CONTAINER=1"[..], b"PATH=/p", b"A=1", b"APPTAINERENV_PATH=/p"];
        assert_eq!(environment, expected.map(<[u8]>::to_vec));
    }
}
