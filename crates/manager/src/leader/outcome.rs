//! What a commit lets out, and what is dropped where one has failed.

use crate::leader::batch::Stepped;
use crate::leader::{Leader, StoreRead};
use crate::shared::{LeaderError, chain};
use database::{CommitError, Outcome};
use process::crash_point;

impl Leader {
    /// Has what waits committed, unless a commit is in flight.
    pub(super) fn depart(&mut self) -> Option<Outcome<Stepped>> {
        let has_rows = |batch: &Stepped| !batch.effects.rows.is_empty();
        let has_rows = self.line.waiting().any(has_rows);
        if has_rows && !self.line.is_flying() {
            crash_point("commit.decided");
        }
        self.line.depart()
    }

    /// Waits until everything that was stepped is committed and let out, or has failed.
    pub(super) fn settle(&mut self) {
        while !self.line.is_at_rest() {
            let outcome = self.line.wait().or_else(|| self.depart());
            if let Some(outcome) = outcome {
                self.conclude(outcome);
            }
        }
    }

    /// Lets out what was committed, and has the next committed meanwhile.
    pub(super) fn conclude(&mut self, outcome: Outcome<Stepped>) {
        let mut next = Some(outcome);
        while let Some(outcome) = next {
            self.look_at_room();
            next = match outcome {
                Outcome::Made {
                    batches, commit, ..
                } => self.let_out(batches, commit),
                Outcome::Failed { batches, error } => {
                    self.drop_memory(batches, &error);
                    None
                }
            };
        }
    }

    fn let_out(
        &mut self,
        mut batches: Vec<Stepped>,
        commit: Option<u64>,
    ) -> Option<Outcome<Stepped>> {
        if commit.is_some() {
            crash_point("commit.made");
        }
        let reads = batches.iter_mut().map(|batch| &mut batch.waiting.reads);
        let reads: Vec<StoreRead> = reads.flat_map(std::mem::take).collect();
        // Who wants to look at the store does so before the next commit takes it away.
        let next = reads.is_empty().then(|| self.depart()).flatten();
        self.shared
            .apply(batches.iter().map(|batch| &batch.effects), commit);
        if commit.is_some() {
            crash_point("commit.shown");
        }
        for mut batch in batches {
            self.tell(&batch);
            batch.waiting.release(&mut batch.effects);
        }
        if reads.is_empty() {
            return next;
        }
        self.read_all(reads);
        self.depart()
    }

    /// Nodes that said hello get what is wanted of them with their welcome.
    fn tell(&self, batch: &Stepped) {
        let Stepped {
            effects, waiting, ..
        } = batch;
        for (node, desired) in &effects.desired {
            let mut greeted = waiting.welcomes.iter();
            if !greeted.any(|(greeted, _)| greeted == node) {
                self.nodes.tell(*node, desired.clone());
                crash_point("place.told");
            }
        }
        for upload in &effects.unneeded_uploads {
            self.uploads.remove(*upload);
            crash_point("upload.forgotten");
        }
    }

    pub(super) fn read_all(&mut self, reads: Vec<StoreRead>) {
        let Some(store) = self.line.store() else {
            return;
        };
        for read in reads {
            read(store);
        }
    }

    /// What memory holds is no longer known to be what the store holds, and what was stepped behind
    /// the commit stands on it.
    fn drop_memory(&mut self, batches: Vec<Stepped>, error: &CommitError) {
        self.site = None;
        let told = if error.is_overtaken() {
            self.shared.overtake(chain(error));
            LeaderError::Closed
        } else {
            let rows: usize = batches.iter().map(|batch| batch.effects.rows.len()).sum();
            tracing::error!(
                error = %chain(error),
                rows,
                "a commit failed, nothing of it is shown"
            );
            LeaderError::of_commit(error)
        };
        for mut batch in batches {
            batch.waiting.fail(&told);
            self.read_all(batch.waiting.reads);
        }
    }
}
