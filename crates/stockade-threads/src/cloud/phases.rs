//! The phases of a cloud thread, each with the time that it took.

use std::time::{Duration, Instant};

use stockade_vm::Progress;

use crate::journal::{Journal, Live};
use crate::record::{Event, Phase, PhaseState};
use crate::store::StoreError;

/// Records phases as they come.
pub(super) struct Phases<'a> {
    journal: &'a Journal<'a>,
    /// The first that could not be recorded.
    lost: Option<StoreError>,
    /// Of a boot, the phase that runs.
    running: Option<(stockade_vm::Phase, Instant)>,
}

impl<'a> Phases<'a> {
    pub(super) fn new(journal: &'a Journal<'a>) -> Self {
        Self { journal, lost: None, running: None }
    }

    /// Does `work` as the phase `name`.
    pub(super) fn during<T, E>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let began = Instant::now();
        self.note(name, PhaseState::Started, None);
        let done = work();
        let state = if done.is_ok() { PhaseState::Finished } else { PhaseState::Failed };
        self.note(name, state, Some(began.elapsed()));
        done
    }

    /// Takes what a boot reports.
    pub(super) fn boot(&mut self, progress: Progress) {
        match progress {
            Progress::Started(phase) => {
                self.running = Some((phase, Instant::now()));
                self.note(name(phase), PhaseState::Started, None);
            }
            Progress::Finished(phase, took) => {
                self.running = None;
                self.note(name(phase), PhaseState::Finished, Some(took));
            }
            Progress::Note(text) => self.journal.show(&Live::Note(&text)),
        }
    }

    /// A boot came to nothing.
    pub(super) fn boot_failed(&mut self) {
        if let Some((phase, began)) = self.running.take() {
            self.note(name(phase), PhaseState::Failed, Some(began.elapsed()));
        }
    }

    /// Whether all of them stand in the record.
    pub(super) fn kept(self) -> Result<(), StoreError> {
        self.lost.map_or(Ok(()), Err)
    }

    pub(super) fn note(&mut self, name: &str, state: PhaseState, took: Option<Duration>) {
        // Thousandths: more is noise.
        let seconds = took.map(|took| (took.as_secs_f64() * 1000.0).round() / 1000.0);
        let phase = Phase { name: name.to_owned(), state, seconds };
        if let Err(error) = self.journal.record(&Event::Phase(phase)) {
            self.lost.get_or_insert(error);
        }
    }
}

fn name(phase: stockade_vm::Phase) -> &'static str {
    match phase {
        stockade_vm::Phase::Image => "image",
        stockade_vm::Phase::Disk => "disk",
        stockade_vm::Phase::Boot => "boot",
    }
}
