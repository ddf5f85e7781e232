//! How the program is linked. A static one moves itself to a random address as it starts, by a table of every pointer in it:
//! 1.4 MiB that would stay in memory for its life. Packed, the table is a hundredth of that. Needs binutils 2.38 and
//! glibc 2.36, which Debian 12 has; other builds are linked as always.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is =
        |variable: &str, word: &str| std::env::var(variable).is_ok_and(|value| value.split(',').any(|v| v == word));
    if is("CARGO_CFG_TARGET_ENV", "gnu") && is("CARGO_CFG_TARGET_FEATURE", "crt-static") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
