//! The five CRDs as they are applied, and their YAML.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::CustomResourceExt;

use crate::schema::mend_schema;
use crate::{EtcdBackup, EtcdBackupLocation, EtcdBackupSchedule, EtcdMember, EtcdRestore};

/// A schema that did not survive being mended; a defect of this crate.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The schema is not what `JSONSchemaProps` can hold.
    #[error("schema of {kind}: {source}")]
    Schema {
        /// Kind concerned.
        kind: String,
        /// What serde says.
        source: serde_json::Error,
    },
    /// The definition cannot be written as YAML.
    #[error("yaml of {kind}: {source}")]
    Yaml {
        /// Kind concerned.
        kind: String,
        /// What serde says.
        source: serde_norway::Error,
    },
}

/// Every CRD, by plural name.
pub fn definitions() -> Result<Vec<CustomResourceDefinition>, GenerateError> {
    [EtcdBackup::crd(), EtcdBackupLocation::crd(), EtcdBackupSchedule::crd(), EtcdMember::crd(), EtcdRestore::crd()]
        .into_iter()
        .map(mend)
        .collect()
}

fn mend(mut crd: CustomResourceDefinition) -> Result<CustomResourceDefinition, GenerateError> {
    let kind = crd.spec.names.kind.clone();
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|validation| validation.open_api_v3_schema.as_mut()) else {
            continue;
        };
        let failed = |source| GenerateError::Schema { kind: kind.clone(), source };
        let mut value = serde_json::to_value(&*schema).map_err(failed)?;
        mend_schema(&mut value);
        *schema = serde_json::from_value::<JSONSchemaProps>(value).map_err(failed)?;
    }
    // Deleting the release must not delete the records of backups (api.md: kept on uninstall).
    crd.metadata.annotations.get_or_insert_default().insert("helm.sh/resource-policy".into(), "keep".into());
    Ok(crd)
}

/// The YAML of every CRD: file name and content.
pub fn yaml_files() -> Result<Vec<(String, String)>, GenerateError> {
    definitions()?
        .into_iter()
        .map(|crd| {
            let name = format!("{}.yaml", crd.spec.names.plural);
            let yaml = serde_norway::to_string(&crd)
                .map_err(|source| GenerateError::Yaml { kind: crd.spec.names.kind.clone(), source })?;
            Ok((name, format!("# Generated from crds/src by `make gen`. Do not edit.\n{yaml}")))
        })
        .collect()
}
