//! What commands print: words for people, JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people; YAML where there is more than a few lines to say.
    #[default]
    #[value(alias = "yaml")]
    Text,
    /// JSON.
    Json,
}

/// Prints a report: the words for people, or the value for programs.
///
/// # Errors
/// The output is gone.
pub fn print(out: &mut (dyn Write + Send), format: Format, words: &str, value: &impl Serialize) -> io::Result<()> {
    match format {
        Format::Text => out.write_all(words.as_bytes()),
        Format::Json => {
            let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
            writeln!(out, "{text}")
        }
    }
}
