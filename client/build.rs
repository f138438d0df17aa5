//! Links the client with a run path of `/.sluice/lib`: where an executor shows it in a container, with its loader
//! and libraries beside it (executor/src/container/toolbox.rs). On a node there is no such folder, and the
//! system's libraries are found as always. The old kind of tag, because images set LD_LIBRARY_PATH.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-link-arg-bins=-Wl,-rpath,/.sluice/lib,--disable-new-dtags");
    }
}
