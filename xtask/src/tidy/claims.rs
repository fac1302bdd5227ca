//! The threat model and the tests must know each other: a claim that no test tries is a hope,
//! and a test of a claim that nobody makes proves nothing to a reader.
//!
//! A claim is a row `| **F1** | …` of docs/threat-model.md. A test names it as `claim = 'F1'`
//! (an attack of the corpus) or in a comment above it, `/// Threat model, F1: …`. The table of
//! proofs at the end of the document is written from the tests.

use std::collections::BTreeMap;

use super::{SourceFile, Tree};

/// Where the claims are made.
pub(crate) const MODEL: &str = "docs/threat-model.md";

const BEGIN: &str = "<!-- proofs: written by `cargo xtask claims` -->";
const END: &str = "<!-- end of proofs -->";

/// A letter and a number; sorts as a person would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Id(char, u32);

impl Id {
    fn parse(text: &str) -> Option<Self> {
        let mut characters = text.chars();
        let letter = characters.next().filter(char::is_ascii_uppercase)?;
        Some(Self(letter, characters.as_str().parse().ok()?))
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}{}", self.0, self.1)
    }
}

/// One test that tries a claim.
#[derive(Debug)]
struct Proof {
    /// `path:line`.
    place: String,
    /// As it stands in the table.
    name: String,
    /// `None` where a claim belongs and none stands that can be read.
    claim: Option<Id>,
}

/// Findings: claims without a test, tests without a claim, a table that is out of date.
pub(super) fn check(tree: &Tree) -> Vec<String> {
    let Some(model) = tree.text_of(MODEL) else {
        return vec![format!("{MODEL}: there is no threat model")];
    };
    let claims = claims(model);
    let tried = tried(tree);
    let mut findings = Vec::new();
    for (id, line) in &claims {
        if !tried.iter().any(|proof| proof.claim == Some(*id)) {
            findings.push(format!("{MODEL}:{line}: no test names claim {id}"));
        }
        if claims.iter().any(|(other, earlier)| other == id && earlier < line) {
            findings.push(format!("{MODEL}:{line}: claim {id} is made twice"));
        }
    }
    for Proof { place, name, claim } in &tried {
        match claim {
            None => findings.push(format!("{place}: `{name}` names no claim")),
            Some(id) if !claims.iter().any(|(made, _)| made == id) => {
                findings.push(format!("{place}: `{name}` tries claim {id}, which {MODEL} lacks"));
            }
            Some(_) => {}
        }
    }
    match with_proofs(model, &table(&tried)) {
        Ok(text) if text == model => {}
        Ok(_) => findings.push(format!("{MODEL}: out of date; run `cargo xtask claims`")),
        Err(error) => findings.push(error),
    }
    findings
}

/// The table of proofs, from the tests as they are.
pub(crate) fn proofs(tree: &Tree) -> String {
    table(&tried(tree))
}

/// `model` with `proofs` between the marks.
pub(crate) fn with_proofs(model: &str, proofs: &str) -> Result<String, String> {
    let parts = model.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some(format!("{before}{BEGIN}\n{proofs}{END}{after}"))
    });
    parts.ok_or_else(|| format!("{MODEL}: the marks `{BEGIN}` and `{END}` are missing"))
}

fn claims(model: &str) -> Vec<(Id, usize)> {
    let id = |line: &str| Id::parse(line.strip_prefix("| **")?.split_once("**")?.0);
    (1..).zip(model.lines()).filter_map(|(number, line)| Some((id(line)?, number))).collect()
}

fn tried(tree: &Tree) -> Vec<Proof> {
    let mut found = Vec::new();
    for file in tree.iter() {
        if file.path.starts_with("corpus/attacks/") && file.has_ending("toml") {
            found.extend(attacks(file));
        } else if file.path.starts_with("crates/") && file.has_ending("rs") {
            found.extend(tests(file));
        }
    }
    found
}

