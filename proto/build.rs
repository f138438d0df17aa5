//! Compiles `schema/` to Rust with protox: no protoc has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let schemas =
        ["schema/types.proto", "schema/controller.proto", "schema/agent.proto", "schema/journal.proto"];
    let descriptors = protox::compile(schemas, ["schema"])?;
    tonic_prost_build::configure().bytes(".sluice.v1").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=schema");
    Ok(())
}
