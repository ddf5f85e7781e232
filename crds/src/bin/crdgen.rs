//! Writes the generated files: `crdgen CRD-DIR REFERENCE-DIR` (`make gen`). Files already current are left untouched.

use std::path::Path;
use std::process::ExitCode;

use lifeboat_crds::generate::{GenerateError, yaml_files};
use lifeboat_crds::handbook::pages;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [definitions, reference] = arguments.as_slice() else {
        return report("usage: crdgen CRD-DIR REFERENCE-DIR");
    };
    let written = write_all(definitions, yaml_files()).and_then(|()| write_all(reference, pages()));
    written.map_or_else(|error| report(&error), |()| ExitCode::SUCCESS)
}

fn write_all(dir: &str, files: Result<Vec<(String, String)>, GenerateError>) -> Result<(), String> {
    for (name, content) in files.map_err(|error| error.to_string())? {
        let path = Path::new(dir).join(name);
        if std::fs::read_to_string(&path).is_ok_and(|current| current == content) {
            continue;
        }
        std::fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn report(message: &str) -> ExitCode {
    use std::io::Write;
    // Nothing is left to do when even stderr is gone.
    let _ = writeln!(std::io::stderr(), "crdgen: {message}");
    ExitCode::FAILURE
}
