//! The way down: the rest of the output, the record, and a last word to those who are connected.

use crate::connection::Role;
use crate::guest::Guest;
use crate::logs::stream::Taken;
use crate::record::write_record;
use guest_api::{GuestState, Reply, Stream};

/// Most reads of each pipe at the end: what the largest pipe holds. More can only come from a
/// process that the guest could not kill.
const LAST_READS: usize = 64;
/// Most rounds in which connected followers are sent the rest. The guest waits for nobody: who
/// is slower reads on in the files.
const LAST_ROUNDS: usize = 64;

impl Guest {
    /// See the module.
    pub(crate) fn finish(mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut reads = 0..LAST_READS;
            while reads.next().is_some() && self.take_output(stream) == Taken::Some {}
        }
        let record = self.exit_record().expect("it finishes after the end");
        // On a full disk the output has to make room for how it ended.
        while write_record(&self.inherited.records, &record).is_err() {
            if !self.stdout.give_up_oldest() && !self.stderr.give_up_oldest() {
                break;
            }
        }
        let exited = Reply::State {
            state: GuestState::Exited {
                record: Box::new(record),
            },
        };
        for connection in &mut self.connections {
            if matches!(connection.role, Role::Watch) && connection.is_open() {
                connection.reply(&exited);
                connection.finish();
            }
        }
        for _ in 0..LAST_ROUNDS {
            for index in 0..self.connections.len() {
                self.serve_one(index, true);
            }
            self.connections
                .retain(|connection| connection.wants_output() && !connection.has_output());
            if self.connections.is_empty() {
                break;
            }
        }
    }
}
