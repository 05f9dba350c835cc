//! Outcomes by what members left.

use super::bench::{Bench, exit, order, spec};
use crate::manager::outcome;
use domain::{
    Cause, ExitCause, ExitHow, ExitRecord, Intention, MemberState, OomEvidence, Span,
};

fn never() -> ExitHow {
    ExitHow::NeverRan { reason: "no root".to_owned() }
}

fn check(intention: &Intention, how: ExitHow, cause: ExitCause, kills: Option<u64>) -> String {
    let (bench, session, member) = Bench::with_running(spec());
    let mut record = bench.record(session).clone();
    record.started_at = None;
    record.spec.time_limit = Some(Span(60_000));
    record.intention = intention.clone();
    let out_of_memory = kills.map(|kills| OomEvidence {
        kills,
        limit_bytes: 64 << 20,
        peak_bytes: Some(63 << 20),
        process: Some("python3".to_owned()),
    });
    let exit = ExitRecord { out_of_memory, ..exit(member, how, cause) };
    record.members[0].state = MemberState::Exited { record: exit };
    let outcome = outcome(&record);
    format!("{}: {outcome}", outcome.word())
}

#[test]
fn every_record_has_an_outcome() {
    let run = Intention::Run;
    let stop = Intention::Stop { order: order("ada") };
    let remove = Intention::Remove { order: order("ada") };
    let fail = Intention::Fail { cause: Cause::GuestDied, order: order("insula") };
    let code = |code| ExitHow::Exited { code };
    let signal = |signal| ExitHow::Signalled { signal, core_dumped: false };
    let memory = "failed: out of memory: the limit is 64 MiB, the peak was 63 MiB; \
                  the kernel ended `python3`";
    use ExitCause as C;
    let cases = [
        (&run, code(0), C::Own, None, "succeeded: the command exited with 0"),
        (&run, code(0), C::Own, Some(1), "succeeded: the command exited with 0"),
        (&run, code(7), C::Own, None, "failed: the command exited with 7"),
        (&run, code(7), C::Own, Some(1), "failed: the command exited with 7"),
        (&run, code(137), C::Own, None, "failed: the command exited with 137"),
        (&run, code(137), C::Own, Some(0), "failed: the command exited with 137"),
        (&run, code(137), C::Own, Some(1), memory),
        (&run, signal(9), C::Own, Some(2), memory),
        (&run, signal(9), C::Own, None, "failed: signal 9 (SIGKILL) ended the command"),
        (&run, signal(11), C::Own, Some(2), "failed: signal 11 (SIGSEGV) ended the command"),
        (&run, ExitHow::Unknown, C::GuestDied, Some(1), memory),
        (&run, ExitHow::Unknown, C::GuestDied, None, "failed: the guest was killed from outside"),
        (&stop, ExitHow::Unknown, C::GuestDied, None, "stopped: stopped by ada"),
        (&stop, signal(15), C::Stopped, None, "stopped: stopped by ada"),
        (&remove, code(0), C::Stopped, None, "stopped: stopped by ada"),
        (&stop, never(), C::Stopped, None, "cancelled: cancelled by ada before it ran"),
        (&stop, code(5), C::Own, None, "failed: the command exited with 5"),
        (&fail, never(), C::Stopped, None, "failed: the guest was killed from outside"),
        (&run, signal(15), C::Stopped, None, "stopped: stopped by insula"),
        (&run, signal(15), C::TimeLimit, None, "expired: the time limit of 1m ended it"),
        (&stop, signal(15), C::TimeLimit, None, "expired: the time limit of 1m ended it"),
        (&run, never(), C::PrepareFailed, None, "failed: preparing failed: no root"),
        (&run, never(), C::StartFailed, None, "failed: starting failed: no root"),
        (&run, never(), C::Own, None, "failed: starting failed: no root"),
        (&run, code(0), C::DiskLimit, None, "failed: disk limit: it had written 0 bytes"),
        (
            &run,
            ExitHow::NotFound { program: "nope".to_owned() },
            C::StartFailed,
            None,
            "failed: `nope` was not found inside",
        ),
        (
            &run,
            ExitHow::NotRunnable { program: "x".to_owned(), reason: "no".to_owned() },
            C::Own,
            None,
            "failed: `x` could not be run: no",
        ),
    ];
    for (intention, how, cause, kills, expected) in cases {
        let told = format!("{how:?} {cause:?} {kills:?} under {intention:?}");
        assert_eq!(check(intention, how, cause, kills), expected, "{told}");
    }
}
