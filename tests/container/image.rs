//! Every kind of image, for root and for an ordinary user; the cache.

use std::fs;

use crate::{NOBODY, SOON, image, make, named, one_node, run_as, submit_as_nobody, written};

#[test]
fn every_kind_of_image_runs() {
    let cluster = one_node();
    for kind in ["sandbox", "sif", "oci", "oci-archive", "docker-archive", "bundle"] {
        let name = named(kind, &image(kind));
        for uid in [0, NOBODY] {
            let words =
                ["srun", "--container", &name, "sh", "-c", "cat /image-kind; echo $FROM_IMAGE $(id -u)"];
            let ran = run_as(&cluster, uid, "", &words);
            // A SIF is made of a sandbox, which has no environment of its own.
            let (kind, own) = match kind {
                "sif" | "sandbox" => ("sandbox", ""),
                _ => (kind, "yes "),
            };
            assert_eq!(ran.stdout, format!("{kind}\n{own}{uid}"), "{name} as {uid}: {}", ran.stderr);
            assert_eq!(ran.code, Some(0));
        }
    }
    let bundle = named("bundle", &image("bundle"));
    let ran = run_as(&cluster, NOBODY, "", &["srun", "--container", &bundle, "cat", "/from-bundle/file"]);
    assert_eq!(ran.stdout, "data", "a bundle's own mounts: {}", ran.stderr);
}

#[test]
fn pyxis_spellings_do_what_they_say() {
    let cluster = one_node();
    let archive = format!("--container-image={}", named("docker-archive", &image("docker-archive")));
    fs::write(cluster.jobs().join("file"), "seen\n").unwrap();
    let mounts = format!("--container-mounts={0}:/mnt/in:ro,{0}:/other", cluster.jobs().display());
    let script = "pwd; cat file; touch /mnt/in/x 2>/dev/null || echo closed; touch /other/y && echo open";
    let words = ["srun", &archive, &mounts, "--container-workdir=/mnt/in", "sh", "-c", script];
    let ran = run_as(&cluster, NOBODY, "", &words);
    assert_eq!(ran.stdout, "/mnt/in\nseen\nclosed\nopen", "{}", ran.stderr);
    let ran = run_as(&cluster, NOBODY, "", &["srun", &archive, "--container-entrypoint", "words"]);
    assert_eq!(ran.stdout, "entry words", "{}", ran.stderr);
    let write = ["sh", "-c", "echo 1 > /new 2>/dev/null && echo written; id -u"];
    let ran = run_as(&cluster, NOBODY, "", &[&["srun", &archive], &write[..]].concat());
    assert_eq!(ran.stdout, "65534", "{}", ran.stderr);
    let ran =
        run_as(&cluster, NOBODY, "", &[&["srun", &archive, "--container-writable"], &write[..]].concat());
    assert_eq!(ran.stdout, "written\n65534", "{}", ran.stderr);
    let root = ["srun", &archive, "--container-remap-root", "id", "-u"];
    let ran = run_as(&cluster, NOBODY, "", &root);
    assert_eq!(ran.stdout, "0", "{}", ran.stderr);
    for (option, words) in [
        ("--container-name=x", "--container-name"),
        ("--container-save=/x", "--container-save"),
        ("--container-mounts=/a:b", "\"/a:b\" is no mount"),
        ("--container-image=me@host#x", "a registry user in"),
    ] {
        let ran = run_as(&cluster, NOBODY, "", &["srun", &archive, option, "true"]);
        assert!(ran.code != Some(0) && ran.stderr.contains(words), "{option}: {}", ran.stderr);
    }
    let ran = run_as(&cluster, NOBODY, "", &["srun", "--container-mounts=/a:/b", "true"]);
    assert!(ran.stderr.contains("no --container or --container-image"), "{}", ran.stderr);
}

#[test]
fn an_image_is_converted_once_for_jobs_that_come_together() {
    let cluster = one_node();
    let archive = cluster.folder().join("own.tar");
    make("oci-archive", &archive);
    let name = named("oci-archive", &archive);
    let script = "#!/bin/sh\ncat /image-kind\n";
    let jobs: Vec<String> = (0..4)
        .map(|_| submit_as_nobody(&cluster, script, &["--container", &name, "-o", "kind-%j"]))
        .collect();
    for job in &jobs {
        let end = cluster.wait_ended(job, "State,ExitCode", SOON).unwrap();
        assert_eq!(end, "COMPLETED|0:0", "{}", written(&cluster, &format!("kind-{job}")));
        assert_eq!(written(&cluster, &format!("kind-{job}")), "oci-archive\n");
    }
    let converted = || {
        let log = fs::read_to_string(cluster.folder().join("executor-n1.log")).unwrap();
        log.matches("an image was converted").count()
    };
    assert_eq!(converted(), 1);
    // Another content under the same name is another image.
    let other = cluster.folder().join("other.tar");
    make("docker-archive", &other);
    let text = fs::read(&archive).unwrap();
    fs::write(&archive, [text, vec![0; 10_240]].concat()).unwrap();
    let ran = run_as(&cluster, NOBODY, "", &["srun", "--container", &name, "cat", "/image-kind"]);
    assert_eq!((ran.stdout.as_str(), converted()), ("oci-archive", 2), "{}", ran.stderr);
    let ran = run_as(&cluster, 0, "", &["srun", "--container", &name, "cat", "/image-kind"]);
    assert_eq!((ran.stdout.as_str(), converted()), ("oci-archive", 3), "what one user made serves no other");
}
