//! The examples of docs/authorization.md, run as they stand there.

const DOCS: &str = include_str!("../docs/authorization.md");

#[test]
fn the_examples_say_what_the_documentation_says() {
    let mut blocks = 0;
    for block in DOCS.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        let (command, expected) = block.split_once('\n').unwrap();
        let line = command.strip_prefix("$ cargo cs ").unwrap();
        let (line, head) = match line.split_once(" | head -") {
            Some((line, lines)) => (line, lines.parse().unwrap()),
            None => (line, usize::MAX),
        };
        let mut tool = harness::world::command("countersign");
        let output = tool.args(words(line)).env_clear().output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let said: String = said.split_inclusive('\n').take(head).collect();
        let said: String = said.split_inclusive('\n').map(without_line).collect();
        assert_eq!(said, expected, "{line}");
        assert!(output.status.success(), "{line}");
        blocks += 1;
    }
    assert_eq!(blocks, 3);
}

/// A line of a policy moves with every edit above it, so that the documentation says `line …`.
fn without_line(line: &str) -> String {
    match line.strip_prefix("  line ") {
        Some(rest) => {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("  line …     {}", rest.trim_start())
        }
        None => line.to_owned(),
    }
}

/// The words of a command line, of which some are in single quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in command.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}
