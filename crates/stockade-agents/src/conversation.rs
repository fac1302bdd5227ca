//! What was said so far, kept small enough for the model to read.
//!
//! What is left out is left out in a fixed order, and a mark stands in its place: the oldest outputs of
//! tools first, then the oldest turns. The task as the user gave it and the last turns stay.

use std::fmt::Write as _;

use crate::model::{CallResult, Turn};

/// Bytes of text that make one token, about; few enough that the estimate is not too low.
const BYTES_A_TOKEN: u64 = 3;
/// And so many that no server honestly counts fewer tokens.
const MOST_BYTES_A_TOKEN: u64 = 5;

/// What of the model's window a conversation may fill before it is made smaller, and what it is made
/// to fill then, in hundredths.
const FULL: u64 = 80;
const ROOMY: u64 = 50;

/// Turns at the end that are never left out: an answer, what came of it, and the same before that.
const KEPT_TURNS: usize = 4;

/// An output that is left out keeps this much, in bytes.
const KEPT_BYTES: usize = 200;

/// A conversation of one thread with the model.
#[derive(Debug, Default)]
pub struct Conversation {
    turns: Vec<Turn>,
    /// The size of each turn, in bytes.
    sizes: Vec<usize>,
    /// Tokens that the last question and its answer took, and the bytes that they were.
    measured: Option<(u64, usize)>,
    /// Tokens of all questions and answers.
    pub(crate) used_tokens: u64,
}

impl Conversation {
    /// One in which nothing was said.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that goes on after what `told` says of it.
    pub fn after(told: &str) -> Self {
        let mut conversation = Self::new();
        conversation.push(Turn::User(told.to_owned()));
        conversation
    }

    pub(crate) fn push(&mut self, turn: Turn) {
        self.sizes.push(size(&turn));
        self.turns.push(turn);
    }

    pub(crate) fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// Notes what the server counted for all turns up to now, its answer included.
    pub(crate) fn measured(&mut self, tokens: u64) {
        if tokens > 0 {
            self.measured = Some((tokens, self.bytes()));
        }
        self.used_tokens = self.used_tokens.saturating_add(tokens);
    }

