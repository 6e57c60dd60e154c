//! README shows what the program prints: its first command is run and compared with the block below it.

mod common;

use std::process::Command;

use common::root;

/// The first block of text after the line that holds `command`.
fn block_after(readme: &str, command: &str) -> Vec<String> {
    let after = readme
        .split_once(command)
        .unwrap_or_else(|| panic!("README has no {command}"))
        .1;
    let block = after
        .split_once("```text\n")
        .unwrap()
        .1
        .split_once("```")
        .unwrap()
        .0;
    block.lines().map(str::to_owned).collect()
}

/// A line of percentage and label, as (percentage, label).
fn prediction(line: &str) -> Option<(f32, &str)> {
    let (figure, label) = line.strip_prefix("  ")?.split_once(" %  ")?;
    Some((figure.trim().parse().ok()?, label))
}

#[test]
fn the_first_command_prints_what_readme_shows() {
    let readme = std::fs::read_to_string(root("README.md")).unwrap();
    let shown = block_after(
        &readme,
        "cargo run --release -- classify --top 1 assets/photos",
    );
    assert!(shown.len() >= 20);
    let output = Command::new(env!("CARGO_BIN_EXE_diptych"))
        .args(["classify", "--top", "1", "assets/photos"])
        .current_dir(root(""))
        .env_remove("DIPTYCH_MODEL")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<&str> = printed.lines().collect();
    assert_eq!(printed.len(), shown.len());
    for (printed, shown) in printed.iter().zip(&shown) {
        match (prediction(printed), prediction(shown)) {
            // Another processor sums in another order; the last digit may turn.
            (Some((printed, label)), Some((shown, expected))) => {
                assert_eq!(label, expected);
                assert!(
                    (printed - shown).abs() < 0.25,
                    "{label}: {printed}, README shows {shown}"
                );
            }
            _ => assert_eq!(printed, shown),
        }
    }
}

/// A line of score and path, as (score, path).
fn hit(line: &str) -> (f32, &str) {
    let (score, path) = line.trim_start().split_once("  ").unwrap();
    (score.parse().unwrap(), path)
}

#[test]
fn the_first_search_prints_what_readme_shows() {
    let readme = std::fs::read_to_string(root("README.md")).unwrap();
    let shown = block_after(&readme, "diptych search \"a bridge at night\" --limit 3");
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_diptych"))
            .args(arguments)
            .current_dir(root("").canonicalize().unwrap())
            .env_remove("DIPTYCH_MODEL")
            .env("DIPTYCH_INDEX", folder.path())
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["index", "assets/photos"]);
    let printed = run(&["search", "a bridge at night", "--limit", "3"]);
    let printed: Vec<&str> = printed.lines().collect();
    assert_eq!((printed.len(), shown.len()), (3, 3));
    for (printed, shown) in printed.iter().zip(&shown) {
        let ((printed, path), (shown, expected)) = (hit(printed), hit(shown));
        assert_eq!(path, expected);
        assert!(
            (printed - shown).abs() < 0.002,
            "{path}: {printed}, README shows {shown}"
        );
    }
}
