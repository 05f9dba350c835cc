//! Background tasks: the one way to spawn, so that every task has a name, its last status can be
//! shown, and all of them are joined when the process goes down.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns tasks, tells them to end, and waits for them. Clones are the same runner.
#[derive(Clone, Debug, Default)]
pub struct TaskRunner {
    tracker: TaskTracker,
    cancelled: CancellationToken,
    statuses: Arc<Mutex<BTreeMap<&'static str, TaskStatus>>>,
}

/// What a named task last told of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskStatus {
    /// How many of this name run now.
    pub running: usize,
    /// The last thing it said, for operators.
    pub last: Option<String>,
}

impl TaskRunner {
    /// A runner without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Is cancelled when the process goes down; every task ends soon after.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancelled.clone()
    }

    /// Runs `task` under `name` until it ends by itself. It has to look at
    /// [`TaskRunner::cancelled`] if it would otherwise go on for ever.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let statuses = Arc::clone(&self.statuses);
        change(&statuses, name, |status| status.running += 1);
        self.tracker.spawn(async move {
            let _running = Running { statuses, name };
            task.await;
        });
    }

    /// Like [`TaskRunner::spawn`], but the task is dropped at its next await point as soon as the
    /// process goes down.
    pub fn spawn_cancellable<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancelled = self.cancelled();
        self.spawn(name, async move {
            cancelled.run_until_cancelled_owned(task).await;
        });
    }

    /// Keeps what a task says of itself.
    pub fn tell(&self, name: &'static str, last: String) {
        change(&self.statuses, name, |status| status.last = Some(last));
    }

    /// The status of each task by name.
    pub fn statuses(&self) -> BTreeMap<&'static str, TaskStatus> {
        self.statuses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells all tasks to end and waits until they have.
    pub async fn close(&self) {
        self.cancelled.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Counts a task as running until it is dropped, however it ends.
struct Running {
    statuses: Arc<Mutex<BTreeMap<&'static str, TaskStatus>>>,
    name: &'static str,
}

impl Drop for Running {
    fn drop(&mut self) {
        change(&self.statuses, self.name, |status| status.running -= 1);
    }
}

fn change(
    statuses: &Mutex<BTreeMap<&'static str, TaskStatus>>,
    name: &'static str,
    change: impl FnOnce(&mut TaskStatus),
) {
    let mut statuses = statuses.lock().unwrap_or_else(PoisonError::into_inner);
    change(statuses.entry(name).or_default());
}

#[cfg(test)]
mod tests {
    use super::TaskRunner;

    #[tokio::test]
    async fn closing_ends_and_joins_every_task() {
        let runner = TaskRunner::new();
        runner.spawn_cancellable("waits for ever", std::future::pending());
        runner.spawn("ends by itself", async {});
        assert_eq!(runner.statuses()["waits for ever"].running, 1);
        runner.close().await;
        assert_eq!(runner.statuses()["waits for ever"].running, 0);
        assert_eq!(runner.statuses()["ends by itself"].running, 0);
    }
}
