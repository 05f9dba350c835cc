//! Files of a session, from the node that has them.

use crate::app::SiteService;
use crate::app::problems::{kept_for, of_node};
use domain::MemberState;
use futures::StreamExt;
use node_api::{DownloadRequest, NodeError};
use public_api::{ByteStream, Caller, FilesQuery, Problem, ProblemCode};

impl SiteService {
    pub(crate) async fn read_files(
        &self,
        caller: &Caller,
        session: &str,
        query: FilesQuery,
    ) -> Result<ByteStream, Problem> {
        let record = self.resolve(caller, session).await?;
        let leads_out = query.path.split('/').any(|part| part == "..");
        if leads_out || query.path.contains('\0') {
            let detail = format!("`{}` holds `..` or NUL", query.path.escape_debug());
            return Err(Problem::new(ProblemCode::PathRefused, detail));
        }
        // Between two attempts the files are those of the one before.
        let attempt = query.attempt.unwrap_or(record.attempt);
        let Some(main) = record.main_of(attempt) else {
            if let Some(attempt) = query.attempt {
                let detail = format!("session {} has no attempt {attempt}", record.shown_name());
                let hint = format!("`insula show {}` lists its attempts", record.shown_name());
                return Err(Problem::new(ProblemCode::NoSuchFile, detail).hint(hint));
            }
            let detail = format!(
                "session {} is {} and has no files",
                record.shown_name(),
                record.state.word()
            );
            let hint = format!("`insula why {}` tells why", record.shown_name());
            return Err(Problem::new(ProblemCode::WrongState, detail).hint(hint));
        };
        if main.state == MemberState::Gone {
            let detail = format!(
                "the files of session {} are no longer kept",
                record.shown_name()
            );
            return Err(Problem::new(ProblemCode::NoSuchFile, detail).hint(kept_for("files are")));
        }
        let api = self.node_api(main.node)?;
        let request = DownloadRequest {
            member: main.id,
            path: query.path,
            changed_only: query.changed,
        };
        let bytes = api.download(request).await.map_err(|error| {
            let problem = of_node(&error);
            if !matches!(error, NodeError::NotFound { .. }) {
                return problem;
            }
            let name = record.shown_name();
            problem.hint(format!("`insula download {name}` brings all that is there"))
        })?;
        Ok(bytes
            .map(|part| part.map_err(|error| of_node(&error)))
            .boxed())
    }
}
