//! The user of a cloud thread, as far as they are there.

use stockade_agents::Stop;

use crate::question::Ask;
use crate::screen::{Feed, Screen};

/// The user's wishes, made while a thread is at work.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// That the work ends; its result is still taken out.
    pub stop: Stop,
    /// That not even the result is waited for.
    pub abandon: Stop,
}

/// Who is asked, who may end it, and whose terminal a command gets.
#[derive(Clone, Copy)]
pub struct User<'a> {
    /// Answers questions.
    pub ask: &'a dyn Ask,
    /// What they want meanwhile.
    pub wishes: &'a Wishes,
    /// The terminal that they sit at, for a command that they typed.
    pub screen: Option<&'a dyn Screen>,
    /// What a command that they typed reads, without that; nothing, where nobody has it.
    pub feed: Option<&'a dyn Feed>,
}

impl std::fmt::Debug for User<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("wishes", self.wishes).finish_non_exhaustive()
    }
}
