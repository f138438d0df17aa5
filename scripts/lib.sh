# Shared by the scripts of this folder (sourced, not run): the client's names, the build, messages.

# Every name under which the one client binary is called; `sluice` itself is the binary.
SLURM_NAMES="sbatch srun salloc squeue scancel sinfo scontrol sacct sacctmgr sprio sshare sdiag sstat seff sattach sbcast"
DAEMONS="sluice-scheduler sluice-executor sluice-supervisor sluice-pmix sluice-simulate"

say() { printf '%s\n' "$*"; }
die() { printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

need_cargo() {
  command -v cargo >/dev/null || die "cargo was not found
  Sluice is built with Rust (1.88 or newer): https://rustup.rs or your distribution's packages"
}

# build PROFILE   builds the product; sets BUILT to the folder of its binaries
build() {
  need_cargo
  cargo build --quiet --locked --profile "$1"
  BUILT=${CARGO_TARGET_DIR:-$PWD/target}/$([ "$1" = dev ] && echo debug || echo "$1")
  for name in sluice $DAEMONS; do [ -x "$BUILT/$name" ] || die "the build left no $BUILT/$name"; done
}

# link_names DIR TARGET   makes the Slurm-named links to the client
link_names() {
  local name
  for name in $SLURM_NAMES; do ln -sfn "$2" "$1/$name"; done
}
