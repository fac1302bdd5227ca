//! Permissions in the settings of Claude Code (`settings.json`), as rules of ours.
//!
//! `Bash(npm run test:*)` is a beginning of a command, and taken over as one. Other entries are about
//! tools that are none here, or say what no rule says; each of them is named.

use serde_json::Value;
use stockade_policy::Verdict;
use stockade_rules::{Imported, ImportedRule, NetworkRule, split_words};

/// An entry that was not taken over.
#[derive(Debug, serde::Serialize)]
pub(super) struct LeftOut {
    pub(super) line: usize,
    pub(super) entry: String,
    pub(super) why: &'static str,
}

/// Reads the text of a file of settings.
///
/// # Errors
///
/// What is wrong with it, with its place.
pub(super) fn read(text: &str) -> Result<(Imported, Vec<LeftOut>), String> {
    let settings: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let lists = [("allow", Verdict::Allow), ("ask", Verdict::Ask), ("deny", Verdict::Deny)];
    let mut imported = Imported::default();
    let mut left_out = Vec::new();
    for (name, verdict) in lists {
        let entries = settings.pointer(&format!("/permissions/{name}"));
        for entry in entries.and_then(Value::as_array).into_iter().flatten() {
            let entry = entry.as_str().ok_or_else(|| format!("`{name}` holds what is no text"))?;
            let line = line_of(text, entry);
            if let Err(why) = take(&mut imported, entry, verdict, line) {
                left_out.push(LeftOut { line, entry: entry.to_owned(), why });
            }
        }
    }
    imported.name_programs();
    Ok((imported, left_out))
}

/// Where the entry stands first, from 1.
fn line_of(text: &str, entry: &str) -> usize {
    let written = Value::from(entry).to_string();
    let before = text.split_once(&written).map_or("", |(before, _)| before);
    before.matches('\n').count() + 1
}

fn take(
    imported: &mut Imported,
    entry: &str,
    verdict: Verdict,
    line: usize,
) -> Result<(), &'static str> {
    let argument = |tool: &str| entry.strip_prefix(tool)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(host) = argument("WebFetch").and_then(|it| it.strip_prefix("domain:")) {
        let (host, protocol) = (host.to_owned(), "https".to_owned());
        imported.network.push(NetworkRule { host, protocol, verdict, line });
        return Ok(());
    }
    let Some(command) = argument("Bash") else {
        return Err(match entry {
            "Bash" => "a rule is about one command; `approval_policy` is about all",
            _ => "it is no rule about commands",
        });
    };
    let beginning = command.strip_suffix(":*").or_else(|| command.strip_suffix(" *"));
    if beginning.is_none() && verdict == Verdict::Allow && !command.contains('*') {
        return Err("it is one command to the letter, and a rule allows what follows as well");
    }
    let beginning = beginning.unwrap_or(command);
    if beginning.contains(['*', '&', '|', ';', '<', '>', '$', '`', '(', '{', '\n']) {
        return Err("a rule is the first words of one command");
    }
    let words = split_words(beginning).map_err(|_error| "its words cannot be told apart")?;
    if words.first().is_none_or(|word| word.contains('=')) {
        return Err("a rule begins with a program");
    }
    imported.rules.push(ImportedRule {
        prefix: words.into_iter().map(|word| vec![word]).collect(),
        verdict,
        reason: None,
        examples: Vec::new(),
        counterexamples: Vec::new(),
        line,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_of_commands_are_taken_over_and_the_rest_is_named() {
        let text = r#"{"permissions": {
            "allow": ["Bash(npm run test:*)", "Bash(git diff *)", "Bash(git push)", "Read(./src/**)",
                      "WebFetch(domain:docs.rs)", "Bash(git * main)", "Bash(A=1 make:*)", "Bash",
                      "Bash(bin/run:*)", "Bash(a && b:*)", "mcp__x__y", "Bash(:*)"],
            "deny": ["Bash(rm -rf:*)", "Bash(curl)"],
            "ask": ["Bash('a b' c:*)"]}, "hooks": {}}"#;
        let (imported, left_out) = read(text).unwrap();
        let rules: Vec<_> = imported
            .rules
            .iter()
            .map(|rule| (rule.verdict, rule.prefix.concat().join("|"), rule.line))
            .collect();
        let rule = |verdict, words: &str, line| (verdict, words.to_owned(), line);
        let expected = [
            rule(Verdict::Allow, "npm|run|test", 2),
            rule(Verdict::Allow, "git|diff", 2),
            rule(Verdict::Ask, "a b|c", 6),
            rule(Verdict::Deny, "rm|-rf", 5),
            rule(Verdict::Deny, "curl", 5),
        ];
        assert_eq!(rules, expected);
        assert_eq!((imported.network[0].host.as_str(), imported.network[0].line), ("docs.rs", 3));
        assert_eq!(imported.relative[0].program, "bin/run");
        let left: Vec<_> = left_out.iter().map(|it| it.entry.as_str()).collect();
        let expected = [
            "Bash(git push)",
            "Read(./src/**)",
            "Bash(git * main)",
            "Bash(A=1 make:*)",
            "Bash",
            "Bash(a && b:*)",
            "mcp__x__y",
            "Bash(:*)",
        ];
        assert_eq!(left, expected);
        assert!(read("{").is_err() && read(r#"{"permissions": {"deny": [1]}}"#).is_err());
        assert!(read("{}").unwrap().0.rules.is_empty());
    }
}
