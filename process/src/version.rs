//! Version and commit of the programs.

/// As `--version` prints them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("LIFEBOAT_GIT_COMMIT"), ")");
