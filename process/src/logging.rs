//! Logs: one subscriber for the process. Errors are fields, never text glued into the message.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Form of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What is logged, and how: flags of every program.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArguments {
    /// Form of the logs. Without it: text on a terminal, JSON elsewhere.
    #[arg(long, env = "LIFEBOAT_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// What is logged, such as `info` or `lifeboat=debug`.
    #[arg(long, env = "LIFEBOAT_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// Sets up logging for the whole process, on standard error.
///
/// # Errors
/// A level that is not understood.
pub fn start_logging(arguments: &LogArguments) -> Result<(), ParseError> {
    let LogArguments { log_format, log_level } = arguments;
    let filter = EnvFilter::builder().parse(log_level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let is_terminal = std::io::stderr().is_terminal();
    let by_output = if is_terminal { LogFormat::Text } else { LogFormat::Json };
    match log_format.unwrap_or(by_output) {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init(),
        LogFormat::Text => builder.with_ansi(is_terminal).init(),
    }
    Ok(())
}
