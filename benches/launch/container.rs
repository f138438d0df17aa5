//! Trivial jobs in a container, beside the limit: plain `apptainer exec` of the same image in a loop, two drivers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::{Arguments, Report, Workplace};
use client::{Client, Submission};
use proto::v1::job_request::Memory;
use proto::v1::{JobFilter, RareRequest};

use crate::end_to_end::trivial;

const DRIVERS: usize = 2;
/// The node has four MiB for each: room for four jobs side by side.
const CPUS: u32 = 64;
/// Apptainer itself needs 16.
const JOB_MIB: u64 = 64;
const PATIENCE: Duration = Duration::from_secs(300);

/// Reports both rates; a row that says so where Apptainer is not here.
pub(crate) fn measure(arguments: &Arguments, report: &mut Report, jobs: u32, span: Duration) -> Result<()> {
    if Command::new("apptainer").arg("--version").output().is_err() {
        println!("container jobs: not measured, no apptainer here (scripts/install-apptainer)");
        return Ok(());
    }
    let place = Workplace::new(1, CPUS, "")?;
    let image = place.folder().join("image");
    make_image(&image)?;
    let options = root_options(&image)?;
    let before = bare(&image, &options, span / 2)?;
    let rate = jobs_per_second(&place, arguments, &image, jobs)?;
    let limit = (before + bare(&image, &options, span / 2)?) / 2.0;
    report.row("container jobs, end to end", rate, "jobs/s");
    report.row("limit: apptainer exec in a loop, two drivers", limit, "jobs/s");
    report.row("container jobs against apptainer exec", 100.0 * rate / limit, "%");
    Ok(())
}

fn make_image(path: &Path) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?;
    let made = Command::new(root.join("scripts/make-image")).arg("sandbox").arg(path).output();
    let made = made.context("make an image")?;
    if !made.status.success() {
        bail!("scripts/make-image: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(())
}

/// As the executor's probe: root without all capabilities needs one.
fn root_options(image: &Path) -> Result<Vec<&'static str>> {
    for options in [vec![], vec!["--no-privs"]] {
        if exec(image, &options).status().context("run apptainer")?.success() {
            return Ok(options);
        }
    }
    bail!("apptainer does not run {}", image.display())
}

fn exec(image: &Path, options: &[&str]) -> Command {
    let mut command = Command::new("apptainer");
    command.args(["-s", "exec"]).args(options).args(["--contain", "--no-home"]).arg(image);
    command.args(["/bin/sh", "-c", ":"]).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn bare(image: &Path, options: &[&'static str], span: Duration) -> Result<f64> {
    let begin = Instant::now();
    let drivers: Vec<_> = (0..DRIVERS)
        .map(|_| {
            let (image, options): (PathBuf, Vec<&'static str>) = (image.to_owned(), options.to_vec());
            thread::spawn(move || {
                let mut runs = 0_u32;
                while runs == 0 || begin.elapsed() < span {
                    if !exec(&image, &options).status().context("run apptainer")?.success() {
                        bail!("apptainer exec failed");
                    }
                    runs += 1;
                }
                Ok(runs)
            })
        })
        .collect();
    let mut runs = 0;
    for driver in drivers {
        runs += driver.join().map_err(|_| anyhow::anyhow!("a driver panicked"))??;
    }
    Ok(f64::from(runs) / begin.elapsed().as_secs_f64())
}

fn jobs_per_second(place: &Workplace, arguments: &Arguments, image: &Path, jobs: u32) -> Result<f64> {
    let mut scheduler = place.scheduler()?;
    place.wait_socket(&mut scheduler)?;
    let _executor = place.executor("n1")?;
    let boxed = |number: u32| -> Submission {
        let mut submission = trivial(arguments.seed, number);
        let container = Some(image.display().to_string());
        submission.request.memory = Some(Memory::MemoryMibPerNode(JOB_MIB));
        submission.request.rare = Some(RareRequest { container, ..RareRequest::default() });
        submission
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start tokio")?;
    runtime.block_on(async {
        let client = Client::connect_to(vec![place.socket()]).await.context("connect")?;
        // The first one also probes the node.
        let id = client.submit(&boxed(u32::MAX - 1)).await.context("submit a first job")?;
        let first =
            tokio::time::timeout(PATIENCE, client.wait(id)).await.context("the first job did not end")?;
        let first = first.context("wait")?;
        if first.state != "COMPLETED" {
            bail!(
                "the first job in a container ended as {} ({} {})",
                first.state,
                first.reason,
                first.reason_detail
            );
        }
        let begin = Instant::now();
        for number in 0..jobs {
            client.submit(&boxed(number)).await.context("submit")?;
        }
        let states = ["PENDING", "RUNNING", "COMPLETING", "CONFIGURING"].map(str::to_owned).to_vec();
        loop {
            let filter = JobFilter { states: states.clone(), ..Default::default() };
            if client.jobs(filter, false).await.context("list jobs")?.is_empty() {
                break;
            }
            if begin.elapsed() > PATIENCE {
                bail!("jobs are left after {} s", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(f64::from(jobs) / begin.elapsed().as_secs_f64())
    })
}