/// The cases of one file of the corpus; lines inside a `'''` text are not looked at.
fn attacks(file: &SourceFile) -> Vec<Proof> {
    let mut found: Vec<Proof> = Vec::new();
    let mut is_text = false;
    for (number, line) in (1..).zip(file.text.lines()) {
        let was_text = is_text;
        is_text ^= line.matches("'''").count() % 2 == 1;
        if was_text {
            continue;
        }
        if line == "[[case]]" {
            let place = format!("{}:{number}", file.path);
            found.push(Proof { place, name: String::new(), claim: None });
        } else if let (Some(case), Some((key, value))) = (found.last_mut(), line.split_once('=')) {
            let value = value.trim().trim_matches(['\'', '"']);
            match key.trim() {
                "name" => case.name = format!("{}/{value}", file.stem()),
                "claim" => case.claim = Id::parse(value),
                _ => {}
            }
        }
    }
    found
}

/// The tests of one source file whose comment names claims.
fn tests(file: &SourceFile) -> Vec<Proof> {
    const MARK: &str = "/// Threat model, ";
    let lines: Vec<&str> = file.text.lines().map(str::trim_start).collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix(MARK) else { continue };
        let ids = rest.split(':').next().unwrap_or_default();
        let below = lines.get(index..).unwrap_or_default();
        let name = below.iter().find_map(|line| line.strip_prefix("fn "));
        let name = name.and_then(|rest| rest.split('(').next()).unwrap_or_default();
        let krate = file.path.split('/').nth(1).unwrap_or_default();
        let krate = krate.trim_start_matches("stockade-");
        for id in ids.split([',', ' ']).filter(|word| !word.is_empty() && *word != "and") {
            found.push(Proof {
                place: format!("{}:{}", file.path, index + 1),
                name: format!("{krate}::{name}"),
                claim: Id::parse(id),
            });
        }
    }
    found
}

fn table(tried: &[Proof]) -> String {
    let mut rows: BTreeMap<Id, Vec<String>> = BTreeMap::new();
    for proof in tried {
        if let Some(id) = proof.claim {
            rows.entry(id).or_default().push(format!("`{}`", proof.name));
        }
    }
    let mut text = "| claim | tried by |\n|---|---|\n".to_owned();
    for (id, names) in rows {
        text.extend(["| ", &id.to_string(), " | ", &names.join(", "), " |\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORPUS: &str = "[[case]]\nname = 'write'\nclaim = 'F1'\nattack = '''\nname = 'x'\n'''\n";
    const TEST: &str = "/// Threat model, W1 and K2: words.\n#[test]\nfn holds() {}\n";

    fn tree(model: &str, corpus: &str) -> Tree {
        let files = [
            (MODEL, model),
            ("corpus/attacks/files.toml", corpus),
            ("crates/stockade-sandbox/src/tests.rs", TEST),
        ];
        Tree::of(&files)
    }

    fn model(rows: &str, corpus: &str) -> String {
        let empty = format!("{rows}{BEGIN}\n{END}\n");
        with_proofs(&empty, &proofs(&tree(&empty, corpus))).unwrap()
    }

    const ROWS: &str = "| **F1** | a |\n| **K2** | b |\n| **W1** | c |\n";

    #[test]
    fn claims_and_tests_that_agree_are_no_finding() {
        let model = model(ROWS, CORPUS);
        assert!(model.contains("| F1 | `files/write` |\n| K2 | `sandbox::holds` |"), "{model}");
        let findings = check(&tree(&model, CORPUS));
        assert!(findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn a_claim_without_a_test_and_a_test_without_a_claim_are_found() {
        let more = format!("{ROWS}| **F10** | untested |\n");
        let findings = check(&tree(&model(&more, CORPUS), CORPUS));
        assert_eq!(findings, ["docs/threat-model.md:4: no test names claim F10"]);
        let fewer = "| **F1** | a |\n| **K2** | b |\n";
        let findings = check(&tree(&model(fewer, CORPUS), CORPUS));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains("`sandbox::holds` tries claim W1"), "{findings:?}");
        let nameless = CORPUS.replace("claim = 'F1'\n", "");
        let findings = check(&tree(&model(ROWS, &nameless), &nameless));
        assert!(findings.iter().any(|text| text.contains("names no claim")), "{findings:?}");
    }

    #[test]
    fn an_old_table_is_found() {
        let model = model(ROWS, CORPUS);
        let more = format!("{CORPUS}[[case]]\nname = 'append'\nclaim = 'F1'\n");
        let findings = check(&tree(&model, &more));
        assert_eq!(findings, ["docs/threat-model.md: out of date; run `cargo xtask claims`"]);
    }
}
