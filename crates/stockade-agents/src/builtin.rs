//! The built-in agent: asks the model, carries out what it calls for, and tells it what came of
//! that, until it calls for nothing more.

use crate::driver::{AgentError, Finished, Stop, Task};
use crate::event::AgentEvent;
use crate::hands::Hands;
use crate::model::Model;

/// The built-in agent.
#[derive(Debug)]
pub struct Builtin {
    model: Model,
}

impl Builtin {
    /// An agent that is driven by `model`.
    ///
    /// # Errors
    ///
    /// When the client cannot be set up for it; nothing was asked yet.
    pub fn new(model: Model) -> Result<Self, AgentError> {
        Ok(Self { model })
    }

    /// Runs `task` to its end.
    ///
    /// # Errors
    ///
    /// When the model cannot be reached or talks nonsense, at a limit of the task, when the
    /// place is lost, or when `stop` was asked for. What was done up to there is done.
    pub fn run(
        &self,
        _task: &Task,
        _hands: &dyn Hands,
        _events: &mut dyn FnMut(AgentEvent),
        _stop: &Stop,
    ) -> Result<Finished, AgentError> {
        Err(AgentError::Lost(format!("not yet: {}", self.model.name)))
    }
}
