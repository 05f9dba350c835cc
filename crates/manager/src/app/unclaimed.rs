//! Members that no session claims, for operators.

use crate::app::SiteService;
use crate::app::problems::field;
use crate::app::stop::{accepted, checked_order, plain_order};
use crate::leader::Request;
use domain::{MemberId, StopOrder};
use lifecycle::manager::UnclaimedOrder;
use node_api::ReportedMember;
use public_api::{Caller, Problem, ProblemCode, StopSession, UnclaimedView};

impl SiteService {
    pub(crate) fn list_unclaimed(&self, caller: &Caller) -> Result<Vec<UnclaimedView>, Problem> {
        only_operators(caller)?;
        Ok(self.manager.shared.read(|view| {
            let nodes = view.unclaimed.iter();
            let all = nodes.flat_map(|(node, members)| {
                let name = view.nodes.get(node).map(|node| node.name.clone());
                let name = name.unwrap_or_else(|| node.to_string());
                members.iter().map(move |member| show(member, &name))
            });
            all.collect()
        }))
    }

    pub(crate) async fn stop_unclaimed_member(
        &self,
        caller: &Caller,
        member: &str,
        order: StopSession,
    ) -> Result<(), Problem> {
        only_operators(caller)?;
        let order = checked_order(caller, &order)?;
        self.end_unclaimed(member, false, order).await
    }

    pub(crate) async fn remove_unclaimed_member(
        &self,
        caller: &Caller,
        member: &str,
    ) -> Result<(), Problem> {
        only_operators(caller)?;
        self.end_unclaimed(member, true, plain_order(&caller.user))
            .await
    }

    async fn end_unclaimed(
        &self,
        member: &str,
        remove: bool,
        order: StopOrder,
    ) -> Result<(), Problem> {
        let member: MemberId = member.parse().map_err(|error| field("member", error))?;
        let asked = Box::new(UnclaimedOrder {
            member,
            remove,
            order,
        });
        let request = Request::EndUnclaimed(asked);
        accepted(self.manager.leader.request(request).await?)
    }
}

fn only_operators(caller: &Caller) -> Result<(), Problem> {
    if caller.operator {
        return Ok(());
    }
    let detail = "only operators see members that no session claims";
    Err(Problem::new(ProblemCode::Forbidden, detail))
}

fn show(member: &ReportedMember, node: &str) -> UnclaimedView {
    let spec = member.spec.as_ref();
    UnclaimedView {
        id: member.id.to_string(),
        node: node.to_owned(),
        state: member.state.word().to_owned(),
        name: spec.map(|spec| spec.name.to_string()),
        user: spec.map(|spec| spec.owner.user.clone()),
        command: spec.map_or_else(Vec::new, |spec| spec.session.command.clone()),
    }
}
