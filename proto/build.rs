//! Compiles `schema/` to Rust with protox: no protoc has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let schemas =
        ["schema/types.proto", "schema/controller.proto", "schema/agent.proto", "schema/journal.proto"];
    let descriptors = protox::compile(schemas, ["schema"])?;
    // A journal's jobs are decoded by the hundred thousand when a scheduler starts: they are not moved about whole.
    tonic_prost_build::configure()
        .bytes(".sluice.v1")
        .boxed(".sluice.journal.v1.Entry.kind.job")
        .boxed(".sluice.journal.v1.Job.request")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=schema");
    Ok(())
}
