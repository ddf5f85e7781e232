//! Writes the CRDs of the chart: `crdgen DIR` (`make gen`). Files that are already current are left untouched.

use std::path::Path;
use std::process::ExitCode;

use lifeboat_crds::generate::yaml_files;

fn main() -> ExitCode {
    let Some(dir) = std::env::args().nth(1) else {
        return report("usage: crdgen DIR");
    };
    let files = match yaml_files() {
        Ok(files) => files,
        Err(error) => return report(&error.to_string()),
    };
    for (name, content) in files {
        let path = Path::new(&dir).join(name);
        if std::fs::read_to_string(&path).is_ok_and(|current| current == content) {
            continue;
        }
        if let Err(error) = std::fs::write(&path, content) {
            return report(&format!("{}: {error}", path.display()));
        }
    }
    ExitCode::SUCCESS
}

fn report(message: &str) -> ExitCode {
    use std::io::Write;
    // Nothing is left to do when even stderr is gone.
    let _ = writeln!(std::io::stderr(), "crdgen: {message}");
    ExitCode::FAILURE
}