    fn bytes(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// About how many tokens the next question has.
    fn tokens(&self, around: usize) -> u64 {
        let number = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let bytes = self.bytes();
        match self.measured {
            // Made smaller since: only the estimate knows.
            Some((tokens, then)) if bytes >= then => {
                let counted = tokens + number(bytes - then) / BYTES_A_TOKEN;
                counted.max(number(bytes) / MOST_BYTES_A_TOKEN)
            }
            Some(_) | None => number(bytes + around) / BYTES_A_TOKEN,
        }
    }

    /// Makes it smaller when it would fill the model's `window`, of which `around` bytes go to what
    /// is sent beside it; how many bytes were left out.
    pub(crate) fn fit(&mut self, window: u64, around: usize) -> usize {
        let tokens = self.tokens(around);
        if tokens.saturating_mul(100) <= window.saturating_mul(FULL) {
            return 0;
        }
        let bytes = u64::try_from(self.bytes()).unwrap_or(u64::MAX);
        let wanted = bytes.saturating_mul(window) / tokens.max(1) * ROOMY / 100;
        self.shrink(usize::try_from(wanted).unwrap_or(usize::MAX))
    }

    /// Makes it smaller because the server would not have it; how many bytes were left out.
    pub(crate) fn halve(&mut self) -> usize {
        self.shrink(self.bytes() / 2)
    }

    /// Leaves out what is oldest until `wanted` bytes are there, or nothing more can go.
    fn shrink(&mut self, wanted: usize) -> usize {
        let before = self.bytes();
        let end = self.turns.len().saturating_sub(KEPT_TURNS);
        for at in 0..end {
            if self.bytes() <= wanted {
                break;
            }
            if let (Some(turn), Some(size_of)) = (self.turns.get_mut(at), self.sizes.get_mut(at)) {
                if let Turn::Results(results) = turn {
                    results.iter_mut().for_each(shorten);
                }
                *size_of = size(turn);
            }
        }
        // An answer goes with what came of it; the turn after the user's first is an answer.
        let mut gone = 0;
        while self.bytes() > wanted && self.turns.len() > KEPT_TURNS + 3 {
            let Some(Turn::Model(_)) = self.turns.get(1) else { break };
            let count = if matches!(self.turns.get(2), Some(Turn::Results(_))) { 2 } else { 1 };
            self.turns.drain(1..=count);
            self.sizes.drain(1..=count);
            gone += count;
            // What a user said in between stays, beside the task.
            while let (Some(Turn::User(_)), Some(Turn::User(_))) =
                (self.turns.first(), self.turns.get(1))
            {
                let Turn::User(text) = self.turns.remove(1) else { break };
                self.sizes.remove(1);
                if let Some(Turn::User(first)) = self.turns.first_mut() {
                    first.push_str("\n\n");
                    first.push_str(&text);
                }
            }
        }
        if gone > 0 {
            if let Some(Turn::User(first)) = self.turns.first_mut() {
                first.push_str(
                    "\n\n[Turns of this conversation that were here are left out to save space. \
                     Look again at what you need.]",
                );
            }
            if let (Some(turn), Some(first)) = (self.turns.first(), self.sizes.first_mut()) {
                *first = size(turn);
            }
        }
        self.measured = None;
        before.saturating_sub(self.bytes())
    }
}

/// Leaves out all but the beginning of an output.
fn shorten(result: &mut CallResult) {
    if result.text.len() <= 2 * KEPT_BYTES {
        return;
    }
    let end = crate::tools::floor(&result.text, KEPT_BYTES);
    let left_out = result.text.len() - end;
    result.text.truncate(end);
    // A string cannot refuse to be written to.
    write!(
        result.text,
        "\n[... {left_out} bytes of this earlier output left out to save space ...]"
    )
    .ok();
}

/// What `turn` takes in a request, about.
fn size(turn: &Turn) -> usize {
    match turn {
        Turn::User(text) => text.len(),
        Turn::Model(answer) => answer.size(),
        Turn::Results(results) => {
            results.iter().map(|result| result.text.len() + result.id.len()).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Answer;

    fn conversation(outputs: usize, bytes: usize) -> Conversation {
        let mut conversation = Conversation::new();
        conversation.push(Turn::User("the task".to_owned()));
        for number in 0..outputs {
            conversation.push(Turn::Model(Answer::default()));
            let (id, text) = (format!("c{number}"), "x".repeat(bytes));
            conversation.push(Turn::Results(vec![CallResult { id, text, is_error: false }]));
        }
        conversation
    }

    fn outputs(conversation: &Conversation) -> Vec<usize> {
        let results = conversation.turns.iter().filter_map(|turn| match turn {
            Turn::Results(results) => Some(results[0].text.len()),
            Turn::User(_) | Turn::Model(_) => None,
        });
        results.collect()
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let mut conversation = conversation(5, 3_000);
        assert_eq!(conversation.fit(10_000, 0), 0);
        assert_eq!(outputs(&conversation), [3_000; 5]);
    }

    #[test]
    fn the_oldest_outputs_go_first_and_the_last_stay() {
        let mut conversation = conversation(6, 3_000);
        assert!(conversation.fit(6_000, 0) > 0);
        let left = outputs(&conversation);
        assert_eq!(left.len(), 6, "no turn went");
        assert!(left[0] < 400 && left[5] == 3_000 && left[4] == 3_000, "{left:?}");
        assert!(left.is_sorted(), "{left:?}");
    }

    #[test]
    fn then_turns_go_and_the_task_says_so() {
        let mut conversation = conversation(400, 300);
        let size = conversation.bytes();
        assert!(conversation.halve() >= size / 2 - 1_000);
        assert!(conversation.turns.len() < 500);
        let Some(Turn::User(task)) = conversation.turns.first() else { panic!("no task") };
        assert!(task.starts_with("the task") && task.contains("left out"), "{task}");
        assert!(matches!(conversation.turns[1], Turn::Model(_)));
        assert!(matches!(conversation.turns[2], Turn::Results(_)));
    }

    #[test]
    fn what_the_server_counted_is_believed() {
        let mut conversation = conversation(8, 3_000);
        conversation.measured(5_000);
        assert_eq!(conversation.fit(7_000, 0), 0, "the estimate alone would be 8,000");
        conversation.measured(6_000);
        assert!(conversation.fit(7_000, 0) > 0);
    }
}
