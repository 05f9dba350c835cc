//! How a command fails: what, why (as a chain of causes), what to do, and with which exit code.

use crate::exit_codes;
use client::ClientError;
use public_api::{Problem, ProblemCode};
use std::fmt::Display;

/// A command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What failed, with its causes.
    pub(crate) error: anyhow::Error,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// What the process exits with.
    pub(crate) exit_code: u8,
    /// What the site answered, if it was the site that refused.
    pub(crate) problem: Option<Box<Problem>>,
}

impl Failure {
    /// A failure that says `message`.
    pub(crate) fn new(message: impl Display + Send + Sync + std::fmt::Debug + 'static) -> Self {
        anyhow::Error::msg(message).into()
    }

    /// The same failure with what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure as the cause of `message`.
    #[must_use]
    pub(crate) fn context(mut self, message: impl Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(message);
        self
    }

    /// The code of the site's answer, if it was the site that refused.
    pub(crate) fn code(&self) -> Option<ProblemCode> {
        self.problem.as_ref().map(|problem| problem.code)
    }

    /// The causes, from the nearest to the first.
    pub(crate) fn causes(&self) -> Vec<String> {
        self.error
            .chain()
            .skip(1)
            .map(ToString::to_string)
            .collect()
    }

    /// The failure as JSON: the site's problem as it came, or one in the same form.
    pub(crate) fn json(&self) -> serde_json::Value {
        if let Some(problem) = &self.problem {
            return serde_json::to_value(problem).expect("a problem has string keys");
        }
        serde_json::json!({
            "type": "urn:insula:problem:command-line",
            "title": "The command failed",
            "detail": self.error.to_string(),
            "causes": self.causes(),
            "hint": self.hint,
        })
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            error,
            hint: None,
            exit_code: exit_codes::FAILURE,
            problem: None,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            error: anyhow::Error::msg(problem.detail.clone()),
            hint: Some(problem.hint.clone()).filter(|hint| !hint.is_empty()),
            exit_code: exit_codes::FAILURE,
            problem: Some(Box::new(problem)),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Problem(problem) => problem.into(),
            other => Self::from(anyhow::Error::from(other))
                .hint("`insula doctor` tells whether the daemon runs"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;
    use public_api::{Problem, ProblemCode};

    #[test]
    fn a_problem_keeps_its_code_and_hint() {
        let problem = Problem::new(ProblemCode::NameTaken, "`mine` is taken").hint("use `mine-2`");
        let failure = Failure::from(problem);
        assert_eq!(failure.code(), Some(ProblemCode::NameTaken));
        assert_eq!(failure.hint.as_deref(), Some("use `mine-2`"));
        insta::assert_json_snapshot!(failure.json(), @r#"
        {
          "code": "name-taken",
          "detail": "`mine` is taken",
          "hint": "use `mine-2`",
          "status": 409,
          "title": "The name is taken",
          "type": "urn:insula:problem:name-taken"
        }
        "#);
    }

    #[test]
    fn causes_are_told_from_the_nearest_to_the_first() {
        let failure = Failure::new("the disk is gone")
            .context("cannot read x")
            .hint("look for it");
        assert_eq!(failure.causes(), ["the disk is gone"]);
        insta::assert_json_snapshot!(failure.json(), @r#"
        {
          "causes": [
            "the disk is gone"
          ],
          "detail": "cannot read x",
          "hint": "look for it",
          "title": "The command failed",
          "type": "urn:insula:problem:command-line"
        }
        "#);
    }
}
