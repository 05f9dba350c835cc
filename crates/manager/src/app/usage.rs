//! What a session uses now.

use crate::app::SiteService;
use crate::app::problems::of_node;
use domain::{MemberRecord, MemberState, SessionRecord};
use node_api::MemberUsage;
use public_api::{Caller, Problem, ProblemCode, UsageView};

impl SiteService {
    pub(crate) async fn usage_of(
        &self,
        caller: &Caller,
        session: &str,
    ) -> Result<UsageView, Problem> {
        let record = self.resolve(caller, session).await?;
        self.usage_of_record(&record).await
    }

    pub(crate) async fn usage_of_record(
        &self,
        record: &SessionRecord,
    ) -> Result<UsageView, Problem> {
        let running = record.members.iter().filter(|member| runs(member));
        let mut sum = None;
        for member in running {
            let api = self.node(member.node)?;
            let usage = api
                .usage(member.id)
                .await
                .map_err(|error| of_node(&error))?;
            add(sum.get_or_insert_default(), &usage);
        }
        sum.ok_or_else(|| {
            let detail = format!("session {} is {}", record.name, record.state.word());
            Problem::new(ProblemCode::WrongState, detail)
        })
    }
}

fn runs(member: &MemberRecord) -> bool {
    matches!(
        member.state,
        MemberState::Running { .. } | MemberState::Stopping { .. }
    )
}

/// Sums of the members; the peak is at most the sum of their peaks.
fn add(sum: &mut UsageView, usage: &MemberUsage) {
    sum.cpu_micros = sum.cpu_micros.saturating_add(usage.cpu_micros);
    sum.memory_bytes = sum.memory_bytes.saturating_add(usage.memory_bytes);
    sum.memory_peak_bytes = sum
        .memory_peak_bytes
        .saturating_add(usage.memory_peak_bytes);
    sum.pids = sum.pids.saturating_add(usage.pids);
    sum.out_of_memory_kills = sum
        .out_of_memory_kills
        .saturating_add(usage.out_of_memory_kills);
    if let Some(bytes) = usage.disk_bytes {
        *sum.disk_bytes.get_or_insert(0) += bytes;
    }
}
