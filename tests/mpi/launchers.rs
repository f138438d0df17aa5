//! The libraries' own launchers in a job: each starts its daemons by our `srun`, as the job's environment tells it to.

use crate::{OPEN_MPI, batch, build, reduced, sorted, two_nodes};

/// The lines of the reduction, whatever else a launcher says.
fn ranks(text: &str) -> Vec<String> {
    sorted(text).into_iter().filter(|line| line.starts_with("rank ")).collect()
}

#[test]
fn hydra_starts_its_proxies_by_srun() {
    let cluster = two_nodes("");
    let program = build(&cluster, "mpicc.mpich", "reduce", &[]);
    let script = format!(
        "#!/bin/sh\nmpiexec.hydra -launcher slurm -n 4 -ppn 2 {0}\n\
         # What the job's environment names, and the whole allocation.\nmpiexec.hydra {0}\n",
        program.display()
    );
    let text = batch(&cluster, &script, &["-N2", "--ntasks-per-node=2"]);
    let twice: Vec<String> = reduced(4).into_iter().flat_map(|line| [line.clone(), line]).collect();
    assert_eq!(ranks(&text), twice, "{text}");
}

#[test]
fn open_mpi_starts_its_daemons_by_srun() {
    let cluster = two_nodes("");
    let program = build(&cluster, "mpicc.openmpi", "reduce", &[]);
    let variables: Vec<String> = OPEN_MPI.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let variables = variables.join(" ");
    let script = format!(
        "#!/bin/sh\nexport {variables}\n\
         # A step of its own holds the processors meanwhile: the daemons' step is beside it.\n\
         srun -n4 sleep 600 &\nmpirun.openmpi -n 4 {}\nstatus=$?\nscancel -s KILL $SLURM_JOB_ID.0\nwait\nexit $status\n",
        program.display()
    );
    let text = batch(&cluster, &script, &["-N2", "--ntasks-per-node=2"]);
    assert_eq!(ranks(&text), reduced(4), "{text}");
}
