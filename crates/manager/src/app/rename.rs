//! Giving sessions another name.

use crate::app::SiteService;
use crate::app::problems::field;
use crate::app::stop::accepted;
use crate::leader::Request;
use domain::SessionName;
use public_api::{Caller, ChangeSession, Problem, SessionView};

impl SiteService {
    pub(crate) async fn rename_session(
        &self,
        caller: &Caller,
        session: &str,
        change: ChangeSession,
    ) -> Result<SessionView, Problem> {
        let name: SessionName = change.name.parse().map_err(|error| field("name", error))?;
        let record = self.resolve(caller, session).await?;
        let request = Request::Rename(record.id, name);
        accepted(self.manager.leader.request(request).await?)?;
        self.show_now(&record).await
    }
}
