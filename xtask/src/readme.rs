//! The README's commands as CI runs them: what a reader would copy, and nothing else.

/// The one command line of the one fenced block under the heading `## HEADING`.
///
/// # Errors
///
/// When there is no such heading, or when under it stands anything but one block of one line:
/// a reader who copies the block must get what CI has run.
pub(crate) fn command_under(readme: &str, heading: &str) -> Result<String, String> {
    let wanted = format!("## {heading}");
    let mut lines = readme.lines().skip_while(|line| line.trim_end() != wanted);
    if lines.next().is_none() {
        return Err(format!("README.md has no heading `{wanted}`"));
    }
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    let mut is_inside = false;
    for line in lines {
        if line.starts_with("```") {
            is_inside = !is_inside;
            if is_inside {
                blocks.push(Vec::new());
            }
        } else if is_inside {
            if let Some(block) = blocks.last_mut() {
                block.push(line);
            }
        } else if line.starts_with("# ") || line.starts_with("## ") {
            break;
        }
    }
    match blocks.as_slice() {
        [block] => match block.as_slice() {
            [command] if !command.trim().is_empty() => Ok((*command).to_owned()),
            lines => Err(format!("the block under `{wanted}` has {} lines, not one", lines.len())),
        },
        blocks => Err(format!("under `{wanted}` stand {} fenced blocks, not one", blocks.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "# A\n\n## Run it\n\nText.\n\n```sh\n./go --fast\n```\n\n### Why\n\nx\n\n\
                          ## Two\n```\na\n```\n```\nb\n```\n## Long\n```\na\nb\n```\n## None\ntext\n";

    #[test]
    fn the_one_line_of_the_one_block_is_taken() {
        assert_eq!(command_under(README, "Run it").unwrap(), "./go --fast");
    }

    #[test]
    fn anything_else_is_an_error_that_says_what_is_there() {
        for (heading, words) in [
            ("Two", "2 fenced blocks"),
            ("Long", "2 lines"),
            ("None", "0 fenced blocks"),
            ("Missing", "no heading"),
        ] {
            let error = command_under(README, heading).unwrap_err();
            assert!(error.contains(words), "{heading}: {error}");
        }
    }

    #[test]
    fn a_hash_inside_a_block_is_no_heading() {
        let readme = "## Run it\n```sh\n# comment\n```\n";
        assert_eq!(command_under(readme, "Run it").unwrap(), "# comment");
    }
}
