//! What was refused to a run, for its record and for whoever watches it.

use std::path::Path;

use stockade_policy::Denial;
use stockade_sandbox::Told;
use stockade_threads::approvals::UNASKED;
use stockade_threads::record;

/// As many as one line names.
const NAMED: usize = 3;

/// What was refused so far.
#[derive(Debug, Default)]
pub(super) struct Refused {
    kept: Vec<Denial>,
    /// Calls beyond those that are told one by one.
    more: u64,
}

impl Refused {
    /// Takes down what is told of a run, if it is a refusal.
    pub(super) fn take(&mut self, told: Told<'_>) {
        match told {
            Told::Denied(denial) => self.kept.push(denial),
            Told::DeniedMore(count) => self.more += count,
            Told::Note(_) | Told::Unkept => {}
        }
    }

    /// One line for a person, with what would allow it; `None` when nothing was refused.
    pub(super) fn line(&self, workspace: &Path) -> Option<String> {
        if self.kept.is_empty() {
            return None;
        }
        let one = |denial: &Denial| {
            let target = denial.target.strip_prefix(workspace).unwrap_or(&denial.target);
            let by = match denial.decided_by.as_str() {
                Denial::OUTSIDE => "outside the writable roots",
                by => by,
            };
            format!("{} of {} ({by})", denial.op.as_str(), target.display())
        };
        let named: Vec<String> = self.kept.iter().take(NAMED).map(one).collect();
        let count = self.kept.len();
        let more = if self.more > 0 { " and more" } else { "" };
        let were = if count == 1 && self.more == 0 { "call was" } else { "calls were" };
        let mut line = format!("{count}{more} {were} refused: {}", named.join(", "));
        if count > NAMED {
            line.push_str(", …");
        }
        // Otherwise what stands beyond those that are named looks as if somebody had said no to it.
        let flooded = |denial: &&Denial| denial.decided_by.starts_with(UNASKED);
        let unasked: Vec<&Denial> = self.kept.iter().filter(flooded).collect();
        if let Some(denial) = unasked.first() {
            let count = unasked.len().to_string();
            line.extend(["; about ", &count, " of them ", &denial.decided_by]);
        }
        let names = |word: &str| {
            let all = self.kept.iter().flat_map(|denial| &denial.alternatives);
            all.into_iter().any(|text| text.contains(word))
        };
        if names("--sandbox workspace-write") {
            line.push_str("; `--sandbox workspace-write` opens the workspace");
        }
        if names("--add-dir") {
            line.push_str("; `--add-dir FOLDER` opens a folder");
        }
        if names("unprotected") {
            line.push_str("; `unprotected = [NAME]` in your configuration lifts a name");
        }
        line.push_str("; `stockade log` has them all");
        Some(line)
    }

    /// As the record has it.
    pub(super) fn recorded(&self) -> Vec<record::Denial> {
        let mut all: Vec<_> = self.kept.iter().map(record::Denial::from).collect();
        if self.more > 0 {
            let words = format!("{} further calls", self.more);
            let why = "only so many different ones are kept";
            all.push(record::Denial::new("more", words.as_ref(), why));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use stockade_policy::Operation;

    use super::*;

    #[test]
    fn a_flood_is_told() {
        let mut refused = Refused::default();
        let flood = "nobody was asked: more than 20 questions in a minute";
        let no = "asked, and the user said no";
        for (number, decided_by) in [no, no, no, flood, flood].into_iter().enumerate() {
            let denial = Denial {
                op: Operation::Write,
                target: format!("/out/{number}").into(),
                decided_by: decided_by.to_owned(),
                alternatives: Vec::new(),
            };
            refused.take(Told::Denied(denial));
        }
        let line = refused.line(Path::new("/work")).unwrap();
        let told = "write of /out/2 (asked, and the user said no), …; about 2 of them nobody was \
                    asked: more than 20 questions in a minute; `stockade log`";
        assert!(line.contains(told), "{line}");
    }
}
