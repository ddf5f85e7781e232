//! Configuration: the command line and its environment, turned once into a validated [`Config`].
//!
//! No I/O. Nothing else in the operator reads the environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use lifeboat_process::logging::LogArguments;
use lifeboat_process::version::VERSION;

/// The operator of Lifeboat: makes backups due, assigns them to masters and says what became of them.
#[derive(Clone, Debug, Parser)]
#[command(name = "lifeboat-operator", version = VERSION, about)]
pub struct Arguments {
    /// Namespace whose objects are served; the operator touches no other. Without it, that of the kubeconfig or the pod.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: Option<String>,
    /// Name of this replica, in its lease and its events.
    #[arg(long, env = "POD_NAME", default_value = "lifeboat-operator")]
    pod_name: String,
    /// Kubeconfig to use instead of the pod's service account.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "LIFEBOAT_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Logs.
    #[command(flatten)]
    pub log: LogArguments,
}

/// The configuration of one process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace served; `None` means the client's own.
    pub namespace: Option<String>,
    /// Name of this replica.
    pub pod_name: String,
    /// Kubeconfig, if not in a pod.
    pub kubeconfig: Option<PathBuf>,
    /// Address of the health server.
    pub listen: SocketAddr,
}

impl From<Arguments> for Config {
    fn from(arguments: Arguments) -> Self {
        let Arguments { namespace, pod_name, kubeconfig, listen, log: _ } = arguments;
        Self {
            // A variable that is set but empty means "not set" in every chart.
            namespace: namespace.filter(|name| !name.is_empty()),
            pod_name,
            kubeconfig: kubeconfig.filter(|path| !path.as_os_str().is_empty()),
            listen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_flag_can_be_set_by_environment() {
        for argument in Arguments::command().get_arguments() {
            assert!(argument.get_env().is_some(), "--{} has no variable", argument.get_id());
        }
    }

    #[test]
    fn the_version_names_the_commit() {
        let shown = Arguments::command().render_version();
        assert!(shown.contains(VERSION) && VERSION.ends_with(')'), "{shown}");
    }

    #[test]
    fn an_empty_namespace_means_none() {
        let arguments = Arguments::try_parse_from(["lifeboat-operator", "--namespace", ""]);
        let config = Config::from(arguments.unwrap());
        assert_eq!(config.namespace, None);
    }
}
