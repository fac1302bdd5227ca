//! What holds for every patch.

use proptest::prelude::*;

use super::{Hunk, Line, Operation, apply, parse};

/// Lines over a tiny alphabet, so that the same one stands in many places.
fn any_lines() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[ab]{0,2}", 0..12)
}

fn text(lines: &[String], line_end: &str) -> String {
    lines.iter().flat_map(|line| [line.as_str(), line_end]).collect()
}

/// The edits that lead from `a` to `b`, by the longest common subsequence.
fn edits(a: &[String], b: &[String]) -> Vec<Line> {
    let mut common = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push(Line::Keep(a[i].clone()));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(Line::Remove(a[i].clone()));
            i += 1;
        } else {
            lines.push(Line::Add(b[j].clone()));
            j += 1;
        }
    }
    lines
}

/// A patch as a model writes it: hunks with up to `context` lines around each change.
fn diff(a: &[String], b: &[String], context: usize, is_numbered: bool) -> String {
    let edits = edits(a, b);
    let is_change = |line: &Line| !matches!(line, Line::Keep(_));
    let is_near = |at: usize| {
        let from = at.saturating_sub(context);
        let to = edits.len().min(at + context + 1);
        edits[from..to].iter().any(is_change)
    };
    let mut patch = "*** Begin Patch\n*** Update File: f\n".to_owned();
    let (mut line_of_a, mut is_in_hunk) = (1, false);
    for (at, line) in edits.iter().enumerate() {
        let (mark, content) = match line {
            Line::Keep(text) => (' ', text),
            Line::Remove(text) => ('-', text),
            Line::Add(text) => ('+', text),
        };
        if is_near(at) {
            if !is_in_hunk && is_numbered {
                // As diff(1): a hunk that takes no line of `a` stands below the line it names.
                let rest = edits[at..].iter().enumerate();
                let here = rest.take_while(|(offset, _)| is_near(at + offset));
                let takes = here.filter(|(_, line)| !matches!(line, Line::Add(_))).count();
                let start = if takes == 0 { line_of_a - 1 } else { line_of_a };
                patch.extend(["@@ -", &format!("{start},{takes}"), " +1,1 @@\n"]);
            } else if !is_in_hunk {
                patch.push_str("@@\n");
            }
            patch.push(mark);
            patch.extend([content, "\n"]);
        }
        is_in_hunk = is_near(at);
        line_of_a += usize::from(mark != '+');
    }
    patch.push_str("*** End Patch\n");
    patch
}

fn patched(text: &str, patch: &str) -> Result<String, super::PatchError> {
    let operations = parse(patch)?;
    let [Operation::Update { hunks, .. }] = operations.as_slice() else {
        unreachable!("the patch is of one file")
    };
    apply("f", text, hunks)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A diff with numbers is found wherever its lines stand more than once.
    #[test]
    fn a_numbered_diff_leads_from_one_text_to_the_other(
        a in any_lines(), b in any_lines(), context in 0_usize..4, is_crlf: bool,
    ) {
        prop_assume!(a != b);
        // CRLF is seen by the first line; a text without one has none.
        let line_end = if is_crlf && !a.is_empty() { "\r\n" } else { "\n" };
        let result = patched(&text(&a, line_end), &diff(&a, &b, context, true));
        prop_assert_eq!(result, Ok(text(&b, line_end)));
    }

    /// Without numbers it is found, or what is unclear is said; it never leads elsewhere.
    #[test]
    fn a_diff_without_numbers_leads_there_or_nowhere(
        a in any_lines(), b in any_lines(), context in 0_usize..4,
    ) {
        prop_assume!(a != b);
        let patch = diff(&a, &b, context, false);
        match patched(&text(&a, "\n"), &patch) {
            Ok(result) => prop_assert_eq!(result, text(&b, "\n")),
            Err(error) => {
                let why = error.to_string();
                prop_assert!(why.contains("more than once") || why.contains("only adds"), "{}", why);
            }
        }
    }

    /// With all of the file as context it is always found.
    #[test]
    fn a_diff_that_shows_all_of_the_file_is_always_found(a in any_lines(), b in any_lines()) {
        prop_assume!(a != b && !a.is_empty());
        let result = patched(&text(&a, "\n"), &diff(&a, &b, 99, false));
        prop_assert_eq!(result, Ok(text(&b, "\n")));
    }

    #[test]
    fn the_end_of_the_last_line_stays_as_it_is(mut a in any_lines(), mut b in any_lines()) {
        prop_assume!(a != b);
        // A text without a line end at its end has a line there.
        a.push("c".to_owned());
        b.push("d".to_owned());
        let cut = |text: String| text.strip_suffix('\n').unwrap().to_owned();
        let result = patched(&cut(text(&a, "\n")), &diff(&a, &b, 3, true));
        prop_assert_eq!(result, Ok(cut(text(&b, "\n"))));
    }

    #[test]
    fn garbage_is_refused_and_never_panics(
        garbage in proptest::collection::vec(
            prop_oneof![
                Just("*** Begin Patch".to_owned()), Just("*** End Patch".to_owned()),
                Just("*** Update File: f".to_owned()), Just("*** Add File: g".to_owned()),
                Just("*** Delete File: f".to_owned()), Just("*** Move to: h".to_owned()),
                Just("*** End of File".to_owned()), Just("@@".to_owned()),
                "@@ -[0-9]{1,22},[0-9] .{0,4}@@", "@@ .{0,6}", "[ +-]?[ab]{0,2}", "\\PC{0,9}",
            ],
            0..12,
        ),
        file in "[ab\r\n]{0,20}",
    ) {
        let patch = format!("*** Begin Patch\n{}\n*** End Patch", garbage.join("\n"));
        for operation in parse(&patch).unwrap_or_default() {
            if let Operation::Update { hunks, .. } = operation {
                apply("f", &file, &hunks).ok();
            }
        }
        parse(&garbage.join("\n")).ok();
    }
}

#[test]
fn anchors_and_the_end_of_the_file_say_which_place_is_meant() {
    let file = "def f():\n    x = 1\n    return x\ndef g():\n    x = 1\n    return x\n";
    let hunk = |anchors: &[&str], is_at_end| Hunk {
        anchors: anchors.iter().map(|&anchor| anchor.to_owned()).collect(),
        lines: vec![Line::Remove("    return x".to_owned()), Line::Add("    return 2".to_owned())],
        is_at_end,
        start: None,
    };
    let f = "def f():\n    x = 1\n    return 2\ndef g():\n    x = 1\n    return x\n";
    let g = "def f():\n    x = 1\n    return x\ndef g():\n    x = 1\n    return 2\n";
    assert!(apply("f", file, &[hunk(&[], false)]).is_err());
    assert_eq!(apply("f", file, &[hunk(&["def f():"], false)]).unwrap(), f);
    assert_eq!(apply("f", file, &[hunk(&["def g():"], false)]).unwrap(), g);
    assert_eq!(apply("f", file, &[hunk(&["def f():", "def g():"], false)]).unwrap(), g);
    assert_eq!(apply("f", file, &[hunk(&[], true)]).unwrap(), g);
}
