//! What cannot be run is named: to the job's errors, in `scontrol show job` and by `sluice why`; the node goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tests::Cluster;

use crate::{NOBODY, SOON, conf, image, make, named, one_node, run_as, submit_as_nobody, written};

/// The sentence is where users look for it.
fn check(cluster: &Cluster, options: &[&str], sentence: &str) {
    let options = [options, &["-o", "o-%j"]].concat();
    let id = submit_as_nobody(cluster, "#!/bin/sh\necho ran\n", &options);
    let end = cluster.wait_ended(&id, "State", SOON).unwrap();
    let output = written(cluster, &format!("o-{id}"));
    assert_eq!(end, "FAILED", "{options:?}: {output}");
    assert!(output.contains(sentence) && !output.contains("ran\n"), "{options:?}: {output}");
    let shown = cluster.ok("scontrol", &["show", "job", &id]).unwrap();
    assert!(shown.contains("Reason=JobLaunchFailure"), "{shown}");
    let why = cluster.ok("sluice", &["why", &id]).unwrap();
    assert!(why.contains(sentence), "{why}");
}

#[test]
fn bad_images_and_mounts_are_named() {
    let cluster = one_node();
    let place = cluster.folder().join("bad");
    fs::create_dir(&place).unwrap();
    let path = |name: &str| place.join(name).display().to_string();
    fs::write(place.join("text.sif"), "no image at all\n").unwrap();
    let whole = fs::read(image("sif")).unwrap();
    fs::write(place.join("cut.sif"), &whole[..whole.len() / 2]).unwrap();
    fs::write(place.join("text.tar"), "no archive\n").unwrap();
    fs::create_dir(place.join("empty")).unwrap();
    fs::create_dir(place.join("broken-bundle")).unwrap();
    fs::write(place.join("broken-bundle/config.json"), "{").unwrap();
    fs::write(place.join("closed.sif"), &whole).unwrap();
    fs::set_permissions(place.join("closed.sif"), fs::Permissions::from_mode(0o600)).unwrap();
    make("oci-archive", &place.join("closed.tar"));
    fs::set_permissions(place.join("closed.tar"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(place.join("closed")).unwrap();
    fs::set_permissions(place.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    for (image, sentence) in [
        (path("missing.sif"), "missing.sif: No such file or directory"),
        (path("text.sif"), "text.sif: not a container image (neither SIF nor squashfs)"),
        (path("cut.sif"), "cut.sif"),
        (path("empty"), "empty: the folder is no container's root: it has no folder dev"),
        (path("broken-bundle"), "broken-bundle: config.json: EOF while parsing"),
        (path("closed.sif"), "closed.sif: Permission denied"),
        (format!("oci-archive:{}", path("closed.tar")), "closed.tar: Permission denied"),
        (format!("oci-archive:{}", path("text.tar")), "text.tar cannot be converted"),
        (format!("oci-archive:{}", path("missing.tar")), "missing.tar: No such file or directory"),
        ("docker://127.0.0.1:1/nothing".to_owned(), "docker://127.0.0.1:1/nothing cannot be fetched"),
    ] {
        check(&cluster, &["--container", &image], sentence);
    }
    let sandbox = named("sandbox", &image("sandbox"));
    let missing = format!("--container-mounts={}:/x", path("nowhere"));
    check(&cluster, &["--container", &sandbox, &missing], "nowhere:/x: No such file or directory");
    let closed = format!("--container-mounts={}:/x", path("closed"));
    check(&cluster, &["--container", &sandbox, &closed], "closed:/x: Permission denied");
    // A step says it to srun.
    let missing = path("missing.sif");
    let ran = run_as(&cluster, NOBODY, "", &["srun", "--container", &missing, "true"]);
    assert!(ran.code != Some(0) && ran.stderr.contains("missing.sif: No such file"), "{}", ran.stderr);
    // The node did not suffer.
    let ran = run_as(&cluster, NOBODY, "", &["srun", "--container", &sandbox, "echo", "well"]);
    assert_eq!(ran.stdout, "well", "{}", ran.stderr);
    cluster.wait_idle(1).unwrap();
}

#[test]
fn a_node_without_apptainer_says_so() {
    let mut cluster = Cluster::prepare(&conf()).unwrap();
    cluster.start_scheduler(&[]).unwrap();
    let probe = ("SLUICE_CONTAINER_PROBE", "now");
    cluster.start_executor("n1", &[("SLUICE_APPTAINER", "/nonexistent/apptainer"), probe]).unwrap();
    cluster.wait_idle(1).unwrap();
    let sandbox = named("sandbox", &image("sandbox"));
    check(
        &cluster,
        &["--container", &sandbox],
        "this node cannot run containers: Apptainer is not at /nonexistent/apptainer",
    );
    let node = || cluster.ok("sluice", &["node", "n1"]).unwrap_or_default();
    tests::wait_for("the node to say it", SOON, || node().contains("none: Apptainer is not at")).unwrap();
}
