//! What the cases found of one engine, as it is checked in for the generated table.

use super::{CASES, Harness, Verdict, Violation, run_case};
use domain::Capability;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one engine has and does, on one kind of node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The engine and the kind of node, as the table's head names them: `sandbox (root, cgroup
    /// v1)`.
    pub title: String,
    /// Every row of the capability table.
    pub capabilities: BTreeMap<String, Capability>,
    /// Every case that broke no promise.
    pub cases: BTreeMap<String, CaseResult>,
}

/// How a case ended that broke no promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseResult {
    /// The engine did what it must.
    Passed,
    /// The engine does not have the row.
    NotSupported,
}

impl Report {
    /// Runs every case, one after the other. Beside the report: the cases that broke a promise.
    pub async fn make(
        title: &str,
        harness: &dyn Harness,
    ) -> (Self, Vec<(&'static str, Violation)>) {
        let mut report = Self {
            title: title.to_owned(),
            capabilities: BTreeMap::new(),
            cases: BTreeMap::new(),
        };
        let mut violations = Vec::new();
        match harness.engine().fingerprint().await {
            Ok(fingerprint) => report.capabilities = fingerprint.capabilities,
            Err(error) => violations.push(("fingerprint", error.into())),
        }
        for case in CASES {
            let result = match run_case(case.name, harness).await {
                Ok(Verdict::Passed) => CaseResult::Passed,
                Ok(Verdict::NotSupported { .. }) => CaseResult::NotSupported,
                Err(violation) => {
                    violations.push((case.name, violation));
                    continue;
                }
            };
            report.cases.insert(case.name.to_owned(), result);
        }
        (report, violations)
    }
}
