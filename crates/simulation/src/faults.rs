//! What goes wrong.

use crate::clock::{MINUTE, Micros, SECOND};
use crate::plan::{Act, Fault};
use crate::world::World;
use domain::MemberId;

impl World {
    /// Does what the plan says.
    pub(crate) fn act(&mut self, place: usize) {
        let planned = self.plan.acts[place].clone();
        match planned.act {
            Act::Fault(fault) => {
                self.faults += 1;
                self.trace.line(
                    self.now,
                    format_args!("fault {}: {fault:?}", planned.number),
                );
                self.fail(fault);
            }
            Act::Operate(operation) => {
                self.trace.line(
                    self.now,
                    format_args!("operator {}: {operation:?}", planned.number),
                );
                self.operate(&operation);
            }
            act => self.user_acts(planned.number, act),
        }
    }

    fn fail(&mut self, fault: Fault) {
        let place = |node: u64| usize::try_from(node).expect("a node");
        let now = self.now;
        match fault {
            Fault::ManagerDies { down } => self.manager_dies(down),
            Fault::TakeOver { stalled } => self.take_over(stalled.max(5 * SECOND)),
            Fault::ManagerSuspended { length } => self.suspend_manager(length),
            Fault::AgentDies { node, down } => self.agent_dies(place(node), down),
            Fault::PowerCut { node, down } => self.power_is_cut(place(node), down),
            Fault::NodeSuspended { node, length } => self.suspend_node(place(node), length),
            Fault::Partition { nodes, length } => {
                for node in nodes {
                    let node = place(node);
                    self.machines[node].suffers.cut_until = now + length;
                    if length > 15 * SECOND {
                        self.connection_breaks(node);
                    }
                }
            }
            Fault::BadNetwork { node, length } => {
                self.machines[place(node)].suffers.bad_network_until = now + length;
            }
            Fault::LateReports { node, length, by } => {
                let suffers = &mut self.machines[place(node)].suffers;
                suffers.late_reports_until = now + length;
                suffers.reports_late_by = by;
            }
            Fault::ClockJumps {
                node: Some(node),
                by,
            } => {
                self.machines[place(node)].clocks.jump(by);
            }
            Fault::ClockDrifts {
                node: Some(node),
                ppm,
            } => {
                self.machines[place(node)].clocks.drift(ppm, now);
            }
            Fault::ClockJumps { node: None, by } => {
                if let Some(manager) = self.managers.leading() {
                    manager.clocks.jump(by);
                    manager.jumped_at = now;
                }
            }
            Fault::ClockDrifts { node: None, ppm } => {
                if let Some(manager) = self.managers.leading() {
                    manager.clocks.drift(ppm, now);
                }
            }
            Fault::CommitsFail { count } => self.managers.failing_commits = count,
            Fault::CommitUnknown { made } => self.managers.unknown_commit = Some(made),
            Fault::SlowStore { length } => self.managers.slow_until = now + length,
            Fault::Copy => self.store.copy(),
            Fault::Restore { node, silent } => self.restore(place(node), silent),
            Fault::GuestDies { which } => self.kill_a_guest(which),
            Fault::ActsFail { node, length } => {
                self.machines[place(node)].suffers.acts_fail_until = now + length;
            }
            Fault::DiskFull { node, length } => {
                self.machines[place(node)].suffers.disk_full_until = now + length;
            }
            Fault::SlowEngine { node, length } => {
                self.machines[place(node)].suffers.slow_until = now + length;
            }
        }
    }

    /// The store is lost. Its operator stops the manager, and starts it over the last copy.
    fn restore(&mut self, first: usize, silent: Micros) {
        let leader = self.managers.leader;
        let is_alone = self.managers.all.keys().all(|id| Some(*id) == leader);
        if !is_alone || !self.store.has_copy() {
            return;
        }
        // What it was committing goes to the store that is lost.
        self.manager_dies(MINUTE);
        self.store.restore();
        let all = self.machines.len();
        for node in (first..first + all / 4).map(|node| node % all) {
            self.machines[node].suffers.cut_until = self.now + MINUTE + silent;
        }
    }

    fn kill_a_guest(&mut self, which: u64) {
        let all: Vec<(usize, MemberId)> = (0..)
            .zip(&self.machines)
            .flat_map(|(node, machine)| machine.guests.keys().map(move |member| (node, *member)))
            .collect();
        let count = u64::try_from(all.len()).expect("a length");
        if let Some(place) = which.checked_rem(count) {
            let (node, member) = all[usize::try_from(place).expect("below a length")];
            self.trace
                .line(self.now, format_args!("{member} is killed from outside"));
            let doings = self.machines[node].guest_dies(member, self.now);
            self.follow(node, doings);
        }
    }

    /// Everything that is broken is mended.
    pub(crate) fn heal(&mut self) {
        self.managers.failing_commits = 0;
        self.managers.unknown_commit = None;
        self.managers.slow_until = 0;
        for machine in &mut self.machines {
            machine.suffers = crate::machine::Suffering::default();
            machine.runs_since = self.now;
        }
        self.put_nodes_right();
    }
}
