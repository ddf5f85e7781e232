//! Writes of an agent: `status.execution` of its work, and its EtcdMember. Server-side apply with its own manager.
//!
//! Each call is one try with a deadline; whether to try again is the caller's business.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use lifeboat_crds::identifier::agent_field_manager;
use lifeboat_crds::{API_VERSION, Execution, NodeName};
use lifeboat_process::api_error::api_words;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longest for one write; the client tries a busy server again within it.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(15);

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in the object.
    Landed,
    /// The object is gone, or another of its name took its place.
    Gone,
    /// The API server says, in these words, that this is not (or no longer) this agent's to write.
    NotOurs(String),
}

/// Why it is not known whether something was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server did not take a status: {0}")]
pub struct ReportError(String);

/// Writes for one node.
#[derive(Clone)]
pub struct Reporter {
    client: Client,
    namespace: String,
    node: NodeName,
    manager: String,
}

impl Reporter {
    /// Writes as the agent of `node`.
    pub fn new(client: Client, namespace: &str, node: &NodeName) -> Self {
        Self { client, namespace: namespace.to_owned(), node: node.clone(), manager: agent_field_manager(node) }
    }

    /// The same, as another manager: what is applied by one is not taken away by what the other applies.
    pub fn as_another(&self, name: &str) -> Self {
        // Names of nodes have no slash, so this is no other node's.
        Self { manager: agent_field_manager(&NodeName(format!("{}/{name}", self.node))), ..self.clone() }
    }

    /// The field manager of this node's agent.
    pub fn manager(&self) -> &str {
        &self.manager
    }

    /// Writes how a piece of work goes. `uid` keeps it out of an object that merely has the same name.
    ///
    /// # Errors
    /// No clear answer.
    pub async fn write_execution<K, R>(
        &self,
        name: &str,
        uid: &str,
        execution: &Execution<R>,
    ) -> Result<Written, ReportError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
        R: Serialize,
    {
        let patch = json!({"apiVersion": API_VERSION, "kind": K::kind(&()), "metadata": {"name": name, "uid": uid},
            "status": {"execution": execution}});
        self.apply_status::<K>(name, &patch).await
    }

    /// Applies a status.
    ///
    /// # Errors
    /// No clear answer.
    pub async fn apply_status<K>(&self, name: &str, patch: &Value) -> Result<Written, ReportError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = self.params();
        bounded(api.patch_status(name, &params, &Patch::Apply(patch))).await
    }

    /// Applies an object itself.
    ///
    /// # Errors
    /// No clear answer.
    pub async fn apply<K>(&self, name: &str, patch: &Value) -> Result<Written, ReportError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = self.params();
        bounded(api.patch(name, &params, &Patch::Apply(patch))).await
    }

    fn params(&self) -> PatchParams {
        PatchParams::apply(&self.manager).force()
    }
}

async fn bounded<K>(call: impl Future<Output = kube::Result<K>>) -> Result<Written, ReportError> {
    match tokio::time::timeout(WRITE_DEADLINE, call).await {
        Ok(Ok(_)) => Ok(Written::Landed),
        Ok(Err(error)) => outcome(&error),
        Err(_elapsed) => Err(ReportError(format!("no answer within {} s", WRITE_DEADLINE.as_secs()))),
    }
}

/// 409 is another UID under the name, or a server that gave up on its own retries: the words tell. 422 is the CRD's rule
/// that an execution must be that of the assignment.
fn outcome(error: &kube::Error) -> Result<Written, ReportError> {
    match error {
        kube::Error::Api(status) if status.code == 404 => Ok(Written::Gone),
        kube::Error::Api(status) if status.code == 409 && status.message.to_ascii_lowercase().contains("uid") => {
            Ok(Written::Gone)
        }
        kube::Error::Api(status) if status.code == 422 => Ok(Written::NotOurs(api_words(error))),
        error => Err(ReportError(api_words(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn answered(code: u16, words: &str) -> Result<Written, ReportError> {
        outcome(&kube::Error::Api(Box::new(Status::failure(words, "Reason").with_code(code))))
    }

    #[test]
    fn answers_that_settle_it_are_no_errors() {
        assert_eq!(answered(404, "not found"), Ok(Written::Gone));
        assert_eq!(
            answered(409, "Precondition failed: UID in precondition: a, UID in object meta: b"),
            Ok(Written::Gone)
        );
        assert!(matches!(answered(422, "words"), Ok(Written::NotOurs(words)) if words.contains("words")));
        assert!(answered(409, "please apply your changes to the latest version").is_err());
        assert!(answered(403, "words").unwrap_err().to_string().contains("words"));
        assert!(answered(500, "words").is_err());
    }
}
