//! One at a time for each layer.

use domain::image::Digest;
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex};

/// The layers that somebody works on.
#[derive(Debug, Default)]
pub(super) struct Turns {
    busy: Mutex<BTreeSet<Digest>>,
    changed: Condvar,
}

/// The right to work on one layer, until it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    layer: Digest,
}

impl Turns {
    /// Waits until nobody works on `layer`.
    pub(super) fn take(&self, layer: Digest) -> Turn<'_> {
        let busy = self.busy.lock().expect("no holder panics");
        let mut busy = self
            .changed
            .wait_while(busy, |busy| busy.contains(&layer))
            .expect("no holder panics");
        busy.insert(layer);
        Turn { turns: self, layer }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut busy = self.turns.busy.lock().expect("no holder panics");
        busy.remove(&self.layer);
        self.turns.changed.notify_all();
    }
}
