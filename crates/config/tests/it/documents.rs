//! What is written for readers is a configuration.

use std::path::Path;

use crate::toml;

/// The blocks between ```` ```toml ```` and ```` ``` ````.
fn blocks(markdown: &str) -> Vec<&str> {
    let after = markdown.split("```toml\n").skip(1);
    after.map(|rest| rest.split_once("```").unwrap().0).collect()
}

/// A block that shows but a rule or a hook, within a queue.
fn whole(block: &str) -> String {
    let is_queue = |line: &str| {
        let name = line.trim().strip_prefix("[matchmaker.queues.").and_then(|rest| rest.strip_suffix(']'));
        name.is_some_and(|name| !name.contains('.'))
    };
    if block.lines().any(is_queue) {
        return block.to_owned();
    }
    format!("[matchmaker.queues.ranked]\nplayers_per_team = 5\n{block}")
}

#[test]
fn every_example_of_the_matchmaker_is_a_good_configuration() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/matchmaking.md");
    let markdown = std::fs::read_to_string(path).unwrap();
    let blocks = blocks(&markdown);
    assert!(blocks.len() >= 8, "{} blocks", blocks.len());
    for block in blocks {
        let read = toml(&whole(block)).unwrap_or_else(|problems| panic!("{block}\n{problems}"));
        let queues = read.matchmaker.unwrap().settings.queues;
        let rules = block.matches(".rules.").count();
        assert_eq!(queues.values().map(|queue| queue.rules.len()).sum::<usize>(), rules, "{block}");
    }
}
